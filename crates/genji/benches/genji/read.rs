//! What the tail decodes, and the rows of a snapshot.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};
use deltamesh_genji::{Database, HostOptions, ReadOptions, Snapshot, Tail};

use crate::Plan;
use crate::write::insert;

/// Rows of a transaction.
const ROWS: i64 = 1000;

/// Prints what one core reads of a database written here.
pub(crate) fn run(plan: &Plan) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let options = HostOptions { retained_log_bytes: u64::MAX, ..HostOptions::default() };
    let database = Database::open(dir.path(), &options)?;
    database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, pad TEXT)", &[])?;
    let position = database.position()?;
    for first in (0..plan.rows).step_by(ROWS as usize) {
        insert(&database, first..(first + ROWS).min(plan.rows), plan.row)?;
    }
    let bytes = log_bytes(dir.path())?;
    for round in 1..=plan.rounds {
        let (mut changes, started, core) = (0, Instant::now(), core_seconds()?);
        let mut tail = Tail::resume(dir.path(), position, &ReadOptions::default())?;
        while let Some(transaction) = tail.poll()? {
            changes += transaction.items.len();
        }
        let (seconds, core) = (started.elapsed().as_secs_f64(), core_seconds()? - core);
        let (rate, megabytes) = (changes as f64 / seconds, bytes as f64 / 1e6);
        println!(
            "{round}  tail: {:.0} MB/s of log by the clock, {:.0} MB/s of a core, {rate:.0} changes/s ({changes} changes)",
            megabytes / seconds,
            megabytes / core
        );
        let started = Instant::now();
        let snapshot = Snapshot::open(dir.path(), &ReadOptions::default())?;
        let mut rows = 0u64;
        for row in snapshot.rows("t")? {
            row?;
            rows += 1;
        }
        let rate = rows as f64 / started.elapsed().as_secs_f64();
        println!("{round}  snapshot: {rate:.0} rows/s ({rows} rows)");
        let started = Instant::now();
        let mut rows = 0u64;
        for row in database.rows("t")? {
            row?;
            rows += 1;
        }
        println!("{round}  host scan: {:.0} rows/s", rows as f64 / started.elapsed().as_secs_f64());
    }
    Ok(())
}

/// How long this thread has run on a core: on a machine that others use, less than the clock says.
fn core_seconds() -> Result<f64> {
    let times = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds = times.split(' ').next().context("no scheduler statistics")?;
    Ok(nanoseconds.parse::<f64>()? / 1e9)
}

fn log_bytes(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.path().extension().is_some_and(|extension| extension == "log") {
            bytes += entry.metadata()?.len();
        }
    }
    Ok(bytes)
}
