//! `cargo xtask bench spine`: the whole path, from an application's commit to rows in the replica and messages at a subscriber.
//!
//! The benchmark is the application: it holds a Genji database open and commits; `deltamesh up` taps the directory, keeps
//! three views (filter, group, join) and publishes their feeds. Beside it, alternating in the same run, what cannot be beaten:
//! raw upserts of the same rows into a SQLite file with the same settings, and a bare fsync followed by two JetStream hops.

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod bare;
mod figures;
mod latency;
mod load;
mod mesh;
mod raw;

use anyhow::Result;
use clap::Parser;

/// The whole path, from an application's commit to rows in the replica and messages at a subscriber, beside raw SQLite and a bare
/// fsync with two hops.
#[derive(Debug, Parser)]
#[command(name = "bench spine")]
struct Plan {
    /// Length of each paced run, in seconds.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Size of each load round.
    #[arg(long, default_value_t = 200_000)]
    rows: i64,
    /// How often path and rival alternate.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Given by `cargo bench`.
    #[arg(long = "bench", hide = true)]
    _bench: bool,
}

fn main() -> Result<()> {
    let plan = Plan::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mesh = mesh::Mesh::start()?;
    runtime.block_on(load::run(&mesh, &plan))?;
    runtime.block_on(latency::run(&mesh, &plan))?;
    mesh.stop()
}
