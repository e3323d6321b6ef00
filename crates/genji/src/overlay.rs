//! What the logs hold and the tables do not: in memory, like the engine's own memtables.

use std::collections::BTreeMap;

use crate::batch::{Batch, Operation};
use crate::follower::Record;
use crate::key;
use crate::{Error, ErrorKind};

/// The newest version of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) sequence: u64,
    /// None: deleted.
    pub(crate) value: Option<Vec<u8>>,
}

/// The newest versions of the keys in some records. Bounded by what the engine has not flushed yet.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    versions: BTreeMap<Vec<u8>, Version>,
    /// Sequence number of the last range delete of the rollback segment.
    pub(crate) cleared: u64,
    /// Whether a spilled transaction is open after the last record.
    pub(crate) spilling: bool,
}

impl Overlay {
    /// Applies a record.
    pub(crate) fn apply(&mut self, record: &Record) -> Result<(), Error> {
        if record.new_process {
            self.spilling = false;
        }
        let batch = Batch::decode(&record.bytes)?;
        for (sequence, operation) in (batch.sequence..).zip(&batch.operations) {
            match *operation {
                Operation::Set { key, value } => self.put(key, sequence, Some(value)),
                Operation::Delete { key } => self.put(key, sequence, None),
                Operation::RangeDelete { start, end } => {
                    check_range(start, end)?;
                    self.cleared = sequence;
                    self.spilling = false;
                    let keys: Vec<_> = self.namespace(start).map(|(key, _)| key.to_vec()).collect();
                    keys.iter().for_each(|key| drop(self.versions.remove(key)));
                }
            }
        }
        Ok(())
    }

    fn put(&mut self, key: &[u8], sequence: u64, value: Option<&[u8]>) {
        match key::namespace_of(key) {
            Some(key::FIRST_TRANSIENT..) => return,
            Some(key::ROLLBACK) => self.spilling |= value.is_some(),
            _ => {}
        }
        self.versions.insert(key.to_vec(), Version { sequence, value: value.map(<[u8]>::to_vec) });
    }

    /// Gives a key the state it had before an open transaction.
    pub(crate) fn restore(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        self.versions.insert(key, Version { sequence: u64::MAX, value });
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&Version> {
        self.versions.get(key)
    }

    /// The versions of the keys with that prefix.
    pub(crate) fn namespace<'a>(
        &'a self,
        prefix: &[u8],
    ) -> impl Iterator<Item = (&'a [u8], &'a Version)> + use<'a> {
        let prefix = prefix.to_vec();
        self.versions
            .range(prefix.clone()..)
            .take_while(move |(key, _)| key.starts_with(&prefix))
            .map(|(key, version)| (key.as_slice(), version))
    }
}

/// Genji deletes no range but the whole rollback segment.
pub(crate) fn check_range(start: &[u8], end: &[u8]) -> Result<(), Error> {
    if start == key::prefix(key::ROLLBACK) && end == key::prefix(key::ROLLBACK + 1) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Unsupported, "range delete is not genji's"))
}
