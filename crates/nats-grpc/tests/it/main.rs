//! Tests of the crate against a real nats-server and, where present, the real Go programs.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod generated;
