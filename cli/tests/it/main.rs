//! The command and the services' programs, as processes.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod chaos;
mod contract;
mod demo;
mod life;
mod mesh;
mod refusal;
mod replicas;
mod soak;
mod stock_client;
mod subscriber;
