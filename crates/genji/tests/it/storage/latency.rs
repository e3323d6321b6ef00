//! How long commits take while memtables become tables and tables are merged.

use std::time::{Duration, Instant};

use anyhow::Result;
use deltamesh_change::Value;
use deltamesh_genji::{Database, HostOptions};

use super::run;

/// Prints commits a second and their latencies; run with `--release --nocapture`.
#[test]
#[ignore = "a measurement; run with --ignored"]
fn latencies_of_commits() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let database = Database::open(dir.path(), &HostOptions::default())?;
    run(&database, &["CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)"]);
    for rows in [1, 100] {
        let (mut taken, started) = (Vec::new(), Instant::now());
        let mut id = 0;
        while started.elapsed() < Duration::from_secs(20) {
            let begun = Instant::now();
            let mut transaction = database.begin();
            for _ in 0..rows {
                id += 1;
                // All over the keys, so that merges have to rewrite.
                let key = (id * 7_919) % 10_000_019;
                let row = [("id".to_owned(), Value::Int(key)), ("v".to_owned(), "v".repeat(1000).into())];
                transaction.upsert("t", &row)?;
            }
            transaction.commit()?;
            taken.push(begun.elapsed());
        }
        let rate = taken.len() as f64 / started.elapsed().as_secs_f64();
        taken.sort_unstable();
        let at = |part: f64| taken[((taken.len() - 1) as f64 * part) as usize];
        let (median, high, worst) = (at(0.5), at(0.99), at(1.0));
        println!("{rows} rows: {rate:.0} commits/s, median {median:?}, 99 % {high:?}, worst {worst:?}");
    }
    Ok(())
}
