//! Reads many sorted sources as one, in Genji's order, a block of each at a time.
//!
//! Genji's order is total only among keys of one length class (see [`order`]), so the merge goes class by class: first the
//! keys without long texts, which is all of them in a database written here. A table in which the real engine mixed classes
//! is no sorted source; its part of the namespace is read whole and sorted.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::vec;

use super::lookup::{LiveTable, Shape};
use super::memtable::Version;
use super::order;
use crate::Error;

/// A key with one of its versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) key: Vec<u8>,
    pub(crate) version: Version,
}

/// Sorts what is in memory in the order of the merge.
fn sort(mut found: Vec<Found>) -> vec::IntoIter<Found> {
    found.sort_by(|left, right| {
        let by_class = order::run_class(&left.key).cmp(&order::run_class(&right.key));
        by_class
            .then_with(|| order::compare(&left.key, &right.key))
            .then_with(|| left.key.cmp(&right.key))
            .then_with(|| right.version.sequence.cmp(&left.version.sequence))
    });
    found.into_iter()
}

/// The entries of one table that begin with a prefix, in the table's order. Keeps the table open.
struct TableCursor {
    table: Arc<LiveTable>,
    prefix: Vec<u8>,
    next_block: usize,
    block: vec::IntoIter<Found>,
}

impl TableCursor {
    fn open(table: Arc<LiveTable>, prefix: &[u8]) -> Result<Self, Error> {
        let is_before = |last: &[u8]| order::compare(last, prefix) == Ordering::Less;
        let next_block = table.index()?.partition_point(|(last, _)| is_before(last));
        Ok(Self { table, prefix: prefix.to_vec(), next_block, block: Vec::new().into_iter() })
    }

    fn next(&mut self) -> Result<Option<Found>, Error> {
        loop {
            for found in self.block.by_ref() {
                if found.key.starts_with(&self.prefix) {
                    return Ok(Some(found));
                }
                if order::compare(&found.key, &self.prefix) == Ordering::Greater {
                    self.next_block = usize::MAX;
                    break;
                }
            }
            let Some((_, handle)) = self.table.index()?.get(self.next_block) else { return Ok(None) };
            self.block = self.table.block(*handle)?.into_iter();
            self.next_block += 1;
        }
    }
}

/// One sorted sequence of entries.
enum Source {
    Memory(vec::IntoIter<Found>),
    Table(TableCursor),
    /// Tables whose keys follow each other, opened one after the other.
    Level {
        waiting: VecDeque<Arc<LiveTable>>,
        prefix: Vec<u8>,
        current: Option<TableCursor>,
    },
}

impl Source {
    fn next(&mut self) -> Result<Option<Found>, Error> {
        match self {
            Self::Memory(entries) => Ok(entries.next()),
            Self::Table(cursor) => cursor.next(),
            Self::Level { waiting, prefix, current } => loop {
                if let Some(found) = current.as_mut().map(TableCursor::next).transpose()?.flatten() {
                    return Ok(Some(found));
                }
                let Some(table) = waiting.pop_front() else { return Ok(None) };
                *current = Some(TableCursor::open(table, prefix)?);
            },
        }
    }
}

/// The next entry of a source.
struct Head {
    class: Vec<u8>,
    found: Found,
    source: usize,
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        let (left, right) = (&self.found, &other.found);
        self.class
            .cmp(&other.class)
            .then_with(|| order::compare(&left.key, &right.key))
            .then_with(|| left.key.cmp(&right.key))
            .then_with(|| right.version.sequence.cmp(&left.version.sequence))
            .then_with(|| self.source.cmp(&other.source))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Head {}

/// The newest version of every key of all sources, deletions too.
#[derive(Default)]
pub(crate) struct Merge {
    sources: Vec<Source>,
    heads: BinaryHeap<Reverse<Head>>,
    last: Option<Vec<u8>>,
}

impl Merge {
    /// Adds entries that are in memory, at most one version of a key. Earlier sources win among equal sequence numbers.
    pub(crate) fn add_memory(&mut self, entries: Vec<Found>) -> Result<(), Error> {
        self.add(Source::Memory(sort(entries)))
    }

    /// Adds the entries of a table that begin with `prefix`: a namespace and components, or nothing for all.
    pub(crate) fn add_table(&mut self, table: Arc<LiveTable>, prefix: &[u8]) -> Result<(), Error> {
        if table.shape(prefix)? == Shape::Mixed {
            let mut entries = Vec::new();
            table.prefix(prefix, |key, version| entries.push(Found { key: key.to_vec(), version }))?;
            return self.add(Source::Memory(sort(entries)));
        }
        self.add(Source::Table(TableCursor::open(table, prefix)?))
    }

    /// Adds tables of one level below 0, whose ranges are disjoint.
    pub(crate) fn add_level(&mut self, tables: Vec<Arc<LiveTable>>, prefix: &[u8]) -> Result<(), Error> {
        for table in &tables {
            if table.shape(prefix)? != Shape::Short {
                return tables.into_iter().try_for_each(|table| self.add_table(table, prefix));
            }
        }
        self.add_short_level(tables, prefix)
    }

    /// As [`Self::add_level`], for tables without long keys.
    pub(crate) fn add_short_level(
        &mut self,
        mut tables: Vec<Arc<LiveTable>>,
        prefix: &[u8],
    ) -> Result<(), Error> {
        tables.sort_by(|left, right| order::compare(&left.file.smallest, &right.file.smallest));
        self.add(Source::Level { waiting: tables.into(), prefix: prefix.to_vec(), current: None })
    }

    fn add(&mut self, source: Source) -> Result<(), Error> {
        self.sources.push(source);
        self.advance(self.sources.len() - 1)
    }

    fn advance(&mut self, source: usize) -> Result<(), Error> {
        let next = self.sources.get_mut(source).map(Source::next).transpose()?.flatten();
        if let Some(found) = next {
            self.heads.push(Reverse(Head { class: order::run_class(&found.key), found, source }));
        }
        Ok(())
    }

    /// The next key's newest version.
    pub(crate) fn next(&mut self) -> Result<Option<Found>, Error> {
        while let Some(Reverse(head)) = self.heads.pop() {
            self.advance(head.source)?;
            if self.last.as_ref() != Some(&head.found.key) {
                self.last = Some(head.found.key.clone());
                return Ok(Some(head.found));
            }
        }
        Ok(None)
    }
}

/// The keys of a prefix that have a value, with it, in Genji's order: a consistent state, whatever is written meanwhile.
pub(crate) struct Live {
    merge: Merge,
    /// Versions before this sequence number do not count.
    since: u64,
}

impl Live {
    pub(crate) fn new(merge: Merge, since: u64) -> Self {
        Self { merge, since }
    }
}

impl Iterator for Live {
    type Item = Result<(Vec<u8>, Vec<u8>), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.merge.next() {
                Ok(Some(Found { key, version: Version { value: Some(value), sequence } }))
                    if sequence >= self.since =>
                {
                    return Some(Ok((key, value)));
                }
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(key: &[u8], sequence: u64, value: Option<u8>) -> Found {
        Found { key: key.to_vec(), version: Version { sequence, value: value.map(|byte| vec![byte]) } }
    }

    #[test]
    fn the_newest_version_wins_and_long_keys_follow() {
        let mut long = vec![0x4E, 0xDA, 0x80, 0x01];
        long.extend([b'a'; 128]);
        let mut merge = Merge::default();
        merge.add_memory(vec![found(&long, 1, Some(1)), found(&[0x4E, 0xDA, 1, b'b'], 9, Some(2))]).unwrap();
        let older = [found(&[0x4E, 0xDA, 1, b'b'], 3, Some(3)), found(&[0x4E, 0xDA, 2, b'a', b'a'], 4, None)];
        merge.add_memory(older.to_vec()).unwrap();
        merge.add_memory(vec![found(&[0x4E, 0xDA, 2, b'a', b'a'], 2, Some(4))]).unwrap();
        let kept: Result<Vec<_>, _> = Live::new(merge, 0).collect();
        assert_eq!(kept.unwrap(), [(vec![0x4E, 0xDA, 1, b'b'], vec![2]), (long, vec![1])]);
    }
}
