//! A database directory that this process hosts.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use deltamesh_change::{EnginePosition, Value};

use super::background::Worker;
use super::compact::Compaction;
use super::flush::Flusher;
use super::lock::DirectoryLock;
use super::recover::{Files, Recovered, recover};
use super::row::{self, Document};
use super::schema::{Schema, Table};
use super::sequence::{self, Position, Positions};
use super::spill;
use super::store::Store;
use super::sync::SyncQueue;
use super::transaction::WriteTransaction;
use crate::batch::{Batch, BatchWriter};
use crate::catalog::{CatalogEntry, EntryKind, Owner, TableDefinition};
use crate::sql::{Parameters, Select};
use crate::{Error, ErrorKind, key};

/// Tables of level 0 at which transactions wait for compaction, as Pebble's do.
const LEVEL0_STOP: usize = 12;
/// Memtables that may wait to become tables, beside the one that is written to.
const WAITING_MEMTABLES: usize = 2;

/// Limits of a hosted database.
#[derive(Debug, Clone)]
pub struct HostOptions {
    /// Bytes of changes kept in memory before they become a table. Up to two more of that size wait until they are tables;
    /// then transactions wait too. Genji's own is 4 MiB.
    pub memtable_bytes: usize,
    /// Bytes of finished logs kept beyond what recovery needs, so that a reader that lags finds them.
    pub retained_log_bytes: u64,
    /// Most bytes that one call for a row may add to a transaction, and that a statement may hold in memory. Definitions
    /// change tables of any size.
    pub transaction_bytes: usize,
    /// Bytes of a transaction kept in memory, with what each operation costs besides its key and value; what is beyond is
    /// written to the log in parts. Genji's own is 10 MiB.
    pub spill_bytes: usize,
}

impl Default for HostOptions {
    fn default() -> Self {
        Self {
            memtable_bytes: 4 << 20,
            retained_log_bytes: 64 << 20,
            transaction_bytes: 64 << 20,
            spill_bytes: 10 << 20,
        }
    }
}

/// A database directory that this process hosts: it holds the lock, and is the only one that writes.
///
/// Reads see what is committed. One transaction is open at a time; [`Self::begin`] waits for the one before, so a thread
/// must not begin a second while it holds one. Reads wait for a transaction larger than [`HostOptions::spill_bytes`], so its
/// thread must read through it.
pub struct Database {
    directory: PathBuf,
    writer: Mutex<Writer>,
    pub(crate) state: Arc<RwLock<State>>,
    /// Held by readers, and alone by a transaction of which parts are written.
    pub(crate) readers: RwLock<()>,
    pub(crate) options: HostOptions,
    /// Before the lock: they write to the directory until they are dropped.
    flusher: Worker,
    compactor: Worker,
    /// Set while tables wait in vain to be merged downwards.
    is_hindered: Arc<AtomicBool>,
    sync: Arc<SyncQueue>,
    _lock: DirectoryLock,
}

/// A transaction that is written and visible, but perhaps not yet durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a transaction is durable when Database::wait or Database::sync has returned"]
pub struct Submitted {
    /// Where the engine stands after it.
    pub position: EnginePosition,
    record: u64,
}

/// What readers see.
pub(crate) struct State {
    pub(crate) store: Store,
    pub(crate) schema: Arc<Schema>,
}

/// What only the open transaction touches.
pub(crate) struct Writer {
    files: Option<Files>,
    pub(crate) sequences: Positions,
    /// Why nothing can be written any more.
    failure: Option<String>,
}

impl Database {
    /// Opens a directory, or makes an empty or missing one a database.
    ///
    /// # Errors
    /// [`ErrorKind::Locked`] if another host has it open, in this process too; [`ErrorKind::Corrupt`] with file and offset
    /// when a finished log or a table is damaged; [`ErrorKind::Io`].
    pub fn open(directory: &Path, options: &HostOptions) -> Result<Self, Error> {
        std::fs::create_dir_all(directory)
            .map_err(|error| Error::io("create database directory", directory, error))?;
        let lock = DirectoryLock::acquire(directory)
            .map_err(|error| Error::io("lock database directory", directory, error))?
            .ok_or_else(|| {
                Error::new(ErrorKind::Locked, "another host has the database open").in_file(directory)
            })?;
        let Recovered { files, store, logs } = recover(directory, options)?;
        let mut writer = Writer { files: Some(files), sequences: Positions::new(), failure: None };
        let mut state = State { store, schema: Arc::default() };
        writer.prepare(&mut state, options)?;
        writer.sequences = load_sequences(&state.store)?;
        let mut schema = load_schema(&state.store)?;
        if let Some(last) = writer.sequences.get(sequence::STORE).and_then(|position| position.last()) {
            schema.note_namespace(last);
        }
        state.schema = Arc::new(schema);
        let (versions, sync) = (writer.files()?.versions.clone(), writer.files()?.sync.clone());
        let state = Arc::new(RwLock::new(state));
        let is_hindered = Arc::new(AtomicBool::new(false));
        let compaction = Compaction {
            directory: directory.to_owned(),
            state: state.clone(),
            versions: versions.clone(),
            is_hindered: is_hindered.clone(),
        };
        let flusher = Flusher::new(directory, state.clone(), versions, logs);
        let (compactor, flusher) = start_workers(compaction, flusher)
            .map_err(|error| Error::io("start flush and compaction", directory, error))?;
        Ok(Self {
            directory: directory.to_owned(),
            writer: Mutex::new(writer),
            state,
            readers: RwLock::new(()),
            options: options.clone(),
            flusher,
            compactor,
            is_hindered,
            sync,
            _lock: lock,
        })
    }

    /// Begins a transaction; waits until the one before has ended.
    pub fn begin(&self) -> WriteTransaction<'_> {
        WriteTransaction::new(self, self.writer())
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until a submitted transaction is durable; what waits together shares one flush.
    ///
    /// # Errors
    /// [`ErrorKind::Io`]: whether the transaction survived shows after reopening.
    pub fn wait(&self, submitted: &Submitted) -> Result<(), Error> {
        self.wait_for(submitted.record)
    }

    /// Waits until everything that was submitted before is durable.
    ///
    /// # Errors
    /// As [`Self::wait`].
    pub fn sync(&self) -> Result<(), Error> {
        self.wait_for(self.sync.newest())
    }

    fn wait_for(&self, record: u64) -> Result<(), Error> {
        self.sync.wait(record).map_err(|error| Error::io("flush log of", &self.directory, error))
    }

    /// Holds a transaction back while level 0 is overfull, so that reads stay bounded.
    fn wait_for_compaction(&self) -> Result<(), Error> {
        let is_enough = || {
            let level0 =
                |state: &State| state.store.tables().iter().filter(|table| table.file.level == 0).count();
            self.read(level0) < LEVEL0_STOP
        };
        if is_enough() {
            return Ok(());
        }
        self.compactor.try_again();
        self.compactor
            .wait(is_enough)
            .map_err(|failure| Error::new(ErrorKind::Closed, format!("tables cannot be merged: {failure}")))
    }

    fn is_full(&self) -> bool {
        self.read(|state| state.store.memtable.bytes() >= self.options.memtable_bytes)
    }

    /// Holds a transaction back while as many memtables wait to become tables as memory is meant for.
    fn wait_for_flush(&self) -> Result<(), Error> {
        let failed = |failure| {
            let reason =
                format!("database takes no writes until reopened: changes reach no table: {failure}");
            Err(Error::new(ErrorKind::Closed, reason))
        };
        if let Some(failure) = self.flusher.failure() {
            return failed(failure);
        }
        let is_enough = || self.read(|state| state.store.waiting() < WAITING_MEMTABLES);
        self.flusher.wait(is_enough).or_else(failed)
    }

    /// Reads what is committed; waits while a transaction larger than memory is open.
    fn read_committed<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        let _committed = self.readers.read().unwrap_or_else(PoisonError::into_inner);
        self.read(read)
    }

    /// The definitions of the users' tables, in name order.
    pub fn tables(&self) -> Vec<TableDefinition> {
        let user = |table: &&Arc<Table>| table.namespace >= key::FIRST_USER;
        self.read(|state| state.schema.tables().filter(user).map(|table| table.definition.clone()).collect())
    }

    /// The committed row of that key, as Genji would return it: no nulls in declared fields.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] without such a table, [`ErrorKind::Type`] for a key of other types, or what reading meets.
    pub fn get(&self, table: &str, key: &[Value]) -> Result<Option<Document>, Error> {
        self.read_committed(|state| {
            let table = state.schema.user_table(table)?;
            let key = key::encode(table.namespace, &row::cast_key(&table.definition, key)?)?;
            let value = state.store.get(&key)?;
            value.map(|value| row::read(&table.definition.document, &value)).transpose()
        })
    }

    /// The committed rows of a table with their keys, in Genji's order of keys.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] without such a table, or what reading meets.
    pub fn scan(&self, table: &str) -> Result<Vec<(Vec<Value>, Document)>, Error> {
        self.rows(table)?.collect()
    }

    /// As [`Self::scan`], a row at a time: the state of this moment, whatever is written while it is read. Memory is bounded
    /// by the memtable and a block of each table that overlaps.
    ///
    /// # Errors
    /// As [`Self::scan`]; each row may meet an error of its own.
    pub fn rows(
        &self,
        table: &str,
    ) -> Result<impl Iterator<Item = Result<(Vec<Value>, Document), Error>> + use<>, Error> {
        self.read_committed(|state| {
            let table = state.schema.user_table(table)?;
            let rows = state.store.stream(&key::prefix(table.namespace), Vec::new())?;
            Ok(rows.map(move |row| {
                let (key, value) = row?;
                Ok((key::split(&key)?.values()?, row::read(&table.definition.document, &value)?))
            }))
        })
    }

    /// Runs a SELECT over what is committed, beside the open transaction. Says whether it was run: not beside a transaction larger
    /// than [`HostOptions::spill_bytes`], of which parts are written. What is committed meanwhile it may see in part.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] if it takes values of sequences, or what reading meets.
    pub fn select(
        &self,
        select: &Select,
        parameters: Parameters<'_>,
        sink: &mut dyn FnMut(Document) -> Result<bool, Error>,
    ) -> Result<bool, Error> {
        if select.takes_values() {
            return Err(Error::new(ErrorKind::Unsupported, "values of sequences are taken in a transaction"));
        }
        let Ok(_committed) = self.readers.try_read() else { return Ok(false) };
        // It writes nothing, so it needs no files, and leaves the writer to the open transaction.
        let writer = Mutex::new(Writer { files: None, sequences: Positions::new(), failure: None });
        let guard = writer.lock().unwrap_or_else(PoisonError::into_inner);
        WriteTransaction::new(self, guard).select(select, parameters, sink)?;
        Ok(true)
    }

    /// Whether tables wait in vain to be merged downwards, because the real engine wrote texts of 128 bytes and more into keys,
    /// which have no order among others. All is read and written as before, but more tables are looked at, and what was
    /// deleted keeps its room.
    pub fn is_compaction_hindered(&self) -> bool {
        self.is_hindered.load(Ordering::Relaxed)
    }

    /// Where the next transaction will begin.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] after a failed write.
    pub fn position(&self) -> Result<EnginePosition, Error> {
        self.writer().files().map(|files| position(files))
    }

    /// Closes the database cleanly: sequences exact, log finished.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] if a write had failed before, [`ErrorKind::Io`]. What was acknowledged is safe in any case.
    pub fn close(self) -> Result<(), Error> {
        let mut writer = self.writer();
        let mut batch = BatchWriter::new();
        for (name, position) in &writer.sequences {
            if let Some(exact) = position.to_release() {
                batch.set(&sequence::row_key(name), &sequence::row_value(name, Some(exact)));
            }
        }
        if !batch.is_empty() {
            writer.append_durably(batch)?;
        }
        writer.files()?;
        writer.files.take().map_or(Ok(()), Files::close)
    }
}

/// Starts compaction and flush.
fn start_workers(compaction: Compaction, flusher: Flusher) -> io::Result<(Worker, Worker)> {
    let compactor = Worker::spawn("genji-compact", move |stop| compaction.round(stop))?;
    compactor.wake();
    let new_tables = compactor.waker();
    let flusher = Worker::spawn("genji-flush", move |_| {
        let round = flusher.round();
        new_tables.wake();
        round
    })?;
    Ok((compactor, flusher))
}

fn position(files: &Files) -> EnginePosition {
    EnginePosition { sequence: files.next_sequence, log: files.log.number(), offset: files.log.offset() }
}

impl Writer {
    pub(crate) fn files(&mut self) -> Result<&mut Files, Error> {
        let unsynced = self.files.as_ref().and_then(|files| files.sync.failure());
        let unsynced = unsynced.map(|failure| format!("flushing the log failed: {failure}"));
        match (self.failure.as_ref().or(unsynced.as_ref()), &mut self.files) {
            (None, Some(files)) => Ok(files),
            (failure, _) => {
                let cause = failure.map_or("it was closed", String::as_str);
                Err(Error::new(
                    ErrorKind::Closed,
                    format!("database takes no writes until reopened: {cause}"),
                ))
            }
        }
    }

    /// Writes a batch to the log, not yet durably. After a failure nothing more is written: what the file holds is
    /// uncertain.
    fn append(&mut self, batch: BatchWriter) -> Result<(Vec<u8>, Submitted), Error> {
        let files = self.files()?;
        let count = u64::from(batch.count());
        let record = batch.finish(files.next_sequence);
        if let Err(error) = files.log.append(&record) {
            let path = crate::directory::log_path(&files.directory, files.log.number());
            files.sync.finished(&Err(io::Error::other("a record was cut short")));
            self.failure = Some(format!("writing {} failed", path.display()));
            return Err(Error::io("write log", &path, error));
        }
        files.next_sequence += count;
        let record_number = files.sync.appended(files.log.file());
        Ok((record, Submitted { position: position(files), record: record_number }))
    }

    /// Writes a batch to the log, durably.
    fn append_durably(&mut self, batch: BatchWriter) -> Result<Vec<u8>, Error> {
        let (record, submitted) = self.append(batch)?;
        let files = self.files()?;
        files
            .sync
            .wait(submitted.record)
            .map_err(|error| Error::io("flush log of", &files.directory, error))?;
        Ok(record)
    }

    /// Writes a batch, not yet durably, and applies it; a full memtable is left to the flush.
    pub(crate) fn commit(
        &mut self,
        batch: BatchWriter,
        schema: Option<Arc<Schema>>,
        database: &Database,
    ) -> Result<Submitted, Error> {
        database.wait_for_compaction()?;
        if database.is_full() {
            database.wait_for_flush()?;
            self.freeze(database)?;
        }
        let (record, submitted) = self.append(batch)?;
        let mut state = database.state.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(schema) = schema {
            state.schema = schema;
        }
        let applied = Batch::decode(&record).and_then(|batch| state.store.apply(&batch));
        drop(state);
        if let Err(error) = applied {
            self.failure = Some(format!("applying a transaction failed: {error}"));
        }
        Ok(submitted)
    }

    /// Goes on in a new log and a new memtable. After a failure nothing more is written.
    fn freeze(&mut self, database: &Database) -> Result<(), Error> {
        let files = self.files()?;
        let last_sequence = files.next_sequence - 1;
        let (log, next_log) = match files.rotate() {
            Ok(logs) => logs,
            Err(error) => {
                self.fail(format!("beginning a new log failed: {error}"));
                return self.files().map(drop);
            }
        };
        let mut state = database.state.write().unwrap_or_else(PoisonError::into_inner);
        state.store.freeze(log, next_log, last_sequence);
        drop(state);
        database.flusher.wake();
        Ok(())
    }

    /// Brings an opened directory into the state that a host starts from: bootstrapped, nothing transient left.
    fn prepare(&mut self, state: &mut State, options: &HostOptions) -> Result<(), Error> {
        self.undo_interrupted(state, options)?;
        let mut batch = BatchWriter::new();
        if state.store.get(&key::encode(key::CATALOG, &["__genji_catalog".into()])?)?.is_none() {
            bootstrap(&mut batch);
        }
        for key in state.store.transient_keys()? {
            batch.delete(&key);
        }
        if state.store.stream(&key::prefix(key::ROLLBACK), Vec::new())?.next().transpose()?.is_some() {
            // What a transaction left that was cut short: Genji counts its rows as committed, and so they stay.
            batch.delete_range(&key::prefix(key::ROLLBACK), &key::prefix(key::ROLLBACK + 1));
        }
        if batch.is_empty() {
            return Ok(());
        }
        let record = self.append_durably(batch)?;
        state.store.apply(&Batch::decode(&record)?)
    }
}

impl Writer {
    /// Undoes a transaction larger than memory that this host had open when it was killed, if nothing was written since.
    fn undo_interrupted(&mut self, state: &mut State, options: &HostOptions) -> Result<(), Error> {
        let next = self.files()?.next_sequence;
        if state.store.version(&spill::mark())?.is_none_or(|mark| mark.sequence + 1 != next) {
            return Ok(());
        }
        let segment = state.store.stream(&key::prefix(key::ROLLBACK), Vec::new())?;
        spill::undo(segment, options.spill_bytes, |part| {
            let record = self.append_durably(part)?;
            state.store.apply(&Batch::decode(&record)?)
        })
    }

    /// Takes no more writes; the first reason stays.
    pub(crate) fn fail(&mut self, reason: String) {
        self.failure.get_or_insert(reason);
    }
}

const CATALOG_SQL: &str = "CREATE TABLE __genji_catalog (name TEXT NOT NULL, type TEXT NOT NULL, namespace INTEGER, \
    sql TEXT, docid_sequence_name TEXT, owner (table_name TEXT NOT NULL, paths ARRAY), \
    CONSTRAINT __genji_catalog_pk PRIMARY KEY (name))";
const SEQUENCE_SQL: &str = "CREATE TABLE __genji_sequence (name TEXT NOT NULL, seq INTEGER, CONSTRAINT __genji_sequence_pk PRIMARY KEY (name))";
const STORE_SQL: &str =
    "CREATE SEQUENCE __genji_store_seq MAXVALUE 9223372036837998591 START WITH 10 CACHE 0";

/// The four rows that an empty database begins with.
fn bootstrap(batch: &mut BatchWriter) {
    let table = |name: &str, namespace, sql: &str| CatalogEntry {
        name: name.to_owned(),
        kind: EntryKind::Table,
        namespace: Some(namespace),
        sql: sql.to_owned(),
        docid_sequence: None,
        owner: None,
    };
    let store = CatalogEntry {
        name: sequence::STORE.to_owned(),
        kind: EntryKind::Sequence,
        namespace: None,
        sql: STORE_SQL.to_owned(),
        docid_sequence: None,
        owner: Some(Owner { table: "__genji_catalog".to_owned(), paths: None }),
    };
    for entry in [
        table("__genji_catalog", key::CATALOG, CATALOG_SQL),
        store,
        table("__genji_sequence", key::SEQUENCE, SEQUENCE_SQL),
    ] {
        batch.set(&entry.key(), &entry.encode());
    }
    batch.set(&sequence::row_key(sequence::STORE), &sequence::row_value(sequence::STORE, None));
}

fn load_schema(store: &Store) -> Result<Schema, Error> {
    let rows = store.prefix(&key::prefix(key::CATALOG))?;
    Ok(Schema::load(rows.values().map(|row| CatalogEntry::decode(row)).collect::<Result<_, _>>()?))
}

fn load_sequences(store: &Store) -> Result<Positions, Error> {
    let rows = store.prefix(&key::prefix(key::SEQUENCE))?;
    rows.values()
        .map(|row| sequence::decode_row(row).map(|(name, stored)| (name, Position::stored(stored))))
        .collect()
}
