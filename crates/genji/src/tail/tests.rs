//! Rows that cannot be read, in directories written by hand: the others flow, and each fault is named.

use std::fs;

use deltamesh_change::to_json;
use expect_test::{Expect, expect};

use super::*;
use crate::Snapshot;
use crate::batch::BatchWriter;
use crate::catalog::{CatalogEntry, EntryKind};
use crate::chunk::{Form, RecordWriter};
use crate::directory::{log_path, manifest_path};

const BEGINNING: EnginePosition = EnginePosition { sequence: 1, log: 2, offset: 0 };
const TABLE: &str = "CREATE TABLE t (id INTEGER NOT NULL, v TEXT, CONSTRAINT t_pk PRIMARY KEY (id))";
const OTHER: &str = "CREATE TABLE u (k TEXT NOT NULL, d DOUBLE, CONSTRAINT u_pk PRIMARY KEY (k))";

/// A directory with one log.
struct Written {
    dir: tempfile::TempDir,
    log: Vec<u8>,
    sequence: u64,
}

impl Written {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("CURRENT"), "MANIFEST-000001\n").unwrap();
        let mut manifest = Vec::new();
        RecordWriter::new(Form::Legacy, 0).append(b"\x02\x02", &mut manifest);
        fs::write(manifest_path(dir.path(), 1), manifest).unwrap();
        Self { dir, log: Vec::new(), sequence: 1 }
    }

    fn commit(&mut self, batch: BatchWriter) {
        let (count, sequence) = (u64::from(batch.count()), self.sequence);
        self.sequence += count;
        let mut writer = RecordWriter::new(Form::Recyclable(2), self.log.len() as u64);
        writer.append(&batch.finish(sequence), &mut self.log);
        fs::write(log_path(self.dir.path(), 2), &self.log).unwrap();
    }

    fn define(&mut self, name: &str, kind: EntryKind, namespace: i64, sql: &str) {
        let entry = CatalogEntry {
            name: name.to_owned(),
            kind,
            namespace: Some(namespace),
            sql: sql.to_owned(),
            docid_sequence: None,
            owner: None,
        };
        let mut batch = BatchWriter::new();
        batch.set(&entry.key(), &entry.encode());
        self.commit(batch);
    }

    fn set(&mut self, key: &[u8], value: &[u8]) {
        let mut batch = BatchWriter::new();
        batch.set(key, value);
        self.commit(batch);
    }

    /// The rows and faults that a tail and a snapshot find.
    fn found(&self) -> String {
        let mut text = "tail\n".to_owned();
        let options = ReadOptions::default();
        let mut tail = Tail::resume(self.dir.path(), BEGINNING, &options).unwrap();
        while let Some(transaction) = tail.poll().unwrap() {
            for item in transaction.items {
                let Item::Row(event) = item else { continue };
                let after = event.after.map(|row| row.iter().map(to_json).collect::<Vec<_>>());
                let after = after.map_or("deleted".to_owned(), |row| serde_json::json!(row).to_string());
                text += &format!("{} {after}\n", event.schema.relation);
            }
        }
        faults(tail.faults(), &mut text);
        text + &self.snapshot()
    }

    fn snapshot(&self) -> String {
        let mut text = "snapshot\n".to_owned();
        let snapshot = Snapshot::open(self.dir.path(), &ReadOptions::default()).unwrap();
        for schema in snapshot.relations() {
            for row in snapshot.rows(&schema.relation).unwrap() {
                let row: Vec<_> = row.unwrap().iter().map(to_json).collect();
                text += &format!("{} {}\n", schema.relation, serde_json::json!(row));
            }
        }
        faults(snapshot.faults(), &mut text);
        text
    }

    fn check(&self, expected: Expect) {
        expected.assert_eq(&self.found());
    }
}

fn faults(faults: Vec<Fault>, text: &mut String) {
    for Fault { relation, key_length, reason, count } in faults {
        *text += &format!("fault on {relation} ({key_length:?}): {reason}, {count}\n");
    }
}

#[test]
fn rows_and_keys_that_do_not_decode() {
    let mut written = Written::new();
    written.define("t", EntryKind::Table, 10, TABLE);
    written.set(b"\x4E\x45", b"\x45\xDA\x01a");
    // Text that is not UTF-8, another type, a cut value, one too many.
    written.set(b"\x4E\x46", b"\x46\xDA\x01\xFF");
    written.set(b"\x4E\x47", b"\x47\x11");
    written.set(b"\x4E\x48", b"\x48\xDA\x05a");
    written.set(b"\x4E\x49", b"\x49\xDA\x01a\x45");
    // Keys: cut, of another type, too long; without a namespace; in a namespace that nobody claims.
    written.set(b"\x4E\xC5\x01", b"\x45\x05");
    written.set(b"\x4E\xDA\x01a", b"\x45\x05");
    written.set(b"\x4E\x4A\x4A", b"\x45\x05");
    written.set(b"\xDA\x01a", b"\x45\x05");
    written.set(b"\x4F\x45", b"\x45");
    // The end of a key that never was a row's is none.
    let mut batch = BatchWriter::new();
    batch.delete(b"\x4E\xC5\x01");
    batch.delete(b"\x4E\x48");
    written.commit(batch);
    written.set(b"\x4E\x4B", b"\x4B\x05");
    written.check(expect![[r#"
        tail
        t [1,"a"]
        t deleted
        t [7,null]
        fault on t (Some(2)): text is not utf-8, 1
        fault on t (Some(2)): value does not fit its field, 2
        fault on t (Some(2)): bytes end too early, 2
        fault on t (Some(2)): row is longer than its definition, 1
        fault on t (Some(3)): key has too many components, 1
        fault on database (Some(3)): key has no namespace, 1
        fault on namespace 11 (Some(2)): row belongs to no known table, 1
        snapshot
        t [1,"a"]
        t [7,null]
        fault on t (Some(2)): text is not utf-8, 1
        fault on t (Some(2)): value does not fit its field, 2
        fault on t (Some(2)): row is longer than its definition, 1
        fault on t (Some(3)): key has too many components, 1
    "#]]);
}

#[test]
fn catalog_rows_that_do_not_decode() {
    let mut written = Written::new();
    written.set(b"\x45\xDA\x01b", b"\xDA\x01b\x05");
    written.define("c", EntryKind::Table, 10, "CREATE TABLE c (a WHATEVER)");
    written.define("i", EntryKind::Table, 11, "CREATE INDEX i ON t (a)");
    written.define("t", EntryKind::Table, 12, TABLE);
    written.set(b"\x4E\x45", b"\x45\xDA\x01a");
    written.set(b"\x50\x45", b"\x45\xDA\x01a");
    written.check(expect![[r#"
        tail
        t [1,"a"]
        fault on b (Some(4)): catalog field is not text, 1
        fault on c (None): field has no type in catalog sql, 1
        fault on i (None): catalog sql is not a table's, 1
        snapshot
        t [1,"a"]
        fault on b (Some(4)): catalog field is not text, 1
        fault on c (None): field has no type in catalog sql, 1
        fault on i (None): catalog sql is not a table's, 1
    "#]]);
}

/// Real Genji shows a row in each table that can read it; what none can read is a fault.
#[test]
fn rows_of_a_shared_namespace() {
    let mut written = Written::new();
    written.define("t", EntryKind::Table, 10, TABLE);
    written.define("x", EntryKind::Index, 10, "CREATE INDEX x ON t (v)");
    written.set(b"\x4E\x45", b"\x45\xDA\x01a");
    written.set(b"\x4E\xDA\x01a\xE0\x02\x4E\x45", b"\0");
    written.set(b"\x4E\x46", b"\x46\x11");
    written.check(expect![[r#"
        tail
        t [1,"a"]
        fault on t (None): namespace 10 is shared by t, x, 1
        fault on x (None): namespace 10 is shared by t, x, 1
        fault on t (Some(2)): value does not fit its field, 1
        snapshot
        t [1,"a"]
        fault on t (None): namespace 10 is shared by t, x, 1
        fault on x (None): namespace 10 is shared by t, x, 1
        fault on t (Some(2)): value does not fit its field, 1
    "#]]);

    written.define("u", EntryKind::Table, 10, OTHER);
    let error = Tail::resume(written.dir.path(), BEGINNING, &ReadOptions::default())
        .and_then(|mut tail| {
            loop {
                if tail.poll()?.is_none() {
                    return Ok(());
                }
            }
        })
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Gap);
    written.set(b"\x4E\xDA\x01k", b"\xDA\x01k\xD0\xBF\xF0\0\0\0\0\0\0");
    expect![[r#"
        snapshot
        t [1,"a"]
        u ["k",1.0]
        fault on t (None): namespace 10 is shared by t, u, 1
        fault on u (None): namespace 10 is shared by t, u, 1
        fault on t (None): namespace 10 is shared by t, u, x, 1
        fault on u (None): namespace 10 is shared by t, u, x, 1
        fault on x (None): namespace 10 is shared by t, u, x, 1
        fault on t (Some(2)): value does not fit its field, 1
        fault on u (Some(2)): value does not fit its field, 1
    "#]]
    .assert_eq(&written.snapshot());
}

/// What Genji never writes stops the reader at its place: nothing is skipped.
#[test]
fn operations_of_another_engine() {
    let mut written = Written::new();
    written.define("t", EntryKind::Table, 10, TABLE);
    let at = written.log.len() as u64;
    let mut batch = BatchWriter::new();
    batch.delete_range(b"\x4E", b"\x4F");
    written.commit(batch);
    let mut tail = Tail::resume(written.dir.path(), BEGINNING, &ReadOptions::default()).unwrap();
    tail.poll().unwrap();
    for _ in 0..2 {
        let error = tail.poll().unwrap_err();
        assert_eq!((error.kind(), error.offset()), (ErrorKind::Unsupported, Some(at)));
    }
}
