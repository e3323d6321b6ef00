//! Directories of the real engine, whatever state it left them in, open here and lose nothing.

use std::path::{Path, PathBuf};

use deltamesh_change::to_json;
use deltamesh_genji::{ReadOptions, Snapshot};
use deltamesh_testkit::GenjiHost;

use super::open;
use super::recovery::copy;
use crate::case::Case;
use crate::reference::{all_fixtures, own_fixtures};

fn folders() -> Vec<PathBuf> {
    let sets = [Some(own_fixtures()), all_fixtures()];
    let mut folders: Vec<PathBuf> = sets
        .into_iter()
        .flatten()
        .flat_map(|set| std::fs::read_dir(set).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|folder| folder.join("expected.json").exists())
        .collect();
    folders.sort();
    folders
}

fn rows(dir: &Path) -> Vec<String> {
    let snapshot = Snapshot::open(dir, &ReadOptions::default()).unwrap();
    let mut rows = Vec::new();
    for relation in snapshot.relations() {
        for row in snapshot.rows(&relation.relation).unwrap() {
            let row: Vec<_> = row.unwrap().iter().map(to_json).collect();
            rows.push(format!("{} {}", relation.relation, serde_json::Value::from(row)));
        }
    }
    rows.sort();
    rows
}

#[test]
fn every_fixture_opens() {
    for folder in folders() {
        let case = Case::open(&folder);
        for database in &case.databases {
            let dir = tempfile::tempdir().unwrap();
            copy(database, dir.path());
            let before = rows(dir.path());
            for _ in 0..2 {
                open(dir.path()).close().unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
                assert_eq!(rows(dir.path()), before, "{}", folder.display());
            }
        }
    }
}

/// What the real engine reads in a directory: answers of all tables, or why it refuses.
fn read_by_engine(dir: &Path) -> Option<Vec<String>> {
    let tables: Vec<String> = {
        let snapshot = Snapshot::open(dir, &ReadOptions::default()).unwrap();
        snapshot.relations().iter().map(|relation| relation.relation.clone()).collect()
    };
    let mut host = match GenjiHost::start(dir) {
        Ok(host) => host?,
        Err(error) => return Some(vec![error.to_string()]),
    };
    let mut answers = Vec::new();
    for table in tables {
        match host.query(&format!("SELECT * FROM {table}")) {
            Ok(rows) => answers.extend(rows.into_iter().map(|row| format!("{table} {row}"))),
            Err(error) => answers.push(format!("{table} {error}")),
        }
    }
    Some(answers)
}

#[test]
fn the_real_engine_reads_the_same_afterwards() {
    for folder in folders() {
        let case = Case::open(&folder);
        for database in &case.databases {
            let (without, with) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            copy(database, without.path());
            copy(database, with.path());
            open(with.path()).close().unwrap();
            let (Some(without), Some(with)) = (read_by_engine(without.path()), read_by_engine(with.path()))
            else {
                return;
            };
            assert!(without == with, "{}", folder.display());
        }
    }
}
