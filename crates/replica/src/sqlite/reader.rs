//! Reading a replica beside its writer: queries, snapshots, changes.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use deltamesh_change::ColumnType;
use deltamesh_view::ViewDefinition;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::{Connection, InterruptHandle, Statement, params_from_iter};
use serde_json::{Map, Value as Json};

use super::mirror::quote;
use super::rows::{RowReader, column_json, parameter};
use super::{changes, connection, state};
use crate::error::{At, Error, ErrorKind, Result};
use crate::group::{Checkpoint, OutboxRow, Relation, Verified};
use crate::replica::ViewState;

/// Rows that are given at once.
const PAGE: usize = 500;

/// SQLite's own steps between two looks at the clock; well below a millisecond.
const STEPS: i32 = 10_000;

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

/// Ends the statement that a reader runs, from another thread.
#[derive(Clone)]
pub struct Interrupt(Arc<InterruptHandle>);

impl Interrupt {
    /// The running statement fails with [`ErrorKind::Interrupted`].
    pub fn interrupt(&self) {
        self.0.interrupt();
    }
}

impl std::fmt::Debug for Interrupt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
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

/// A connection that can only read. Calls block; a gateway has several of them on blocking threads.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    connection: Connection,
}

impl Reader {
    /// Opens a replica that exists.
    ///
    /// # Errors
    /// The file is missing, or is not a replica.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_owned();
        Ok(Self { connection: connection::open_reader(&path)?, path })
    }

    /// A handle that ends this reader's running statement.
    #[must_use]
    pub fn interrupt(&self) -> Interrupt {
        Interrupt(Arc::new(self.connection.get_interrupt_handle()))
    }

    /// Runs one SELECT with parameters `?1, ?2, …` and gives its rows a page at a time: at least once, so that the column
    /// names arrive even without a row. `each` ends the query with [`ControlFlow::Break`].
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
        let place = || "query";
        let parameters = parameters.iter().map(|json| parameter(json, ColumnType::Any));
        let parameters = parameters.collect::<Result<Vec<_>>>()?;
        self.limited(limits, |connection| {
            connection.authorizer(Some(authorize)).at(place)?;
            let result = (|| {
                let mut statement = connection.prepare(sql).at(place)?;
                if statement.column_count() == 0 || !statement.readonly() {
                    return Err(Error::new(ErrorKind::Denied, place(), "not a SELECT"));
                }
                let names = statement.column_names().into_iter().map(str::to_owned).collect::<Vec<_>>();
                let kinds = declared(&statement);
                let mut rows = statement.query(params_from_iter(&parameters)).at(place)?;
                let mut page = Vec::new();
                while let Some(row) = rows.next().at(place)? {
                    let values = kinds.iter().enumerate();
                    let values = values.map(|(index, &kind)| Ok(column_json(row.get_ref(index)?, kind)));
                    page.push(values.collect::<rusqlite::Result<Vec<_>>>().at(place)?);
                    if page.len() == PAGE && each(&names, std::mem::take(&mut page)).is_break() {
                        return Ok(());
                    }
                }
                let _complete = each(&names, page);
                Ok(())
            })();
            connection.authorizer::<fn(AuthContext<'_>) -> Authorization>(None).at(place)?;
            result
        })
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
        let place = || format!("snapshot of {view}");
        self.limited(limits, |connection| {
            let transaction = connection.unchecked_transaction().at(place)?;
            let sequence = state::last_sequence(&transaction)?;
            let views = state::views(&transaction)?;
            let found = views.iter().map(|(view, _)| &view.definition);
            let definition = found.clone().find(|definition| definition.name.eq_ignore_ascii_case(view));
            let definition =
                definition.ok_or_else(|| Error::new(ErrorKind::NotFound, place(), "view does not exist"))?;
            let reader = RowReader::new(definition);
            let (condition, parameters) = conditions(definition, filter)?;
            let sql = format!(
                "SELECT {} FROM main.{}{condition}{}",
                reader.columns(),
                quote(&definition.storage),
                order(definition)
            );
            let mut statement = transaction.prepare_cached(&sql).at(place)?;
            let mut rows = statement.query(params_from_iter(&parameters)).at(place)?;
            let mut page = Vec::new();
            while let Some(row) = rows.next().at(place)? {
                let (key, row) = reader.read(row).at(place)?;
                page.push(SnapshotRow { key, row });
                if page.len() == PAGE && each(std::mem::take(&mut page)).is_break() {
                    return Ok(sequence);
                }
            }
            if !page.is_empty() {
                let _complete = each(page);
            }
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
        changes::changes_after(&self.connection, sequence, view, limit)
    }

    /// Names of the views that have changes behind a feed position, dropped ones too.
    ///
    /// # Errors
    /// The replica cannot be read.
    pub fn views_changed_after(&mut self, sequence: u64) -> Result<Vec<String>> {
        let place = || "read changes";
        let sql = "SELECT DISTINCT view FROM __deltamesh_changes WHERE seq > ?1 AND view <> ''";
        let mut statement = self.connection.prepare_cached(sql).at(place)?;
        let names = statement.query_map([sequence.cast_signed()], |row| row.get(0)).at(place)?;
        names.collect::<rusqlite::Result<_>>().at(place)
    }

    /// The oldest view change that is still there: a cursor is valid while the position behind it is not below.
    ///
    /// # Errors
    /// The replica cannot be read.
    pub fn retained_from(&mut self) -> Result<u64> {
        changes::retained_from(&self.connection)
    }

    /// Feed position of the newest change.
    ///
    /// # Errors
    /// The replica cannot be read.
    pub fn last_sequence(&mut self) -> Result<u64> {
        state::last_sequence(&self.connection)
    }

    /// Names one life of the change log; a cursor of another one is not valid.
    ///
    /// # Errors
    /// The replica cannot be read.
    pub fn incarnation(&mut self) -> Result<String> {
        state::incarnation(&self.connection)
    }

    /// How far each source has been applied.
    ///
    /// # Errors
    /// The replica cannot be read.
    pub fn checkpoints(&mut self) -> Result<Vec<Checkpoint>> {
        Ok(state::checkpoints(&self.connection)?.into_values().collect())
    }

    /// The mirrored relations.
    ///
    /// # Errors
    /// The replica cannot be read.
    pub fn relations(&mut self) -> Result<Vec<Relation>> {
        let relations = state::relations(&self.connection)?;
        Ok(relations.into_iter().map(|(source, schema)| Relation { source, schema }).collect())
    }

    /// The views, in order of creation. Their own SQL ([`ViewState::oracle`]) is known to the writer only.
    ///
    /// # Errors
    /// The replica cannot be read.
    pub fn views(&mut self) -> Result<Vec<ViewState>> {
        let views = state::views(&self.connection)?.into_iter().map(|(view, _)| ViewState {
            definition: view.definition,
            module: view.module,
            fault: view.fault,
            oracle: None,
        });
        Ok(views.collect())
    }

    /// Compares maintained views with their own SQL, all at one state; a faulted view is left out.
    ///
    /// # Errors
    /// A view's SQL fails, or the time is up.
    pub fn verify(&mut self, views: &[ViewState], limits: Limits) -> Result<Vec<Verified>> {
        self.limited(limits, |connection| {
            let transaction = connection.unchecked_transaction().at(|| "verify")?;
            let mut verified = Vec::new();
            for view in views {
                if let Some(oracle) = &view.oracle {
                    verified.push(verify_view(&transaction, &view.definition, oracle)?);
                }
            }
            Ok(verified)
        })
    }

    /// Runs `work` with a clock that interrupts it.
    fn limited<T>(&self, limits: Limits, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let place = || format!("read {}", self.path.display());
        let deadline = Instant::now() + limits.time;
        let expired = move || Instant::now() >= deadline;
        self.connection.progress_handler(STEPS, Some(expired)).at(place)?;
        let result = work(&self.connection);
        self.connection.progress_handler::<fn() -> bool>(0, None).at(place)?;
        result.map_err(|error| {
            if error.kind() == ErrorKind::Interrupted && expired() {
                let reason = format!("takes longer than {} s", limits.time.as_secs_f32());
                return Error::new(ErrorKind::Interrupted, error.place(), reason).caused_by(error);
            }
            error
        })
    }
}

/// What a statement from outside may do: read.
fn authorize(context: AuthContext<'_>) -> Authorization {
    match context.action {
        AuthAction::Select | AuthAction::Read { .. } | AuthAction::Recursive => Authorization::Allow,
        AuthAction::Function { function_name } if !function_name.eq_ignore_ascii_case("load_extension") => {
            Authorization::Allow
        }
        _ => Authorization::Deny,
    }
}

/// Column types of a result, where a column of a table says so; the rest goes by the value's own kind.
fn declared(statement: &Statement<'_>) -> Vec<ColumnType> {
    let columns = statement.columns();
    let kind = |declared: Option<&str>| match declared {
        Some("BOOLEAN") => ColumnType::Bool,
        Some("JSON_TEXT") => ColumnType::Json,
        _ => ColumnType::Any,
    };
    columns.iter().map(|column| kind(column.decl_type())).collect()
}

fn conditions(
    definition: &ViewDefinition,
    filter: &[(String, Json)],
) -> Result<(String, Vec<rusqlite::types::Value>)> {
    let mut conditions = Vec::new();
    let mut parameters = Vec::new();
    for (name, value) in filter {
        let column = definition.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name));
        let column = column.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("view {}", definition.name), format!("no column {name}"))
        })?;
        parameters.push(parameter(value, column.column_type)?);
        conditions.push(format!("{} IS ?{}", quote(&column.name), parameters.len()));
    }
    let text =
        if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
    Ok((text, parameters))
}

fn order(definition: &ViewDefinition) -> String {
    let items = definition.order_by.iter().map(|order| {
        let direction = if order.descending { " DESC" } else { "" };
        let nulls = match order.nulls_first {
            Some(true) => " NULLS FIRST",
            Some(false) => " NULLS LAST",
            None => "",
        };
        format!("{}{direction}{nulls}", quote(&order.column))
    });
    let items = items.collect::<Vec<_>>().join(", ");
    if items.is_empty() { items } else { format!(" ORDER BY {items}") }
}

/// Counts rows with their multiplicity on both sides.
fn verify_view(connection: &Connection, definition: &ViewDefinition, oracle: &str) -> Result<Verified> {
    let place = || format!("verify view {}", definition.name);
    let names =
        (1..=definition.columns.len()).map(|index| format!("c{index}")).collect::<Vec<_>>().join(", ");
    let columns = definition.columns.iter().map(|column| quote(&column.name)).collect::<Vec<_>>().join(", ");
    let sql = format!(
        "WITH own({names}) AS ({oracle}), kept({names}) AS (SELECT {columns} FROM main.{name}),
         both AS (SELECT {names}, 1 AS weight FROM own UNION ALL SELECT {names}, -1 FROM kept),
         net AS (SELECT sum(weight) AS weight FROM both GROUP BY {names} HAVING sum(weight) <> 0)
         SELECT coalesce(sum(max(weight, 0)), 0), coalesce(sum(max(-weight, 0)), 0) FROM net",
        name = quote(&definition.name)
    );
    let counts = connection.query_row(&sql, [], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)));
    let (missing, extra) = counts.at(place)?;
    Ok(Verified {
        view: definition.name.clone(),
        missing: missing.cast_unsigned(),
        extra: extra.cast_unsigned(),
    })
}
