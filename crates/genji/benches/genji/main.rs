//! `cargo xtask bench genji`: the engine's files, written and read, beside the real engine.
//!
//! Each round alternates this crate and the real Genji (`genjihost`, if it is there): one-row transactions with fsync by one
//! writer, by 16 writers (the real engine has one transaction at a time, so its one writer is the rival), and transactions of
//! 1000 rows. Then what the tail decodes of a log, and the rows of a snapshot, a second.
//!
//! `--seconds N` (default 3) is the length of each run, `--rounds N` (default 3) how often the two alternate, `--rows N`
//! (default 500000) the size of the log and the snapshot, `--row N` (default 100) the bytes of text in a row of theirs.

#![allow(clippy::print_stdout)]

mod read;
mod write;

use anyhow::{Context as _, Result};

/// Sizes of a run.
struct Plan {
    seconds: u64,
    rounds: usize,
    rows: i64,
    row: usize,
}

impl Plan {
    fn from_arguments() -> Result<Self> {
        let mut plan = Self { seconds: 3, rounds: 3, rows: 500_000, row: write::ROW };
        let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
        while let Some(name) = arguments.next() {
            let value = arguments.next().with_context(|| format!("{name} needs a number"))?;
            match name.as_str() {
                "--seconds" => plan.seconds = value.parse()?,
                "--rounds" => plan.rounds = value.parse()?,
                "--rows" => plan.rows = value.parse()?,
                "--row" => plan.row = value.parse()?,
                _ => anyhow::bail!("unknown option {name}: there is --seconds, --rounds, --rows, --row"),
            }
        }
        Ok(plan)
    }
}

fn main() -> Result<()> {
    let plan = Plan::from_arguments()?;
    write::run(&plan)?;
    read::run(&plan)
}
