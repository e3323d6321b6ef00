//! `cargo xtask bench genji`: the engine's files, written and read, beside the real engine.
//!
//! Each round alternates this crate and the real Genji (`genjihost`, if it is there): one-row transactions with fsync by one
//! writer, by 16 writers (the real engine has one transaction at a time, so its one writer is the rival), and transactions of
//! 1000 rows. Then what the tail decodes of a log, and the rows of a snapshot, a second.

#![allow(clippy::print_stdout)]

mod read;
mod write;

use anyhow::Result;
use clap::Parser;

/// The engine's files, written and read, beside the real engine.
#[derive(Debug, Parser)]
#[command(name = "bench genji")]
struct Plan {
    /// Length of each run, in seconds.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// How often the two alternate.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Rows of the log and of the snapshot.
    #[arg(long, default_value_t = 500_000)]
    rows: i64,
    /// Bytes of text in a row of the log and of the snapshot.
    #[arg(long, default_value_t = write::ROW)]
    row: usize,
    /// Given by `cargo bench`.
    #[arg(long = "bench", hide = true)]
    _bench: bool,
}

fn main() -> Result<()> {
    let plan = Plan::parse();
    write::run(&plan)?;
    read::run(&plan)
}
