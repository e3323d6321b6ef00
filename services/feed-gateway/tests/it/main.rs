//! The gateway in this process, over a real nats-server and a real replica.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod browser;
mod feeds;
mod grpc;
mod modules;
mod tail;
mod world;
