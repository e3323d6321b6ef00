//! Fuzz targets: each takes any bytes, must not panic, and checks what must hold for what it accepts.
//!
//! The programs in `fuzz/` run them under libFuzzer; the tests of this module run them on mutated real files.
#![allow(clippy::panic, clippy::expect_used, reason = "a target fails by panicking")]

use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::OnceLock;

use crate::batch::{Batch, BatchWriter, Operation};
use crate::catalog::{CatalogEntry, CatalogState, Definition, EntryKind};
use crate::chunk::BLOCK;
use crate::fault::Faults;
use crate::log::{LogReader, Step};
use crate::manifest::Version;
use crate::relation::Relation;
use crate::table::{BlockFile, Table};
use crate::transaction::{Assembly, Carried};
use crate::{key, spill, value};

mod chai;
pub mod repair;

pub use chai::chai;

#[cfg(test)]
mod corpus;
#[cfg(test)]
mod mutate;
#[cfg(test)]
mod tests;

/// The number of the log that [`wal`] reads.
pub const LOG: u32 = 2;

/// A file in memory that begins at an offset.
struct Memory<'a> {
    base: u64,
    bytes: &'a [u8],
}

impl FileExt for Memory<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let skip = offset.checked_sub(self.base).and_then(|skip| usize::try_from(skip).ok());
        let rest = skip.and_then(|skip| self.bytes.get(skip..)).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
}

/// Where in its block a log of [`wal`] begins: small inputs reach the end of a block, too.
fn log_base(mode: u8) -> usize {
    (BLOCK - usize::from(mode >> 1) * 16) % BLOCK
}

/// A log: records, what they do to a database, and whether what stops the reader is damage. The lowest bit of the first byte
/// says whether checksums are mended, the others how many times 16 bytes are left in the first block.
pub fn wal(input: &[u8]) {
    log(input, catalog_state());
}

/// A log that changes a database with that catalog.
fn log(input: &[u8], mut catalog: CatalogState) {
    let Some((&mode, bytes)) = input.split_first() else { return };
    let mut bytes = bytes.to_vec();
    let base = log_base(mode);
    if mode & 1 == 1 {
        repair::log(&mut bytes, LOG, BLOCK - base);
    }
    let base = base as u64;
    let file = Memory { base, bytes: &bytes };
    let mut reader = LogReader::of_file(u64::from(LOG), PathBuf::new(), file);
    reader.rewind(base);
    let mut faults = Faults::default();
    let mut record = Vec::new();
    let mut end_before = base;
    loop {
        match reader.next(&mut record).expect("readable file") {
            Step::Record { start, end } => {
                assert!(start >= end_before && end > start && end <= base + bytes.len() as u64);
                end_before = end;
                if let Ok(batch) = Batch::decode(&record) {
                    changes(&batch, &mut catalog, &mut faults);
                }
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
    batch_of(record, catalog_state());
}

/// A record that changes a database with that catalog.
fn batch_of(record: &[u8], mut catalog: CatalogState) {
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
    changes(&batch, &mut catalog, &mut Faults::default());
}

/// What a batch does to a database.
fn changes(batch: &Batch<'_>, catalog: &mut CatalogState, faults: &mut Faults) {
    let _either = spill::part(catalog.engine(), batch);
    let mut assembly = Assembly::behind(Carried::default(), catalog, faults);
    assembly.add(&batch.operations);
    for item in assembly.finish(true).0 {
        if let deltamesh_change::Item::Row(event) = item {
            let is_row = event.operation != deltamesh_change::Operation::Truncate;
            assert_eq!(event.key.len(), if is_row { event.schema.key.len() } else { 0 });
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
pub fn table(input: &[u8]) {
    let Some((&mode, bytes)) = input.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if mode & 1 == 1 {
        repair::table(&mut bytes);
    }
    let file = Memory { base: 0, bytes: &bytes };
    let Ok(table) = Table::of_blocks(BlockFile::new(PathBuf::new(), file, bytes.len() as u64)) else {
        return;
    };
    let _either = table.range_deletes();
    for namespace in [key::CATALOG, key::FIRST_USER] {
        let Ok(mut entries) = table.entries(key::prefix(namespace)) else { return };
        while let Ok(Some(entry)) = entries.next() {
            assert!(entry.sequence < crate::batch::SEQUENCES);
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

/// A catalog in which the first two of [`TABLES`] have the first two namespaces.
fn catalog_state() -> CatalogState {
    static CATALOG: OnceLock<CatalogState> = OnceLock::new();
    let catalog = CATALOG.get_or_init(|| {
        let mut catalog = CatalogState::default();
        for (namespace, sql) in (key::FIRST_USER..).zip(&TABLES[..2]) {
            let entry = CatalogEntry {
                name: format!("t{namespace}"),
                kind: EntryKind::Table,
                namespace: Some(namespace),
                sql: (*sql).to_owned(),
                docid_sequence: None,
                owner: None,
            };
            catalog.set(&[], &entry.encode(), &mut Faults::default());
        }
        catalog
    });
    catalog.clone()
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
