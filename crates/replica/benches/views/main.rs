//! `cargo xtask bench views`: view maintenance in a SQLite or PostgreSQL replica, beside its rivals.
//!
//! Each loads the same chat, then takes the same batches in turn: generated programs, statements written by hand for the
//! same views, raw upserts without views. Only the commits are timed. At the end the views are compared with their SQL.

#![allow(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

mod chat;
mod dbsp;
mod figures;
mod hand;
mod log;
mod memory;
mod postgres;
mod rival;
mod tables;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::{Parser, ValueEnum};
use deltamesh_replica::Location;

use chat::Order;
use dbsp::Dbsp;
use figures::{Figures, median};
use hand::Hand;
use log::Log;
use postgres::Server;
use rival::{Generated, Raw, Rival};

/// Where replica and rivals keep their rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// A file each.
    Sqlite,
    /// A schema each of a server that is started for this.
    Postgres,
}

/// View maintenance in a replica, beside its rivals.
#[derive(Debug, Parser)]
#[command(name = "bench views")]
struct Plan {
    /// The database.
    #[arg(long, value_enum, default_value = "sqlite")]
    replica: Kind,
    /// Messages that are there before the first batch.
    #[arg(long, default_value_t = 1_000_000)]
    messages: u64,
    /// How often the rivals alternate.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Changes per size and round; a size takes at least three batches.
    #[arg(long, default_value_t = 20_000)]
    changes: usize,
    /// Renames of users among a thousand changes; each changes about a thousand rows of the join.
    #[arg(long, default_value_t = 0)]
    renames: u64,
    /// Rows of a relation from which on views over it are filled in slices, as the view-builder does, instead of as a whole.
    #[arg(long, value_name = "ROWS")]
    fill_beside: Option<u64>,
    /// Batch sizes.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 10, 100, 1_000, 10_000])]
    sizes: Vec<usize>,
    /// The program of `benches/dbsp`, as a rival of the SQLite replica; `cargo xtask bench` builds it where this is given without a path.
    #[arg(long, value_name = "PROGRAM")]
    dbsp: Option<PathBuf>,
    /// Threads of its circuit.
    #[arg(long, default_value_t = 1)]
    dbsp_workers: usize,
    /// Only rivals whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// A smoke test: few messages, one round.
    #[arg(long)]
    quick: bool,
    /// Given by `cargo bench`.
    #[arg(long = "bench", hide = true)]
    _bench: bool,
}

/// A rival, its own copy of the workload, and what it took: by size, by round.
struct Entrant {
    rival: Box<dyn Rival>,
    log: Log,
    figures: Vec<Vec<Figures>>,
}

/// Messages in a transaction of the load.
const LOAD: u64 = 10_000;

fn main() -> Result<()> {
    let mut plan = Plan::parse();
    if plan.quick {
        (plan.messages, plan.rounds, plan.changes) = (20_000, 1, 2_000);
    }
    let dir = tempfile::tempdir()?;
    // Ends behind its rivals.
    let server;
    let rivals: Vec<Box<dyn Rival>> = match plan.replica {
        Kind::Sqlite => plan.files(dir.path())?,
        Kind::Postgres => {
            server = Server::start()?;
            server.rivals(plan.fill_beside)?
        }
    };
    let rivals = rivals.into_iter().filter(|rival| rival.name().contains(&plan.only));
    let mut entrants: Vec<Entrant> = rivals
        .map(|rival| Entrant {
            rival,
            log: Log::new(plan.renames),
            figures: vec![vec![Figures::default(); plan.rounds]; plan.sizes.len()],
        })
        .collect();
    for entrant in &mut entrants {
        entrant.load(plan.messages)?;
    }
    for round in 0..plan.rounds {
        for (index, &size) in plan.sizes.iter().enumerate() {
            let batches = (plan.changes / size).max(3);
            for entrant in &mut entrants {
                entrant.run(size, batches, index, round)?;
            }
        }
    }
    for entrant in &mut entrants {
        entrant.rival.check()?;
    }
    print(&plan, &entrants);
    let mebibytes = |bytes: u64| bytes / (1 << 20);
    for entrant in &mut entrants {
        if let Some(bytes) = entrant.rival.memory()? {
            println!("{}: at most {} MiB of memory", entrant.rival.name(), mebibytes(bytes));
        }
    }
    println!("this process, with all others: at most {} MiB of memory", mebibytes(memory::peak()?));
    for Entrant { rival, log, .. } in &mut entrants {
        if let Some(time) = rival.restart(&log.batch(Order::Changes(10)))? {
            println!("{}: restart until 10 changes are committed {:.3} s", rival.name(), time.as_secs_f64());
        }
    }
    Ok(())
}

impl Plan {
    /// Rivals with a file each; the last is what the others are compared with.
    fn files(&self, dir: &Path) -> Result<Vec<Box<dyn Rival>>> {
        let at = |name: &str| dir.join(name);
        let mut rivals: Vec<Box<dyn Rival>> =
            vec![Box::new(Raw::open(&at("raw.db"))?), Box::new(Hand::open(&at("hand.db"))?)];
        if let Some(program) = &self.dbsp {
            rivals.push(Box::new(Dbsp::start(self, program, &at("dbsp.db"), false)?));
            rivals.push(Box::new(Dbsp::start(self, program, &at("dbsp-outbox.db"), true)?));
        }
        rivals.push(Box::new(Generated::open(Location::from(at("replica.db")), self.fill_beside)?));
        Ok(rivals)
    }
}

impl Entrant {
    fn load(&mut self, messages: u64) -> Result<()> {
        let mut busy = Duration::ZERO;
        let mut rows = 0;
        let mut batch = self.log.batch(Order::First);
        loop {
            busy += self.rival.timed(&batch)?;
            if rows >= messages {
                break;
            }
            batch = self.log.batch(Order::Load(LOAD.min(messages - rows)));
            rows += LOAD;
        }
        let filling = Instant::now();
        self.rival.create_views()?;
        self.rival.rest()?;
        println!(
            "{}: loaded {messages} messages at {:.0} rows/s, views in {:.1} s, together {:.0} rows/s",
            self.rival.name(),
            messages as f64 / busy.as_secs_f64(),
            filling.elapsed().as_secs_f64(),
            messages as f64 / (busy + filling.elapsed()).as_secs_f64(),
        );
        Ok(())
    }

    fn run(&mut self, size: usize, batches: usize, index: usize, round: usize) -> Result<()> {
        let mut rested = Instant::now();
        for _ in 0..batches {
            let batch = self.log.batch(Order::Changes(size as u64));
            let mut took = self.rival.timed(&batch)?;
            if rested.elapsed() >= Duration::from_secs(1) {
                let started = Instant::now();
                self.rival.rest()?;
                took += started.elapsed();
                rested = Instant::now();
            }
            if let Some(figures) = self.figures.get_mut(index).and_then(|rounds| rounds.get_mut(round)) {
                figures.add(size, took);
            }
        }
        Ok(())
    }
}

fn print(plan: &Plan, entrants: &[Entrant]) {
    println!(
        "\n{} messages before, {} renames among 1000 changes, {} rounds, views equal their SQL at the end",
        plan.messages, plan.renames, plan.rounds
    );
    println!(
        "{:>7} {:<12} {:>12} {:>21} {:>9} {:>9} {:>9} {:>7}",
        "batch", "", "changes/s", "[least, most]", "p50 ms", "p99 ms", "most ms", "ratio"
    );
    for (index, size) in plan.sizes.iter().enumerate() {
        let rates = |entrant: &Entrant| entrant.figures[index].iter().map(Figures::rate).collect::<Vec<_>>();
        let first = entrants.last().map_or(f64::NAN, |entrant| median(rates(entrant)));
        for entrant in entrants {
            let mut rates = rates(entrant);
            rates.sort_by(f64::total_cmp);
            let quantile =
                |share| median(entrant.figures[index].iter().map(|round| round.quantile(share)).collect());
            println!(
                "{size:>7} {:<12} {:>12.0} {:>21} {:>9.3} {:>9.3} {:>9.1} {:>7.2}",
                entrant.rival.name(),
                median(rates.clone()),
                format!("[{:.0}, {:.0}]", rates.first().unwrap_or(&0.0), rates.last().unwrap_or(&0.0)),
                quantile(0.5),
                quantile(0.99),
                quantile(1.0),
                first / median(rates),
            );
        }
    }
    println!(
        "ratio: changes/s of {} to the line's own",
        entrants.last().map_or("", |last| last.rival.name())
    );
}
