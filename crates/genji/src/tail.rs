//! The changes of a database, transaction by transaction, as its engine writes them.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use deltamesh_change::{EnginePosition, Item, RelationSchema};

use crate::batch::{self, Batch, Operation};
use crate::catalog::CatalogState;
use crate::engine::Engine;
use crate::fault::{Fault, Faults};
use crate::follower::{Expected, Follower, Record};
use crate::manifest;
use crate::object::{ObjectChange, objects};
use crate::overlay::Overlay;
use crate::snapshot::read_catalog;
use crate::spill::{self, Part, Pending, Spool};
use crate::transaction::{Assembly, Carried, GenjiTransaction};
use crate::view::{LiveTable, View, reaches_back};
use crate::{Error, ErrorKind, ReadOptions, key};

/// Follows a directory from a position on.
///
/// Call [`Tail::poll`] every few milliseconds: the engine recycles its logs in place, at full speed after some 60 ms. Each
/// poll reads all that is there into memory (up to [`ReadOptions::read_ahead`]) before it returns a transaction. A
/// transaction that the engine spilled is kept until it ends: up to 16 MiB in memory, more in a file without a name in the
/// system's folder for temporary files.
#[derive(Debug)]
pub struct Tail {
    follower: Follower,
    catalog: CatalogState,
    pending: Pending,
    faults: Faults,
    /// Sequence number behind the last finished transaction that was read, whether or not it changed a relation.
    passed: u64,
    /// A transaction that ended and is larger than memory, while its parts are given out.
    ending: Option<Ending>,
    /// What [`Tail::poll`] has joined so far.
    joined: Option<GenjiTransaction>,
}

/// Gives out a transaction in parts.
#[derive(Debug)]
struct Ending {
    records: Spool,
    /// The record that is given out, and how many of its bytes were.
    record: Vec<u8>,
    given: usize,
    carried: Carried,
    position: EnginePosition,
    partial: bool,
    /// Whether a part has been given out.
    begun: bool,
}

/// A part takes no further operations above this many.
const PART_OPERATIONS: usize = 1 << 14;
/// A part takes no further operations above this many bytes of the log.
const PART_BYTES: usize = 2 << 20;

impl Tail {
    pub(crate) fn new(follower: Follower, catalog: CatalogState, pending: Pending, faults: Faults) -> Self {
        Self { follower, catalog, pending, faults, passed: 0, ending: None, joined: None }
    }

    /// Continues behind a position that was recorded earlier.
    ///
    /// # Errors
    /// [`ErrorKind::Gap`] if the logs no longer reach back to the position, [`ErrorKind::Rewound`] if the history is not a
    /// continuation of it; take a new snapshot then. Otherwise as [`crate::Snapshot::open`].
    pub fn resume(dir: &Path, position: EnginePosition, options: &ReadOptions) -> Result<Self, Error> {
        let (engine, dir) = Engine::locate(dir);
        let View { version, tables, mut follower } = View::open(engine, &dir, Some(position.log), options)?;
        let position = skip_sequences(engine, position, &follower, &tables)?;
        let reaches_back = reaches_back(engine, &follower);
        let mut overlay = Overlay::new(engine);
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
        if !reaches_back && catalog_changes_before(engine, &follower, version.min_log)? {
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

    /// The next finished transaction that changed a relation, a definition or a sequence, whole; none when the engine has
    /// written no other yet.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] and [`ErrorKind::Io`]: nothing is skipped, a later poll tries again.
    /// [`ErrorKind::Gap`] and [`ErrorKind::Rewound`]: take a new snapshot. [`ErrorKind::Unsupported`].
    pub fn poll(&mut self) -> Result<Option<GenjiTransaction>, Error> {
        while let Some(part) = self.poll_part()? {
            let more = part.more;
            match &mut self.joined {
                Some(joined) => {
                    joined.items.extend(part.items);
                    joined.objects.extend(part.objects);
                }
                None => self.joined = Some(part),
            }
            if !more {
                break;
            }
        }
        Ok(self.joined.take().map(|joined| GenjiTransaction { more: false, ..joined }))
    }

    /// As [`Self::poll`], for takers that hold no transaction in memory: one beyond 16 MiB comes in parts, all but the last
    /// with [`GenjiTransaction::more`] and all with the position behind it. It has ended when its first part comes. A key
    /// can be in several parts; the last counts.
    ///
    /// # Errors
    /// As [`Self::poll`].
    pub fn poll_part(&mut self) -> Result<Option<GenjiTransaction>, Error> {
        if let Some(part) = self.next_part()? {
            return Ok(Some(part));
        }
        loop {
            let is_due = self.follower.is_due();
            let filled = if is_due { self.follower.fill() } else { Ok(()) };
            if let Some(transaction) = self.take_queued()? {
                return Ok(Some(transaction));
            }
            filled?;
            if is_due {
                break;
            }
        }
        let may_be_orphaned = !self.pending.is_empty() && !self.engine().undoes_spills();
        if may_be_orphaned && self.follower.host_was_replaced()? {
            return self.orphaned();
        }
        Ok(None)
    }

    fn engine(&self) -> Engine {
        self.catalog.engine()
    }

    /// The next finished transaction, or the first part of it, of the records in the queue.
    fn take_queued(&mut self) -> Result<Option<GenjiTransaction>, Error> {
        while let Some(record) = self.follower.front() {
            let is_orphaned = record.new_process && !self.pending.is_empty();
            let found = if is_orphaned && !self.engine().undoes_spills() {
                self.orphaned()?
            } else {
                self.take_record()?
            };
            if let Some(transaction) = found.filter(GenjiTransaction::says_something) {
                return Ok(Some(transaction));
            }
        }
        Ok(None)
    }

    /// Takes the record at the front of the queue, and leaves it there if it cannot be read.
    fn take_record(&mut self) -> Result<Option<GenjiTransaction>, Error> {
        let Some(record) = self.follower.front() else { return Ok(None) };
        let position = EnginePosition { sequence: record.next_sequence, log: record.log, offset: record.end };
        let placed = |error| self.follower.unusable(record, error);
        let batch = Batch::decode(&record.bytes).map_err(placed)?;
        match spill::part(self.engine(), &batch).map_err(placed)? {
            Part::Temporary => {}
            Part::Plain | Part::Last if self.pending.is_empty() => {
                let (items, objects) = assemble(&mut self.catalog, &mut self.faults, &[batch])?;
                self.passed = position.sequence;
                self.follower.pop();
                let whole = GenjiTransaction { position, items, objects, partial: false, more: false };
                return Ok(Some(whole));
            }
            Part::Plain | Part::Spilled => {
                self.pending.push(self.catalog.engine(), record.bytes.clone(), position)?
            }
            Part::Last => {
                self.pending.push(self.catalog.engine(), record.bytes.clone(), position)?;
                self.follower.pop();
                return self.end(false);
            }
        }
        self.follower.pop();
        Ok(None)
    }

    /// The parts of a spilled transaction whose host is gone: Genji shows them, so they count.
    fn orphaned(&mut self) -> Result<Option<GenjiTransaction>, Error> {
        let transaction = self.end(true)?;
        Ok(transaction.filter(GenjiTransaction::says_something))
    }

    /// Gives out what is pending: whole, or its first part.
    fn end(&mut self, partial: bool) -> Result<Option<GenjiTransaction>, Error> {
        let Pending { records, catalog, .. } = &self.pending;
        let position = self.pending.position();
        if !records.is_in_file() {
            let batches = records.in_memory().map(Batch::decode).collect::<Result<Vec<_>, _>>()?;
            let (items, objects) = assemble(&mut self.catalog, &mut self.faults, &batches)?;
            self.pending = Pending::default();
            self.passed = position.sequence;
            return Ok(Some(GenjiTransaction { position, items, objects, partial, more: false }));
        }
        // Before the first part is out it must be certain that all of them can be.
        let of_catalog = catalog.iter().map(|record| Batch::decode(record)).collect::<Result<Vec<_>, _>>()?;
        assemble(&mut self.catalog.clone(), &mut Faults::default(), &of_catalog)?;
        let Pending { records, .. } = std::mem::take(&mut self.pending);
        let carried = Carried::default();
        self.ending =
            Some(Ending { records, record: Vec::new(), given: 0, carried, position, partial, begun: false });
        self.next_part()
    }

    /// The next part of the transaction that is given out in parts; none where there is no such, or nothing is in the rest
    /// of it and no part of it is out.
    fn next_part(&mut self) -> Result<Option<GenjiTransaction>, Error> {
        while let Some(ending) = &mut self.ending {
            if ending.record.is_empty() {
                ending.record = ending.records.take()?.unwrap_or_default();
                ending.given = batch::HEADER;
            }
            let mut left = ending.record.get(ending.given..).unwrap_or_default();
            let operations = take_part(&mut left)?;
            let is_record_done = left.is_empty();
            let is_last = is_record_done && ending.records.is_empty();
            let carried = std::mem::take(&mut ending.carried);
            let mut assembly = Assembly::behind(carried, &mut self.catalog, &mut self.faults);
            assembly.add(&operations);
            let (items, carried) = assembly.finish(is_last);
            let objects = objects(self.catalog.engine(), operations.iter());
            ending.carried = carried;
            ending.given = ending.record.len() - left.len();
            if is_record_done {
                ending.record.clear();
            }
            let (position, partial, begun) = (ending.position, ending.partial, ending.begun);
            let is_empty = items.is_empty() && objects.is_empty();
            ending.begun |= !is_empty;
            if is_last {
                self.ending = None;
                self.passed = position.sequence;
            }
            if !is_empty || (is_last && begun) {
                return Ok(Some(GenjiTransaction { position, items, objects, partial, more: !is_last }));
            }
        }
        Ok(None)
    }
}

/// Takes the operations of the next part of what is left of a record.
fn take_part<'a>(left: &mut &'a [u8]) -> Result<Vec<Operation<'a>>, Error> {
    let bytes = left.len();
    let mut operations = Vec::new();
    while operations.len() < PART_OPERATIONS
        && bytes - left.len() < PART_BYTES
        && let Some(operation) = batch::take_operation(left)?
    {
        operations.push(operation);
    }
    Ok(operations)
}

/// The changes that some batches make together.
fn assemble(
    catalog: &mut CatalogState,
    faults: &mut Faults,
    batches: &[Batch<'_>],
) -> Result<(Vec<Item>, Vec<ObjectChange>), Error> {
    let engine = catalog.engine();
    let mut assembly = Assembly::behind(Carried::default(), catalog, faults);
    batches.iter().for_each(|batch| assembly.add(&batch.operations));
    if assembly.shares_namespace() {
        return Err(Error::new(ErrorKind::Gap, "two tables share a namespace"));
    }
    let operations = batches.iter().flat_map(|batch| &batch.operations);
    Ok((assembly.finish(true).0, objects(engine, operations)))
}

/// Moves a position past operations that only stored sequences, and are in the tables by now.
///
/// That is what a clean close writes last; the next open flushes it, so the logs begin behind it.
fn skip_sequences(
    engine: Engine,
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
        let mut entries = table.entries(engine.prefix(key::SEQUENCE))?;
        while let Some(entry) = entries.next()? {
            if (position.sequence..begin).contains(&entry.sequence)
                && engine.namespace_of(entry.key) == Some(key::SEQUENCE)
            {
                missed.insert(entry.sequence);
            }
        }
    }
    let is_all = missed.len() as u64 == begin - position.sequence;
    Ok(if is_all { EnginePosition { sequence: begin, log: 0, offset: 0 } } else { position })
}

/// Whether a record in a log before that one changes the catalog.
fn catalog_changes_before(engine: Engine, follower: &Follower, log: u64) -> Result<bool, Error> {
    for record in follower.queued().take_while(|record| record.log < log) {
        let of_catalog = |operation: &Operation<'_>| match operation {
            Operation::Set { key, .. } | Operation::Delete { key } => {
                engine.namespace_of(key) == Some(key::CATALOG)
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
