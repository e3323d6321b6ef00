//! The newest version of every key that is in the logs but not yet in a table file.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::order;
use crate::key;

/// One version of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version {
    /// Sequence number of the operation.
    pub(crate) sequence: u64,
    /// The value; `None` if the operation deleted the key.
    pub(crate) value: Option<Vec<u8>>,
}

/// Keys in byte order with their newest version.
#[derive(Debug, Default)]
pub(crate) struct Memtable {
    entries: BTreeMap<Vec<u8>, Version>,
    bytes: usize,
    /// Sequence number of the last deletion of the whole rollback segment.
    cleared: Option<u64>,
}

/// What a map entry costs besides its key and value.
pub(crate) const ENTRY_OVERHEAD: usize = 96;

impl Memtable {
    /// Approximate size in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn insert(&mut self, key: Vec<u8>, version: Version) {
        let value_length = |version: &Version| version.value.as_ref().map_or(0, Vec::len);
        self.bytes += key.len() + value_length(&version) + ENTRY_OVERHEAD;
        let key_length = key.len();
        if let Some(replaced) = self.entries.insert(key, version) {
            self.bytes -= key_length + value_length(&replaced) + ENTRY_OVERHEAD;
        }
    }

    /// Deletes the rollback segment. Of the tables below only the sequence number is noted: they can hold more of it than
    /// memory.
    pub(crate) fn clear_segment(&mut self, sequence: u64) {
        let segment = key::prefix(key::ROLLBACK);
        let keys: Vec<Vec<u8>> = self.prefix(&segment).map(|(key, _)| key.to_vec()).collect();
        for key in keys {
            if let Some(removed) = self.entries.remove(&key) {
                self.bytes -= key.len() + removed.value.map_or(0, |value| value.len()) + ENTRY_OVERHEAD;
            }
        }
        self.cleared = Some(sequence);
    }

    /// Sequence number of the last deletion of the whole rollback segment, which holds for the tables below.
    pub(crate) fn cleared(&self) -> Option<u64> {
        self.cleared
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&Version> {
        self.entries.get(key)
    }

    /// Entries whose key begins with `prefix`, in byte order.
    pub(crate) fn prefix<'a>(&'a self, prefix: &'a [u8]) -> impl Iterator<Item = (&'a [u8], &'a Version)> {
        self.entries
            .range::<[u8], _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(move |(key, _)| key.starts_with(prefix))
            .map(|(key, version)| (key.as_slice(), version))
    }

    /// Entries in runs, each ready for a table file: within a run Genji's order is total, keys increase by it.
    ///
    /// There is one run unless keys with texts beyond 127 bytes are mixed with others (see [`order`]).
    pub(crate) fn runs(&self) -> Vec<Vec<(&[u8], &Version)>> {
        let mut runs: BTreeMap<Vec<u8>, Vec<(&[u8], &Version)>> = BTreeMap::new();
        for (key, version) in &self.entries {
            runs.entry(order::run_class(key)).or_default().push((key, version));
        }
        runs.into_values()
            .map(|mut run| {
                run.sort_by(|left, right| order::compare(left.0, right.0));
                run
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_follow_genjis_order() {
        let mut memtable = Memtable::default();
        for key in [&[0x4E, 0xDA, 1, b'b'][..], &[0x4E, 0xDA, 2, b'a', b'a'], &[0x4E, 0x45]] {
            memtable.insert(key.to_vec(), Version { sequence: 1, value: None });
        }
        let mut long = vec![0x4E, 0xDA, 0x80, 0x01];
        long.extend([b'a'; 128]);
        memtable.insert(long.clone(), Version { sequence: 2, value: None });
        let runs = memtable.runs();
        let keys: Vec<&[u8]> = runs[0].iter().map(|(key, _)| *key).collect();
        assert_eq!(keys, [&[0x4E, 0x45][..], &[0x4E, 0xDA, 2, b'a', b'a'], &[0x4E, 0xDA, 1, b'b']]);
        assert_eq!(runs[1][0].0, long);
    }

    #[test]
    fn replacing_keeps_the_size_right() {
        let mut memtable = Memtable::default();
        memtable.insert(vec![1], Version { sequence: 1, value: Some(vec![0; 10]) });
        let size = memtable.bytes();
        memtable.insert(vec![1], Version { sequence: 2, value: Some(vec![0; 5]) });
        assert_eq!(memtable.bytes(), size - 5);
    }
}
