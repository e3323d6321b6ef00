//! Tests of the crate against a real nats-server and, where present, the real Go programs.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod calls;
mod discovery;
mod envelopes;
mod generated;
mod go;
mod harness;
mod lifecycle;
#[path = "../../examples/echo/services.rs"]
mod services;
