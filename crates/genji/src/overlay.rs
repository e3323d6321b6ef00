//! What the logs hold and the tables do not: in memory, like the engine's own memtables.

use std::collections::BTreeMap;

use crate::batch::{Batch, Operation};
use crate::engine::{Cleared, Engine};
use crate::follower::Record;
use crate::table::RangeDelete;
use crate::{Error, key};

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
    engine: Engine,
    versions: BTreeMap<Vec<u8>, Version>,
    /// Sequence number of the last range delete of the rollback segment.
    pub(crate) cleared: u64,
    /// Ranges of keys that were deleted: what tables hold of them is gone.
    pub(crate) ranges: Vec<RangeDelete>,
    /// Whether a spilled transaction is open after the last record.
    pub(crate) spilling: bool,
}

impl Overlay {
    /// No version of any key, for the directory of an engine.
    pub(crate) fn new(engine: Engine) -> Self {
        Self { engine, ..Self::default() }
    }

    /// Whose keys they are.
    pub(crate) fn engine(&self) -> Engine {
        self.engine
    }

    /// Applies a record.
    pub(crate) fn apply(&mut self, record: &Record) -> Result<(), Error> {
        if record.new_process && !self.engine.undoes_spills() {
            self.spilling = false;
        }
        let batch = Batch::decode(&record.bytes)?;
        for (sequence, operation) in (batch.sequence..).zip(&batch.operations) {
            match *operation {
                Operation::Set { key, value } => self.put(key, sequence, Some(value)),
                Operation::Delete { key } => self.put(key, sequence, None),
                Operation::RangeDelete { start, end } => match self.engine.cleared(start, end)? {
                    Cleared::Nothing => {}
                    Cleared::Segment => {
                        self.cleared = sequence;
                        self.spilling = false;
                        self.remove(start);
                    }
                    Cleared::Space(_) => {
                        self.remove(start);
                        let (start, end) = (start.to_vec(), end.to_vec());
                        self.ranges.push(RangeDelete { sequence, start, end });
                    }
                },
            }
        }
        Ok(())
    }

    /// Forgets the keys with that prefix.
    fn remove(&mut self, prefix: &[u8]) {
        let keys: Vec<_> = self.namespace(prefix).map(|(key, _)| key.to_vec()).collect();
        keys.iter().for_each(|key| drop(self.versions.remove(key)));
    }

    fn put(&mut self, key: &[u8], sequence: u64, value: Option<&[u8]>) {
        match self.engine.namespace_of(key) {
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
