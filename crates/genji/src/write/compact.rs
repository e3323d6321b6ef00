//! Compaction: keeps the number of tables that a read has to look at small, and forgets what was deleted.
//!
//! Level 0 takes the memtables as they come; when it has [`LEVEL0_TABLES`] they are merged into the base level, and a level that
//! outgrows its share is merged table by table into the one below it. The shape is the one that Pebble itself keeps, so that
//! the real engine goes on where this stopped.
//!
//! A merge needs an order, which keys with long texts among others do not have. Tables that hold only long keys of one class
//! have one, but only among themselves: they are merged within level 0, several of about one size into one, so that their
//! number stays small. The same is done with all of level 0 where a table below, or of level 0 itself, was written by the
//! real engine with such keys mixed: nothing can be merged with it.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering as Memory};
use std::sync::{Arc, PoisonError, RwLock};

use super::background::Round;
use super::database::State;
use super::edit::{LiveFile, VersionEdit, sync_directory};
use super::filter::Filter;
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
/// Size at which a table is no longer merged within level 0.
const TIER_BYTES: u64 = 256 << 20;
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

/// A table of level 0.
struct Classed<'a> {
    /// The class of its keys; nothing if it mixes classes.
    class: Option<Vec<u8>>,
    file: &'a LiveFile,
}

/// Chooses tables of level 0 to be merged among themselves: of one class, of about one size, one after the other in age.
///
/// `tables` are newest first. Nothing is merged past one that mixes classes.
fn pick_tier(tables: &[Classed<'_>], class: &[u8]) -> Option<Plan> {
    let mut run: Vec<u64> = Vec::new();
    let mut tier = None;
    for Classed { class: found, file } in tables {
        let is_of_class = match found {
            Some(found) if found != class => continue,
            found => found.is_some() && file.size < TIER_BYTES,
        };
        let this = is_of_class.then(|| (file.size >> 20).max(1).ilog2() / 2);
        if this != tier {
            if run.len() >= LEVEL0_TABLES {
                break;
            }
            run.clear();
            tier = this;
        }
        if this.is_some() {
            run.push(file.number);
        }
    }
    (run.len() >= LEVEL0_TABLES).then_some(Plan { upper: run, from: 0, into: 0 })
}

/// What compaction works on.
pub(crate) struct Compaction {
    pub(crate) directory: PathBuf,
    pub(crate) state: Arc<RwLock<State>>,
    pub(crate) versions: Arc<VersionLog>,
    /// Set while the last merge that was due was forbidden by the lack of an order.
    pub(crate) is_hindered: Arc<AtomicBool>,
}

impl Compaction {
    /// Does the most urgent merge. Readers and writers go on meanwhile; a failure leaves the version as it was.
    pub(crate) fn round(&self, stop: &AtomicBool) -> Result<Round, Error> {
        let tables: Vec<Arc<LiveTable>> =
            self.state.read().unwrap_or_else(PoisonError::into_inner).store.tables().to_vec();
        let files: Vec<&LiveFile> = tables.iter().map(|table| &table.file).collect();
        let due = pick(&files).map(|plan| (Inputs::new(&tables, &plan), plan));
        let is_hindered = due.as_ref().map_or(Ok(false), |(inputs, plan)| inputs.have_no_order(plan))?;
        if due.is_some() {
            self.is_hindered.store(is_hindered, Memory::Relaxed);
        }
        if let Some((inputs, plan)) = due.filter(|_| !is_hindered) {
            return self.merge(&plan, &inputs, stop);
        }
        let Some(plan) = tier_plan(&tables, is_hindered)? else { return Ok(Round::Idle) };
        self.merge(&plan, &Inputs::new(&tables, &plan), stop)
    }

    fn merge(&self, plan: &Plan, inputs: &Inputs, stop: &AtomicBool) -> Result<Round, Error> {
        let Inputs { upper, lower, others } = inputs;
        if let ([only], true, true) = (upper.as_slice(), lower.is_empty(), plan.from > 0) {
            return self.shift(only, plan.into);
        }
        let is_tier = plan.into == 0;
        let deeper: Vec<&LiveFile> =
            others.iter().map(|table| &table.file).filter(|file| file.level > plan.into).collect();
        let mut merge = Merge::default();
        if plan.from == 0 {
            upper.iter().try_for_each(|table| merge.add_table(Arc::clone(table), &[]))?;
        } else {
            merge.add_short_level(upper.clone(), &[])?;
        }
        merge.add_short_level(lower.clone(), &[])?;
        let mut output = Output::new(&self.directory, &self.versions, plan.into);
        let mut seen = 0u64;
        while let Some(found) = merge.next()? {
            seen += 1;
            if seen.is_multiple_of(STOP_INTERVAL) && stop.load(Memory::Relaxed) {
                output.discard();
                return Ok(Round::Idle);
            }
            // A deletion has done its work where nothing below can hold the key. Tables of level 0 are below each other.
            let holds = |file: &&LiveFile| within(&found.key, file);
            if found.version.value.is_none() && !is_tier && !deeper.iter().any(holds) {
                continue;
            }
            output.add(&found.key, found.version.sequence, found.version.value.as_deref())?;
        }
        let all: Vec<Arc<LiveTable>> = upper.iter().chain(lower).map(Arc::clone).collect();
        self.install(&all, output.finish()?)
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

    fn install(&self, inputs: &[Arc<LiveTable>], written: Vec<(LiveFile, Filter)>) -> Result<Round, Error> {
        let added = written.iter().map(|(file, _)| file.clone()).collect();
        let open = |(file, filter): (LiveFile, Filter)| {
            let table = match file.level {
                0 => LiveTable::open_written(&self.directory, file, filter),
                _ => LiveTable::open_compacted(&self.directory, file),
            };
            table.map(Arc::new)
        };
        let opened = written.into_iter().map(open).collect::<Result<Vec<_>, _>>()?;
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

/// The tables of level 0, newest first.
fn classed(tables: &[Arc<LiveTable>]) -> Result<Vec<Classed<'_>>, Error> {
    let mut classed = Vec::new();
    for table in tables.iter().filter(|table| table.file.level == 0) {
        let class = match table.shape(&[])? {
            Shape::Mixed => None,
            Shape::Short | Shape::Long => Some(order::run_class(&table.file.smallest)),
        };
        classed.push(Classed { class, file: &table.file });
    }
    Ok(classed)
}

/// A merge within level 0: of long keys, or of any where those without long texts cannot be merged downwards.
fn tier_plan(tables: &[Arc<LiveTable>], is_hindered: bool) -> Result<Option<Plan>, Error> {
    let classed = classed(tables)?;
    let mut wanted: Vec<&[u8]> = classed.iter().filter_map(|table| table.class.as_deref()).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let mut wanted = wanted.into_iter().filter(|class| is_hindered || !class.is_empty());
    Ok(wanted.find_map(|class| pick_tier(&classed, class)))
}

/// The tables of a plan.
struct Inputs {
    upper: Vec<Arc<LiveTable>>,
    /// Those of the level below that meet them.
    lower: Vec<Arc<LiveTable>>,
    others: Vec<Arc<LiveTable>>,
}

impl Inputs {
    fn new(tables: &[Arc<LiveTable>], plan: &Plan) -> Self {
        let (upper, others): (Vec<_>, Vec<_>) = tables
            .iter()
            .cloned()
            .partition(|table| table.file.level == plan.from && plan.upper.contains(&table.file.number));
        let meets = |table: &Arc<LiveTable>| {
            table.file.level == plan.into && upper.iter().any(|input| overlap(&input.file, &table.file))
        };
        let lower = if plan.into == 0 {
            Vec::new()
        } else {
            others.iter().filter(|&table| meets(table)).cloned().collect()
        };
        Self { upper, lower, others }
    }

    /// Whether the plan cannot be carried out: a table of it is not sorted, or one of level 0 that stays behind may hold an
    /// older version of a key that would sink below it.
    fn have_no_order(&self, plan: &Plan) -> Result<bool, Error> {
        for table in self.upper.iter().chain(&self.lower) {
            if table.shape(&[])? != Shape::Short {
                return Ok(true);
            }
        }
        for table in self.others.iter().filter(|table| plan.from == 0 && table.file.level == 0) {
            if table.shape(&[])? == Shape::Mixed {
                return Ok(true);
            }
        }
        Ok(false)
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
    finished: Vec<(LiveFile, Filter)>,
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
        let is_full = self.level > 0 && builder.written() >= TABLE_SIZE;
        self.open = Some((path, builder));
        if is_full { self.end_table() } else { Ok(()) }
    }

    fn end_table(&mut self) -> Result<(), Error> {
        let Some((path, builder)) = self.open.take() else { return Ok(()) };
        let (summary, filter) = builder.finish().map_err(|error| Error::io("finish table", &path, error))?;
        self.finished.push((LiveFile::written(self.level, &summary), filter));
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<(LiveFile, Filter)>, Error> {
        self.end_table()?;
        Ok(std::mem::take(&mut self.finished))
    }

    /// Removes what was written; a file that stays is removed at the next open.
    fn discard(self) {
        let finished = self.finished.iter().map(|(file, _)| table_path(self.directory, file.number));
        for path in finished.chain(self.open.map(|(path, _)| path)) {
            std::fs::remove_file(path).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::TableSummary;
    use super::*;

    /// Newest first: classes by letter, a space for a mixed table, sizes in MiB.
    fn check_tier(classes: &str, sizes: &[u64], class: &str, expected: &[u64]) {
        let files: Vec<LiveFile> =
            (0..).zip(sizes).map(|(number, size)| file(0, number, size << 20)).collect();
        let class_of = |letter: char| (letter != ' ').then(|| letter.to_string().into_bytes());
        let classes = classes.chars().map(class_of);
        let tables: Vec<_> = classes.zip(&files).map(|(class, file)| Classed { class, file }).collect();
        let found = pick_tier(&tables, class.as_bytes()).map(|plan| plan.upper);
        assert_eq!(found.unwrap_or_default(), expected);
    }

    #[test]
    fn merges_within_level_0() {
        check_tier("aaa", &[1, 1, 1], "a", &[]);
        check_tier("abaaba", &[1, 1, 2, 3, 1, 1], "a", &[0, 2, 3, 5]);
        // Not past a table that may hold any key, nor past a larger one.
        check_tier("aa aa", &[1; 5], "a", &[]);
        check_tier("aaaaaa", &[1, 1, 16, 1, 1, 1], "a", &[]);
        check_tier("a aaaa", &[1; 6], "a", &[2, 3, 4, 5]);
        check_tier("aaaa", &[300; 4], "a", &[]);
    }

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
