//! Directories written by the real engine, read as the real engine reads them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use deltamesh_change::{EnginePosition, Item, Operation, SchemaChange};
use deltamesh_genji::{GenjiTransaction, ReadOptions, Snapshot, Tail};
use serde_json::{Value as Json, json};

use crate::case::{Case, Documents, document, key_text, of_row, snapshot};
use crate::reference;

/// Before the first transaction of a directory's history.
const BEGINNING: EnginePosition = EnginePosition { sequence: 1, log: 2, offset: 0 };

/// The cases of a folder, by name.
pub(crate) fn cases(folder: &Path) -> Vec<(String, PathBuf)> {
    let mut cases: Vec<(String, PathBuf)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("expected.json").exists())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), path))
        .collect();
    cases.sort();
    assert!(!cases.is_empty());
    cases
}

fn every_case(check: impl Fn(&str, &Case)) {
    for folder in [Some(reference::own_fixtures()), reference::all_fixtures()].into_iter().flatten() {
        for (name, path) in cases(&folder) {
            check(&name, &Case::open(&path));
        }
    }
}

/// A snapshot shows the rows that the real engine shows.
#[test]
fn rows() {
    every_case(check_rows);
}

/// A snapshot of each copy of the directory has the expected rows.
pub(crate) fn check_rows(name: &str, case: &Case) {
    let theirs = case.tables();
    for database in &case.databases {
        let ours = snapshot(database);
        assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>(), "{name}");
        for (table, rows) in &theirs {
            assert_eq!(ours[table].len(), rows.len(), "{name} {table}");
            for (key, document) in rows {
                assert_eq!(ours[table].get(key), Some(document), "{name} {table} {key}");
            }
        }
    }
}

/// The tail from the first sequence number on sees the transactions that the real engine made.
#[test]
fn transactions() {
    every_case(|name, case| check_transactions(name, case, BEGINNING));
}

/// The tail from that position on has the expected changes.
pub(crate) fn check_transactions(name: &str, case: &Case, beginning: EnginePosition) {
    let Some(expected) = case.expected["changes"].as_array() else { return };
    let mut tail = Tail::resume(case.database(), beginning, &ReadOptions::default()).unwrap();
    let mut model = Model::default();
    let mut ours = Vec::new();
    while let Some(transaction) = tail.poll().unwrap() {
        ours.extend(model.apply(&transaction));
    }
    assert_eq!(tail.faults(), [], "{name}");
    let theirs: Vec<Json> = expected.iter().filter_map(expected_transaction).collect();
    for (index, theirs) in theirs.iter().enumerate() {
        assert_eq!(ours.get(index), Some(theirs), "{name} transaction {index}");
    }
    assert_eq!(ours.len(), theirs.len(), "{name}");
}

/// A transaction of `expected.json` as far as it concerns the user's tables.
fn expected_transaction(transaction: &Json) -> Option<Json> {
    let entries = |field: &str| transaction[field].as_array().cloned().unwrap_or_default();
    let is_user_table = |entry: &&Json| {
        entry["kind"] == "table" && !entry["name"].as_str().unwrap_or_default().starts_with("__")
    };
    let schema = entries("schema");
    let schema = schema.iter().filter(is_user_table).map(|entry| match entry["op"].as_str() {
        Some("drop") => json!(["drop", entry["name"]]),
        Some("rename") => json!(["rename", entry["from"], entry["name"]]),
        _ => json!(["define", entry["name"]]),
    });
    let schema: Vec<Json> = schema.collect();
    let mut changes = BTreeMap::new();
    for change in entries("changes").iter().filter(|change| change["op"] != "noop") {
        let (key, document) = document(change);
        let document = if change["op"] == "delete" { Json::Null } else { document };
        changes
            .insert(format!("{} {key}", change["table"].as_str().unwrap()), json!([change["op"], document]));
    }
    (!schema.is_empty() || !changes.is_empty()).then(|| json!({"schema": schema, "changes": changes}))
}

/// What a replica would hold: tells inserts from updates.
#[derive(Default)]
pub(crate) struct Model {
    pub(crate) tables: BTreeMap<String, Documents>,
}

impl Model {
    pub(crate) fn apply(&mut self, transaction: &GenjiTransaction) -> Option<Json> {
        let mut changes = BTreeMap::new();
        let mut schema = Vec::new();
        for item in &transaction.items {
            match item {
                Item::Row(event) if event.operation == Operation::Truncate => {
                    let table =
                        self.tables.get_mut(&event.schema.relation).expect("rows follow their definition");
                    for (key, _) in std::mem::take(table) {
                        changes.insert(format!("{} {key}", event.schema.relation), json!(["delete", null]));
                    }
                }
                Item::Row(event) => {
                    let table =
                        self.tables.get_mut(&event.schema.relation).expect("rows follow their definition");
                    let (key, document) = match &event.after {
                        Some(row) => of_row(&event.schema, row),
                        None => (key_text(&event.key), Json::Null),
                    };
                    let before = table.get(&key).cloned();
                    let operation = match (event.operation, &before) {
                        (Operation::Upsert, None) => "insert",
                        (Operation::Upsert, Some(before)) if *before != document => "update",
                        (Operation::Delete, Some(_)) => "delete",
                        _ => continue,
                    };
                    match event.operation {
                        Operation::Delete => table.remove(&key),
                        _ => table.insert(key.clone(), document.clone()),
                    };
                    changes.insert(format!("{} {key}", event.schema.relation), json!([operation, document]));
                }
                Item::Schema(SchemaChange::Define(relation)) => {
                    self.tables.entry(relation.relation.clone()).or_default();
                    schema.push(json!(["define", relation.relation]));
                }
                Item::Schema(SchemaChange::Rename { from, to }) => {
                    let rows = self.tables.remove(from).expect("renamed table is known");
                    self.tables.insert(to.relation.clone(), rows);
                    schema.push(json!(["rename", from, to.relation]));
                }
                Item::Schema(SchemaChange::Drop { relation, .. }) => {
                    assert_eq!(self.tables.remove(relation), Some(Documents::new()));
                    schema.push(json!(["drop", relation]));
                }
            }
        }
        (!schema.is_empty() || !changes.is_empty()).then(|| json!({"schema": schema, "changes": changes}))
    }
}

/// Wherever a tail stops, another goes on; a position of another history is refused.
#[test]
fn resume_at_every_transaction() {
    every_case(|name, case| check_resume(name, case, BEGINNING));
}

/// A tail goes on behind each transaction with the others.
pub(crate) fn check_resume(name: &str, case: &Case, beginning: EnginePosition) {
    let (dir, options) = (case.database(), ReadOptions::default());
    let end = Snapshot::open(dir, &options).unwrap().position();
    if !case.expected["changes"].is_array() {
        let mut tail = Tail::resume(dir, end, &options).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(tail.poll().unwrap(), None, "{name}");
        return;
    }
    let mut tail = Tail::resume(dir, beginning, &options).unwrap();
    let mut all = Vec::new();
    while let Some(transaction) = tail.poll().unwrap() {
        all.push(transaction);
    }
    let step = all.len().div_ceil(12).max(1);
    for index in (0..all.len()).step_by(step) {
        let mut tail = Tail::resume(dir, all[index].position, &options).unwrap();
        for transaction in &all[index + 1..] {
            assert_eq!(tail.poll().unwrap().as_ref(), Some(transaction), "{name} after {index}");
        }
        assert_eq!(tail.poll().unwrap(), None, "{name} after {index}");
    }
    let beyond = EnginePosition { sequence: end.sequence + 1, ..end };
    let error = Tail::resume(dir, beyond, &options).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), deltamesh_genji::ErrorKind::Rewound, "{name}");
}

/// A snapshot and the tail behind it meet at one position.
#[test]
fn nothing_follows_a_quiet_snapshot() {
    every_case(|name, case| {
        let snapshot = Snapshot::open(case.database(), &ReadOptions::default()).unwrap();
        assert_eq!(snapshot.into_tail().poll().unwrap(), None, "{name}");
    });
}

/// After a kill, Genji gives a namespace out twice: its rows show in both tables, and both are named.
#[test]
fn shared_namespace_is_a_fault() {
    let database = reference::own_fixtures().join("namespace_reuse/db");
    let snapshot = Snapshot::open(&database, &ReadOptions::default()).unwrap();
    let faults = snapshot.faults();
    let mut named: Vec<_> =
        faults.iter().map(|fault| (fault.relation.as_str(), fault.reason.as_str())).collect();
    named.sort_unstable();
    let reason = "namespace 11 is shared by b, c";
    assert_eq!(named, [("b", reason), ("c", reason)]);
    assert_eq!(snapshot.faults(), []);
}
