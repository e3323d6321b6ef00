//! Storage of a hosted database: compaction, group commit, large transactions, faults of the disk.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use std::path::Path;

use deltamesh_change::Value;
use deltamesh_genji::{Database, HostOptions};

mod alternation;
mod compaction;
mod definition;
mod fault;
mod latency;
mod spill;

/// Options under which a few rows already fill the memtable.
fn small() -> HostOptions {
    HostOptions { memtable_bytes: 4096, retained_log_bytes: 0, ..HostOptions::default() }
}

fn run(database: &Database, statements: &[&str]) {
    for statement in statements {
        database.execute(statement, &[]).unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
}

/// Inserts or replaces rows `(id, v)` of table `t`, each in a transaction of its own.
fn put(database: &Database, ids: impl IntoIterator<Item = i64>, text: &str) {
    for id in ids {
        let mut transaction = database.begin();
        let row = [("id".to_owned(), Value::Int(id)), ("v".to_owned(), Value::from(text))];
        transaction.upsert("t", &row).unwrap();
        transaction.commit().unwrap();
    }
}

/// The keys of table `t` with the length of their text.
fn lengths(database: &Database) -> Vec<(i64, usize)> {
    let rows = database.scan("t").unwrap();
    rows.into_iter()
        .map(|(key, row)| match (key.as_slice(), &row[1].1) {
            ([Value::Int(id)], Value::Text(text)) => (*id, text.len()),
            other => panic!("{other:?}"),
        })
        .collect()
}

/// How many files of the directory have this extension.
fn count(dir: &Path, extension: &str) -> usize {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|found| found == extension)).count()
}
