//! Tables that follow each other in key order: a level, or one table of level 0.

use std::cmp::Ordering;

use crate::overlay::Overlay;
use crate::view::{LiveTable, TableEntries};
use crate::{Error, ErrorKind};

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stand {
    /// At an entry: `key`, `sequence`, `value`.
    Entry,
    /// Behind its last entry.
    End,
    /// At a key that is not above the one before: the tables do not keep the order.
    Disorder,
}

/// The entries of one namespace in a run, the newest version of each key.
pub(super) struct Run<'a> {
    /// Tables still to be read, the next one last.
    waiting: Vec<&'a LiveTable>,
    entries: Option<TableEntries<'a>>,
    /// What stands in the logs, if this is the run of the logs; the next one last.
    logged: Vec<&'a [u8]>,
    overlay: &'a Overlay,
    pub(super) stand: Stand,
    pub(super) key: Vec<u8>,
    pub(super) sequence: u64,
    pub(super) value: Option<Vec<u8>>,
}

impl<'a> Run<'a> {
    fn new(waiting: Vec<&'a LiveTable>, logged: Vec<&'a [u8]>, overlay: &'a Overlay) -> Self {
        let stand = Stand::Entry;
        Self { waiting, entries: None, logged, overlay, stand, key: Vec::new(), sequence: 0, value: None }
    }

    /// The run of the logs.
    pub(super) fn of_logs(overlay: &'a Overlay, prefix: &[u8]) -> Self {
        let mut keys: Vec<_> = overlay.namespace(prefix).map(|(key, _)| key).collect();
        keys.sort_by(|left, right| overlay.engine().compare(right, left));
        Self::new(Vec::new(), keys, overlay)
    }

    /// The runs of tables.
    pub(super) fn of_tables(tables: &[&'a LiveTable], overlay: &'a Overlay) -> Vec<Self> {
        let (mut deep, top): (Vec<_>, Vec<_>) = tables.iter().copied().partition(|table| table.level > 0);
        deep.sort_by(|left, right| {
            let smallest = || overlay.engine().compare(&right.meta.smallest, &left.meta.smallest);
            left.level.cmp(&right.level).then_with(smallest)
        });
        let levels = deep.chunk_by(|left, right| left.level == right.level).map(<[_]>::to_vec);
        let single = top.into_iter().map(|table| vec![table]);
        levels.chain(single).map(|tables| Self::new(tables, Vec::new(), overlay)).collect()
    }

    /// Goes to the next key.
    pub(super) fn advance(&mut self, prefix: &[u8]) -> Result<(), Error> {
        if let Some(key) = self.logged.pop() {
            self.key.clear();
            self.key.extend_from_slice(key);
            let version = self.overlay.get(key);
            self.sequence = version.map_or(0, |version| version.sequence);
            self.value = version.and_then(|version| version.value.clone());
            return Ok(());
        }
        loop {
            let Some(entries) = &mut self.entries else {
                let Some(table) = self.waiting.pop() else {
                    self.stand = Stand::End;
                    return Ok(());
                };
                self.entries = Some(table.entries(prefix.to_vec())?);
                continue;
            };
            let Some(entry) = entries.next()? else {
                self.entries = None;
                continue;
            };
            if !entry.key.starts_with(prefix) {
                continue;
            }
            match self.overlay.engine().compare(&self.key, entry.key) {
                Ordering::Less => {}
                // Of several versions the newest stands first.
                Ordering::Equal => continue,
                Ordering::Greater => {
                    self.stand = Stand::Disorder;
                    return Ok(());
                }
            }
            self.key.clear();
            self.key.extend_from_slice(entry.key);
            self.sequence = entry.sequence;
            match (&mut self.value, entry.value) {
                (Some(buffer), Some(value)) => {
                    buffer.clear();
                    buffer.extend_from_slice(value);
                }
                (buffer, value) => *buffer = value.map(<[u8]>::to_vec),
            }
            return Ok(());
        }
    }

    /// The error for tables that were taken to keep the order, and do not.
    pub(super) fn disorder() -> Error {
        Error::new(ErrorKind::Corrupt, "table keys are out of order")
    }
}
