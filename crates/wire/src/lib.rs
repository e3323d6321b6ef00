//! Protobuf messages, subjects and headers of the wire, and their conversions to the domain.
