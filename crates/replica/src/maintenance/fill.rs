//! Filling a view beside the flow of changes (ADR 15).
//!
//! A view over a large relation begins empty, over none of that relation's rows, and is *fed* with them: a slice in key order, a
//! transaction each, between the batches. Its program is planned over an SQL view that has the rows up to a bound, which each
//! slice moves; to it a slice is rows that were inserted, and a batch what changed up to the bound. So at every commit the view
//! equals its SQL over what it was fed with, and a restart goes on where the last commit was.

use std::time::{Duration, Instant};

use deltamesh_view::{Program, Tier};

use super::Maintainer;
use super::cell::Cell;
use super::database::Database;
use super::delta::{Failure, feed, of_view};
use super::mirror::{Mirror, durable, place, quote};
use super::state::{State, View, fingerprint, plan_text};
use crate::error::{Error, ErrorKind, Result};
use crate::replica::Progress;

/// What `__deltamesh_views` says instead of a fault while a view is being filled.
pub(crate) const FILLING: &str = "is being filled";

/// A slice is to take about so long: the batch that comes meanwhile waits for it.
const SLICE: Duration = Duration::from_millis(20);

/// The relation that a view is fed with.
#[derive(Debug)]
pub(crate) struct Fed {
    /// What the program reads in place of the relation.
    pub(crate) mirror: Mirror,
    /// Table of the relation.
    pub(crate) table: String,
    bound: String,
    /// Rows that the view has taken.
    rows: u64,
    /// Rows that there were when this process began to count; none before.
    total: u64,
    /// When that was, and how many rows had been taken.
    counted: (Instant, u64),
}

/// From which size on, and by how much.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slices {
    /// Rows of a relation from which on a view over it is filled beside the flow.
    pub(crate) from: u64,
    /// Rows of the next slice.
    pub(crate) rows: u64,
    /// Whether the size follows the time that a slice takes.
    pub(crate) adapts: bool,
}

impl Default for Slices {
    /// Who opens the replica says from when on it will call [`crate::Replica::fill`].
    fn default() -> Self {
        Self { from: u64::MAX, rows: 500, adapts: true }
    }
}

impl Slices {
    fn learn(&mut self, took: Duration) {
        if self.adapts && took < SLICE / 2 {
            self.rows = (self.rows * 2).min(20_000);
        } else if self.adapts && took > SLICE * 2 {
            self.rows = (self.rows / 2).max(100);
        }
    }
}

impl Fed {
    fn new(view: &str, mirror: &Mirror) -> Self {
        let fed = Mirror { table: format!("__deltamesh_fed_{view}"), ..mirror.clone() };
        Self {
            mirror: fed,
            table: mirror.table.clone(),
            bound: format!("__deltamesh_bound_{view}"),
            rows: 0,
            total: 0,
            counted: (Instant::now(), 0),
        }
    }

    /// The bound, as a condition on the relation's rows: none is up to it before the first slice.
    pub(crate) fn condition(&self) -> String {
        let bound = durable(self.mirror.dialect, &self.bound);
        format!("({}) <= (SELECT {} FROM {bound})", self.mirror.key(""), self.places())
    }

    /// Columns of the bound.
    fn places(&self) -> String {
        (1..=self.mirror.schema.key.len()).map(|index| format!("k{index}")).collect::<Vec<_>>().join(", ")
    }

    fn create(&self) -> Vec<String> {
        let dialect = self.mirror.dialect;
        let columns = self.mirror.schema.key_columns().enumerate().map(|(index, column)| {
            let kind = dialect.declared_type(column.column_type).unwrap_or_default();
            format!("k{} {kind}", index + 1)
        });
        let columns = columns.collect::<Vec<_>>().join(", ");
        let [bound, fed, table] =
            [&self.bound, &self.mirror.table, &self.table].map(|name| durable(dialect, name));
        let relation = self.table.replace('\'', "''");
        vec![
            format!("CREATE TABLE {bound} (relation TEXT NOT NULL, {columns})"),
            format!("INSERT INTO {bound} (relation) VALUES ('{relation}')"),
            format!(
                "CREATE VIEW {fed} AS SELECT {} FROM {table} WHERE {}",
                self.mirror.columns(),
                self.condition()
            ),
        ]
    }

    fn drop(&self) -> Vec<String> {
        let dialect = self.mirror.dialect;
        let [bound, fed] = [&self.bound, &self.mirror.table].map(|name| durable(dialect, name));
        let mut drop = vec![format!("DROP VIEW IF EXISTS {fed}"), format!("DROP TABLE IF EXISTS {bound}")];
        let images = [self.mirror.old(), self.mirror.new_images()];
        drop.extend(images.map(|images| format!("DROP TABLE IF EXISTS {images}")));
        drop
    }

    pub(crate) fn progress(&self) -> Progress {
        let Fed { rows, total, counted: (since, before), .. } = self;
        let per_second = (rows - before) as f64 / since.elapsed().as_secs_f64().max(0.001);
        Progress { rows: *rows, total: *total, per_second: per_second as u64 }
    }
}

impl State {
    /// Plans a view that is being filled as it is until it has everything.
    pub(crate) fn plan_fed<D: Database>(&self, database: &D, view: &View) -> Result<(Program, Fed)> {
        let place = format!("view {}", view.name);
        let sql = format!(
            "SELECT relation FROM {}",
            durable(D::DIALECT, &format!("__deltamesh_bound_{}", view.name))
        );
        let relation = database.rows(&place, &sql, &[])?.into_iter().flatten().next().and_then(Cell::text);
        let mirror = relation.and_then(|relation| self.mirrors.get(&relation));
        let mirror =
            mirror.ok_or_else(|| Error::new(ErrorKind::Corrupt, &place, "is fed with no relation"))?;
        let fed = Fed::new(&view.name, mirror);
        let mut catalog = self.catalog();
        catalog.keep_rows(&view.name);
        catalog.read_from(&fed.table, &fed.mirror.table);
        let program = plan_text(&view.sql, &catalog, D::DIALECT)?;
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

    /// The table of the largest relation that a new view reads, where it is worth feeding: groups and joins by changed rows
    /// cost the same in slices, what computes groups again would do so with each.
    pub(super) fn relation_to_feed(&self, program: &Program) -> Result<Option<String>> {
        let definition = &program.definition;
        if !definition.stored || program.explain.tier > Tier::C {
            return Ok(None);
        }
        let mut largest = None;
        for base in definition.bases.iter().filter(|base| base.source.is_some()) {
            // Beyond that all are large.
            let most = self.slices.from.saturating_mul(100).min(1 << 40);
            let from = durable(D::DIALECT, &base.table);
            let sql = format!("SELECT count(*) FROM (SELECT 1 FROM {from} LIMIT {most}) AS found");
            let rows = count(&self.database.rows(&base.table, &sql, &[])?);
            if rows >= self.slices.from && largest.as_ref().is_none_or(|(known, _)| *known < rows) {
                largest = Some((rows, base.table.clone()));
            }
        }
        Ok(largest.map(|(_, table)| table))
    }

    /// Has a view fed that was recorded with empty tables. What it has without a row of the relation comes at once.
    pub(super) fn begin_feeding(&mut self, name: &str, table: &str) -> Result<()> {
        let Some(mirror) = self.state.mirrors.get(table) else { return Ok(()) };
        let fed = Fed::new(name, mirror);
        self.database.define(name, &fed.drop())?;
        self.database.define(name, &fed.create())?;
        let sql = "UPDATE __deltamesh_views SET fault = $1 WHERE name = $2";
        let text = |text: &str| Cell::Text(text.to_owned());
        self.database.execute("record view", sql, &[text(FILLING), text(name)])?;
        let Some(view) = self.state.view(name) else { return Ok(()) };
        let (program, fed) = self.state.plan_fed(&self.database, view)?;
        self.database.define(name, &program.fill)?;
        self.record_difference(name, &program, false, &self.own_stamp())?;
        if let Some(view) = self.state.views.iter_mut().find(|view| view.name == name) {
            (view.program, view.fed) = (Some(program), Some(fed));
        }
        tracing::info!(view = %name, relation = %table, "view is being filled beside the flow");
        Ok(())
    }

    /// Ends feeding: the view is complete, or goes another way.
    pub(super) fn end_feeding(&mut self, name: &str) -> Result<()> {
        let view = self.state.views.iter_mut().find(|view| view.name == name);
        let Some(fed) = view.and_then(|view| view.fed.take()) else { return Ok(()) };
        self.database.define(name, &fed.drop())
    }

    /// Ends feeding with a relation whose schema changes: its views are built again as a whole.
    pub(super) fn end_feeding_with(&mut self, table: &str) -> Result<()> {
        let is_fed = |view: &&View| view.fed.as_ref().is_some_and(|fed| fed.table == table);
        let names: Vec<String> =
            self.state.views.iter().filter(is_fed).map(|view| view.name.clone()).collect();
        names.iter().try_for_each(|name| self.end_feeding(name))
    }

    /// One slice of the first view that is being filled; gives its name where that was all.
    pub(super) fn feed_slice(&mut self) -> std::result::Result<Option<String>, Failure> {
        let Some(index) = self.state.views.iter().position(|view| view.fed.is_some()) else {
            return Ok(None);
        };
        self.count_fed(index)?;
        let begun = Instant::now();
        let rows = self.slices.rows;
        let view = &self.state.views[index];
        let Some(fed) = &view.fed else { return Ok(None) };
        let Some(images) = of_view(&view.name, self.take_slice(fed, rows))? else {
            return self.complete(index).map(Some);
        };
        feed(&self.database, &self.state, view, &self.own_stamp())?;
        if let Some(fed) = &mut self.state.views[index].fed {
            fed.rows += images;
        }
        self.slices.learn(begun.elapsed());
        Ok(None)
    }

    /// Makes the next rows after images and moves the bound behind them; none where there are no more.
    fn take_slice(&self, fed: &Fed, rows: u64) -> Result<Option<u64>> {
        let dialect = D::DIALECT;
        let [bound, table] = [&fed.bound, &fed.table].map(|name| durable(dialect, name));
        let key = fed.mirror.key("");
        let sql = format!("SELECT {} FROM {bound}", fed.places());
        let former = self.database.rows(&fed.bound, &sql, &[])?.pop().unwrap_or_default();
        let former: Vec<Cell> = if former.contains(&Cell::Null) { vec![] } else { former };
        let types: Vec<_> = fed.mirror.schema.key_columns().map(|column| column.column_type).collect();
        let places = |first: usize| {
            let places = types.iter().zip(first..).map(|(kind, number)| place(dialect, number, *kind));
            places.collect::<Vec<_>>().join(", ")
        };
        let behind = |first: usize| {
            if former.is_empty() { String::new() } else { format!("({key}) > ({})", places(first)) }
        };
        let condition = if former.is_empty() { String::new() } else { format!(" WHERE {}", behind(1)) };
        let keys = fed.mirror.schema.key_columns();
        let downwards =
            keys.map(|column| format!("{} DESC", quote(&column.name))).collect::<Vec<_>>().join(", ");
        let sql = format!(
            "SELECT {key} FROM (SELECT {key} FROM {table}{condition} ORDER BY {key} LIMIT {rows}) AS slice ORDER BY {downwards} LIMIT 1"
        );
        let Some(end) = self.database.rows(&fed.table, &sql, &former)?.pop() else { return Ok(None) };
        let mut condition = format!("({key}) <= ({})", places(1));
        if !former.is_empty() {
            condition.push_str(&format!(" AND {}", behind(1 + end.len())));
        }
        let columns = fed.mirror.columns();
        let images = fed.mirror.new_images();
        let insert =
            format!("INSERT INTO {images} ({columns}) SELECT {columns} FROM {table} WHERE {condition}");
        let images = self.database.execute(&fed.table, &insert, &[end.as_slice(), &former].concat())?;
        let set = types
            .iter()
            .zip(1..)
            .map(|(kind, number)| format!("k{number} = {}", place(dialect, number, *kind)));
        let update = format!("UPDATE {bound} SET {}", set.collect::<Vec<_>>().join(", "));
        self.database.execute(&fed.bound, &update, &end)?;
        Ok(Some(images))
    }

    /// Counts, before the first slice of this process.
    fn count_fed(&mut self, index: usize) -> Result<()> {
        let Some(fed) = &self.state.views[index].fed else { return Ok(()) };
        if fed.total > 0 {
            return Ok(());
        }
        let count_of = |table: &str| -> Result<u64> {
            let sql = format!("SELECT count(*) FROM {}", durable(D::DIALECT, table));
            Ok(count(&self.database.rows(table, &sql, &[])?))
        };
        let (rows, total) = (count_of(&fed.mirror.table)?, count_of(&fed.table)?);
        if let Some(fed) = &mut self.state.views[index].fed {
            (fed.rows, fed.total, fed.counted) = (rows, total.max(1), (Instant::now(), rows));
        }
        Ok(())
    }

    /// The view has everything: from now on it is maintained over the relation itself.
    fn complete(&mut self, index: usize) -> std::result::Result<String, Failure> {
        let (name, sql) = (self.state.views[index].name.clone(), self.state.views[index].sql.clone());
        let mut catalog = self.state.catalog();
        catalog.keep_rows(&name);
        let program = plan_text(&sql, &catalog, D::DIALECT)?;
        self.end_feeding(&name)?;
        self.database.define(&name, &program.connect)?;
        let statement = "UPDATE __deltamesh_views SET fault = NULL, program = $1 WHERE name = $2";
        let values = [Cell::Text(fingerprint(&program)), Cell::Text(name.clone())];
        self.database.execute("record view", statement, &values)?;
        self.state.views[index].program = Some(program);
        tracing::info!(view = %name, "view is filled");
        Ok(name)
    }
}

fn count(rows: &[Vec<Cell>]) -> u64 {
    rows.first().and_then(|row| row.first()).map_or(0, |count| count.integer().cast_unsigned())
}
