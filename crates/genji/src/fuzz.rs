//! Fuzz targets: each takes any bytes, must not panic, and checks what must hold for what it accepts.
//!
//! The programs in `fuzz/` run them under libFuzzer; the tests of this module run them on mutated real files.
#![allow(clippy::panic, clippy::expect_used, reason = "a target fails by panicking")]

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::OnceLock;

use crate::batch::{Batch, BatchWriter, Operation};
use crate::catalog::{CatalogEntry, CatalogState, Definition, EntryKind};
use crate::fault::Faults;
use crate::log::{LogReader, Step};
use crate::manifest::Version;
use crate::relation::Relation;
use crate::table::Table;
use crate::transaction::Assembly;
use crate::{key, spill, value};

pub mod repair;

#[cfg(test)]
mod corpus;
#[cfg(test)]
mod mutate;
#[cfg(test)]
mod tests;

/// The number of the log that [`wal`] reads.
pub const LOG: u32 = 2;

/// An unlinked file that holds the bytes of one input after the other.
#[derive(Debug)]
pub struct Scratch(File);

impl Scratch {
    /// Makes the file.
    ///
    /// # Errors
    /// The operating system's.
    pub fn new() -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("deltamesh-fuzz-{}", std::process::id()));
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(Self(file))
    }

    fn hold(&self, bytes: &[u8]) -> File {
        let held = self.0.write_all_at(bytes, 0).and_then(|()| self.0.set_len(bytes.len() as u64));
        held.and_then(|()| self.0.try_clone()).expect("scratch file")
    }
}

/// A log: records, and whether what stops the reader is damage. The first byte says whether checksums are mended.
pub fn wal(scratch: &Scratch, input: &[u8]) {
    let Some((&mode, bytes)) = input.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if mode & 1 == 1 {
        repair::log(&mut bytes, LOG);
    }
    let mut reader = LogReader::of_file(u64::from(LOG), PathBuf::new(), scratch.hold(&bytes));
    let mut record = Vec::new();
    let mut end_before = 0;
    loop {
        match reader.next(&mut record).expect("readable file") {
            Step::Record { start, end } => {
                assert!(start >= end_before && end > start && end <= bytes.len() as u64);
                end_before = end;
                batch(&record);
            }
            Step::Finished => return,
            Step::Stopped(stop) => {
                assert!(stop.offset >= end_before);
                let _either = reader.is_damaged(stop).expect("readable file");
                return;
            }
        }
    }
}

/// The record of a batch, and what its operations do to a database.
pub fn batch(record: &[u8]) {
    let Ok(batch) = Batch::decode(record) else { return };
    let mut writer = BatchWriter::new();
    for operation in &batch.operations {
        match *operation {
            Operation::Set { key, value } => writer.set(key, value),
            Operation::Delete { key } => writer.delete(key),
            Operation::RangeDelete { start, end } => writer.delete_range(start, end),
        }
    }
    let written = writer.finish(batch.sequence);
    assert_eq!(Batch::decode(&written).ok(), Some(batch.clone()));
    let _either = spill::part(&batch);
    let mut catalog = CatalogState::default();
    let mut faults = Faults::default();
    for row in catalog_rows() {
        catalog.set(&[], row, &mut faults);
    }
    let mut assembly = Assembly::new(&mut catalog, &mut faults);
    assembly.add(&batch.operations);
    for item in assembly.finish() {
        if let deltamesh_change::Item::Row(event) = item {
            assert_eq!(event.key.len(), event.schema.key.len());
        }
    }
}

/// A manifest. The first byte says whether checksums are mended.
pub fn manifest(input: &[u8]) {
    let Some((&mode, bytes)) = input.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if mode & 1 == 1 {
        repair::manifest(&mut bytes);
    }
    if let Ok(version) = Version::decode(1, &bytes) {
        assert!(version.min_log > 0);
    }
}

/// A table: all entries of a few namespaces. The first byte says whether checksums are mended.
pub fn table(scratch: &Scratch, input: &[u8]) {
    let Some((&mode, bytes)) = input.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if mode & 1 == 1 {
        repair::table(&mut bytes);
    }
    let Ok(table) = Table::of_file(PathBuf::new(), scratch.hold(&bytes)) else { return };
    let _either = table.range_deletes();
    for namespace in [key::CATALOG, key::FIRST_USER] {
        let Ok(mut entries) = table.entries(key::prefix(namespace)) else { return };
        let mut left = bytes.len();
        while let Ok(Some(entry)) = entries.next() {
            assert!(entry.sequence < crate::batch::SEQUENCES);
            left = left.checked_sub(1).expect("an entry takes a byte and more");
        }
    }
    if let Ok(index) = table.index() {
        for (_, handle) in index.into_iter().take(8) {
            let Ok(mut entries) = table.block_entries(handle) else { continue };
            while let Ok(Some(_)) = entries.next() {}
        }
    }
}

/// Definitions that documents are read by.
const TABLES: [&str; 4] = [
    "CREATE TABLE t (...)",
    "CREATE TABLE t (id INTEGER NOT NULL, v TEXT, CONSTRAINT t_pk PRIMARY KEY (id))",
    "CREATE TABLE t (n INTEGER NOT NULL, a ARRAY, d (...), s (x INTEGER, y (z TEXT, w DOUBLE), ...), x ANY, CONSTRAINT t_pk PRIMARY KEY (n, s.x), ...)",
    "CREATE TABLE t (a ANY, b BOOLEAN, c BLOB, d DOUBLE, CONSTRAINT t_pk PRIMARY KEY (a))",
];

/// The relations of [`TABLES`].
fn relations() -> &'static [Relation] {
    static RELATIONS: OnceLock<Vec<Relation>> = OnceLock::new();
    RELATIONS.get_or_init(|| {
        let relation = |sql: &&str| match Definition::parse(sql) {
            Ok(Definition::Table(definition)) => Relation::new(key::FIRST_USER, definition),
            _ => panic!("{sql}"),
        };
        TABLES.iter().map(relation).collect()
    })
}

/// Catalog rows that give the first two of [`TABLES`] the first two namespaces.
fn catalog_rows() -> &'static [Vec<u8>] {
    static ROWS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    ROWS.get_or_init(|| {
        let row = |(namespace, sql): (i64, &&str)| CatalogEntry {
            name: format!("t{namespace}"),
            kind: EntryKind::Table,
            namespace: Some(namespace),
            sql: (*sql).to_owned(),
            docid_sequence: None,
            owner: None,
        };
        (key::FIRST_USER..).zip(&TABLES[..2]).map(row).map(|entry| entry.encode()).collect()
    })
}

/// A key and a row: the first byte says how long the key is, the rest is key and value.
pub fn document(input: &[u8]) {
    let Some((&length, bytes)) = input.split_first() else { return };
    let (key, bytes) = bytes.split_at(usize::from(length).min(bytes.len()));
    let mut rest = bytes;
    if let Ok(decoded) = value::decode(&mut rest) {
        let mut encoded = Vec::new();
        value::encode(&mut encoded, &decoded).expect("genji's value");
        let mut input = encoded.as_slice();
        let again = value::decode(&mut input).expect("encoded value");
        assert!(input.is_empty());
        let mut twice = Vec::new();
        value::encode(&mut twice, &again).expect("genji's value");
        // Not the same bytes: -0.0 reads back as NaN, and NaN has many forms.
        assert_eq!(twice.len(), encoded.len());
    }
    if let Ok(key) = key::split(key) {
        let _either = key.values();
    }
    for relation in relations() {
        let _either = relation.decode_document(bytes);
        let components = key::split(key).map_or(key, |key| key.components);
        if let Ok(key) = relation.decode_key(components)
            && let Ok(row) = relation.decode_row(&key, bytes)
        {
            assert_eq!(row.len(), relation.schema.columns.len());
        }
    }
}

/// A catalog row, and its SQL.
pub fn catalog(input: &[u8]) {
    if let Ok(entry) = CatalogEntry::decode(input) {
        assert_eq!(CatalogEntry::decode(&entry.encode()).ok().as_ref(), Some(&entry));
        definition(&entry.sql);
    }
    if let Ok(sql) = std::str::from_utf8(input) {
        definition(sql);
    }
}

fn definition(sql: &str) {
    match Definition::parse(sql) {
        Ok(Definition::Table(table)) => {
            let relation = Relation::new(key::FIRST_USER, table);
            assert!(!relation.schema.columns.is_empty() || relation.schema.key.is_empty());
        }
        Ok(Definition::Index(index)) => assert!(!index.to_string().is_empty()),
        Ok(Definition::Sequence(sequence)) => assert!(!sequence.to_string().is_empty()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
