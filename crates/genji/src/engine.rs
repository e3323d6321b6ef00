//! The engines whose directories are read: Genji 0.15, and its successor Chai 0.18.
//!
//! Both keep rows in namespaces of one Pebble store, and their catalog and rollback segment under the same numbers. What
//! they encode in another way is told apart here, and nowhere else.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};

use deltamesh_change::Value;

use crate::catalog::{CatalogEntry, Definition, EntryKind};
use crate::key::{self, Key};
use crate::relation::Relation;
use crate::scan::order;
use crate::{Error, ErrorKind, chai};

/// The engine that wrote a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Engine {
    /// Genji 0.15: documents.
    #[default]
    Genji,
    /// Chai 0.18: rows of typed columns.
    Chai,
}

/// What a range delete takes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cleared {
    /// No row of a table and no key of an index.
    Nothing,
    /// The rollback segment: the transaction that was spilled has ended.
    Segment,
    /// All keys of a table or an index.
    Space(i64),
}

impl Engine {
    /// The engine of a directory, and where in it the engine's files are. Genji where nothing says that it is another.
    #[must_use]
    pub fn locate(dir: &Path) -> (Self, PathBuf) {
        match chai::files::locate(dir) {
            Some(path) => (Self::Chai, path),
            None => (Self::Genji, dir.to_owned()),
        }
    }

    /// The sequence number of the first operation in a database's history.
    pub(crate) fn first_sequence(self) -> u64 {
        match self {
            Self::Genji => 1,
            Self::Chai => 10,
        }
    }

    /// Whether an open undoes what a transaction had spilled when its host died. Where not, its rows stay visible.
    pub(crate) fn undoes_spills(self) -> bool {
        self == Self::Chai
    }

    /// Splits a key behind its namespace.
    pub(crate) fn split(self, key: &[u8]) -> Result<Key<'_>, Error> {
        match self {
            Self::Genji => key::split(key),
            Self::Chai => chai::key::split(key),
        }
    }

    /// The namespace of a key, if it starts with one.
    #[must_use]
    pub fn namespace_of(self, key: &[u8]) -> Option<i64> {
        self.split(key).ok().map(|key| key.namespace)
    }

    /// The encoded namespace: what every key in it starts with.
    pub(crate) fn prefix(self, namespace: i64) -> Vec<u8> {
        match self {
            Self::Genji => key::prefix(namespace),
            Self::Chai => chai::key::prefix(namespace),
        }
    }

    /// The order of keys, in which tables hold them.
    pub(crate) fn compare(self, left: &[u8], right: &[u8]) -> Ordering {
        match self {
            Self::Genji => order::compare(left, right),
            Self::Chai => chai::order::compare(left, right),
        }
    }

    /// What a range delete takes away; an error for one that the engine never writes.
    pub(crate) fn cleared(self, start: &[u8], end: &[u8]) -> Result<Cleared, Error> {
        if start == self.prefix(key::ROLLBACK) && end == self.prefix(key::ROLLBACK + 1) {
            return Ok(Cleared::Segment);
        }
        let other = match self {
            Self::Genji => None,
            Self::Chai => chai::key::cleared(start, end),
        };
        other.ok_or_else(|| Error::new(ErrorKind::Unsupported, "range delete is not the engine's"))
    }

    /// The key whose former value a key of the rollback segment holds.
    pub(crate) fn original(self, segment_key: &[u8]) -> Option<Vec<u8>> {
        let components = self.split(segment_key).ok()?;
        let values = match self {
            Self::Genji => components.values(),
            Self::Chai => chai::value::take_all(components.components),
        };
        match values.ok()?.as_mut_slice() {
            [Value::Bytes(original)] => Some(std::mem::take(original)),
            _ => None,
        }
    }

    /// Decodes the value of a catalog row.
    pub(crate) fn entry(self, value: &[u8]) -> Result<CatalogEntry, Error> {
        match self {
            Self::Genji => CatalogEntry::decode(value),
            Self::Chai => chai::entry::decode(value),
        }
    }

    /// The name that a key of the catalog carries.
    pub(crate) fn entry_name(self, key: &[u8]) -> Result<String, Error> {
        match self {
            Self::Genji => CatalogEntry::name_of_key(key),
            Self::Chai => chai::entry::name_of_key(key),
        }
    }

    /// The relation of the table that an entry describes; none for indexes and sequences.
    pub(crate) fn relation(self, entry: &CatalogEntry) -> Result<Option<Relation>, Error> {
        if entry.kind != EntryKind::Table {
            return Ok(None);
        }
        let namespace = entry.namespace.ok_or_else(|| Error::decode("table has no namespace"))?;
        let relation = match self {
            Self::Chai => Relation::of_columns(namespace, chai::Table::parse(&entry.sql)?),
            Self::Genji => match entry.definition()? {
                Definition::Table(definition) => Relation::new(namespace, definition),
                _ => return Err(Error::decode("catalog sql is not a table's")),
            },
        };
        Ok(Some(relation))
    }
}
