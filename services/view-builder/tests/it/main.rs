//! The service against a real NATS server.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod collision;
mod harness;
mod killed;
mod killed_filling;
mod modules;
mod replicas;
mod spine;
