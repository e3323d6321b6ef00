//! One delta through mirrors, views and change log.
//!
//! Rows are netted per key in memory. At a flush each becomes a before and an after image in the mirror's tables of images
//! (none where nothing changes), and the maintenance programs run by the batch protocol of `deltamesh_view`.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use deltamesh_change::{ChangeEvent, Operation};
use deltamesh_view::{Action, Index, Phase, Program};

use super::cell::Cell;
use super::database::Database;
use super::mirror::Mirror;
use super::recompute::{self, Recompute};
use super::state::{State, View};
use crate::error::{Error, ErrorKind, Result};

/// Why a transaction failed: a view of that name cannot be maintained, or the replica as such.
#[derive(Debug)]
pub(crate) enum Failure {
    View(String, Error),
    Other(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

/// A failure of a view's own statement is the view's, unless it is the file that fails.
pub(crate) fn of_view<T>(view: &str, result: Result<T>) -> std::result::Result<T, Failure> {
    result.map_err(|error| failure_of(view, error))
}

fn failure_of(view: &str, error: Error) -> Failure {
    match error.kind() {
        ErrorKind::Sql | ErrorKind::Plan => Failure::View(view.to_owned(), error),
        _ => Failure::Other(error),
    }
}

pub(crate) type Key = Vec<Cell>;

/// Netted rows of one mirror: the row after, or none where it is gone.
pub(crate) type Net = BTreeMap<Key, Option<Vec<Cell>>>;

/// Rows that wait for the next flush, all of one source.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    tables: BTreeMap<String, Net>,
    rows: usize,
}

impl Pending {
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Nets one row event; a truncate is not one.
    pub(crate) fn take(&mut self, mirror: &Mirror, event: &ChangeEvent) -> Result<()> {
        let place = || format!("relation {}.{}", mirror.source, mirror.schema.relation);
        let columns = &mirror.schema.columns;
        if event.key.len() != mirror.schema.key.len() {
            return Err(Error::new(ErrorKind::Decode, place(), "key has the wrong width"));
        }
        let key_types = mirror.schema.key_columns().map(|column| column.column_type);
        let key: Key = event
            .key
            .iter()
            .zip(key_types)
            .map(|(value, kind)| Cell::new(value, kind, mirror.dialect))
            .collect();
        let after = match &event.after {
            None if event.operation == Operation::Delete => None,
            None => return Err(Error::new(ErrorKind::Decode, place(), "row after is missing")),
            Some(row) if row.len() != columns.len() => {
                return Err(Error::new(ErrorKind::Decode, place(), "row has the wrong width"));
            }
            Some(_) if event.operation == Operation::Delete => None,
            Some(row) => {
                let cells = row
                    .iter()
                    .zip(columns)
                    .map(|(value, column)| Cell::new(value, column.column_type, mirror.dialect));
                Some(cells.collect::<Vec<_>>())
            }
        };
        if !self.tables.contains_key(&mirror.table) {
            self.tables.insert(mirror.table.clone(), Net::new());
        }
        let Some(net) = self.tables.get_mut(&mirror.table) else { return Ok(()) };
        self.rows += 1;
        // A row whose key changed leaves its former key.
        if let Some(row) = &after {
            let moved = mirror.schema.key.iter().zip(&key).any(|(&index, cell)| {
                !matches!(row.get(index), None | Some(Cell::Unchanged)) && row.get(index) != Some(cell)
            });
            if moved {
                let former = net.get(&key).cloned();
                net.insert(key, None);
                let key = mirror.schema.key.iter().filter_map(|&index| row.get(index).cloned()).collect();
                return merge(net, key, after, former.flatten(), place);
            }
        }
        merge(net, key, after, None, place)
    }

    /// Nets the deletion of a key.
    pub(crate) fn delete(&mut self, mirror: &Mirror, key: Key) {
        self.rows += 1;
        self.tables.entry(mirror.table.clone()).or_default().insert(key, None);
    }
}

/// Puts a row into the net; what it leaves unchanged comes from the row that the net has.
fn merge(
    net: &mut Net,
    key: Key,
    mut after: Option<Vec<Cell>>,
    former: Option<Vec<Cell>>,
    place: impl Fn() -> String,
) -> Result<()> {
    if let Some(row) = &mut after
        && row.contains(&Cell::Unchanged)
    {
        match former.as_ref().or(net.get(&key).and_then(Option::as_ref)) {
            Some(former) => keep_unchanged(row, former),
            None if matches!(net.get(&key), Some(None)) => {
                return Err(Error::new(ErrorKind::Decode, place(), "unchanged value of a deleted row"));
            }
            None => {}
        }
    }
    net.insert(key, after);
    Ok(())
}

fn keep_unchanged(row: &mut [Cell], former: &[Cell]) {
    for (cell, former) in row.iter_mut().zip(former) {
        if *cell == Cell::Unchanged {
            *cell = former.clone();
        }
    }
}

/// What a change is stamped with.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stamp {
    pub(crate) position: String,
    pub(crate) dsid: u64,
    pub(crate) captured_us: i64,
}

/// What a flush did.
#[derive(Debug, Default)]
pub(crate) struct Flushed {
    pub(crate) rows: u64,
    pub(crate) changes: u64,
    /// Indexes that these changes were the first to need.
    pub(crate) made: Vec<Index>,
}

/// The tables of a batch that have rows: what reads only others is left out.
#[derive(Debug)]
pub(crate) enum Filled {
    /// Nobody knows: any may have some.
    Unknown,
    /// Quoted names.
    Tables(HashSet<String>),
}

impl Filled {
    /// Whether the table with that quoted name has rows.
    pub(crate) fn has(&self, table: &str) -> bool {
        match self {
            Self::Unknown => true,
            Self::Tables(tables) => tables.contains(table),
        }
    }

    pub(crate) fn let_run(&self, action: &Action) -> bool {
        action.applies(|table| self.has(table))
    }

    /// The quoted names, where they are known.
    pub(crate) fn tables(&self) -> Option<&HashSet<String>> {
        match self {
            Self::Unknown => None,
            Self::Tables(tables) => Some(tables),
        }
    }

    pub(crate) fn note(&mut self, table: &str) {
        if let Self::Tables(tables) = self
            && !tables.contains(table)
        {
            tables.insert(table.to_owned());
        }
    }
}

/// One flush: what it reads and writes, and what its tables hold.
struct Batch<'a, D> {
    database: &'a D,
    state: &'a State,
    filled: Filled,
    /// Views that are computed again.
    again: HashSet<&'a str>,
    stamp: &'a Stamp,
}

/// Writes the pending rows: mirrors, views, change log.
pub(crate) fn flush<D: Database>(
    database: &D,
    state: &State,
    pending: &mut Pending,
    stamp: &Stamp,
    recompute: Recompute,
) -> std::result::Result<Flushed, Failure> {
    let tables = std::mem::take(&mut pending.tables);
    pending.rows = 0;
    let filled = Filled::Tables(HashSet::new());
    let mut batch = Batch { database, state, filled, again: HashSet::new(), stamp };
    let mut flushed = Flushed::default();
    let mut changed: Vec<(&Mirror, Loaded)> = Vec::new();
    for (table, net) in tables {
        let Some(mirror) = state.mirrors.get(&table) else { continue };
        let loaded = batch.load_images(mirror, net)?;
        if loaded.rows > 0 {
            flushed.rows += loaded.rows;
            changed.push((mirror, loaded));
        }
    }
    if changed.is_empty() {
        return Ok(flushed);
    }
    let rows = changed.iter().map(|(mirror, loaded)| (mirror.table.as_str(), loaded.rows)).collect();
    batch.again = recompute.choose(database, state, &rows)?;
    let mirrors: Vec<&str> = changed.iter().map(|(mirror, _)| mirror.table.as_str()).collect();
    flushed.made = state.make_awaited(database, &mirrors)?;
    for (mirror, _) in &changed {
        batch.load_fed(mirror)?;
    }
    for (mirror, loaded) in &changed {
        batch.write_mirror(mirror, loaded)?;
    }
    let mut touched: HashSet<String> = changed.iter().map(|(mirror, _)| mirror.table.clone()).collect();
    for fed in state.views.iter().filter_map(|view| view.fed.as_ref()) {
        if touched.contains(&fed.table) {
            touched.insert(fed.mirror.table.clone());
        }
    }
    flushed.changes = batch.run_views(touched)?;
    let fed = state.views.iter().filter_map(|view| view.fed.as_ref()).map(|fed| &fed.mirror);
    for mirror in changed.iter().map(|(mirror, _)| *mirror).chain(fed) {
        batch.clear_images(mirror)?;
    }
    flushed.changes += batch.settle()?;
    Ok(flushed)
}

/// Maintains a view by a slice that it is fed with: the rows are after images.
pub(crate) fn feed<D: Database>(
    database: &D,
    state: &State,
    view: &View,
    stamp: &Stamp,
) -> std::result::Result<(), Failure> {
    let (Some(fed), Some(program)) = (&view.fed, &view.program) else { return Ok(()) };
    let images = fed.mirror.new_images();
    let filled = Filled::Tables(HashSet::from([images.to_owned()]));
    let mut batch = Batch { database, state, filled, again: HashSet::new(), stamp };
    let table = fed.mirror.table.clone();
    batch.run_steps(&view.name, program, &Phase::After(table.clone()))?;
    batch.run_views(HashSet::from([table]))?;
    batch.clear_images(&fed.mirror)?;
    batch.settle()?;
    Ok(())
}

/// What a mirror's tables of images hold.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    /// Rows that change.
    pub(crate) rows: u64,
    /// Whether there are before images, and after images.
    pub(crate) filled: [bool; 2],
    /// Whether rows go.
    pub(crate) gone: bool,
    /// Columns in which rows differ from what they were; more of them where the database compares the rows.
    pub(crate) changed: BTreeSet<usize>,
}

impl Loaded {
    /// Compares the rows with what the mirror has.
    pub(crate) fn by_images<D: Database>(database: &D, mirror: &Mirror, net: Net) -> Result<Self> {
        let keys: Vec<&Key> = net.keys().collect();
        let images = database.images(mirror, &keys)?;
        let (mut old, mut new, mut loaded) = (Vec::new(), Vec::new(), Self::default());
        for (after, before) in net.into_values().zip(images) {
            if before == after {
                continue;
            }
            loaded.rows += 1;
            loaded.gone |= after.is_none();
            if let (Some(before), Some(after)) = (&before, &after) {
                let pairs = before.iter().zip(after).enumerate();
                let differ = pairs.filter(|(_, (before, after))| before != after);
                loaded.changed.extend(differ.map(|(index, _)| index));
            }
            old.extend(before);
            new.extend(after);
        }
        let columns = mirror.typed_columns();
        loaded.filled = [!old.is_empty(), !new.is_empty()];
        for (table, images) in [(mirror.old(), old), (mirror.new_images(), new)] {
            database.insert(table, &columns, &images, false)?;
        }
        Ok(loaded)
    }
}

/// Takes what rows leave unchanged from those that the mirror has.
fn complete<D: Database>(database: &D, mirror: &Mirror, net: &mut Net) -> Result<()> {
    let is_partial = |row: &Option<Vec<Cell>>| row.as_ref().is_some_and(|row| row.contains(&Cell::Unchanged));
    if !net.values().any(is_partial) {
        return Ok(());
    }
    let keys: Vec<&Key> = net.iter().filter(|(_, row)| is_partial(row)).map(|(key, _)| key).collect();
    let images = database.images(mirror, &keys)?;
    for (row, before) in net.values_mut().filter(|row| is_partial(row)).flatten().zip(images) {
        let missing = || Error::new(ErrorKind::Decode, &mirror.table, "unchanged value of an unknown row");
        keep_unchanged(row, &before.ok_or_else(missing)?);
    }
    Ok(())
}

impl<D: Database> Batch<'_, D> {
    /// Fills a mirror's tables of images with the rows that really change.
    fn load_images(&mut self, mirror: &Mirror, mut net: Net) -> Result<Loaded> {
        complete(self.database, mirror, &mut net)?;
        let loaded = self.database.load_images(mirror, net)?;
        for (table, _) in
            [mirror.old(), mirror.new_images()].iter().zip(loaded.filled).filter(|(_, filled)| *filled)
        {
            self.filled.note(table);
        }
        Ok(loaded)
    }

    /// Brings a mirror to its after images, and the programs over it along.
    fn write_mirror(&mut self, mirror: &Mirror, loaded: &Loaded) -> std::result::Result<(), Failure> {
        let [old, new] = [mirror.old(), mirror.new_images()];
        if self.filled.has(old) {
            self.run_phase(&Phase::Before(mirror.table.clone()), None)?;
            self.feed(mirror, Phase::Before)?;
        }
        if loaded.gone {
            let deletes = Action::over(&[old.to_owned()], mirror.apply_deletes());
            self.database.run(&mirror.table, [&deletes], &mut self.filled)?;
        }
        if self.filled.has(new) {
            let upserts = Action::over(&[new.to_owned()], mirror.apply_upserts(&loaded.changed));
            self.database.run(&mirror.table, [&upserts], &mut self.filled)?;
            self.run_phase(&Phase::After(mirror.table.clone()), None)?;
            self.feed(mirror, Phase::After)?;
        }
        Ok(())
    }

    /// Shows the views that are fed with a mirror's rows the images up to the bound.
    fn load_fed(&mut self, mirror: &Mirror) -> std::result::Result<(), Failure> {
        let state = self.state;
        for view in &state.views {
            let Some(fed) = view.fed.as_ref().filter(|fed| fed.table == mirror.table) else { continue };
            let (columns, condition) = (mirror.columns(), fed.condition());
            for (from, to) in
                [(mirror.old(), fed.mirror.old()), (mirror.new_images(), fed.mirror.new_images())]
            {
                if !self.filled.has(from) {
                    continue;
                }
                let sql =
                    format!("INSERT INTO {to} ({columns}) SELECT {columns} FROM {from} WHERE {condition}");
                if of_view(&view.name, self.database.execute(&view.name, &sql, &[]))? > 0 {
                    self.filled.note(to);
                }
            }
        }
        Ok(())
    }

    /// Runs the steps of the views that are fed with a mirror's rows.
    fn feed(&mut self, mirror: &Mirror, phase: fn(String) -> Phase) -> std::result::Result<(), Failure> {
        let state = self.state;
        for view in &state.views {
            let Some(fed) = view.fed.as_ref().filter(|fed| fed.table == mirror.table) else { continue };
            if let Some(program) = &view.program {
                self.run_steps(&view.name, program, &phase(fed.mirror.table.clone()))?;
            }
        }
        Ok(())
    }

    /// Runs every program's steps of one phase, except those of one view and of those that are computed again.
    fn run_phase(&mut self, phase: &Phase, except: Option<&str>) -> std::result::Result<(), Failure> {
        let state = self.state;
        for view in state.views.iter().filter(|view| except != Some(view.name.as_str())) {
            if self.again.contains(view.name.as_str()) {
                continue;
            }
            if let Some(program) = &view.program {
                self.run_steps(&view.name, program, phase)?;
            }
        }
        Ok(())
    }

    fn run_steps(
        &mut self,
        view: &str,
        program: &Program,
        phase: &Phase,
    ) -> std::result::Result<(), Failure> {
        let steps = program.maintain.iter().filter(|step| step.phase == *phase);
        self.run(view, steps.map(|step| &step.action))
    }

    /// Runs statements of a view's program, except those that would change nothing.
    fn run<'s>(
        &mut self,
        view: &str,
        actions: impl IntoIterator<Item = &'s Action>,
    ) -> std::result::Result<(), Failure> {
        of_view(view, self.database.run(view, actions, &mut self.filled))
    }

    /// Empties a mirror's tables of images.
    fn clear_images(&mut self, mirror: &Mirror) -> Result<()> {
        let clear = |table: &str| Action::over(&[table.to_owned()], format!("DELETE FROM {table}"));
        let [old, new] = [mirror.old(), mirror.new_images()].map(clear);
        self.database.run("clear images", [&old, &new], &mut self.filled)
    }

    /// Runs what the database has put off; gives the number of recorded changes.
    fn settle(&self) -> std::result::Result<u64, Failure> {
        let owner = |place: &str| self.state.views.iter().find(|view| view.name == place);
        self.database.settle().map_err(|error| match owner(error.place()) {
            Some(view) => failure_of(&view.name, error),
            None => Failure::Other(error),
        })
    }

    /// Notes the keys of a view's images, where it is compared with another one.
    fn note_keys(&mut self, view: &View) -> std::result::Result<(), Failure> {
        match self.state.noting(view) {
            Some(noting) => self.run(&view.name, &noting),
            None => Ok(()),
        }
    }

    /// Finishes every view that a changed table touches, in order of creation; gives the number of recorded changes.
    fn run_views(&mut self, mut changed: HashSet<String>) -> std::result::Result<u64, Failure> {
        let mut changes = 0;
        let mut touched = Vec::new();
        for view in &self.state.views {
            let Some(program) = &view.program else { continue };
            if !program.definition.bases.iter().any(|base| changed.contains(&base.table)) {
                continue;
            }
            let name = view.name.as_str();
            touched.push((name, program));
            if self.again.contains(name) {
                changes += self.settle()?;
                let again = recompute::run(self.database, program, &mut self.filled, self.stamp);
                changes += of_view(name, again)?;
                self.note_keys(view)?;
                continue;
            }
            self.run_steps(name, program, &Phase::Finish)?;
            let [old, new] = program.images.each_ref().map(|table| self.filled.has(table));
            if !old && !new {
                continue;
            }
            if old {
                self.run_phase(&Phase::Before(view.table().to_owned()), Some(name))?;
            }
            self.run(name, &program.apply)?;
            // What is to take the place of a view has no readers before it does.
            if !view.is_next() {
                changes += of_view(name, self.database.record(program, &self.filled, self.stamp))?;
            }
            self.note_keys(view)?;
            if new {
                self.run_phase(&Phase::After(view.table().to_owned()), Some(name))?;
            }
            changed.insert(view.table().to_owned());
        }
        for (name, program) in touched {
            self.run(name, &program.clear)?;
        }
        Ok(changes)
    }
}

/// Whether the one value of a result is true.
pub(crate) fn is_true(rows: &[Vec<Cell>]) -> bool {
    rows.first().and_then(|row| row.first()).is_some_and(|cell| cell.integer() != 0)
}
