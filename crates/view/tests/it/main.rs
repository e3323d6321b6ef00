//! Programs run on SQLite, with SQLite's own evaluation of the view as the oracle.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod database;
mod errors;
mod functions;
mod migrations;
mod oracle;
mod postgres;
mod programs;
mod random;
#[path = "../random/case.rs"]
mod random_case;
#[path = "../random/query.rs"]
mod random_query;
#[path = "../random/views.rs"]
mod random_views;
mod slices;
mod tpch;
#[path = "../../../replica/tests/tpch/schema.rs"]
mod tpch_schema;
