//! gRPC methods over NATS, wire-compatible with the Go library nats-grpc.
