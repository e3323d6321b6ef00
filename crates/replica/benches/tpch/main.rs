//! `cargo xtask bench tpch`: each TPC-H query as a view of a replica, at refreshes of a thousandth of the orders, beside computing
//! it again in the same replica; in PostgreSQL by REFRESH MATERIALIZED VIEW.
//!
//! There are two replicas of the same relations. One has no views, the other the view that is measured, and every batch goes to
//! both: the difference is what the view costs, with its indexes on the mirrors.

#![allow(clippy::print_stdout, clippy::cast_precision_loss, clippy::expect_used)]

mod again;
#[path = "../../tests/tpch/data.rs"]
mod data;
mod shop;
#[path = "../../tests/tpch/schema.rs"]
mod tpch_schema;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, ValueEnum};
use deltamesh_replica::{Group, Limits, Location, Reader, Replica, Retention};
use deltamesh_testkit::PostgresServer;

use again::{Again, File, Server};
use shop::Shop;

/// Where the replicas are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// A file each.
    Sqlite,
    /// A schema each of a server that is started for this.
    Postgres,
}

/// TPC-H views under refreshes, beside computing them again.
#[derive(Debug, Parser)]
#[command(name = "bench tpch")]
struct Plan {
    /// The database.
    #[arg(long, value_enum, default_value = "sqlite")]
    replica: Kind,
    /// Scale factor: 1 is 6 million items.
    #[arg(long, default_value_t = 0.1)]
    scale: f64,
    /// Refreshes measured for each view.
    #[arg(long, default_value_t = 15)]
    refreshes: usize,
    /// Only queries whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// A smoke test: few rows.
    #[arg(long)]
    quick: bool,
    /// Given by `cargo bench`.
    #[arg(long = "bench", hide = true)]
    _bench: bool,
}

/// The replicas, and who computes again.
struct Bench {
    shop: Shop,
    plain: Box<dyn Replica>,
    kept: Box<dyn Replica>,
    location: Location,
    again: Box<dyn Again>,
}

/// A server as one would run it on a small machine.
const SETTINGS: [&str; 4] = [
    "shared_buffers=1GB",
    "max_wal_size=4GB",
    "checkpoint_timeout=15min",
    "max_parallel_workers_per_gather=0",
];

fn main() -> Result<()> {
    let mut plan = Plan::parse();
    if plan.quick {
        (plan.scale, plan.refreshes) = (0.002, 2);
    }
    let dir = tempfile::tempdir()?;
    // Ends behind its replicas.
    let server;
    let mut bench = match plan.replica {
        Kind::Sqlite => {
            let [plain, kept] = ["plain.db", "kept.db"].map(|name| dir.path().join(name));
            let again = || Ok(Box::new(File::open(&kept)?) as Box<dyn Again>);
            Bench::load(plan.scale, &Location::from(&plain), Location::from(&kept), again)?
        }
        Kind::Postgres => {
            server = PostgresServer::start_with(&SETTINGS)?;
            println!("{}; {}", server.psql("SELECT version()")?, SETTINGS.join(", "));
            let [plain, kept] = [server.fresh_schema(), server.fresh_schema()];
            let again = || Ok(Box::new(Server::open(&kept)?) as Box<dyn Again>);
            Bench::load(plan.scale, &Location::parse(&plain)?, Location::parse(&kept)?, again)?
        }
    };
    println!(
        "scale factor {}, {} orders in and as many out per batch, medians of {}; in ms, ratio: again / cost",
        plan.scale, bench.shop.refresh, plan.refreshes
    );
    println!("query   mirrors with view    cost   again    ratio    fill   rows");
    let mut ratios = vec![];
    for (name, sql) in queries()? {
        if name.contains(&plan.only) {
            ratios.push(bench.measure(&name, &sql, plan.refreshes)?);
        }
    }
    let mean = (ratios.iter().map(|ratio: &f64| ratio.ln()).sum::<f64>() / ratios.len() as f64).exp();
    println!("geometric mean of {} ratios: {mean:.0}", ratios.len());
    Ok(())
}

/// Names and texts of the queries, in order.
fn queries() -> Result<Vec<(String, String)>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tpch");
    let mut queries = vec![];
    for entry in std::fs::read_dir(&folder)? {
        let file = entry?.path();
        if file.extension().is_some_and(|extension| extension == "sql") {
            let name = file.file_stem().and_then(|name| name.to_str()).context("name of a query")?;
            queries.push((name.to_owned(), std::fs::read_to_string(&file)?));
        }
    }
    queries.sort();
    Ok(queries)
}

impl Bench {
    fn load(
        scale: f64,
        plain: &Location,
        location: Location,
        again: impl FnOnce() -> Result<Box<dyn Again>>,
    ) -> Result<Self> {
        let (shop, first) = Shop::new(scale)?;
        let (mut plain, mut kept) = (plain.open(Retention::default())?, location.open(Retention::default())?);
        for replica in [&mut plain, &mut kept] {
            apply(replica, &first)?;
        }
        let again = again()?;
        Ok(Self { shop, plain, kept, location, again })
    }

    fn measure(&mut self, name: &str, sql: &str, refreshes: usize) -> Result<f64> {
        let filling = Instant::now();
        self.kept.execute(&format!("CREATE MATERIALIZED VIEW {name} AS {sql}"))?;
        let fill = filling.elapsed();
        let (mut mirrors, mut views) = (vec![], vec![]);
        for number in 0..=refreshes {
            let groups = [self.shop.refresh()?];
            // Who is second finds a warmer machine.
            let (plain, view) = if number % 2 == 0 {
                let plain = apply(&mut self.plain, &groups)?;
                (plain, apply(&mut self.kept, &groups)?)
            } else {
                let view = apply(&mut self.kept, &groups)?;
                (apply(&mut self.plain, &groups)?, view)
            };
            // The first one prepares the statements.
            if number > 0 {
                mirrors.push(millis(plain));
                views.push(millis(view));
            }
        }
        let costs = views.iter().zip(&mirrors).map(|(view, plain)| view - plain).collect();
        let views_now = self.kept.views();
        let state = views_now.iter().find(|view| view.definition.name == name);
        let oracle = state.and_then(|view| view.oracle.clone()).context("SQL of the view")?;
        let limits = Limits { time: Duration::from_secs(600) };
        for verified in Reader::open(self.location.clone())?.verify(&views_now, limits)? {
            ensure!((verified.missing, verified.extra) == (0, 0), "{verified:?}");
        }
        let (again, rows) = self.again.compute(&oracle)?;
        self.kept.execute(&format!("DROP MATERIALIZED VIEW {name}"))?;
        let (cost, again) = (median(costs), millis(again));
        let ratio = again / cost.max(0.1);
        println!(
            "{name:6} {:8.1} {:9.1} {cost:7.2} {again:7.0} {ratio:8.1} {:7.0} {rows:6}",
            median(mirrors),
            median(views),
            millis(fill),
        );
        Ok(ratio)
    }
}

fn apply(replica: &mut Box<dyn Replica>, groups: &[Group]) -> Result<Duration> {
    let started = Instant::now();
    let applied = replica.apply(groups)?;
    let took = started.elapsed();
    ensure!(applied.faults.is_empty(), "{:?}", applied.faults);
    replica.mark_published(replica.last_sequence());
    replica.rest()?;
    Ok(took)
}

fn millis(took: Duration) -> f64 {
    took.as_secs_f64() * 1000.0
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
