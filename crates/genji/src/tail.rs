//! The changes of a database, transaction by transaction, as its engine writes them.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use deltamesh_change::{EnginePosition, Item, RelationSchema};

use crate::batch::{Batch, Operation};
use crate::catalog::CatalogState;
use crate::fault::{Fault, Faults};
use crate::follower::{Expected, Follower, Record};
use crate::manifest;
use crate::overlay::Overlay;
use crate::snapshot::read_catalog;
use crate::spill::{self, Part, Pending};
use crate::transaction::{Assembly, GenjiTransaction};
use crate::view::{LiveTable, View};
use crate::{Error, ErrorKind, ReadOptions, key};

/// The sequence number of the first operation in a database's history.
const FIRST_SEQUENCE: u64 = 1;

/// Follows a directory from a position on.
///
/// Call [`Tail::poll`] every few milliseconds: the engine recycles its logs in place, at full speed after some 60 ms. Each
/// poll reads all that is there into memory (up to [`ReadOptions::read_ahead`]) before it returns a transaction. A
/// transaction that the engine spilled is kept in memory until it ends.
#[derive(Debug)]
pub struct Tail {
    follower: Follower,
    catalog: CatalogState,
    pending: Pending,
    faults: Faults,
    /// Sequence number behind the last finished transaction that was read, whether or not it changed a relation.
    passed: u64,
}

impl Tail {
    pub(crate) fn new(follower: Follower, catalog: CatalogState, pending: Pending, faults: Faults) -> Self {
        Self { follower, catalog, pending, faults, passed: 0 }
    }

    /// Continues behind a position that was recorded earlier.
    ///
    /// # Errors
    /// [`ErrorKind::Gap`] if the logs no longer reach back to the position, [`ErrorKind::Rewound`] if the history is not a
    /// continuation of it; take a new snapshot then. Otherwise as [`crate::Snapshot::open`].
    pub fn resume(dir: &Path, position: EnginePosition, options: &ReadOptions) -> Result<Self, Error> {
        let View { version, tables, mut follower } = View::open(dir, Some(position.log), options)?;
        let position = skip_sequences(position, &follower, &tables)?;
        let reaches_back = follower.front().is_some_and(|record| record.sequence == FIRST_SEQUENCE);
        let mut overlay = Overlay::default();
        let mut passed = None;
        while let Some(record) = follower.front() {
            if is_at(record, position, passed.as_ref())? {
                break;
            }
            let Some(record) = follower.pop() else { break };
            overlay.apply(&record).map_err(|error| follower.unusable(&record, error))?;
            passed = Some(record);
        }
        if follower.front().is_none() {
            check_end(&follower, position, passed.as_ref(), &version)?;
            follower.expect(position.sequence);
        }
        // The catalog in the tables is that of the first log they need, unless the history is here from its beginning.
        let tables = if reaches_back { &[] } else { tables.as_slice() };
        if !reaches_back && catalog_changes_before(&follower, version.min_log)? {
            return Err(Error::new(ErrorKind::Gap, "catalog changed behind the position"));
        }
        let mut faults = Faults::default();
        let catalog = read_catalog(tables, &overlay, &mut faults)?;
        let tail = Self::new(follower, catalog, Pending::default(), faults);
        Ok(Self { passed: position.sequence, ..tail })
    }

    /// The relations by name, at the position behind the last transaction returned, with schema sequence id 0.
    #[must_use]
    pub fn relations(&self) -> Vec<Arc<RelationSchema>> {
        self.catalog.relations()
    }

    /// Sequence number up to which every transaction has been returned that changed a relation; 0 where none has been read.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.passed
    }

    /// What could not be decoded since the last call.
    pub fn faults(&mut self) -> Vec<Fault> {
        self.faults.take()
    }

    /// Takes what the engine has written before it recycles the logs, up to [`ReadOptions::read_ahead`]: for a taker that
    /// has no room for a transaction. What goes wrong is said by the next [`Self::poll`].
    pub fn read_ahead(&mut self) {
        let _seen_again = self.follower.fill();
    }

    /// The next finished transaction that changed a relation; none when the engine has written no other yet.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] and [`ErrorKind::Io`]: nothing is skipped, a later poll tries again.
    /// [`ErrorKind::Gap`] and [`ErrorKind::Rewound`]: take a new snapshot. [`ErrorKind::Unsupported`].
    pub fn poll(&mut self) -> Result<Option<GenjiTransaction>, Error> {
        let filled = self.follower.fill();
        while let Some(record) = self.follower.front() {
            if record.new_process && !self.pending.is_empty() {
                if let Some(transaction) = self.orphaned()? {
                    return Ok(Some(transaction));
                }
                continue;
            }
            let items = self.take_record();
            if let Some(transaction) = items?.filter(|transaction| !transaction.items.is_empty()) {
                return Ok(Some(transaction));
            }
        }
        filled?;
        if !self.pending.is_empty() && self.follower.host_was_replaced()? {
            return self.orphaned();
        }
        Ok(None)
    }

    /// Takes the record at the front of the queue, and leaves it there if it cannot be read.
    fn take_record(&mut self) -> Result<Option<GenjiTransaction>, Error> {
        let Some(record) = self.follower.front() else { return Ok(None) };
        let position = EnginePosition { sequence: record.next_sequence, log: record.log, offset: record.end };
        let placed = |error| self.follower.unusable(record, error);
        let batch = Batch::decode(&record.bytes).map_err(placed)?;
        match spill::part(&batch).map_err(placed)? {
            Part::Temporary => {}
            Part::Plain if self.pending.is_empty() => {
                let items = assemble(&mut self.catalog, &mut self.faults, &[], Some(&batch))?;
                self.passed = position.sequence;
                self.follower.pop();
                return Ok(Some(GenjiTransaction { position, items, partial: false }));
            }
            Part::Plain | Part::Spilled => {
                let bytes = record.bytes.clone();
                self.pending.push(bytes, position);
            }
            Part::Last => {
                let items =
                    assemble(&mut self.catalog, &mut self.faults, self.pending.records(), Some(&batch))?;
                self.pending.clear();
                self.passed = position.sequence;
                self.follower.pop();
                return Ok(Some(GenjiTransaction { position, items, partial: false }));
            }
        }
        self.follower.pop();
        Ok(None)
    }

    /// The parts of a spilled transaction whose host is gone: Genji shows them, so they count.
    fn orphaned(&mut self) -> Result<Option<GenjiTransaction>, Error> {
        let items = assemble(&mut self.catalog, &mut self.faults, self.pending.records(), None)?;
        let position = self.pending.position();
        self.pending.clear();
        let transaction = GenjiTransaction { position, items, partial: true };
        Ok(Some(transaction).filter(|transaction| !transaction.items.is_empty()))
    }
}

/// The changes that some records and a last batch make together.
fn assemble(
    catalog: &mut CatalogState,
    faults: &mut Faults,
    records: &[Vec<u8>],
    last: Option<&Batch<'_>>,
) -> Result<Vec<Item>, Error> {
    let batches = records.iter().map(|record| Batch::decode(record)).collect::<Result<Vec<_>, _>>()?;
    let mut assembly = Assembly::new(catalog, faults);
    batches.iter().chain(last).for_each(|batch| assembly.add(&batch.operations));
    if assembly.shares_namespace() {
        return Err(Error::new(ErrorKind::Gap, "two tables share a namespace"));
    }
    Ok(assembly.finish())
}

/// Moves a position past operations that only stored sequences, and are in the tables by now.
///
/// That is what a clean close writes last; the next open flushes it, so the logs begin behind it.
fn skip_sequences(
    position: EnginePosition,
    follower: &Follower,
    tables: &[LiveTable],
) -> Result<EnginePosition, Error> {
    let begin = match (follower.front(), follower.expected()) {
        (Some(record), _) => record.sequence,
        (None, Expected::Exactly(sequence) | Expected::AtMost(sequence)) => sequence,
    };
    if begin <= position.sequence {
        return Ok(position);
    }
    let mut missed: HashSet<u64> = HashSet::new();
    for table in tables {
        let mut entries = table.table.entries(key::prefix(key::SEQUENCE))?;
        while let Some(entry) = entries.next()? {
            if (position.sequence..begin).contains(&entry.sequence)
                && key::namespace_of(entry.key) == Some(key::SEQUENCE)
            {
                missed.insert(entry.sequence);
            }
        }
    }
    let is_all = missed.len() as u64 == begin - position.sequence;
    Ok(if is_all { EnginePosition { sequence: begin, log: 0, offset: 0 } } else { position })
}

/// Whether a record in a log before that one changes the catalog.
fn catalog_changes_before(follower: &Follower, log: u64) -> Result<bool, Error> {
    for record in follower.queued().take_while(|record| record.log < log) {
        let of_catalog = |operation: &Operation<'_>| match operation {
            Operation::Set { key, .. } | Operation::Delete { key } => {
                key::namespace_of(key) == Some(key::CATALOG)
            }
            Operation::RangeDelete { .. } => false,
        };
        if Batch::decode(&record.bytes)?.operations.iter().any(of_catalog) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether `record` is the first one behind `position`.
///
/// The log of a position holds all that comes before it. A history that went back and grew again has the same sequence
/// numbers in later logs, or its records end elsewhere.
fn is_at(record: &Record, position: EnginePosition, passed: Option<&Record>) -> Result<bool, Error> {
    // A snapshot of empty logs knows its sequence number only as an upper bound, but its place exactly.
    let is_log_start = position.offset == 0 && record.start == 0 && record.log == position.log;
    if is_log_start && record.sequence <= position.sequence {
        return Ok(true);
    }
    if record.sequence > position.sequence {
        let (kind, reason) = match passed {
            Some(_) => (ErrorKind::Rewound, "position lies inside a transaction"),
            None => (ErrorKind::Gap, "logs begin behind the position"),
        };
        return Err(Error::new(kind, reason));
    }
    if record.sequence == position.sequence {
        let begins = position.offset == 0 || passed.is_some() || record.log > position.log;
        if !begins {
            return Err(Error::new(ErrorKind::Rewound, "position is not where it was"));
        }
        return check_boundary(position, passed).map(|()| true);
    }
    if position.log > 0 && record.log > position.log {
        return Err(Error::new(ErrorKind::Rewound, "position is in an earlier log than it was"));
    }
    Ok(false)
}

/// The record before the position must end where the position says.
fn check_boundary(position: EnginePosition, passed: Option<&Record>) -> Result<(), Error> {
    match passed {
        Some(record)
            if position.offset > 0 && (record.log, record.end) != (position.log, position.offset) =>
        {
            Err(Error::new(ErrorKind::Rewound, "position is not where it was"))
        }
        _ => Ok(()),
    }
}

/// No record follows: the position must be where the history ends.
fn check_end(
    follower: &Follower,
    position: EnginePosition,
    passed: Option<&Record>,
    version: &manifest::Version,
) -> Result<(), Error> {
    let end = match follower.expected() {
        Expected::Exactly(sequence) => sequence,
        Expected::AtMost(_) => version.last_sequence + 1,
    };
    match end.cmp(&position.sequence) {
        std::cmp::Ordering::Equal => check_boundary(position, passed),
        std::cmp::Ordering::Less => Err(Error::new(ErrorKind::Rewound, "history ends before the position")),
        std::cmp::Ordering::Greater => Err(Error::new(ErrorKind::Gap, "logs begin behind the position")),
    }
}

#[cfg(test)]
mod tests;
