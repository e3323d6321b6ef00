//! What is committed: the memtable over the tables, newest version first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::lookup::LiveTable;
use super::memtable::{Memtable, Version};
use super::merge::{Found, Live, Merge};
use crate::batch::{Batch, Operation};
use crate::overlay::check_range;
use crate::{Error, key};

/// What the encoded namespaces from [`key::FIRST_TRANSIENT`]` + 1` on have in common.
const TRANSIENT: [u8; 6] = [0xC7, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF];

/// The committed state.
#[derive(Default)]
pub(crate) struct Store {
    pub(crate) memtable: Memtable,
    /// Newest first.
    tables: Vec<Arc<LiveTable>>,
    /// What is older than this sequence number does not count in the rollback segment.
    cleared: u64,
}

/// Adds the entries of tables that begin with `prefix`.
fn add_to(merge: &mut Merge, tables: &[Arc<LiveTable>], prefix: &[u8]) -> Result<(), Error> {
    let mut levels: BTreeMap<u64, Vec<Arc<LiveTable>>> = BTreeMap::new();
    for table in tables.iter().filter(|table| table.may_hold(prefix)) {
        match table.file.level {
            0 => merge.add_table(table.clone(), prefix)?,
            level => levels.entry(level).or_default().push(table.clone()),
        }
    }
    levels.into_values().try_for_each(|tables| merge.add_level(tables, prefix))
}

/// What tables hold of the rollback segment.
pub(crate) fn segment_in(tables: &[Arc<LiveTable>]) -> Result<Live, Error> {
    let mut merge = Merge::default();
    add_to(&mut merge, tables, &key::prefix(key::ROLLBACK))?;
    Ok(Live::new(merge, 0))
}

impl Store {
    /// Adds tables of the version.
    pub(crate) fn add_tables(&mut self, tables: impl IntoIterator<Item = Arc<LiveTable>>) {
        self.tables.extend(tables);
        self.tables.sort_by_key(|table| {
            // Levels from 1 on hold older versions than level 0, deeper ones the oldest.
            let file = &table.file;
            let age = if file.level == 0 { u64::MAX - file.largest_sequence } else { 0 };
            (file.level, age, u64::MAX - file.number)
        });
    }

    /// The committed value of a key.
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.version(key)?.and_then(|version| version.value))
    }

    /// The newest version of a key, a deletion too.
    pub(crate) fn version(&self, key: &[u8]) -> Result<Option<Version>, Error> {
        Ok(self.newest(key)?.filter(|version| version.sequence >= self.since(key)))
    }

    fn newest(&self, key: &[u8]) -> Result<Option<Version>, Error> {
        if let Some(version) = self.memtable.get(key) {
            return Ok(Some(version.clone()));
        }
        for table in &self.tables {
            if let Some(version) = table.get(key)? {
                return Ok(Some(version));
            }
        }
        Ok(None)
    }

    /// Sequence number from which versions of keys with that beginning count.
    fn since(&self, prefix: &[u8]) -> u64 {
        if prefix.starts_with(&key::prefix(key::ROLLBACK)) { self.cleared } else { 0 }
    }

    /// The committed keys that begin with `prefix`, with `overlay` over them, in Genji's order, a block at a time. Holds a
    /// copy of what the memtable has of them.
    pub(crate) fn stream(&self, prefix: &[u8], overlay: Vec<Found>) -> Result<Live, Error> {
        let mut merge = Merge::default();
        merge.add_memory(overlay)?;
        let in_memory = self.memtable.prefix(prefix);
        let copied = in_memory.map(|(key, version)| Found { key: key.to_vec(), version: version.clone() });
        merge.add_memory(copied.collect())?;
        add_to(&mut merge, &self.tables, prefix)?;
        Ok(Live::new(merge, self.since(prefix)))
    }

    /// The live tables, newest first.
    pub(crate) fn tables(&self) -> &[Arc<LiveTable>] {
        &self.tables
    }

    /// Puts tables in the place of others, given by level and number.
    pub(crate) fn replace_tables(&mut self, removed: &[(u64, u64)], added: Vec<Arc<LiveTable>>) {
        self.tables.retain(|table| !removed.contains(&(table.file.level, table.file.number)));
        self.add_tables(added);
    }

    /// The committed keys that begin with `prefix`, in byte order. The prefix covers a namespace and whole components.
    pub(crate) fn prefix(&self, prefix: &[u8]) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Error> {
        let mut newest: BTreeMap<Vec<u8>, Version> = BTreeMap::new();
        let mut keep = |key: &[u8], version: Version| match newest.get_mut(key) {
            Some(held) if held.sequence >= version.sequence => {}
            Some(held) => *held = version,
            None => {
                newest.insert(key.to_vec(), version);
            }
        };
        for (key, version) in self.memtable.prefix(prefix) {
            keep(key, version.clone());
        }
        for table in &self.tables {
            table.prefix(prefix, &mut keep)?;
        }
        Ok(newest.into_iter().filter_map(|(key, version)| Some((key, version.value?))).collect())
    }

    /// The committed keys of temporary trees, which a host leaves behind.
    pub(crate) fn transient_keys(&self) -> Result<Vec<Vec<u8>>, Error> {
        let mut keys: BTreeSet<Vec<u8>> =
            self.memtable.prefix(&TRANSIENT).map(|(key, _)| key.to_vec()).collect();
        for table in &self.tables {
            table.scan(&TRANSIENT, |key, _| {
                keys.insert(key.to_vec());
            })?;
        }
        let live = |key: Vec<u8>| match self.get(&key) {
            Ok(Some(_)) => Some(Ok(key)),
            Ok(None) => None,
            Err(error) => Some(Err(error)),
        };
        keys.into_iter().filter_map(live).collect()
    }

    /// Applies a record of the log.
    pub(crate) fn apply(&mut self, batch: &Batch<'_>) -> Result<(), Error> {
        for (sequence, operation) in (batch.sequence..).zip(&batch.operations) {
            match operation {
                Operation::Set { key, value } => {
                    self.memtable.insert(key.to_vec(), Version { sequence, value: Some(value.to_vec()) });
                }
                Operation::Delete { key } => {
                    self.memtable.insert(key.to_vec(), Version { sequence, value: None })
                }
                Operation::RangeDelete { start, end } => {
                    check_range(start, end)?;
                    self.memtable.clear_segment(sequence);
                    self.cleared = sequence;
                }
            }
        }
        Ok(())
    }
}
