//! Damaged directories: an error or other rows, never a panic, never an endless loop.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use deltamesh_change::EnginePosition;
use deltamesh_genji::{Engine, Error, ReadOptions, Snapshot, Tail};

use crate::reference;

pub(crate) fn copy(database: &Path) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(database).unwrap() {
        let path = entry.unwrap().path();
        std::fs::write(dir.path().join(path.file_name().unwrap()), std::fs::read(&path).unwrap()).unwrap();
    }
    dir
}

/// Before the first transaction of a directory's history.
fn beginning(dir: &Path) -> EnginePosition {
    let sequence = if Engine::locate(dir).0 == Engine::Chai { 10 } else { 1 };
    EnginePosition { sequence, log: 2, offset: 0 }
}

/// Reads all there is.
fn read(dir: &Path) -> Result<(), Error> {
    let options = ReadOptions::default();
    let snapshot = Snapshot::open(dir, &options)?;
    for schema in snapshot.relations() {
        snapshot.rows(&schema.relation)?.collect::<Result<Vec<_>, _>>()?;
    }
    drop(snapshot.faults());
    let mut tail = Tail::resume(dir, beginning(dir), &options)?;
    while tail.poll()?.is_some() {}
    drop(tail.faults());
    Ok(())
}

/// Every `step`th byte of a file, turned over one after the other.
pub(crate) fn turn_bytes(dir: &Path, file: &Path, step: usize) -> (usize, usize) {
    let good = std::fs::read(file).unwrap();
    let open = OpenOptions::new().write(true).open(file).unwrap();
    let (mut refused, mut accepted) = (0, 0);
    for at in (0..good.len()).step_by(step) {
        open.write_all_at(&[!good[at]], at as u64).unwrap();
        match read(dir) {
            Ok(()) => accepted += 1,
            Err(error) => {
                refused += 1;
                assert!(!error.to_string().is_empty());
            }
        }
        open.write_all_at(&good[at..=at], at as u64).unwrap();
    }
    (refused, accepted)
}

pub(crate) fn files(dir: &Path, matches: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| matches(&path.file_name().unwrap().to_string_lossy())).collect()
}

#[test]
fn turned_bytes_of_logs_and_manifests() {
    for (case, step) in [("drop_recreate", 7), ("spill_rollback_small", 61)] {
        let dir = copy(&reference::own_fixtures().join(case).join("db"));
        for file in files(dir.path(), |name| name.ends_with(".log") || name.starts_with("MANIFEST")) {
            let (refused, _) = turn_bytes(dir.path(), &file, step);
            assert!(refused > 0, "{}", file.display());
        }
        read(dir.path()).unwrap();
    }
}

#[test]
fn turned_bytes_of_tables() {
    let Some(fixtures) = reference::all_fixtures() else { return };
    let dir = copy(&fixtures.join("long_text_keys/db"));
    for file in files(dir.path(), |name| name.ends_with(".sst")) {
        let (refused, _) = turn_bytes(dir.path(), &file, 97);
        assert!(refused > 0);
    }
}

#[test]
fn cut_files() {
    let database = reference::own_fixtures().join("types/db");
    for file in files(&database, |name| name != "CURRENT") {
        let name = file.file_name().unwrap();
        let length = std::fs::metadata(&file).unwrap().len();
        for cut in [0, 1, 12, length / 3, length / 2, length.saturating_sub(1)] {
            let dir = copy(&database);
            OpenOptions::new().write(true).open(dir.path().join(name)).unwrap().set_len(cut).unwrap();
            let _ = read(dir.path());
        }
    }
}
