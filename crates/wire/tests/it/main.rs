//! Tests of the wire crate.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod generated;
