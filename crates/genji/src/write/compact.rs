//! Compaction: keeps the number of tables that a read has to look at small, and forgets what was deleted.
//!
//! Level 0 takes the memtables as they come; when it has [`LEVEL0_TABLES`] they are merged into the base level, and a level that
//! outgrows its share is merged table by table into the one below it. The shape is the one that Pebble itself keeps, so that
//! the real engine goes on where this stopped. A merge needs an order: where the real engine wrote keys with long texts among
//! others, which its comparer cannot order, nothing is compacted.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering as Memory};
use std::sync::{Arc, PoisonError, RwLock};

use super::background::Round;
use super::database::State;
use super::edit::{LiveFile, VersionEdit, sync_directory};
use super::lookup::{LiveTable, Shape};
use super::merge::Merge;
use super::order;
use super::table::TableBuilder;
use super::version::VersionLog;
use crate::Error;
use crate::directory::table_path;

/// Tables of level 0 that start a compaction.
pub(crate) const LEVEL0_TABLES: usize = 4;
/// The last level.
const BOTTOM: u64 = 6;
/// What the base level may hold before it is compacted further; each level below takes ten times as much.
const BASE_BYTES: u64 = 64 << 20;
/// Size at which a table that compaction writes is ended.
const TABLE_SIZE: u64 = 16 << 20;
/// Entries between two looks at whether to stop.
const STOP_INTERVAL: u64 = 4096;

/// What to merge into which level.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    /// Numbers of the tables of the upper level.
    upper: Vec<u64>,
    from: u64,
    into: u64,
}

/// Chooses the most urgent merge, if any is due.
fn pick(files: &[&LiveFile]) -> Option<Plan> {
    let size =
        |level: u64| -> u64 { files.iter().filter(|file| file.level == level).map(|file| file.size).sum() };
    let total: u64 = files.iter().map(|file| file.size).sum();
    let share = |level: u64| (total / 10u64.pow((BOTTOM - level) as u32)).max(BASE_BYTES);
    let first_used = (1..=BOTTOM).find(|&level| size(level) > 0).unwrap_or(BOTTOM);
    let mut base = BOTTOM;
    while base > 1 && total / 10u64.pow((BOTTOM - base) as u32) > BASE_BYTES {
        base -= 1;
    }
    let base = base.min(first_used);
    let level0: Vec<u64> = files
        .iter()
        .filter(|file| file.level == 0 && !order::is_long(&file.smallest))
        .map(|file| file.number)
        .collect();
    if level0.len() >= LEVEL0_TABLES {
        return Some(Plan { upper: level0, from: 0, into: base });
    }
    let from = (base..BOTTOM).find(|&level| size(level) > share(level))?;
    // Tables are written in key order, so the oldest number is where the last round ended.
    let oldest = files.iter().filter(|file| file.level == from).map(|file| file.number).min()?;
    Some(Plan { upper: vec![oldest], from, into: from + 1 })
}

/// Whether two tables can hold the same key.
fn overlap(left: &LiveFile, right: &LiveFile) -> bool {
    order::compare(&left.smallest, &right.largest) != Ordering::Greater
        && order::compare(&right.smallest, &left.largest) != Ordering::Greater
}

/// What compaction works on.
pub(crate) struct Compaction {
    pub(crate) directory: PathBuf,
    pub(crate) state: Arc<RwLock<State>>,
    pub(crate) versions: Arc<VersionLog>,
}

impl Compaction {
    /// Does the most urgent merge. Readers and writers go on meanwhile; a failure leaves the version as it was.
    pub(crate) fn round(&self, stop: &AtomicBool) -> Result<Round, Error> {
        let tables: Vec<Arc<LiveTable>> =
            self.state.read().unwrap_or_else(PoisonError::into_inner).store.tables().to_vec();
        let files: Vec<&LiveFile> = tables.iter().map(|table| &table.file).collect();
        let Some(plan) = pick(&files) else { return Ok(Round::Idle) };
        let (upper, others): (Vec<_>, Vec<_>) = tables
            .iter()
            .partition(|table| table.file.level == plan.from && plan.upper.contains(&table.file.number));
        let meets = |table: &Arc<LiveTable>| upper.iter().any(|input| overlap(&input.file, &table.file));
        let lower: Vec<&Arc<LiveTable>> =
            others.iter().copied().filter(|table| table.file.level == plan.into && meets(table)).collect();
        let inputs: Vec<Arc<LiveTable>> = upper.iter().chain(&lower).map(|table| Arc::clone(table)).collect();
        for table in &inputs {
            if table.shape(&[])? != Shape::Short {
                return Ok(Round::Idle);
            }
        }
        if let ([only], true, true) = (upper.as_slice(), lower.is_empty(), plan.from > 0) {
            return self.shift(only, plan.into);
        }
        let deeper = others.iter().filter(|table| table.file.level > plan.into);
        let deeper: Vec<LiveFile> = deeper.map(|table| table.file.clone()).collect();
        let mut merge = Merge::default();
        if plan.from == 0 {
            upper.iter().try_for_each(|table| merge.add_table(Arc::clone(table), &[]))?;
        } else {
            merge.add_short_level(upper.iter().map(|table| Arc::clone(table)).collect(), &[])?;
        }
        merge.add_short_level(lower.iter().map(|table| Arc::clone(table)).collect(), &[])?;
        let mut output = Output::new(&self.directory, &self.versions, plan.into);
        let mut seen = 0u64;
        while let Some(found) = merge.next()? {
            seen += 1;
            if seen.is_multiple_of(STOP_INTERVAL) && stop.load(Memory::Relaxed) {
                output.discard();
                return Ok(Round::Idle);
            }
            // A deletion has done its work where nothing below can hold the key.
            let holds = |file: &LiveFile| within(&found.key, file);
            if found.version.value.is_none() && !deeper.iter().any(holds) {
                continue;
            }
            output.add(&found.key, found.version.sequence, found.version.value.as_deref())?;
        }
        self.install(&inputs, output.finish()?)
    }

    /// Moves a table that meets no other to the next level, without rewriting it.
    fn shift(&self, table: &Arc<LiveTable>, into: u64) -> Result<Round, Error> {
        let file = table.file.on_level(into);
        let moved = table.moved(&self.directory, file.clone()).map(Arc::new)?;
        let removed = vec![(table.file.level, table.file.number)];
        self.append(VersionEdit { deleted: removed.clone(), added: vec![file], ..VersionEdit::default() })?;
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.store.replace_tables(&removed, vec![moved]);
        Ok(Round::Done)
    }

    fn install(&self, inputs: &[Arc<LiveTable>], added: Vec<LiveFile>) -> Result<Round, Error> {
        let open = |file: &LiveFile| LiveTable::open_compacted(&self.directory, file.clone()).map(Arc::new);
        let opened = added.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        let removed: Vec<_> = inputs.iter().map(|table| (table.file.level, table.file.number)).collect();
        sync_directory(&self.directory)
            .map_err(|error| Error::io("sync database directory", &self.directory, error))?;
        self.append(VersionEdit { deleted: removed.clone(), added, ..VersionEdit::default() })?;
        self.state.write().unwrap_or_else(PoisonError::into_inner).store.replace_tables(&removed, opened);
        // Readers of this process hold the files open; others find a missing one in the manifest's next edit.
        for (_, number) in removed {
            let path = table_path(&self.directory, number);
            std::fs::remove_file(&path).map_err(|error| Error::io("remove merged table", &path, error))?;
        }
        Ok(Round::Done)
    }

    fn append(&self, edit: VersionEdit) -> Result<(), Error> {
        self.versions.append(edit)
    }
}

fn within(key: &[u8], file: &LiveFile) -> bool {
    order::compare(key, &file.smallest) != Ordering::Less
        && order::compare(key, &file.largest) != Ordering::Greater
}

/// The tables that a merge writes.
struct Output<'a> {
    directory: &'a Path,
    versions: &'a VersionLog,
    level: u64,
    open: Option<(PathBuf, TableBuilder)>,
    finished: Vec<LiveFile>,
}

impl<'a> Output<'a> {
    fn new(directory: &'a Path, versions: &'a VersionLog, level: u64) -> Self {
        Self { directory, versions, level, open: None, finished: Vec::new() }
    }

    fn add(&mut self, key: &[u8], sequence: u64, value: Option<&[u8]>) -> Result<(), Error> {
        let (path, mut builder) = match self.open.take() {
            Some(open) => open,
            None => {
                let number = self.versions.take_number();
                let path = table_path(self.directory, number);
                let builder = TableBuilder::create(&path, number)
                    .map_err(|error| Error::io("create table", &path, error))?;
                (path, builder)
            }
        };
        builder.add(key, sequence, value).map_err(|error| Error::io("write table", &path, error))?;
        let is_full = builder.written() >= TABLE_SIZE;
        self.open = Some((path, builder));
        if is_full { self.end_table() } else { Ok(()) }
    }

    fn end_table(&mut self) -> Result<(), Error> {
        let Some((path, builder)) = self.open.take() else { return Ok(()) };
        let (summary, _) = builder.finish().map_err(|error| Error::io("finish table", &path, error))?;
        self.finished.push(LiveFile::written(self.level, &summary));
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<LiveFile>, Error> {
        self.end_table()?;
        Ok(std::mem::take(&mut self.finished))
    }

    /// Removes what was written; a file that stays is removed at the next open.
    fn discard(self) {
        let finished = self.finished.iter().map(|file| table_path(self.directory, file.number));
        for path in finished.chain(self.open.map(|(path, _)| path)) {
            std::fs::remove_file(path).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::TableSummary;
    use super::*;

    fn file(level: u64, number: u64, size: u64) -> LiveFile {
        let key = vec![0x4E, 0x45, 1, 0, 0, 0, 0, 0, 0, 0];
        let summary = TableSummary {
            number,
            size,
            smallest: key.clone(),
            largest: key,
            smallest_sequence: 1,
            largest_sequence: 1,
        };
        LiveFile::written(level, &summary)
    }

    fn check(files: &[LiveFile], expected: Option<(&[u64], u64, u64)>) {
        let expected = expected.map(|(upper, from, into)| Plan { upper: upper.to_vec(), from, into });
        assert_eq!(pick(&files.iter().collect::<Vec<_>>()), expected);
    }

    #[test]
    fn the_most_urgent_merge() {
        let level0: Vec<LiveFile> = (1..=4).map(|number| file(0, number, 1 << 20)).collect();
        check(&level0[..3], None);
        check(&level0, Some((&[1, 2, 3, 4], 0, 6)));
        // A large bottom puts a level in between; a used level is never passed by.
        let above = |bottom: u64| [level0.clone(), vec![file(6, 9, bottom)]].concat();
        check(&above(1 << 30), Some((&[1, 2, 3, 4], 0, 4)));
        check(&[level0.clone(), vec![file(3, 9, 1)]].concat(), Some((&[1, 2, 3, 4], 0, 3)));
        // A level beyond its share goes down table by table, the oldest first.
        check(&[file(5, 7, 40 << 20), file(5, 8, 40 << 20), file(6, 3, 1 << 20)], Some((&[7], 5, 6)));
    }
}
