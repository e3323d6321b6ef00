//! The visible rows of one namespace, from tables and logs.
//!
//! The visible version of a key is the one with the highest sequence number. Genji's order is not total, so nothing is
//! merged by order: what stands above the deepest level is read twice, first to learn the newest sequence number of each
//! of its keys. Not so a table that overlaps no other, where keys sort as bytes (all but text, blobs and the like do): it
//! is streamed, as the deepest level is. A table filled in key order is all of that kind.
//!
//! **Bound of the memory**: the keys of one namespace in overlapping tables above the deepest level, about a tenth of a
//! large database, besides what the logs hold. Values are always streamed.

use std::collections::HashMap;

use crate::Error;
use crate::overlay::{Overlay, Version};
use crate::table::{Entries, may_hold};
use crate::view::LiveTable;

/// A visible row, still encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) key: Vec<u8>,
    pub(crate) sequence: u64,
    pub(crate) value: Vec<u8>,
}

/// Reads the visible rows of a namespace, in no particular order.
pub(crate) struct Scan<'a> {
    prefix: Vec<u8>,
    overlay: &'a Overlay,
    in_logs: Box<dyn Iterator<Item = (&'a [u8], &'a Version)> + Send + 'a>,
    /// Tables still to be read, the next one last, and whether each is streamed.
    waiting: Vec<(&'a LiveTable, bool)>,
    open: Option<(Entries<'a>, bool)>,
    last_key: Vec<u8>,
    /// Newest sequence number of the keys in the tables that are not streamed.
    newest: HashMap<Box<[u8]>, u64>,
}

impl<'a> Scan<'a> {
    /// Starts to read the namespace with that prefix.
    pub(crate) fn new(tables: &'a [LiveTable], overlay: &'a Overlay, prefix: Vec<u8>) -> Result<Self, Error> {
        Self::with_order(tables, overlay, prefix, false)
    }

    /// The same, where the caller knows whether all keys of the namespace sort as bytes.
    pub(crate) fn with_order(
        tables: &'a [LiveTable],
        overlay: &'a Overlay,
        prefix: Vec<u8>,
        sorts_as_bytes: bool,
    ) -> Result<Self, Error> {
        // Only on levels below 0 is a key in one table at most.
        let deepest = tables.iter().map(|table| table.level).max().filter(|&level| level > 0);
        let holds = |table: &&LiveTable| may_hold(&table.meta.smallest, &table.meta.largest, &prefix);
        let mut held: Vec<_> = tables.iter().filter(holds).collect();
        held.sort_by_key(|table| Range::of(table, &prefix));
        let ranges: Vec<Range> = held.iter().map(|table| Range::of(table, &prefix)).collect();
        let alone = alone(&ranges).into_iter().map(|alone| alone && sorts_as_bytes);
        let mut waiting: Vec<_> = held
            .iter()
            .zip(alone)
            .map(|(&table, alone)| (table, alone || Some(table.level) == deepest))
            .collect();
        waiting.sort_by_key(|&(_, streamed)| std::cmp::Reverse(streamed));
        let mut newest = HashMap::new();
        for (table, _) in waiting.iter().filter(|(_, streamed)| !streamed) {
            let mut entries = table.table.entries(prefix.clone())?;
            while let Some(entry) = entries.next()? {
                if entry.key.starts_with(&prefix) && overlay.get(entry.key).is_none() {
                    match newest.get_mut(entry.key) {
                        Some(sequence) => *sequence = entry.sequence.max(*sequence),
                        None => drop(newest.insert(Box::from(entry.key), entry.sequence)),
                    }
                }
            }
        }
        let in_logs = Box::new(overlay.namespace(&prefix));
        Ok(Self { prefix, overlay, in_logs, waiting, open: None, last_key: Vec::new(), newest })
    }

    /// The next visible row.
    pub(crate) fn next(&mut self) -> Result<Option<Found>, Error> {
        for (key, version) in &mut self.in_logs {
            if let Some(value) = &version.value {
                let (key, value) = (key.to_vec(), value.clone());
                return Ok(Some(Found { key, sequence: version.sequence, value }));
            }
        }
        loop {
            let Some((entries, streamed)) = &mut self.open else {
                let Some((table, streamed)) = self.waiting.pop() else { return Ok(None) };
                self.open = Some((table.table.entries(self.prefix.clone())?, streamed));
                self.last_key.clear();
                continue;
            };
            let Some(entry) = entries.next()? else {
                self.open = None;
                continue;
            };
            // Of several versions in one table the newest stands first.
            if !entry.key.starts_with(&self.prefix) || entry.key == self.last_key {
                continue;
            }
            self.last_key.clear();
            self.last_key.extend_from_slice(entry.key);
            let is_old = self
                .newest
                .get(entry.key)
                .is_some_and(|&newest| entry.sequence < newest || (*streamed && entry.sequence == newest));
            if is_old || self.overlay.get(entry.key).is_some() {
                continue;
            }
            if let Some(value) = entry.value {
                let (key, value) = (entry.key.to_vec(), value.to_vec());
                return Ok(Some(Found { key, sequence: entry.sequence, value }));
            }
        }
    }
}

/// First and last key of a table in a namespace, as bytes; no last one where the table goes on behind the namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Range {
    first: Vec<u8>,
    last: Option<Vec<u8>>,
}

impl Range {
    fn of(table: &LiveTable, prefix: &[u8]) -> Self {
        let inside = |key: &Vec<u8>| Some(key.clone()).filter(|key| key.starts_with(prefix));
        let first = inside(&table.meta.smallest).unwrap_or_else(|| prefix.to_vec());
        Self { first, last: inside(&table.meta.largest) }
    }

    fn ends_before(&self, key: &[u8]) -> bool {
        self.last.as_ref().is_some_and(|last| last.as_slice() < key)
    }
}

/// Which of the ranges, sorted, overlap no other.
fn alone(ranges: &[Range]) -> Vec<bool> {
    let mut alone = vec![true; ranges.len()];
    let mut furthest = 0;
    for index in 1..ranges.len() {
        if !ranges[furthest].ends_before(&ranges[index].first) {
            alone[furthest] = false;
            alone[index] = false;
        }
        let further = match (&ranges[furthest].last, &ranges[index].last) {
            (Some(before), Some(last)) => last > before,
            (before, last) => before.is_some() && last.is_none(),
        };
        if further {
            furthest = index;
        }
    }
    alone
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(ranges: &[(u8, Option<u8>)], expected: &[bool]) {
        let ranges: Vec<_> = ranges
            .iter()
            .map(|&(first, last)| Range { first: vec![first], last: last.map(|last| vec![last]) })
            .collect();
        assert_eq!(alone(&ranges), expected);
    }

    #[test]
    fn ranges_that_overlap_no_other() {
        check(&[], &[]);
        check(&[(1, Some(2))], &[true]);
        check(&[(1, Some(2)), (3, Some(4))], &[true, true]);
        check(&[(1, Some(3)), (3, Some(4)), (5, None)], &[false, false, true]);
        check(&[(1, Some(9)), (2, Some(3)), (4, Some(5)), (10, Some(11))], &[false, false, false, true]);
        check(&[(1, None), (2, Some(3))], &[false, false]);
    }
}
