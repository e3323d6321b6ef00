//! The transactions that the logs of a directory still hold, with before-images: for a reader of the directory itself.
//!
//! Where the logs reach back to the first sequence number, the history starts from nothing; else from what the tables hold
//! at the first log they need. [`crate::Tail`] follows an engine; this reads what is there now, once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use deltamesh_change::Value;

use crate::batch::{Batch, Operation};
use crate::catalog::CatalogEntry;
use crate::directory;
use crate::engine::{Cleared, Engine};
use crate::follower::{Follower, Record};
use crate::overlay::Overlay;
use crate::scan::Scan;
use crate::spill::{self, Part};
use crate::view::{LiveTable, View, reaches_back};
use crate::{Error, ReadOptions, key};

mod names;
mod net;

use names::Names;

/// How a transaction came into the logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionKind {
    /// In one batch.
    Plain,
    /// In parts, and ended: by commit, or by a rollback that left nothing.
    Spilled,
    /// In parts, and its host died: Genji shows what was written.
    Partial,
    /// In parts, and not ended yet at the end of the logs.
    Open,
}

/// One transaction.
#[derive(Debug)]
pub struct LoggedTransaction {
    /// Sequence number of the first operation of its last batch.
    pub sequence: u64,
    /// How it came into the logs.
    pub kind: TransactionKind,
    /// Number of the log that holds its last batch.
    pub log: u64,
    /// Byte offset of that batch in the log.
    pub offset: u64,
    /// Catalog rows that it wrote, in order.
    pub schema: Vec<LoggedSchema>,
    /// Rows that it wrote, each once, in the order of its last operation on them.
    pub changes: Vec<LoggedChange>,
}

/// What happened to a catalog row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SchemaOperation {
    /// The name is new.
    Create,
    /// The definition is another.
    Alter,
    /// The table had this name before.
    Rename(String),
    /// The name is gone.
    Drop,
}

/// A change of the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedSchema {
    /// Sequence number of the operation.
    pub sequence: u64,
    /// What happened.
    pub operation: SchemaOperation,
    /// The catalog row after it; before it for a drop.
    pub entry: CatalogEntry,
}

/// What a transaction did to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowOperation {
    /// The row is new.
    Insert,
    /// The row has other values.
    Update,
    /// The row is gone.
    Delete,
    /// The row was written with the values that it had.
    Noop,
}

/// The fields of a row by name, or why they cannot be read.
pub type Image = Result<Vec<(String, Value)>, Error>;

/// A change of a row.
#[derive(Debug)]
pub struct LoggedChange {
    /// Sequence number of the last operation on the row.
    pub sequence: u64,
    /// Name of the table; none where the namespace belongs to none.
    pub table: Option<String>,
    /// The namespace of the table; none where the key has none.
    pub namespace: Option<i64>,
    /// The whole key.
    pub key: Vec<u8>,
    /// The values of the primary key, or the docid; none where the key does not decode.
    pub primary_key: Option<Vec<Value>>,
    /// What happened.
    pub operation: RowOperation,
    /// The row before, for updates and deletes.
    pub before: Option<Image>,
    /// The row after, for inserts and updates.
    pub after: Option<Image>,
}

/// Reads the transactions of a directory in order.
#[derive(Debug)]
pub struct History {
    engine: Engine,
    follower: Follower,
    names: Names,
    /// Newest values of the keys that the logs write.
    state: HashMap<Vec<u8>, Vec<u8>>,
    pending: Vec<Record>,
    is_whole: bool,
    host_was_replaced: bool,
}

impl History {
    /// Opens the logs of a directory, whose host may be alive or gone.
    ///
    /// # Errors
    /// As [`crate::Snapshot::open`].
    pub fn open(dir: &Path, options: &ReadOptions) -> Result<Self, Error> {
        let (engine, dir) = Engine::locate(dir);
        let lowest = directory::list(&dir)?.logs.first().copied();
        let View { version, tables, mut follower } = View::open(engine, &dir, lowest, options)?;
        let is_whole = reaches_back(engine, &follower);
        let mut names = Names::new(engine);
        let mut state = HashMap::new();
        if !is_whole {
            while follower.front().is_some_and(|record| record.log < version.min_log) {
                follower.pop();
            }
            let nothing = Overlay::new(engine);
            let mut scan = Scan::new(&tables, &nothing, engine.prefix(key::CATALOG))?;
            while let Some(found) = scan.next()? {
                if let Ok(entry) = engine.entry(&found.value) {
                    names.set(entry);
                }
            }
            state = before_images(&follower, &tables, &nothing)?;
        }
        let host_was_replaced = !engine.undoes_spills() && follower.host_was_replaced()?;
        Ok(Self { engine, follower, names, state, pending: Vec::new(), is_whole, host_was_replaced })
    }

    /// Whether the logs reach back to the first transaction of the database.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// The next transaction that wrote rows or catalog rows; none at the end of the logs.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Corrupt`] for a record that is no batch, [`crate::ErrorKind::Unsupported`].
    pub fn next_transaction(&mut self) -> Result<Option<LoggedTransaction>, Error> {
        loop {
            let is_orphaned = match self.follower.front() {
                Some(record) => record.new_process && !self.engine.undoes_spills(),
                None => self.host_was_replaced,
            };
            let is_end = self.follower.front().is_none();
            if !self.pending.is_empty() && (is_orphaned || is_end) {
                let kind = if is_orphaned { TransactionKind::Partial } else { TransactionKind::Open };
                let records = std::mem::take(&mut self.pending);
                if let Some(transaction) = self.assemble(&records, kind)? {
                    return Ok(Some(transaction));
                }
                continue;
            }
            let Some(record) = self.follower.pop() else { return Ok(None) };
            let part = Batch::decode(&record.bytes).and_then(|batch| spill::part(self.engine, &batch));
            let part = part.map_err(|error| self.follower.unusable(&record, error))?;
            let kind = match part {
                Part::Temporary => continue,
                Part::Plain if self.pending.is_empty() => TransactionKind::Plain,
                // The range delete alone: what follows a rollback, and what an open engine writes.
                Part::Last if self.pending.is_empty() => TransactionKind::Plain,
                Part::Last => TransactionKind::Spilled,
                Part::Plain | Part::Spilled => {
                    self.pending.push(record);
                    continue;
                }
            };
            let mut records = std::mem::take(&mut self.pending);
            records.push(record);
            if let Some(transaction) = self.assemble(&records, kind)? {
                return Ok(Some(transaction));
            }
        }
    }

    fn assemble(
        &mut self,
        records: &[Record],
        kind: TransactionKind,
    ) -> Result<Option<LoggedTransaction>, Error> {
        let Some(last) = records.last() else { return Ok(None) };
        let mut net = net::Net::new(&mut self.names, &mut self.state);
        for record in records {
            let batch =
                Batch::decode(&record.bytes).map_err(|error| self.follower.unusable(record, error))?;
            net.add(&batch);
        }
        let (schema, changes) = net.finish();
        let is_empty = schema.is_empty() && changes.is_empty();
        let (sequence, log, offset) = (last.sequence, last.log, last.start);
        Ok((!is_empty).then_some(LoggedTransaction { sequence, kind, log, offset, schema, changes }))
    }
}

/// The values that the tables hold for the keys that the logs write.
fn before_images(
    follower: &Follower,
    tables: &[LiveTable],
    nothing: &Overlay,
) -> Result<HashMap<Vec<u8>, Vec<u8>>, Error> {
    let engine = nothing.engine();
    let mut emptied = HashSet::new();
    let mut written: BTreeMap<i64, HashSet<&[u8]>> = BTreeMap::new();
    for record in follower.queued() {
        let batch = Batch::decode(&record.bytes).map_err(|error| follower.unusable(record, error))?;
        for operation in &batch.operations {
            if let Operation::RangeDelete { start, end } = *operation
                && let Ok(Cleared::Space(namespace)) = engine.cleared(start, end)
            {
                emptied.insert(namespace);
                written.entry(namespace).or_default();
            }
            if let Operation::Set { key, .. } | Operation::Delete { key } = *operation
                && let Some(namespace @ key::FIRST_USER..key::FIRST_TRANSIENT) = engine.namespace_of(key)
            {
                // The record outlives the loop, the batch does not: its keys are slices of the record.
                written.entry(namespace).or_default().insert(key);
            }
        }
    }
    let mut state = HashMap::new();
    for (namespace, keys) in written {
        let mut scan = Scan::new(tables, nothing, engine.prefix(namespace))?;
        while let Some(found) = scan.next()? {
            if keys.contains(found.key.as_slice()) || emptied.contains(&namespace) {
                state.insert(found.key, found.value);
            }
        }
    }
    Ok(state)
}
