//! What a view is fed with while it is being filled: a relation's rows up to a bound, and the next slice of them.
//!
//! The order is that of the relation's key, or of one column, whose values come whole: first NULL, then the others. The bound
//! is a row in a table of the replica; an SQL view has the rows up to it.

use std::time::{Duration, Instant};

use deltamesh_change::Column;
use deltamesh_view::{Dialect, image_tables};

use super::cell::Cell;
use super::database::Database;
use super::mirror::{Mirror, durable, literal, place, quote};
use crate::error::{Error, ErrorKind, Result};
use crate::replica::Progress;

/// A slice is to take about so long: the batch that comes meanwhile waits for it.
const SLICE: Duration = Duration::from_millis(20);

/// A slice takes some time however small it is, most where the database is far away. More than this is the rows' own.
const MOST_FIXED: Duration = Duration::from_millis(100);

/// Most rows of a slice.
const MOST_ROWS: u64 = 20_000;

/// The relation that a view is fed with.
#[derive(Debug)]
pub(crate) struct Fed {
    /// What the program reads in place of the relation.
    pub(crate) mirror: Mirror,
    /// Table of the relation.
    pub(crate) table: String,
    /// The column in whose order it comes, if that is not the key.
    column: Option<Column>,
    bound: String,
    /// Rows of the next slice.
    slice: u64,
    /// What the quickest slice took.
    least: Duration,
    /// Rows that the view has taken.
    rows: u64,
    /// Rows that there were when this process began to count; none before.
    total: u64,
    /// When that was, and how many rows had been taken.
    counted: (Instant, u64),
}

fn fed_table(view: &str) -> String {
    format!("__deltamesh_fed_{view}")
}

fn bound_table(view: &str) -> String {
    format!("__deltamesh_bound_{view}")
}

/// Names of which those of the tables of a replaced view are made: the two take turns.
pub(crate) fn stems(view: &str) -> [String; 2] {
    ["1", "2"].map(|number| format!("__{number}_{view}"))
}

/// The longest names of tables that are made of these.
pub(crate) fn longest_names(view: &str) -> impl Iterator<Item = String> {
    stems(view).into_iter().map(|stem| deltamesh_view::old_table(&fed_table(&stem)))
}

/// Table and column of the relation that a view is fed with, as its bound says.
pub(crate) fn recorded<D: Database>(database: &D, view: &str) -> Result<Option<(String, Option<String>)>> {
    let sql = format!("SELECT relation, by_column FROM {}", durable(D::DIALECT, &bound_table(view)));
    let row = database.rows(&format!("view {view}"), &sql, &[])?.pop();
    let mut row = row.unwrap_or_default().into_iter().map(Cell::text);
    let (relation, column) = (row.next().flatten(), row.next().flatten());
    Ok(relation.map(|relation| (relation, column)))
}

/// Whether something is left of feeding a view.
pub(crate) fn is_left<D: Database>(database: &D, view: &str) -> Result<bool> {
    Ok(database.object(&bound_table(view))?.is_some())
}

/// Removes the bound and what is made with it.
pub(crate) fn drop(dialect: Dialect, view: &str) -> Vec<String> {
    let (fed, bound) = (fed_table(view), bound_table(view));
    let images = image_tables(dialect, &fed);
    let [fed, bound] = [fed, bound].map(|name| durable(dialect, &name));
    let mut drop = vec![format!("DROP VIEW IF EXISTS {fed}"), format!("DROP TABLE IF EXISTS {bound}")];
    drop.extend(images.map(|images| format!("DROP TABLE IF EXISTS {images}")));
    drop
}

impl Fed {
    /// A relation that feeds a view, in the order of its key or of a column.
    pub(crate) fn new(view: &str, mirror: &Mirror, column: Option<&str>, rows: u64) -> Result<Self> {
        let columns = &mirror.schema.columns;
        let known = |name: &str| {
            let column = columns.iter().find(|column| column.name == name).cloned();
            let missing = || Error::new(ErrorKind::Corrupt, &mirror.table, format!("has no column {name}"));
            column.ok_or_else(missing)
        };
        Ok(Self {
            mirror: mirror.in_table(fed_table(view)),
            table: mirror.table.clone(),
            column: column.map(known).transpose()?,
            bound: bound_table(view),
            slice: rows,
            least: MOST_FIXED,
            rows: 0,
            total: 0,
            counted: (Instant::now(), 0),
        })
    }

    /// Columns of the order.
    fn order(&self) -> Vec<&Column> {
        self.column.as_ref().map_or_else(|| self.mirror.schema.key_columns().collect(), |column| vec![column])
    }

    /// The same, quoted.
    fn names(&self) -> String {
        self.order().iter().map(|column| quote(&column.name)).collect::<Vec<_>>().join(", ")
    }

    /// Columns of the bound.
    fn places(&self) -> String {
        (1..=self.order().len()).map(|index| format!("k{index}")).collect::<Vec<_>>().join(", ")
    }

    /// Parameters for values of the order.
    fn parameters(&self, first: usize) -> String {
        let columns = self.order().into_iter().zip(first..);
        let places = columns.map(|(column, number)| place(self.mirror.dialect, number, column.column_type));
        places.collect::<Vec<_>>().join(", ")
    }

    /// Whether rows without value come first.
    fn has_nulls(&self) -> bool {
        self.column.as_ref().is_some_and(|column| column.nullable)
    }

    /// The bound, as a condition on the relation's rows: none is up to it before the first slice.
    pub(crate) fn condition(&self) -> String {
        let bound = durable(self.mirror.dialect, &self.bound);
        let (names, places) = (self.names(), self.places());
        let condition = format!("({names}) <= (SELECT {places} FROM {bound})");
        if !self.has_nulls() {
            return condition;
        }
        format!("({condition} OR ({names} IS NULL AND (SELECT begun FROM {bound}) = 1))")
    }

    /// Makes the bound, and the view of the rows up to it.
    pub(crate) fn create(&self) -> Vec<String> {
        let dialect = self.mirror.dialect;
        let columns = self.order().into_iter().enumerate().map(|(index, column)| {
            let kind = dialect.declared_type(column.column_type).unwrap_or_default();
            format!("k{} {kind}", index + 1)
        });
        let columns = columns.collect::<Vec<_>>().join(", ");
        let [bound, fed, table] =
            [&self.bound, &self.mirror.table, &self.table].map(|name| durable(dialect, name));
        let column = self.column.as_ref().map_or_else(|| "NULL".to_owned(), |column| literal(&column.name));
        let begun = u8::from(!self.has_nulls());
        vec![
            format!(
                "CREATE TABLE {bound} (relation TEXT NOT NULL, by_column TEXT, begun INTEGER, {columns})"
            ),
            format!(
                "INSERT INTO {bound} (relation, by_column, begun) VALUES ({}, {column}, {begun})",
                literal(&self.table)
            ),
            format!(
                "CREATE VIEW {fed} AS SELECT {} FROM {table} WHERE {}",
                self.mirror.columns(),
                self.condition()
            ),
        ]
    }

    /// Makes the next rows after images and moves the bound behind them; none where there are no more.
    pub(crate) fn take<D: Database>(&self, database: &D) -> Result<Option<u64>> {
        let bound = durable(D::DIALECT, &self.bound);
        let sql = format!("SELECT begun, {} FROM {bound}", self.places());
        let mut row = database.rows(&self.bound, &sql, &[])?.pop().unwrap_or_default().into_iter();
        let begun = row.next().is_some_and(|begun| begun.integer() == 1);
        let former: Vec<Cell> = row.collect();
        if !begun {
            let images = self.show(database, &format!("{} IS NULL", self.names()), &[])?;
            database.execute(&self.bound, &format!("UPDATE {bound} SET begun = 1"), &[])?;
            return Ok(Some(images));
        }
        let former = if former.contains(&Cell::Null) { vec![] } else { former };
        let Some(end) = self.end(database, &former)? else { return Ok(None) };
        let mut condition = format!("({}) <= ({})", self.names(), self.parameters(1));
        if !former.is_empty() {
            condition.push_str(&format!(" AND ({}) > ({})", self.names(), self.parameters(1 + end.len())));
        }
        let images = self.show(database, &condition, &[end.as_slice(), &former].concat())?;
        let set =
            self.order().into_iter().zip(1..).map(|(column, number)| {
                format!("k{number} = {}", place(D::DIALECT, number, column.column_type))
            });
        let update = format!("UPDATE {bound} SET {}", set.collect::<Vec<_>>().join(", "));
        database.execute(&self.bound, &update, &end)?;
        Ok(Some(images))
    }

    /// Where the slice behind a bound ends.
    fn end<D: Database>(&self, database: &D, former: &[Cell]) -> Result<Option<Vec<Cell>>> {
        let names = self.names();
        let condition = match (former.is_empty(), self.has_nulls()) {
            (false, _) => format!(" WHERE ({names}) > ({})", self.parameters(1)),
            (true, true) => format!(" WHERE {names} IS NOT NULL"),
            (true, false) => String::new(),
        };
        // The order of the index that finds them: that of the key, or one that a program has made.
        let is_of_program = self.column.as_ref().is_some_and(|column| {
            self.mirror.schema.key_columns().next().is_none_or(|key| key.name != column.name)
        });
        let nulls = if is_of_program && D::DIALECT == Dialect::Postgres { " NULLS FIRST" } else { "" };
        let downwards = self.order().into_iter().map(|column| format!("{} DESC", quote(&column.name)));
        let sql = format!(
            "SELECT {names} FROM (SELECT {names} FROM {}{condition} ORDER BY {names}{nulls} LIMIT {}) AS slice
             ORDER BY {} LIMIT 1",
            durable(D::DIALECT, &self.table),
            self.slice,
            downwards.collect::<Vec<_>>().join(", ")
        );
        Ok(database.rows(&self.table, &sql, former)?.pop())
    }

    /// Makes some of the relation's rows after images.
    fn show<D: Database>(&self, database: &D, condition: &str, parameters: &[Cell]) -> Result<u64> {
        let (columns, images) = (self.mirror.columns(), self.mirror.new_images());
        let table = durable(D::DIALECT, &self.table);
        let sql = format!("INSERT INTO {images} ({columns}) SELECT {columns} FROM {table} WHERE {condition}");
        database.execute(&self.table, &sql, parameters)
    }

    /// Whether the rows have been counted.
    pub(crate) fn is_counted(&self) -> bool {
        self.total > 0
    }

    /// Takes down how many rows there are, and how many of them the view has.
    pub(crate) fn count(&mut self, rows: u64, total: u64) {
        (self.rows, self.total, self.counted) = (rows, total.max(1), (Instant::now(), rows));
    }

    /// Follows a slice; with `adapts` the next one is smaller or larger by the time that it took. What any slice takes is not
    /// saved by smaller ones: the rows may take as long again.
    pub(crate) fn taken(&mut self, rows: u64, took: Duration, adapts: bool) {
        self.rows += rows;
        if rows == 0 || !adapts {
            return;
        }
        self.least = self.least.min(took);
        let wanted = SLICE.max(self.least * 2);
        if took < wanted * 3 / 4 {
            self.slice = (self.slice * 2).min(MOST_ROWS);
        } else if took > wanted * 2 {
            self.slice = (self.slice / 2).max(1);
        }
    }

    pub(crate) fn progress(&self) -> Progress {
        let Fed { rows, total, counted: (since, before), .. } = self;
        let per_second = (rows - before) as f64 / since.elapsed().as_secs_f64().max(0.001);
        Progress { rows: *rows, total: *total, per_second: per_second as u64 }
    }
}
