//! `cargo xtask bench tap`: what the tap costs the application, as a change of its own insert rate.
//!
//! The application is the real engine. The same load runs with the tap and without it, alternating, and the medians of both are
//! compared. Beside it, as the noise of the machine, the same comparison between two runs that both have no tap. The server's
//! store is a temporary folder: `TMPDIR=/dev/shm` leaves the disk to the application, as a server on another machine does.

#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use deltamesh_jetstream::{Client, connect, gather_status};
use deltamesh_testkit::{GenjiHost, NatsServer};
use rustix::thread::{CpuSet, sched_setaffinity};

/// What the tap costs the application, as a change of its own insert rate.
#[derive(Debug, Parser)]
#[command(name = "bench tap")]
struct Plan {
    /// How often load with tap, load without it and noise alternate.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Rows of the load of one row a transaction.
    #[arg(long, default_value_t = 1500)]
    single: u64,
    /// Rows of the load of 1000 rows a transaction.
    #[arg(long, default_value_t = 200_000)]
    bulk: u64,
    /// Give the application the first core for itself, and server and tap the others: what the tap costs besides its share of the
    /// processor.
    #[arg(long)]
    apart: bool,
    /// Those of the machine, counted before this thread is kept from some.
    #[arg(skip = std::thread::available_parallelism().map_or(1, std::num::NonZero::get))]
    cores: usize,
    /// Given by `cargo bench`.
    #[arg(long = "bench", hide = true)]
    _bench: bool,
}

/// The running tap; dropping it kills it.
struct Tap(Child);

impl Tap {
    /// Starts it and waits until it follows.
    async fn start(nats: &NatsServer, client: &Client, dir: &Path) -> Result<Self> {
        let tap = Command::new(env!("CARGO_BIN_EXE_ingest-genji"))
            .args(["--source", &format!("app=genji:{}", dir.display()), "--nats", &nats.url()])
            .stderr(Stdio::null())
            .spawn()?;
        let tap = Self(tap);
        tap.settle(client).await?;
        Ok(tap)
    }

    /// Waits until nothing is on its way.
    async fn settle(&self, client: &Client) -> Result<()> {
        let mut before = None;
        for _ in 0..600 {
            let status = gather_status(client, Duration::from_millis(300)).await?;
            let hops = status.first().map(|status| status.hops.clone()).unwrap_or_default();
            let is_busy = hops.iter().any(|hop| hop.lag > 0 || hop.hop == "snapshot");
            let now: Vec<String> = hops.into_iter().map(|hop| hop.position).collect();
            if !now.is_empty() && !is_busy && before.as_ref() == Some(&now) {
                return Ok(());
            }
            before = Some(now);
            // Before it answers, nobody does, and that is known at once.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("the tap does not come to rest")
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Lets this thread, and every process that it starts, run on these cores only.
fn run_on(cores: std::ops::Range<usize>) -> Result<()> {
    let mut set = CpuSet::new();
    cores.for_each(|core| set.set(core));
    sched_setaffinity(None, &set).context("choose the cores")
}

/// Fills a table of its own and gives rows per second.
fn fill(host: &mut GenjiHost, table: &str, rows: u64, per_transaction: u64) -> Result<f64> {
    host.execute(&format!("CREATE TABLE {table}(id INT PRIMARY KEY, pad TEXT)"))?;
    let begun = Instant::now();
    host.execute(&format!(".fill {table} 0 {rows} 90 {per_transaction}"))?;
    // Row counts stay far below 2^52.
    #[allow(clippy::cast_precision_loss)]
    let rate = rows as f64 / begun.elapsed().as_secs_f64();
    host.execute(&format!("DROP TABLE {table}"))?;
    Ok(rate)
}

fn median(rates: &[f64]) -> f64 {
    let mut rates = rates.to_vec();
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or(0.0)
}

/// Median of the ratios of neighbouring runs, as a difference in percent.
fn difference(runs: &[f64], others: &[f64]) -> f64 {
    let ratios: Vec<f64> = runs.iter().zip(others).map(|(run, other)| run / other).collect();
    (median(&ratios) - 1.0) * 100.0
}

async fn compare(name: &str, rows: u64, per_transaction: u64, plan: &Plan) -> Result<()> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let dir = folder.path().join("db");
    if plan.apart {
        run_on(0..1)?;
    }
    let Some(mut host) = GenjiHost::start(&dir)? else { return Ok(()) };
    if plan.apart {
        run_on(1..plan.cores)?;
    }
    let nats = NatsServer::start()?;
    let client = connect(&nats.url(), "bench").await?;
    fill(&mut host, "warm", rows, per_transaction)?;
    let (mut without, mut again, mut with) = (vec![], vec![], vec![]);
    for round in 0..plan.rounds {
        without.push(fill(&mut host, &format!("without{round}"), rows, per_transaction)?);
        let tap = Tap::start(&nats, &client, &dir).await?;
        with.push(fill(&mut host, &format!("with{round}"), rows, per_transaction)?);
        tap.settle(&client).await?;
        drop(tap);
        again.push(fill(&mut host, &format!("again{round}"), rows, per_transaction)?);
    }
    println!(
        "{name}: {:.0} rows/s without, {:.0} with the tap: {:+.1} % (two runs without: {:+.1} %)",
        median(&without),
        median(&with),
        difference(&with, &without),
        difference(&again, &without),
    );
    Ok(())
}

fn main() -> Result<()> {
    let plan = Plan::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        compare("one row a transaction", plan.single, 1, &plan).await?;
        compare("1000 rows a transaction", plan.bulk, 1000, &plan).await
    })
}
