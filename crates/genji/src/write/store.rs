//! What is committed: the memtables over the tables, newest version first.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::lookup::LiveTable;
use super::memtable::{Memtable, Version};
use super::merge::{Found, Live, Merge};
use crate::batch::{Batch, Operation};
use crate::engine::Engine;
use crate::{Error, key};

/// What the encoded namespaces from [`key::FIRST_TRANSIENT`]` + 1` on have in common.
const TRANSIENT: [u8; 6] = [0xC7, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF];

/// The committed state.
#[derive(Default)]
pub(crate) struct Store {
    pub(crate) memtable: Memtable,
    /// Full memtables that wait to become tables, oldest first.
    frozen: VecDeque<Arc<Frozen>>,
    /// Newest first.
    tables: Vec<Arc<LiveTable>>,
    /// What is older than this sequence number does not count in the rollback segment.
    cleared: u64,
}

/// A full memtable, whose content is in finished logs.
pub(crate) struct Frozen {
    pub(crate) memtable: Memtable,
    /// The log that ends with it, and the one that begins behind it.
    pub(crate) log: u64,
    pub(crate) next_log: u64,
    /// Its last sequence number.
    pub(crate) last_sequence: u64,
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
        if let Some(version) = self.memtables().find_map(|memtable| memtable.get(key)) {
            return Ok(Some(version.clone()));
        }
        for table in &self.tables {
            if let Some(version) = table.get(key)? {
                return Ok(Some(version));
            }
        }
        Ok(None)
    }

    /// The memtables, newest first.
    fn memtables(&self) -> impl Iterator<Item = &Memtable> {
        std::iter::once(&self.memtable).chain(self.frozen.iter().rev().map(|frozen| &frozen.memtable))
    }

    /// Sets the memtable aside, to become tables.
    pub(crate) fn freeze(&mut self, log: u64, next_log: u64, last_sequence: u64) {
        let memtable = std::mem::take(&mut self.memtable);
        self.frozen.push_back(Arc::new(Frozen { memtable, log, next_log, last_sequence }));
    }

    /// How many memtables wait to become tables.
    pub(crate) fn waiting(&self) -> usize {
        self.frozen.len()
    }

    /// The memtable that is next to become tables.
    pub(crate) fn oldest_frozen(&self) -> Option<Arc<Frozen>> {
        self.frozen.front().cloned()
    }

    /// Reads from tables what the oldest frozen memtable held.
    pub(crate) fn adopt_frozen(&mut self, tables: Vec<Arc<LiveTable>>) {
        self.add_tables(tables);
        self.frozen.pop_front();
    }

    /// Reads from tables what the memtable held.
    pub(crate) fn adopt(&mut self, tables: Vec<Arc<LiveTable>>) {
        self.add_tables(tables);
        self.memtable = Memtable::default();
    }

    /// Sequence number from which versions of keys with that beginning count.
    fn since(&self, prefix: &[u8]) -> u64 {
        if prefix.starts_with(&key::prefix(key::ROLLBACK)) { self.cleared } else { 0 }
    }

    /// The committed keys that begin with `prefix`, with `overlay` over them, in Genji's order, a block at a time. Holds a
    /// copy of what the memtables have of them.
    pub(crate) fn stream(&self, prefix: &[u8], overlay: Vec<Found>) -> Result<Live, Error> {
        let mut merge = Merge::default();
        merge.add_memory(overlay)?;
        for memtable in self.memtables() {
            let copied = memtable.prefix(prefix);
            let copied = copied.map(|(key, version)| Found { key: key.to_vec(), version: version.clone() });
            merge.add_memory(copied.collect())?;
        }
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
        for (key, version) in self.memtables().flat_map(|memtable| memtable.prefix(prefix)) {
            keep(key, version.clone());
        }
        for table in &self.tables {
            table.prefix(prefix, &mut keep)?;
        }
        Ok(newest.into_iter().filter_map(|(key, version)| Some((key, version.value?))).collect())
    }

    /// The committed keys of temporary trees, which a host leaves behind.
    pub(crate) fn transient_keys(&self) -> Result<Vec<Vec<u8>>, Error> {
        let in_memory = self.memtables().flat_map(|memtable| memtable.prefix(&TRANSIENT));
        let mut keys: BTreeSet<Vec<u8>> = in_memory.map(|(key, _)| key.to_vec()).collect();
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
                    Engine::Genji.cleared(start, end)?;
                    self.memtable.clear_segment(sequence);
                    self.cleared = sequence;
                }
            }
        }
        Ok(())
    }
}
