//! `cargo xtask bench spine`: the whole path, from an application's commit to rows in the replica and messages at a subscriber.
//!
//! The benchmark is the application: it holds a Genji database open and commits; `deltamesh up` taps the directory, keeps
//! three views (filter, group, join) and publishes their feeds. Beside it, alternating in the same run, what cannot be beaten:
//! raw upserts of the same rows into a SQLite file with the same settings, and a bare fsync followed by two JetStream hops.
//!
//! `--seconds N` (default 10) is the length of each paced run, `--rows N` (default 200000) the size of each load round,
//! `--rounds N` (default 3) how often path and rival alternate.

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod bare;
mod figures;
mod latency;
mod load;
mod mesh;
mod raw;

use anyhow::{Context as _, Result};

/// Sizes of a run.
struct Plan {
    seconds: u64,
    rows: i64,
    rounds: usize,
}

impl Plan {
    fn from_arguments() -> Result<Self> {
        let mut plan = Self { seconds: 10, rows: 200_000, rounds: 3 };
        let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
        while let Some(name) = arguments.next() {
            let value = arguments.next().with_context(|| format!("{name} needs a number"))?;
            match name.as_str() {
                "--seconds" => plan.seconds = value.parse()?,
                "--rows" => plan.rows = value.parse()?,
                "--rounds" => plan.rounds = value.parse()?,
                _ => anyhow::bail!("unknown option {name}: there is --seconds, --rows, --rounds"),
            }
        }
        Ok(plan)
    }
}

fn main() -> Result<()> {
    let plan = Plan::from_arguments()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mesh = mesh::Mesh::start()?;
    runtime.block_on(load::run(&mesh, &plan))?;
    runtime.block_on(latency::run(&mesh, &plan))?;
    mesh.stop()
}
