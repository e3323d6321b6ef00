//! The replica against its own SQL, and against a plain model of the source.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod apply;
mod explain;
mod fill;
mod fixture;
mod migrations;
mod model;
mod nexmark;
mod oracle;
mod random;
#[path = "../../../view/tests/random/case.rs"]
mod random_case;
#[path = "../../../view/tests/random/query.rs"]
mod random_query;
#[path = "../../../view/tests/random/views.rs"]
mod random_views;
mod replace;
mod retention;
mod slt;
mod spelling;
mod stream;
mod tpch;
#[path = "../tpch/data.rs"]
mod tpch_data;
#[path = "../tpch/schema.rs"]
mod tpch_schema;
mod views;
mod written;
