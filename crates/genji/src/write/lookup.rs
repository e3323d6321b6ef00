//! Point and prefix lookups in a sorted table, by Genji's order where it can be trusted.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};

use super::edit::LiveFile;
use super::filter::{self, Filter};
use super::memtable::Version;
use super::order;
use crate::table::{Handle, Table, may_hold};
use crate::{Error, key};

/// A table file of the current version.
pub(crate) struct LiveTable {
    table: Table,
    pub(crate) file: LiveFile,
    /// Last keys of the data blocks, read at the first lookup.
    index: OnceLock<Vec<(Vec<u8>, Handle)>>,
    /// For tables of level 0, which overlap: made at the first lookup.
    filter: OnceLock<Filter>,
    /// Namespaces that were looked at: whether their keys are of one length class in this file.
    uniform: Mutex<BTreeMap<i64, bool>>,
    /// Set for tables written here, which never mix length classes.
    always_uniform: bool,
}

impl LiveTable {
    /// Opens a table of the version that the manifest describes.
    pub(crate) fn open(directory: &Path, file: LiveFile) -> Result<Self, Error> {
        Ok(Self {
            table: Table::open(directory, file.number)?,
            file,
            index: OnceLock::new(),
            filter: OnceLock::new(),
            uniform: Mutex::default(),
            always_uniform: false,
        })
    }

    /// Opens a table that was just written from a run of keys of one class.
    pub(crate) fn open_written(directory: &Path, file: LiveFile, filter: Filter) -> Result<Self, Error> {
        Ok(Self { always_uniform: true, filter: filter.into(), ..Self::open(directory, file)? })
    }

    /// The newest version of a key in this table.
    pub(crate) fn get(&self, wanted: &[u8]) -> Result<Option<Version>, Error> {
        let mut found: Option<Version> = None;
        self.visit(wanted, |key, version| {
            if key == wanted && found.as_ref().is_none_or(|found| found.sequence < version.sequence) {
                found = Some(version);
            }
            // A longer key that begins with the wanted one cannot stand before it.
            key == wanted
        })?;
        Ok(found)
    }

    /// Every version of keys that begin with `prefix`: a namespace, or an index entry's values.
    pub(crate) fn prefix(&self, prefix: &[u8], mut found: impl FnMut(&[u8], Version)) -> Result<(), Error> {
        self.visit(prefix, |key, version| {
            found(key, version);
            true
        })
    }

    /// Calls `visitor` for entries that begin with `prefix` until it returns false or they end.
    fn visit(&self, prefix: &[u8], mut visitor: impl FnMut(&[u8], Version) -> bool) -> Result<(), Error> {
        let parts = key::split(prefix)?;
        let namespace = key::prefix(parts.namespace);
        if !may_hold(&self.file.smallest, &self.file.largest, &namespace) {
            return Ok(());
        }
        if parts.components.is_empty() {
            return self.scan(prefix, |key, version| {
                visitor(key, version);
            });
        }
        if self.file.level == 0 && !self.filter()?.may_contain(filter::hash(prefix)) {
            return Ok(());
        }
        if !self.is_ordered(prefix, parts.namespace, &namespace)? {
            return self.scan(&namespace, |key, version| {
                if key.starts_with(prefix) {
                    visitor(key, version);
                }
            });
        }
        self.seek(prefix, visitor)
    }

    /// Calls `found` for every entry whose key begins with `prefix`, the beginning of an encoded namespace.
    pub(crate) fn scan(&self, prefix: &[u8], mut found: impl FnMut(&[u8], Version)) -> Result<(), Error> {
        if !may_hold(&self.file.smallest, &self.file.largest, prefix) {
            return Ok(());
        }
        let mut entries = self.table.entries(prefix.to_vec())?;
        while let Some(entry) = entries.next()? {
            if entry.key.starts_with(prefix) {
                let value = entry.value.map(<[u8]>::to_vec);
                found(entry.key, Version { sequence: entry.sequence, value });
            }
        }
        Ok(())
    }

    fn filter(&self) -> Result<&Filter, Error> {
        if let Some(filter) = self.filter.get() {
            return Ok(filter);
        }
        let mut hashes = Vec::new();
        self.scan(&[], |key, _| filter::put_hashes(&mut hashes, key))?;
        Ok(self.filter.get_or_init(|| Filter::new(&hashes)))
    }

    /// Whether a binary search for keys with this prefix finds all of them.
    fn is_ordered(&self, prefix: &[u8], namespace: i64, encoded: &[u8]) -> Result<bool, Error> {
        // Numbers and truth values are always in order, also against texts.
        if self.always_uniform || order::length_class(prefix).is_empty() {
            return Ok(true);
        }
        let mut known = self.uniform.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(uniform) = known.get(&namespace) {
            return Ok(*uniform);
        }
        let mut class: Option<Vec<u8>> = None;
        let mut uniform = true;
        let mut entries = self.table.entries(encoded.to_vec())?;
        while let Some(entry) = entries.next()? {
            if !entry.key.starts_with(encoded) {
                continue;
            }
            let this = if order::is_long(entry.key) { order::length_class(entry.key) } else { Vec::new() };
            uniform &= class.as_ref().is_none_or(|class| *class == this);
            class.get_or_insert(this);
        }
        known.insert(namespace, uniform);
        Ok(uniform)
    }

    fn seek(&self, prefix: &[u8], mut visitor: impl FnMut(&[u8], Version) -> bool) -> Result<(), Error> {
        let behind = order::compare(prefix, &self.file.largest) == Ordering::Greater;
        let smallest = &self.file.smallest;
        if behind || (order::compare(prefix, smallest) == Ordering::Less && !smallest.starts_with(prefix)) {
            return Ok(());
        }
        let index = match self.index.get() {
            Some(index) => index,
            None => {
                let read = self.table.index()?;
                self.index.get_or_init(|| read)
            }
        };
        let first = index.partition_point(|(last, _)| order::compare(last, prefix) == Ordering::Less);
        for (_, handle) in index.iter().skip(first) {
            let mut block = self.table.block_entries(*handle)?;
            while let Some(entry) = block.next()? {
                if order::compare(entry.key, prefix) == Ordering::Less {
                    continue;
                }
                let value = entry.value.map(<[u8]>::to_vec);
                if !entry.key.starts_with(prefix)
                    || !visitor(entry.key, Version { sequence: entry.sequence, value })
                {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}
