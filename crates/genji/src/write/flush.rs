//! Moves a memtable into tables of level 0.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::background::Round;
use super::database::State;
use super::edit::{LiveFile, VersionEdit, sync_directory};
use super::filter::Filter;
use super::lookup::LiveTable;
use super::memtable::Memtable;
use super::order;
use super::store::segment_in;
use super::table::TableBuilder;
use super::version::VersionLog;
use crate::Error;
use crate::directory::{log_path, table_path};

/// Largest table written at once; a memtable larger than that becomes several.
const TABLE_SIZE: u64 = 32 << 20;

/// File numbers not used yet.
pub(crate) struct Numbers {
    pub(crate) next: u64,
}

impl Numbers {
    pub(crate) fn take(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }
}

/// A table that was written, durable but not named by the manifest yet.
pub(crate) struct Written {
    pub(crate) file: LiveFile,
    filter: Filter,
}

/// Writes a memtable to tables of level 0, above `below`.
///
/// Tables written here have no range deletes. Where the memtable deletes the rollback segment, each key that the tables
/// below hold of it gets a deletion of its own.
pub(crate) fn write_tables(
    directory: &Path,
    memtable: &Memtable,
    below: &[Arc<LiveTable>],
    number: impl FnMut() -> u64,
) -> Result<Vec<Written>, Error> {
    let mut output = Output { directory, number, open: None, written: Vec::new() };
    for run in memtable.runs() {
        for (key, version) in run {
            output.add(key, version.sequence, version.value.as_deref())?;
        }
        output.end_table()?;
    }
    if let Some(sequence) = memtable.cleared() {
        let mut class = Vec::new();
        for entry in segment_in(below)? {
            let (key, _) = entry?;
            let this = order::run_class(&key);
            if this != class {
                output.end_table()?;
                class = this;
            }
            output.add(&key, sequence, None)?;
        }
        output.end_table()?;
    }
    Ok(output.written)
}

/// Writes tables one after the other.
struct Output<'a, N> {
    directory: &'a Path,
    number: N,
    open: Option<TableBuilder>,
    written: Vec<Written>,
}

impl<N: FnMut() -> u64> Output<'_, N> {
    fn add(&mut self, key: &[u8], sequence: u64, value: Option<&[u8]>) -> Result<(), Error> {
        let mut table = match self.open.take() {
            Some(table) => table,
            None => {
                let number = (self.number)();
                let path = table_path(self.directory, number);
                TableBuilder::create(&path, number)
                    .map_err(|error| Error::io("create table", &path, error))?
            }
        };
        table.add(key, sequence, value).map_err(|error| Error::io("write table", self.directory, error))?;
        let is_full = table.written() >= TABLE_SIZE;
        self.open = Some(table);
        if is_full { self.end_table() } else { Ok(()) }
    }

    fn end_table(&mut self) -> Result<(), Error> {
        let Some(table) = self.open.take() else { return Ok(()) };
        let (summary, filter) =
            table.finish().map_err(|error| Error::io("finish table", self.directory, error))?;
        self.written.push(Written { file: LiveFile::written(0, &summary), filter });
        Ok(())
    }
}

/// Opens tables that were written.
pub(crate) fn open_tables(directory: &Path, written: Vec<Written>) -> Result<Vec<Arc<LiveTable>>, Error> {
    let open = |table: Written| LiveTable::open_written(directory, table.file, table.filter).map(Arc::new);
    written.into_iter().map(open).collect()
}

/// Turns frozen memtables into tables, in order, while transactions go on.
pub(crate) struct Flusher {
    directory: PathBuf,
    state: Arc<RwLock<State>>,
    versions: Arc<VersionLog>,
    logs: Mutex<FinishedLogs>,
}

impl Flusher {
    pub(crate) fn new(
        directory: &Path,
        state: Arc<RwLock<State>>,
        versions: Arc<VersionLog>,
        logs: FinishedLogs,
    ) -> Self {
        Self { directory: directory.to_owned(), state, versions, logs: Mutex::new(logs) }
    }

    /// Writes the oldest frozen memtable. Until the manifest names its tables, its logs hold it.
    pub(crate) fn round(&self) -> Result<Round, Error> {
        let (frozen, below) = {
            let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
            let Some(frozen) = state.store.oldest_frozen() else { return Ok(Round::Idle) };
            (frozen, state.store.tables().to_vec())
        };
        let take_number = || self.versions.take_number();
        let written = write_tables(&self.directory, &frozen.memtable, &below, take_number)?;
        sync_directory(&self.directory)
            .map_err(|error| Error::io("sync database directory", &self.directory, error))?;
        let edit = VersionEdit {
            min_log: Some(frozen.next_log),
            last_sequence: Some(frozen.last_sequence),
            added: written.iter().map(|table| table.file.clone()).collect(),
            ..VersionEdit::default()
        };
        let tables = open_tables(&self.directory, written)?;
        self.versions.append(edit)?;
        self.state.write().unwrap_or_else(PoisonError::into_inner).store.adopt_frozen(tables);
        self.logs.lock().unwrap_or_else(PoisonError::into_inner).retire(&self.directory, frozen.log)?;
        Ok(Round::Done)
    }
}

/// Logs whose content is in tables, kept for readers that follow: number and size, oldest first.
pub(crate) struct FinishedLogs {
    logs: Vec<(u64, u64)>,
    /// Bytes to keep.
    limit: u64,
}

impl FinishedLogs {
    pub(crate) fn new(limit: u64) -> Self {
        Self { logs: Vec::new(), limit }
    }

    /// Keeps one more, and removes the oldest beyond the limit.
    pub(crate) fn retire(&mut self, directory: &Path, number: u64) -> Result<(), Error> {
        // Gone already: someone cleaned up by hand.
        let Ok(metadata) = fs::metadata(log_path(directory, number)) else { return Ok(()) };
        self.logs.push((number, metadata.len()));
        let mut total: u64 = self.logs.iter().map(|(_, size)| size).sum();
        while total > self.limit && !self.logs.is_empty() {
            let (number, size) = self.logs.remove(0);
            let path = log_path(directory, number);
            match fs::remove_file(&path) {
                // Gone already, as above.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                removed => removed.map_err(|error| Error::io("remove old log", &path, error))?,
            }
            total -= size;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_logs_may_be_removed_by_hand() {
        let dir = tempfile::tempdir().unwrap();
        let mut logs = FinishedLogs::new(100);
        let mut retire = |number| {
            fs::write(log_path(dir.path(), number), [0; 60]).unwrap();
            logs.retire(dir.path(), number)
        };
        retire(1).unwrap();
        fs::remove_file(log_path(dir.path(), 1)).unwrap();
        retire(2).unwrap();
        retire(3).unwrap();
        let left = [1, 2, 3].map(|number| log_path(dir.path(), number).exists());
        assert_eq!(left, [false, false, true]);
    }
}
