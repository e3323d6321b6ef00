//! The tables of a snapshot as they are stored: system tables too, raw keys, and rows that do not decode by name.
//!
//! [`crate::Rows`] gives rows of relations for a replica; this is for a reader of the directory itself.

use deltamesh_change::Value;

use crate::catalog::CatalogEntry;
use crate::engine::Engine;
use crate::relation::Relation;
use crate::scan::Scan;
use crate::{Error, Snapshot, key};

/// A table of a database.
#[derive(Debug)]
pub struct StoredTable {
    /// Its row in the catalog.
    pub entry: CatalogEntry,
    engine: Engine,
    relation: Result<Relation, Error>,
}

/// A row as it is stored.
#[derive(Debug)]
pub struct StoredRow {
    /// The whole key, its namespace included.
    pub key: Vec<u8>,
    /// The values of the primary key, or the docid; none where the key does not decode.
    pub primary_key: Option<Vec<Value>>,
    /// The fields by name, those that are NULL by declaration left out; or why they cannot be read.
    pub document: Result<Vec<(String, Value)>, Error>,
}

impl StoredTable {
    /// The table that a catalog entry describes; none for indexes and sequences.
    pub(crate) fn new(engine: Engine, entry: CatalogEntry) -> Option<Self> {
        let relation = engine.relation(&entry).transpose()?;
        Some(Self { entry, engine, relation })
    }

    /// Why the definition cannot be read, if so; its rows cannot be either, then.
    #[must_use]
    pub fn fault(&self) -> Option<&Error> {
        self.relation.as_ref().err()
    }

    /// The values of a key.
    pub(crate) fn primary_key(&self, whole: &[u8]) -> Result<Vec<Value>, Error> {
        let relation = self.relation.as_ref().map_err(Error::decode_again)?;
        relation.decode_key(self.engine.split(whole)?.components)
    }

    /// The fields of a stored value.
    pub(crate) fn document(&self, value: &[u8]) -> Result<Vec<(String, Value)>, Error> {
        let relation = self.relation.as_ref().map_err(Error::decode_again)?;
        relation.decode_document(value)
    }

    /// A row, or why it cannot be read.
    pub(crate) fn row(&self, key: Vec<u8>, value: &[u8]) -> StoredRow {
        let (primary_key, fault) = match self.primary_key(&key) {
            Ok(values) => (Some(values), None),
            Err(error) => (None, Some(error)),
        };
        let document = fault.map_or_else(|| self.document(value), Err);
        StoredRow { key, primary_key, document }
    }
}

/// The rows of a table, as [`Snapshot::stored_rows`] gives them.
pub struct StoredRows<'a> {
    table: &'a StoredTable,
    snapshot: &'a Snapshot,
    scan: Option<Scan<'a>>,
    read: u64,
}

impl Snapshot {
    /// The tables by name, system tables included. Catalog rows that do not decode are left out here; they are rows of
    /// `__genji_catalog` with their reason.
    ///
    /// # Errors
    /// As [`Snapshot::open`] for unreadable tables.
    pub fn stored_tables(&self) -> Result<Vec<StoredTable>, Error> {
        let mut scan = self.scan(key::CATALOG, false)?;
        let mut tables = Vec::new();
        while let Some(found) = scan.next()? {
            let entry = self.engine().entry(&found.value).ok();
            tables.extend(entry.and_then(|entry| StoredTable::new(self.engine(), entry)));
        }
        tables.sort_by(|left, right| left.entry.name.cmp(&right.entry.name));
        Ok(tables)
    }

    /// The rows of a table in key order, as far as the engine's files keep it.
    ///
    /// # Errors
    /// As [`Snapshot::open`] for unreadable tables.
    pub fn stored_rows<'a>(&'a self, table: &'a StoredTable) -> Result<StoredRows<'a>, Error> {
        let scan = table.entry.namespace.map(|namespace| self.scan(namespace, false)).transpose()?;
        Ok(StoredRows { table, snapshot: self, scan, read: 0 })
    }
}

impl Iterator for StoredRows<'_> {
    type Item = Result<StoredRow, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read += 1;
        if self.read.is_multiple_of(1024) {
            self.snapshot.read_ahead();
        }
        match self.scan.as_mut()?.next() {
            Ok(found) => found.map(|found| Ok(self.table.row(found.key, &found.value))),
            Err(error) => {
                self.scan = None;
                Some(Err(error))
            }
        }
    }
}
