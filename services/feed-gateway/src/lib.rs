//! Serves view feeds and module methods to applications.
//!
//! A change reaches a subscriber through [`feed`]: one consumer of the replica's feed stream, demultiplexed in memory. A
//! [`subscription`] puts the replica's rows in front of it and catches up from there when it falls behind. The same handlers
//! serve nats-grpc and ordinary gRPC; `sse.rs`, `call.rs` and `http.rs` serve browsers and scripts.

mod config;
pub mod cursor;
pub mod event;
pub mod feed;
pub mod replica;
pub mod subscription;

mod call;
mod context;
mod error;
mod feed_stream;
mod gateway;
mod generic;
mod http;
mod http_grpc;
mod listen;
mod methods;
mod modules;
mod narrow;
mod source;
mod sse;
mod tail;

pub use config::Options;
pub use error::Error;
pub use gateway::{Gateway, run};

/// Name of the program, as status and module outcomes carry it.
pub const SERVICE: &str = "feed-gateway";
