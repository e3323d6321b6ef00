//! Rows of tables that do not keep the order: by exact keys, in as many passes as the memory needs.
//!
//! A pass takes the keys of one hash class. It learns the newest sequence number of each of them above the deepest level
//! and then reads everything again. On the deepest level a key stands once.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use crate::Error;
use crate::overlay::Overlay;
use crate::scan::Found;
use crate::view::{LiveTable, TableEntries};

/// Bytes that the keys of one pass may take, about.
const PASS: u64 = 64 * 1024 * 1024;
/// What a key takes besides its bytes, about.
pub(super) const PER_KEY: u64 = 64;

/// Reads a namespace in passes.
pub(super) struct Passes<'a> {
    prefix: Vec<u8>,
    overlay: &'a Overlay,
    /// Rows of the logs, still to be returned.
    logged: Vec<&'a [u8]>,
    upper: Vec<&'a LiveTable>,
    deepest: Vec<&'a LiveTable>,
    passes: u64,
    pass: u64,
    /// Tables still to be read in this pass, the next one last, and whether each is of the deepest level.
    waiting: Vec<(&'a LiveTable, bool)>,
    open: Option<(TableEntries<'a>, bool)>,
    last_key: Vec<u8>,
    newest: HashMap<Box<[u8]>, u64>,
}

impl<'a> Passes<'a> {
    /// `weight`: bytes of the keys above the deepest level, about.
    pub(super) fn new(
        upper: Vec<&'a LiveTable>,
        deepest: Vec<&'a LiveTable>,
        overlay: &'a Overlay,
        prefix: Vec<u8>,
        weight: u64,
    ) -> Result<Self, Error> {
        let logged = overlay.namespace(&prefix).map(|(key, _)| key).collect();
        let passes = weight.div_ceil(PASS).max(1);
        let mut this = Self {
            prefix,
            overlay,
            logged,
            upper,
            deepest,
            passes,
            pass: 0,
            waiting: Vec::new(),
            open: None,
            last_key: Vec::new(),
            newest: HashMap::new(),
        };
        this.begin()?;
        Ok(this)
    }

    fn is_of_pass(&self, key: &[u8]) -> bool {
        if self.passes == 1 {
            return true;
        }
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        hasher.finish() % self.passes == self.pass
    }

    /// Learns the keys of the pass.
    fn begin(&mut self) -> Result<(), Error> {
        let mut newest = std::mem::take(&mut self.newest);
        newest.clear();
        for table in &self.upper {
            let mut entries = table.entries(self.prefix.clone())?;
            while let Some(entry) = entries.next()? {
                if !entry.key.starts_with(&self.prefix) || !self.is_of_pass(entry.key) {
                    continue;
                }
                match newest.get_mut(entry.key) {
                    Some(sequence) => *sequence = entry.sequence.max(*sequence),
                    None => drop(newest.insert(Box::from(entry.key), entry.sequence)),
                }
            }
        }
        self.newest = newest;
        let deepest = self.deepest.iter().map(|&table| (table, true));
        self.waiting = deepest.chain(self.upper.iter().map(|&table| (table, false))).collect();
        Ok(())
    }

    /// The next visible row, in no particular order.
    pub(super) fn next(&mut self) -> Result<Option<Found>, Error> {
        while let Some(key) = self.logged.pop() {
            let Some(version) = self.overlay.get(key) else { continue };
            if let Some(value) = version.value.clone() {
                return Ok(Some(Found { key: key.to_vec(), sequence: version.sequence, value }));
            }
        }
        loop {
            if let Some(found) = self.next_in_pass()? {
                return Ok(Some(found));
            }
            self.pass += 1;
            if self.pass >= self.passes {
                return Ok(None);
            }
            self.begin()?;
        }
    }

    fn next_in_pass(&mut self) -> Result<Option<Found>, Error> {
        loop {
            let Some((mut entries, is_deepest)) = self.open.take() else {
                let Some((table, is_deepest)) = self.waiting.pop() else { return Ok(None) };
                self.open = Some((table.entries(self.prefix.clone())?, is_deepest));
                self.last_key.clear();
                continue;
            };
            while let Some(entry) = entries.next()? {
                // Of several versions in one table the newest stands first.
                if !entry.key.starts_with(&self.prefix)
                    || entry.key == self.last_key
                    || !self.is_of_pass(entry.key)
                {
                    continue;
                }
                self.last_key.clear();
                self.last_key.extend_from_slice(entry.key);
                let is_old = self.newest.get(entry.key).is_some_and(|&newest| {
                    entry.sequence < newest || (is_deepest && entry.sequence == newest)
                });
                if is_old || self.overlay.get(entry.key).is_some() {
                    continue;
                }
                if let Some(value) = entry.value {
                    let (key, value) = (entry.key.to_vec(), value.to_vec());
                    let found = Found { key, sequence: entry.sequence, value };
                    self.open = Some((entries, is_deepest));
                    return Ok(Some(found));
                }
            }
        }
    }
}
