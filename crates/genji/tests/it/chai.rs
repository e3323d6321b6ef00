//! Directories that the real Chai wrote, read as the real Chai reads them.

use std::path::Path;

use deltamesh_change::EnginePosition;
use deltamesh_genji::{ErrorKind, ReadOptions, Snapshot};

use crate::case::Case;
use crate::damage::{copy, files, turn_bytes};
use crate::fixtures::{cases, check_resume, check_rows, check_transactions};

/// Before the first transaction of a directory's history.
const BEGINNING: EnginePosition = EnginePosition { sequence: 10, log: 2, offset: 0 };

fn every_case(check: impl Fn(&str, &Case)) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/chai");
    for (name, path) in cases(&folder) {
        check(&name, &Case::open(&path));
    }
}

/// A snapshot shows the rows that the real engine shows.
#[test]
fn rows() {
    every_case(check_rows);
}

/// The tail from the first sequence number on sees the transactions that the real engine made.
#[test]
fn transactions() {
    every_case(|name, case| check_transactions(name, case, BEGINNING));
}

/// Wherever a tail stops, another goes on.
#[test]
fn resume_at_every_transaction() {
    every_case(|name, case| check_resume(name, case, BEGINNING));
}

/// A table of another format is refused by its name.
#[test]
fn tables_of_other_formats_are_refused() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/chai");
    let dir = copy(&fixtures.join("levels/db/pebble"));
    let options = ReadOptions::default();
    assert!(Snapshot::open(dir.path(), &options).is_ok());
    for table in files(dir.path(), |name| name.ends_with(".sst")) {
        std::fs::write(&table, vec![0; 100]).unwrap();
    }
    let error = Snapshot::open(dir.path(), &options).unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Unsupported, "table format is not chai's"));
    assert!(error.file().is_some());
}

/// Turned bytes are found, or change nothing; nothing panics.
#[test]
fn turned_bytes() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/chai");
    for (case, step) in [("levels", 7), ("rotated", 5), ("spill_undone", 11)] {
        let dir = copy(&fixtures.join(case).join("db/pebble"));
        let is_read =
            |name: &str| name.contains('.') && !name.starts_with("marker") || name.starts_with("MANIFEST");
        for file in files(dir.path(), is_read) {
            turn_bytes(dir.path(), &file, step);
        }
        assert!(Snapshot::open(dir.path(), &ReadOptions::default()).is_ok(), "{case}");
    }
}
