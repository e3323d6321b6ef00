//! Point and prefix lookups in a sorted table, by Genji's order where it can be trusted.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::edit::LiveFile;
use super::filter::{self, Filter};
use super::memtable::Version;
use super::merge::Found;
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
    /// The block of the last lookup: the next one is often for a key beside it.
    last_block: Mutex<Option<(Handle, Arc<[Found]>)>>,
    /// Namespaces that were looked at, encoded; an empty one stands for the whole table.
    shapes: Mutex<BTreeMap<Vec<u8>, Shape>>,
    /// Set for tables written here, which never mix length classes.
    written: Option<Shape>,
}

/// How the keys of a part of a table stand to Genji's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// No long texts or blobs: sorted.
    Short,
    /// All of one length class with long ones: sorted.
    Long,
    /// In an order that no search can rely on.
    Mixed,
}

impl LiveTable {
    /// Opens a table of the version that the manifest describes.
    pub(crate) fn open(directory: &Path, file: LiveFile) -> Result<Self, Error> {
        Ok(Self {
            table: Table::open(directory, file.number)?,
            file,
            index: OnceLock::new(),
            filter: OnceLock::new(),
            last_block: Mutex::default(),
            shapes: Mutex::default(),
            written: None,
        })
    }

    /// Opens a table that was just written from a run of keys of one class.
    pub(crate) fn open_written(directory: &Path, file: LiveFile, filter: Filter) -> Result<Self, Error> {
        let shape = if order::is_long(&file.smallest) { Shape::Long } else { Shape::Short };
        Ok(Self { written: Some(shape), filter: filter.into(), ..Self::open(directory, file)? })
    }

    /// Opens a table that a compaction just wrote: no long keys, and no filter below level 0.
    pub(crate) fn open_compacted(directory: &Path, file: LiveFile) -> Result<Self, Error> {
        Ok(Self { written: Some(Shape::Short), ..Self::open(directory, file)? })
    }

    /// The same table under another entry of the manifest: moved to another level.
    pub(crate) fn moved(&self, directory: &Path, file: LiveFile) -> Result<Self, Error> {
        Ok(Self { written: self.written, ..Self::open(directory, file)? })
    }

    /// Whether keys of the prefix's namespace can be in this table.
    pub(crate) fn may_hold(&self, prefix: &[u8]) -> bool {
        key::split(prefix).is_ok_and(|parts| {
            may_hold(&self.file.smallest, &self.file.largest, &key::prefix(parts.namespace))
        })
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
        if !self.is_ordered(prefix)? {
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
    fn is_ordered(&self, prefix: &[u8]) -> Result<bool, Error> {
        // Numbers and truth values are always in order, also against texts.
        Ok(order::length_class(prefix).is_empty() || self.shape(prefix)? != Shape::Mixed)
    }

    /// How the keys of the prefix's namespace are ordered in this table; of all, for an empty prefix.
    pub(crate) fn shape(&self, prefix: &[u8]) -> Result<Shape, Error> {
        if let Some(shape) = self.written {
            return Ok(shape);
        }
        let encoded = match prefix {
            [] => Vec::new(),
            _ => key::prefix(key::split(prefix)?.namespace),
        };
        let mut known = self.shapes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shape) = known.get(&encoded) {
            return Ok(*shape);
        }
        let mut shape = None;
        let mut class = Vec::new();
        let mut entries = self.table.entries(encoded.clone())?;
        while let Some(entry) = entries.next()? {
            if !entry.key.starts_with(&encoded) {
                continue;
            }
            let this = order::run_class(entry.key);
            if shape.is_none() {
                shape = Some(if this.is_empty() { Shape::Short } else { Shape::Long });
                class = this;
            } else if class != this {
                shape = Some(Shape::Mixed);
                break;
            }
        }
        let shape = shape.unwrap_or(Shape::Short);
        known.insert(encoded, shape);
        Ok(shape)
    }

    /// For each data block a key not below its last one, and its place.
    pub(crate) fn index(&self) -> Result<&[(Vec<u8>, Handle)], Error> {
        if let Some(index) = self.index.get() {
            return Ok(index);
        }
        let read = self.table.index()?;
        Ok(self.index.get_or_init(|| read))
    }

    /// The entries of one data block.
    pub(crate) fn block(&self, at: Handle) -> Result<Vec<Found>, Error> {
        let mut block = self.table.block_entries(at)?;
        let mut entries = Vec::new();
        while let Some(entry) = block.next()? {
            let version = Version { sequence: entry.sequence, value: entry.value.map(<[u8]>::to_vec) };
            entries.push(Found { key: entry.key.to_vec(), version });
        }
        Ok(entries)
    }

    fn seek(&self, prefix: &[u8], mut visitor: impl FnMut(&[u8], Version) -> bool) -> Result<(), Error> {
        let behind = order::compare(prefix, &self.file.largest) == Ordering::Greater;
        let smallest = &self.file.smallest;
        if behind || (order::compare(prefix, smallest) == Ordering::Less && !smallest.starts_with(prefix)) {
            return Ok(());
        }
        let index = self.index()?;
        let first = index.partition_point(|(last, _)| order::compare(last, prefix) == Ordering::Less);
        for (_, handle) in index.iter().skip(first) {
            for found in self.remembered_block(*handle)?.iter() {
                if order::compare(&found.key, prefix) == Ordering::Less {
                    continue;
                }
                if !found.key.starts_with(prefix) || !visitor(&found.key, found.version.clone()) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn remembered_block(&self, at: Handle) -> Result<Arc<[Found]>, Error> {
        let mut last = self.last_block.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((handle, block)) = &*last
            && *handle == at
        {
            return Ok(block.clone());
        }
        let block: Arc<[Found]> = self.block(at)?.into();
        *last = Some((at, block.clone()));
        Ok(block)
    }
}
