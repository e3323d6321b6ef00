//! Commits a second.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use deltamesh_change::Value;
use deltamesh_genji::{Database, HostOptions};
use deltamesh_testkit::GenjiHost;

use crate::Plan;

/// Bytes of text in a row.
pub(crate) const ROW: usize = 100;
const WRITERS: usize = 16;
const CREATE: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY, pad TEXT)";

/// Prints the rates of all rounds and their ratios to the real engine's.
pub(crate) fn run(plan: &Plan) -> Result<()> {
    let seconds = Duration::from_secs(plan.seconds);
    for round in 1..=plan.rounds {
        let ours = ours(seconds, 1, 1)?;
        let theirs = theirs(seconds, 1)?;
        print(round, "one-row transactions, one writer", ours, theirs);
        print(round, "one-row transactions, 16 writers", self::ours(seconds, WRITERS, 1)?, theirs);
        print(
            round,
            "rows in transactions of 1000",
            self::ours(seconds, 1, 1000)?,
            self::theirs(seconds, 1000)?,
        );
    }
    Ok(())
}

fn print(round: usize, what: &str, ours: f64, theirs: Option<f64>) {
    match theirs {
        Some(theirs) => {
            println!("{round}  {what}: {ours:.0}/s, real engine {theirs:.0}/s, ratio {:.2}", ours / theirs);
        }
        None => println!("{round}  {what}: {ours:.0}/s, real engine absent"),
    }
}

/// Rows a second through this crate.
fn ours(length: Duration, writers: usize, rows: i64) -> Result<f64> {
    let dir = tempfile::tempdir()?;
    let database = Database::open(dir.path(), &HostOptions::default())?;
    database.execute(CREATE, &[])?;
    let (next, stop) = (AtomicI64::new(0), AtomicBool::new(false));
    let started = Instant::now();
    let written: Result<Vec<i64>> = std::thread::scope(|scope| {
        let write = || -> Result<i64> {
            let mut written = 0;
            while !stop.load(Ordering::Relaxed) {
                let first = next.fetch_add(rows, Ordering::Relaxed);
                insert(&database, first..first + rows, ROW)?;
                written += rows;
            }
            Ok(written)
        };
        let writers: Vec<_> = (0..writers).map(|_| scope.spawn(write)).collect();
        std::thread::sleep(length);
        stop.store(true, Ordering::Relaxed);
        let join = |writer: std::thread::ScopedJoinHandle<'_, Result<i64>>| {
            writer.join().map_err(|_| anyhow::anyhow!("a writer panicked"))?
        };
        writers.into_iter().map(join).collect()
    });
    Ok(written?.iter().sum::<i64>() as f64 / started.elapsed().as_secs_f64())
}

/// Commits these rows, each with so many bytes of text, in one transaction.
pub(crate) fn insert(database: &Database, ids: std::ops::Range<i64>, bytes: usize) -> Result<()> {
    let mut transaction = database.begin();
    for id in ids {
        let text: Value = "v".repeat(bytes).into();
        transaction.insert("t", &[("id".to_owned(), Value::Int(id)), ("pad".to_owned(), text)])?;
    }
    transaction.commit()?;
    Ok(())
}

/// Rows a second through the real engine, with its prepared inserts.
fn theirs(length: Duration, rows: i64) -> Result<Option<f64>> {
    let dir = tempfile::tempdir()?;
    let Some(mut host) = GenjiHost::start(Path::new(dir.path()))? else { return Ok(None) };
    host.execute(CREATE)?;
    let portion = 200 * rows;
    let (mut first, started) = (0, Instant::now());
    while started.elapsed() < length {
        host.execute(&format!(".fill t {first} {portion} {ROW} {rows}"))?;
        first += portion;
    }
    let rate = first as f64 / started.elapsed().as_secs_f64();
    host.close()?;
    Ok(Some(rate))
}
