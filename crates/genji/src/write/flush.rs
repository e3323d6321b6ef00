//! Moves a memtable into tables of level 0.

use std::path::Path;
use std::sync::Arc;

use super::edit::LiveFile;
use super::filter::Filter;
use super::lookup::LiveTable;
use super::memtable::Memtable;
use super::order;
use super::store::{Store, segment_in};
use super::table::TableBuilder;
use crate::Error;
use crate::directory::table_path;

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

/// Makes the store read from tables instead of its memtable.
pub(crate) fn adopt(store: &mut Store, tables: Vec<Arc<LiveTable>>) {
    store.add_tables(tables);
    store.memtable = Memtable::default();
}
