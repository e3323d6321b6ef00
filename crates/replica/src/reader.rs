//! Reading a replica beside its writer: queries, snapshots, changes.

mod count;

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use deltamesh_view::{Dialect, ViewDefinition};
use serde_json::{Map, Value as Json};

use crate::error::{Error, ErrorKind, Result};
use crate::group::{Checkpoint, OutboxRow, Relation, Verified};
use crate::location::{Kind, Location};
use crate::maintenance::cell::Cell;
use crate::maintenance::database::Read;
use crate::maintenance::mirror::{durable, place, quote};
use crate::maintenance::rows::{RowReader, parameter};
use crate::maintenance::{changes, state};
use crate::postgres::PostgresReader;
use crate::replica::ViewState;
use crate::sqlite::SqliteReader;

/// Bounds of one statement.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Longest time that it may run, the reader's own pauses included.
    pub time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { time: Duration::from_secs(30) }
    }
}

/// Takes column names and the next rows of a query.
pub type TakePage<'a> = dyn FnMut(&[String], Vec<Vec<Json>>) -> ControlFlow<()> + 'a;

/// Takes the next rows of a statement of our own.
pub(crate) type TakeCells<'a> = dyn FnMut(Vec<Vec<Cell>>) -> Result<ControlFlow<()>> + 'a;

/// Ends the statement that a reader runs, from another thread.
#[derive(Clone)]
pub struct Interrupt(pub(crate) Arc<dyn Fn() + Send + Sync>);

impl Interrupt {
    /// The running statement fails with [`ErrorKind::Interrupted`].
    pub fn interrupt(&self) {
        self.0();
    }
}

impl fmt::Debug for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Interrupt")
    }
}

/// One row of a view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRow {
    /// Values of the key, in key order, in canonical JSON.
    pub key: Vec<Json>,
    /// The visible columns, in order, in canonical JSON.
    pub row: Map<String, Json>,
}

/// What reading needs of a database.
pub(crate) trait Source: Read + Send {
    fn dialect(&self) -> Dialect;

    /// Begins a transaction that sees one state, and the clock of the limits.
    fn start(&self, limits: Limits) -> Result<()>;

    /// Ends both.
    fn end(&self) -> Result<()>;

    /// Gives the rows of a query of our own, a page at a time.
    fn pages(&self, place: &str, sql: &str, parameters: &[Cell], each: &mut TakeCells<'_>) -> Result<()>;

    /// See [`Reader::query`].
    fn query(&self, sql: &str, parameters: &[Cell], limits: Limits, each: &mut TakePage<'_>) -> Result<()>;

    fn interrupt(&self) -> Interrupt;
}

/// A connection that can only read. Calls block; a gateway has several of them on blocking threads.
pub struct Reader {
    source: Box<dyn Source>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("dialect", &self.source.dialect()).finish_non_exhaustive()
    }
}

impl Reader {
    /// Opens a replica that exists.
    ///
    /// # Errors
    /// The file or schema is missing, or is not a replica; the server does not answer.
    pub fn open(location: impl Into<Location>) -> Result<Self> {
        let source: Box<dyn Source> = match location.into().0 {
            Kind::File(path) => Box::new(SqliteReader::open(&path)?),
            Kind::Postgres(place) => Box::new(PostgresReader::open(place)?),
        };
        Ok(Self { source })
    }

    /// A handle that ends this reader's running statement.
    #[must_use]
    pub fn interrupt(&self) -> Interrupt {
        self.source.interrupt()
    }

    /// Runs one SELECT with parameters (`?1, ?2, …` in SQLite, `$1, $2, …` in PostgreSQL) and gives its rows a page at a time: at least
    /// once, so that the column names arrive even without a row. `each` ends the query with [`ControlFlow::Break`].
    ///
    /// # Errors
    /// [`ErrorKind::Denied`] for anything but a SELECT, [`ErrorKind::Interrupted`], [`ErrorKind::Sql`].
    pub fn query(
        &mut self,
        sql: &str,
        parameters: &[Json],
        limits: Limits,
        each: &mut TakePage<'_>,
    ) -> Result<()> {
        let parameters = parameters.iter().map(|json| parameter(json, deltamesh_change::ColumnType::Any));
        let parameters = parameters.collect::<Result<Vec<_>>>()?;
        self.source.query(sql, &parameters, limits, each)
    }

    /// The rows of a view whose columns have the given values, in the view's reading order, a page at a time; all of one
    /// state, whose feed position is the result. Nothing behind it is in the rows, everything up to it is.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for an unknown view or column, [`ErrorKind::Interrupted`].
    pub fn snapshot(
        &mut self,
        view: &str,
        filter: &[(String, Json)],
        limits: Limits,
        each: &mut dyn FnMut(Vec<SnapshotRow>) -> ControlFlow<()>,
    ) -> Result<u64> {
        let place = format!("snapshot of {view}");
        self.at_one_state(limits, |source| {
            let sequence = state::last_sequence(source)?;
            let views = state::complete_views(source)?;
            let found = views.iter().map(|view| &view.definition);
            let definition = found.clone().find(|definition| definition.name.eq_ignore_ascii_case(view));
            let definition =
                definition.ok_or_else(|| Error::new(ErrorKind::NotFound, &place, "view does not exist"))?;
            let reader = RowReader::new(definition);
            let (condition, parameters) = conditions(source.dialect(), definition, filter)?;
            let sql = format!(
                "SELECT {} FROM {}{condition}{}",
                reader.columns(),
                durable(source.dialect(), &definition.storage),
                order(definition)
            );
            source.pages(&place, &sql, &parameters, &mut |page| {
                let rows = page.iter().map(|cells| {
                    let (key, row) = reader.read(cells);
                    SnapshotRow { key, row }
                });
                let rows: Vec<SnapshotRow> = rows.collect();
                Ok(if rows.is_empty() { ControlFlow::Continue(()) } else { each(rows) })
            })?;
            Ok(sequence)
        })
    }

    /// View changes behind a feed position, oldest first; of one view, or of all.
    ///
    /// # Errors
    /// The replica cannot be read.
    pub fn changes_after(
        &mut self,
        sequence: u64,
        view: Option<&str>,
        limit: usize,
    ) -> Result<Vec<OutboxRow>> {
        changes::changes_after(&*self.source, sequence, view, limit)
    }

    /// Names of the views that have changes behind a feed position, dropped ones too.
    ///
    /// # Errors
    /// The replica cannot be read.
    pub fn views_changed_after(&mut self, sequence: u64) -> Result<Vec<String>> {
        let sql = "SELECT DISTINCT view FROM __deltamesh_changes WHERE seq > $1 AND view <> ''";
        let rows = self.source.rows("read changes", sql, &[Cell::Integer(sequence.cast_signed())])?;
        Ok(rows.into_iter().flatten().filter_map(Cell::text).collect())
    }

    /// The oldest view change that is still there: a cursor is valid while the position behind it is not below.
    ///
    /// # Errors
    /// The replica cannot be read.
    pub fn retained_from(&mut self) -> Result<u64> {
        changes::retained_from(&*self.source)
    }

    /// Feed position of the newest change.
    ///
    /// # Errors
    /// The replica cannot be read.
    pub fn last_sequence(&mut self) -> Result<u64> {
        state::last_sequence(&*self.source)
    }

    /// Names one life of the change log; a cursor of another one is not valid.
    ///
    /// # Errors
    /// The replica cannot be read.
    pub fn incarnation(&mut self) -> Result<String> {
        state::incarnation(&*self.source)
    }

    /// How far each source has been applied.
    ///
    /// # Errors
    /// The replica cannot be read.
    pub fn checkpoints(&mut self) -> Result<Vec<Checkpoint>> {
        Ok(state::checkpoints(&*self.source)?.into_values().collect())
    }

    /// The mirrored relations.
    ///
    /// # Errors
    /// The replica cannot be read.
    pub fn relations(&mut self) -> Result<Vec<Relation>> {
        let relations = state::relations(&*self.source)?;
        Ok(relations.into_iter().map(|(source, schema)| Relation { source, schema }).collect())
    }

    /// The views, in order of creation, without those that are being filled. Their own SQL ([`ViewState::oracle`]) is known to the writer only.
    ///
    /// # Errors
    /// The replica cannot be read.
    pub fn views(&mut self) -> Result<Vec<ViewState>> {
        let views = state::complete_views(&*self.source)?.into_iter().map(|view| ViewState {
            definition: view.definition,
            module: view.module,
            fault: view.fault,
            filling: None,
            replacement: None,
            oracle: None,
        });
        Ok(views.collect())
    }

    /// Compares maintained views with their own SQL, all at one state; a faulted view is left out.
    ///
    /// # Errors
    /// A view's SQL fails, or the time is up.
    pub fn verify(&mut self, views: &[ViewState], limits: Limits) -> Result<Vec<Verified>> {
        self.at_one_state(limits, |source| {
            let mut verified = Vec::new();
            for view in views {
                if let Some(oracle) = &view.oracle {
                    verified.push(verify_view(source, &view.definition, oracle)?);
                }
            }
            Ok(verified)
        })
    }

    /// Runs `work` in a transaction of its own, with a clock that interrupts it.
    fn at_one_state<T>(&self, limits: Limits, work: impl FnOnce(&dyn Source) -> Result<T>) -> Result<T> {
        let begun = Instant::now();
        self.source.start(limits)?;
        let result = work(&*self.source);
        let ended = self.source.end();
        let value = result.map_err(|error| late(error, begun, limits))?;
        ended.map(|()| value)
    }
}

/// An interrupted statement's error where it was the clock that interrupted it.
pub(crate) fn late(error: Error, begun: Instant, limits: Limits) -> Error {
    if error.kind() != ErrorKind::Interrupted || begun.elapsed() < limits.time {
        return error;
    }
    let reason = format!("takes longer than {} s", limits.time.as_secs_f32());
    Error::new(ErrorKind::Interrupted, error.place(), reason).caused_by(error)
}

fn conditions(
    dialect: Dialect,
    definition: &ViewDefinition,
    filter: &[(String, Json)],
) -> Result<(String, Vec<Cell>)> {
    let mut conditions = Vec::new();
    let mut parameters = Vec::new();
    for (name, value) in filter {
        let column = definition.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name));
        let column = column.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("view {}", definition.name), format!("no column {name}"))
        })?;
        let name = quote(&column.name);
        if value.is_null() {
            conditions.push(format!("{name} IS NULL"));
            continue;
        }
        parameters.push(parameter(value, column.column_type)?);
        conditions.push(format!("{name} = {}", place(dialect, parameters.len(), column.column_type)));
    }
    let text =
        if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
    Ok((text, parameters))
}

fn order(definition: &ViewDefinition) -> String {
    let items = definition.order_by.iter().map(|order| {
        let direction = if order.descending { " DESC" } else { "" };
        // SQLite's usual place, everywhere: NULL is the least.
        let nulls = match order.nulls_first {
            Some(true) => " NULLS FIRST",
            Some(false) => " NULLS LAST",
            None if order.descending => " NULLS LAST",
            None => " NULLS FIRST",
        };
        format!("{}{direction}{nulls}", quote(&order.column))
    });
    let items = items.collect::<Vec<_>>().join(", ");
    if items.is_empty() { items } else { format!(" ORDER BY {items}") }
}

/// Counts rows with their multiplicity on both sides.
fn verify_view(source: &dyn Source, definition: &ViewDefinition, oracle: &str) -> Result<Verified> {
    let names =
        (1..=definition.columns.len()).map(|index| format!("c{index}")).collect::<Vec<_>>().join(", ");
    let columns = definition.columns.iter().map(|column| quote(&column.name)).collect::<Vec<_>>().join(", ");
    let sql = format!(
        "WITH own({names}) AS ({oracle}), kept({names}) AS (SELECT {columns} FROM {name}),
         sides AS (SELECT {names}, 1 AS weight FROM own UNION ALL SELECT {names}, -1 FROM kept),
         net AS (SELECT sum(weight) AS weight FROM sides GROUP BY {names} HAVING sum(weight) <> 0)
         SELECT CAST(coalesce(sum(CASE WHEN weight > 0 THEN weight END), 0) AS bigint),
                CAST(coalesce(sum(CASE WHEN weight < 0 THEN -weight END), 0) AS bigint) FROM net",
        name = durable(source.dialect(), &definition.name)
    );
    let counts = source.rows(&format!("verify view {}", definition.name), &sql, &[])?.pop();
    let mut counts = state::Columns::new(counts.unwrap_or_default());
    Ok(Verified { view: definition.name.clone(), missing: counts.unsigned(), extra: counts.unsigned() })
}
