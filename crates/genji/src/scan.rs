//! The visible rows of one namespace, from tables and logs.
//!
//! The visible version of a key is the one with the highest sequence number. Genji's order is not total, so nothing is
//! merged by order: what stands above the deepest level is read twice, first to learn the newest sequence number of each
//! of its keys. **Bound of the memory**: the keys of one namespace that are above the deepest level, about a tenth of a
//! large database, besides what the logs hold. Values are streamed.

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
    /// Tables still to be read, the next one last, and whether each is on the deepest level.
    waiting: Vec<(&'a LiveTable, bool)>,
    open: Option<(Entries<'a>, bool)>,
    last_key: Vec<u8>,
    /// Newest sequence number of the keys above the deepest level.
    newest: HashMap<Box<[u8]>, u64>,
}

impl<'a> Scan<'a> {
    /// Starts to read the namespace with that prefix.
    pub(crate) fn new(tables: &'a [LiveTable], overlay: &'a Overlay, prefix: Vec<u8>) -> Result<Self, Error> {
        // Only on levels below 0 is a key in one table at most.
        let deepest = tables.iter().map(|table| table.level).max().filter(|&level| level > 0);
        let holds = |table: &&LiveTable| may_hold(&table.meta.smallest, &table.meta.largest, &prefix);
        let mut waiting: Vec<_> =
            tables.iter().filter(holds).map(|table| (table, Some(table.level) == deepest)).collect();
        waiting.sort_by_key(|&(_, is_deepest)| std::cmp::Reverse(is_deepest));
        let mut newest = HashMap::new();
        for (table, _) in waiting.iter().filter(|(_, is_deepest)| !is_deepest) {
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
            let Some((entries, is_deepest)) = &mut self.open else {
                let Some((table, is_deepest)) = self.waiting.pop() else { return Ok(None) };
                self.open = Some((table.table.entries(self.prefix.clone())?, is_deepest));
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
                .is_some_and(|&newest| entry.sequence < newest || (*is_deepest && entry.sequence == newest));
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
