//! gRPC methods over NATS, wire-compatible with the Go library nats-grpc.
//!
//! A call is a conversation between an inbox that the client chooses and a subject of the method,
//! `nrpc.<nid>.<package.Service>.<Method>`, in the envelopes of `proto/nrpc.proto`. The inbox is the call.
//!
//! - [`Server`] serves a [`Router`] of [`Service`]s under a node id; services are replaced while it runs.
//!   It adds reflection (v1 and v1alpha), health, and NATS service discovery.
//! - [`Handler`] serves one method; it knows no transport, so gRPC over HTTP/2 mounts the same handlers.
//! - [`Client`] calls methods of any server of the protocol.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use deltamesh_nats_grpc::{Handler, Options, Router, Server, Service, unary};
//!
//! # async fn run(pool: prost_reflect::DescriptorPool) -> Result<(), Box<dyn std::error::Error>> {
//! let server = Server::start(async_nats::connect("localhost").await?, "node1", Options::default()).await?;
//! let mut router = Router::new();
//! for descriptor in pool.services() {
//!     router.add(Service::new(descriptor, |_method| {
//!         let echo = unary(|request, _metadata| async { Ok(request) });
//!         Some(Arc::new(echo) as Arc<dyn Handler>)
//!     }));
//! }
//! server.set_services(router).await?;
//! # Ok(())
//! # }
//! ```
//!
//! One live instance serves a node id: NATS picks a member of a queue group per message, and a call is several.

mod admission;
mod builtin;
mod call;
mod client;
mod discovery;
mod envelope;
mod error;
mod generated;
mod handler;
mod health;
mod link;
mod losses;
mod metadata;
mod options;
mod pace;
mod queue;
mod reader;
mod reflection;
mod router;
mod server;
mod stats;
mod status;

pub use client::{CallOptions, Client, ClientOptions, RequestSink, ResponseStream};
pub use envelope::Frame;
pub use error::{Error, ErrorKind};
pub use handler::{Call, Handler, Requests, ResponsePart, Responses, unary};
pub use metadata::{ACCEPT_METADATA, Metadata};
pub use options::{OnReconnect, OnTakenNodeId, Options, UnaryEnd};
pub use pace::Rate;
pub use reflection::{Catalog, ReflectionService, ReflectionStream};
pub use router::{Method, Router, Service, Services};
pub use server::Server;
pub use stats::{Counters, MethodStats};
pub use status::{Code, Status};
