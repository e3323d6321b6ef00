//! A reading connection to a PostgreSQL replica.

use std::ops::ControlFlow;
use std::sync::Arc;

use deltamesh_change::ColumnType;
use deltamesh_view::Dialect;
use futures::TryStreamExt as _;
use sqlx::postgres::PgArguments;
use sqlx::{AssertSqlSafe, Column as _, Executor as _, Row as _, SqlSafeStr as _, Statement as _};

use super::cells::{arguments, cells};
use super::link::{Link, failed};
use super::place::PostgresPlace;
use crate::error::{Error, ErrorKind, Result};
use crate::maintenance::cell::Cell;
use crate::maintenance::database::Read;
use crate::reader::{Interrupt, Limits, Source, TakeCells, TakePage};

/// Rows that are given at once.
const PAGE: usize = 500;

/// See the module.
#[derive(Debug)]
pub(crate) struct PostgresReader {
    link: Link,
}

impl PostgresReader {
    pub(crate) fn open(place: PostgresPlace) -> Result<Self> {
        let reader = Self { link: Link::new(place)? };
        let place = reader.link.place.to_string();
        let sql = "SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                   WHERE n.nspname = $1 AND c.relname = '__deltamesh_meta'";
        let schema = Cell::Text(reader.link.place.schema.clone());
        if reader.link.rows(&place, sql, &[schema])?.is_empty() {
            return Err(Error::new(ErrorKind::Version, place, "schema is not a replica"));
        }
        Ok(reader)
    }
}

impl Read for PostgresReader {
    fn rows(&self, place: &str, sql: &str, parameters: &[Cell]) -> Result<Vec<Vec<Cell>>> {
        self.link.rows(place, sql, parameters)
    }
}

impl Source for PostgresReader {
    fn dialect(&self) -> Dialect {
        Dialect::Postgres
    }

    fn start(&self, limits: Limits) -> Result<()> {
        let timeout = format!("SET LOCAL statement_timeout = {};", limits.time.as_millis().max(1));
        self.link.begin("ISOLATION LEVEL REPEATABLE READ READ ONLY", &timeout, "").map(|_| ())
    }

    fn end(&self) -> Result<()> {
        self.link.end("ROLLBACK")
    }

    fn pages(&self, place: &str, sql: &str, parameters: &[Cell], each: &mut TakeCells<'_>) -> Result<()> {
        let arguments = arguments(place, parameters)?;
        self.link.run(place, async |connection| {
            let mut rows = sqlx::query_with(AssertSqlSafe(sql), arguments).fetch(connection);
            let mut page = Vec::new();
            while let Some(row) = rows.try_next().await.map_err(failed(place))? {
                page.push(cells(place, &row)?);
                if page.len() == PAGE && each(std::mem::take(&mut page))?.is_break() {
                    return Ok(());
                }
            }
            let _complete: ControlFlow<()> = each(page)?;
            Ok(())
        })
    }

    fn query(&self, sql: &str, parameters: &[Cell], limits: Limits, each: &mut TakePage<'_>) -> Result<()> {
        self.start(limits)?;
        let arguments = arguments("query", parameters);
        let result = arguments.and_then(|arguments| self.checked_query(sql, arguments, each));
        let ended = self.end();
        result.and(ended)
    }

    fn interrupt(&self) -> Interrupt {
        let interrupted = Arc::clone(&self.link.interrupted);
        Interrupt(Arc::new(move || interrupted.notify_waiters()))
    }
}

impl PostgresReader {
    fn checked_query(&self, sql: &str, arguments: PgArguments, each: &mut TakePage<'_>) -> Result<()> {
        let place = "query";
        self.link.run(place, async |connection| {
            let statement = connection.prepare(AssertSqlSafe(sql.to_owned()).into_sql_str()).await;
            let statement = statement.map_err(failed(place))?;
            let names: Vec<String> =
                statement.columns().iter().map(|column| column.name().to_owned()).collect();
            if names.is_empty() {
                return Err(Error::new(ErrorKind::Denied, place, "not a SELECT"));
            }
            let kinds: Vec<ColumnType> = statement.columns().iter().map(kind).collect();
            let mut rows = statement.query_with(arguments).fetch(&mut *connection);
            let mut page = Vec::new();
            while let Some(row) = rows.try_next().await.map_err(failed(place))? {
                debug_assert_eq!(row.len(), kinds.len());
                let values = cells(place, &row)?;
                page.push(values.iter().zip(&kinds).map(|(cell, kind)| cell.json(*kind)).collect());
                if page.len() == PAGE && each(&names, std::mem::take(&mut page)).is_break() {
                    return Ok(());
                }
            }
            let _complete = each(&names, page);
            Ok(())
        })
    }
}

fn kind(column: &sqlx::postgres::PgColumn) -> ColumnType {
    use sqlx::TypeInfo as _;
    if column.type_info().name() == "BOOL" { ColumnType::Bool } else { ColumnType::Any }
}
