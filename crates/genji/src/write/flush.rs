//! Moves a memtable into tables of level 0.

use std::path::Path;
use std::sync::Arc;

use super::edit::LiveFile;
use super::filter::Filter;
use super::lookup::LiveTable;
use super::memtable::Memtable;
use super::store::Store;
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

/// Writes a memtable to tables of level 0.
pub(crate) fn write_tables(
    directory: &Path,
    memtable: &Memtable,
    mut number: impl FnMut() -> u64,
) -> Result<Vec<Written>, Error> {
    let mut written = Vec::new();
    for run in memtable.runs() {
        let mut builder: Option<TableBuilder> = None;
        for (key, version) in run {
            let mut open = match builder.take() {
                Some(open) => open,
                None => create(directory, number())?,
            };
            open.add(key, version.sequence, version.value.as_deref())
                .map_err(|error| Error::io("write table", directory, error))?;
            if open.written() >= TABLE_SIZE {
                written.push(finish(open, directory)?);
            } else {
                builder = Some(open);
            }
        }
        if let Some(open) = builder {
            written.push(finish(open, directory)?);
        }
    }
    Ok(written)
}

fn create(directory: &Path, number: u64) -> Result<TableBuilder, Error> {
    let path = table_path(directory, number);
    TableBuilder::create(&path, number).map_err(|error| Error::io("create table", &path, error))
}

fn finish(table: TableBuilder, directory: &Path) -> Result<Written, Error> {
    let (summary, filter) = table.finish().map_err(|error| Error::io("finish table", directory, error))?;
    Ok(Written { file: LiveFile::written(0, &summary), filter })
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
