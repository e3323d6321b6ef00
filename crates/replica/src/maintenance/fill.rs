//! Filling a view beside the flow of changes (ADR 15).
//!
//! A view over a large relation begins empty, over none of that relation's rows, and is *fed* with them: a slice at a time, a
//! transaction each, between the batches. Its program is planned over an SQL view that has the rows up to a bound, which each
//! slice moves; to it a slice is rows that were inserted, and a batch what changed up to the bound. So at every commit the view
//! equals its SQL over what it was fed with, and a restart goes on where the last commit was.

use std::time::Instant;

use deltamesh_view::{Dialect, Program, Slices as Sliced};

use super::Maintainer;
use super::cell::Cell;
use super::database::Database;
use super::delta::{Failure, feed, of_view};
use super::difference::SLICE_ROWS;
use super::fed::{self, Fed};
use super::mirror::durable;
use super::state::{State, View, fingerprint};
use crate::error::{Error, ErrorKind, Result};

/// What `__deltamesh_views` says instead of a fault while a view is being filled.
pub(crate) const FILLING: &str = "is being filled";

/// From which size on, and by how much.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slices {
    /// Rows of a relation from which on a view over it is filled beside the flow.
    pub(crate) from: u64,
    /// Rows of the first slice.
    pub(crate) rows: u64,
    /// Whether the size follows the time that a slice takes.
    pub(crate) adapts: bool,
}

impl Default for Slices {
    /// Who opens the replica says from when on it will call [`crate::Replica::fill`].
    fn default() -> Self {
        Self { from: u64::MAX, rows: 50, adapts: true }
    }
}

impl Slices {
    /// Rows of the first slice. By whole values: nobody knows how many rows of other relations there are for one.
    fn first(self, column: Option<&str>) -> u64 {
        if self.adapts && column.is_some() { 1 } else { self.rows }
    }
}

impl Slices {
    /// Rows of a table that are compared at once: that takes about as long as a slice.
    pub(super) fn compared(self) -> u64 {
        if self.adapts { SLICE_ROWS } else { self.rows }
    }
}

impl State {
    /// Plans a view that is being filled as it is until it has everything.
    pub(crate) fn plan_fed<D: Database>(
        &self,
        database: &D,
        view: &View,
        slices: Slices,
    ) -> Result<(Program, Fed)> {
        let (relation, column) = fed::recorded(database, view.table())?.unwrap_or_default();
        let missing =
            || Error::new(ErrorKind::Corrupt, format!("view {}", view.name), "is fed with no relation");
        let mirror = self.mirrors.get(&relation).ok_or_else(missing)?;
        let fed = Fed::new(view.table(), mirror, column.as_deref(), slices.first(column.as_deref()))?;
        let program = self.plan_known(view, Some(&fed), D::DIALECT)?;
        database.define(&view.name, &fed.mirror.connect())?;
        database.define(&view.name, &program.connect)?;
        Ok((program, fed))
    }
}

impl<D: Database> Maintainer<D> {
    /// Fills views in slices from that many rows of a relation on, so many at a time: for tests.
    pub fn fill_in_slices(&mut self, from: u64, rows: u64) {
        self.slices = Slices { from, rows, adapts: false };
    }

    /// By which relation and column a new view is to be fed; by none where its relations are small, or where that is not
    /// possible.
    pub(super) fn relation_to_feed(&self, program: &Program) -> Result<Option<(String, Option<String>)>> {
        if self.slices.from == u64::MAX || matches!(program.slices, Sliced::Whole(_)) {
            return Ok(None);
        }
        let mut counted = Vec::new();
        for base in program.definition.bases.iter().filter(|base| base.source.is_some()) {
            // Beyond that all are large.
            let most = self.slices.from.saturating_mul(100).min(1 << 40);
            let from = durable(D::DIALECT, &base.table);
            let sql = format!("SELECT count(*) FROM (SELECT 1 FROM {from} LIMIT {most}) AS found");
            counted.push((count(&self.database.rows(&base.table, &sql, &[])?), base.table.as_str()));
        }
        let largest = counted.iter().rev().max_by_key(|(rows, _)| *rows);
        let Some((_, largest)) = largest.filter(|(rows, _)| *rows >= self.slices.from) else {
            return Ok(None);
        };
        let Sliced::By(columns) = &program.slices else { return Ok(Some(((*largest).to_owned(), None))) };
        let rows_of = |table: &str| counted.iter().find(|(_, known)| *known == table).map(|(rows, _)| *rows);
        let column = columns.iter().max_by_key(|column| rows_of(&column.table));
        Ok(column.map(|column| (column.table.clone(), Some(column.column.clone()))))
    }

    /// Has a view fed that was recorded with empty tables. What it has without a row of the relation comes at once.
    pub(super) fn begin_feeding(&mut self, name: &str, table: &str, column: Option<&str>) -> Result<()> {
        let (Some(mirror), Some(view)) = (self.state.mirrors.get(table), self.state.view(name)) else {
            return Ok(());
        };
        let fed = Fed::new(view.table(), mirror, column, self.slices.first(column))?;
        self.database.define(name, &fed::drop(D::DIALECT, view.table()))?;
        self.database.define(name, &fed.create())?;
        self.mark_filling(name)?;
        let (program, fed) = self.state.plan_fed(&self.database, view, self.slices)?;
        self.show_rows(name, &program)?;
        self.database.define(name, &program.fill)?;
        if !view.is_next() {
            self.record_difference(name, &program, None, &self.own_stamp())?;
        }
        if let Some(view) = self.state.views.iter_mut().find(|view| view.name == name) {
            (view.program, view.fed) = (Some(program), Some(fed));
        }
        self.state.await_indexes(&self.database)?;
        let made = self.state.make_awaited(&self.database, &[table])?;
        self.note_made(made);
        tracing::info!(view = %name, relation = %table, "view is being filled beside the flow");
        Ok(())
    }

    /// Records that a view does not have all its rows.
    pub(super) fn mark_filling(&self, name: &str) -> Result<()> {
        let sql = "UPDATE __deltamesh_views SET fault = $1 WHERE name = $2";
        let text = |text: &str| Cell::Text(text.to_owned());
        self.database.execute("record view", sql, &[text(FILLING), text(name)]).map(|_| ())
    }

    /// Ends feeding: the view is complete, or goes another way.
    pub(super) fn end_feeding(&mut self, name: &str) -> Result<()> {
        let view = self.state.views.iter_mut().find(|view| view.name == name);
        let Some((fed, table)) = view.map(|view| (view.fed.take(), view.table())) else { return Ok(()) };
        // A view whose program is another one since the process began is not fed, but was.
        if fed.is_none() && !fed::is_left(&self.database, table)? {
            return Ok(());
        }
        self.database.define(name, &fed::drop(D::DIALECT, table))
    }

    /// Has a view whose rows are not stored read those that its program says.
    fn show_rows(&self, name: &str, program: &Program) -> Result<()> {
        if program.definition.stored {
            return Ok(());
        }
        if D::DIALECT == Dialect::Sqlite {
            let view = durable(D::DIALECT, &program.definition.storage);
            self.database.define(name, &[format!("DROP VIEW IF EXISTS {view}")])?;
        }
        self.database.define(name, &program.create)
    }

    /// Ends feeding with a relation whose schema changes: its views are built again as a whole.
    pub(super) fn end_feeding_with(&mut self, table: &str) -> Result<()> {
        let is_fed = |view: &&View| view.fed.as_ref().is_some_and(|fed| fed.table == table);
        let names: Vec<String> =
            self.state.views.iter().filter(is_fed).map(|view| view.name.clone()).collect();
        names.iter().try_for_each(|name| self.end_feeding(name))
    }

    /// One slice of the first view that is being filled; gives the names of those that are complete by it.
    pub(super) fn feed_slice(&mut self) -> std::result::Result<Vec<String>, Failure> {
        let Some(index) = self.state.views.iter().position(|view| view.fed.is_some()) else {
            return Ok(vec![]);
        };
        self.count_fed(index)?;
        let begun = Instant::now();
        let view = &self.state.views[index];
        let Some(fed) = &view.fed else { return Ok(vec![]) };
        let Some(images) = of_view(&view.name, fed.take(&self.database))? else {
            return self.complete(index);
        };
        feed(&self.database, &self.state, view, &self.own_stamp())?;
        if let Some(fed) = &mut self.state.views[index].fed {
            fed.taken(images, begun.elapsed(), self.slices.adapts);
        }
        Ok(vec![])
    }

    /// Counts, before the first slice of this process.
    fn count_fed(&mut self, index: usize) -> Result<()> {
        let Some(fed) = &self.state.views[index].fed else { return Ok(()) };
        if fed.is_counted() {
            return Ok(());
        }
        let count_of = |table: &str| -> Result<u64> {
            let sql = format!("SELECT count(*) FROM {}", durable(D::DIALECT, table));
            Ok(count(&self.database.rows(table, &sql, &[])?))
        };
        let (rows, total) = (count_of(&fed.mirror.table)?, count_of(&fed.table)?);
        if let Some(fed) = &mut self.state.views[index].fed {
            fed.count(rows, total);
        }
        Ok(())
    }

    /// The view has everything: from now on it is maintained over the relation itself.
    fn complete(&mut self, index: usize) -> std::result::Result<Vec<String>, Failure> {
        let view = &self.state.views[index];
        let (name, is_next) = (view.name.clone(), view.is_next());
        let program = self.state.plan_known(view, None, D::DIALECT)?;
        self.show_rows(&name, &program)?;
        self.end_feeding(&name)?;
        self.database.define(&name, &program.connect)?;
        let statement = "UPDATE __deltamesh_views SET fault = NULL, program = $1 WHERE name = $2";
        let values = [Cell::Text(fingerprint(&program)), Cell::Text(name.clone())];
        self.database.execute("record view", statement, &values)?;
        self.state.views[index].program = Some(program);
        if is_next {
            self.mark_filling(&name)?;
            return self.replace_complete();
        }
        tracing::info!(view = %name, "view is filled");
        Ok(vec![name])
    }
}

fn count(rows: &[Vec<Cell>]) -> u64 {
    rows.first().and_then(|row| row.first()).map_or(0, |count| count.integer().cast_unsigned())
}
