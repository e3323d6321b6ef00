//! A reading connection to a PostgreSQL replica.

use std::sync::Arc;

use deltamesh_change::ColumnType;
use deltamesh_view::Dialect;
use sqlx::{AssertSqlSafe, Column as _, Connection as _, Executor as _, SqlSafeStr as _, Statement as _};

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
        let reader = Self { link: Link::new(place.reading())? };
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
        // Nothing runs on the connection while a page is taken: that may take long, and wait for other tasks.
        self.link.once(place, &format!("DECLARE page NO SCROLL CURSOR FOR {sql}"), parameters)?;
        loop {
            let page = self.link.once(place, &format!("FETCH {PAGE} FROM page"), &[])?;
            let is_last = page.len() < PAGE;
            if each(page)?.is_break() || is_last {
                return Ok(());
            }
        }
    }

    fn query(&self, sql: &str, parameters: &[Cell], limits: Limits, each: &mut TakePage<'_>) -> Result<()> {
        self.start(limits)?;
        let result = self.described(sql).and_then(|(names, kinds)| {
            self.pages("query", sql, parameters, &mut |page| {
                let json =
                    |row: Vec<Cell>| row.iter().zip(&kinds).map(|(cell, kind)| cell.json(*kind)).collect();
                Ok(each(&names, page.into_iter().map(json).collect()))
            })
        });
        let ended = self.end();
        result.and(ended)
    }

    fn interrupt(&self) -> Interrupt {
        let interrupted = Arc::clone(&self.link.interrupted);
        Interrupt(Arc::new(move || interrupted.notify_waiters()))
    }
}

impl PostgresReader {
    /// Names and types of the columns of a SELECT.
    fn described(&self, sql: &str) -> Result<(Vec<String>, Vec<ColumnType>)> {
        let place = "query";
        let keeps_statements = self.link.place.keeps_statements;
        self.link.run(place, async |connection| {
            let statement = connection.prepare(AssertSqlSafe(sql.to_owned()).into_sql_str()).await;
            let statement = statement.map_err(failed(place))?;
            let columns = statement.columns();
            if columns.is_empty() {
                return Err(Error::new(ErrorKind::Denied, place, "not a SELECT"));
            }
            let names = columns.iter().map(|column| column.name().to_owned()).collect();
            let described = (names, columns.iter().map(kind).collect());
            if !keeps_statements {
                connection.clear_cached_statements().await.map_err(failed(place))?;
            }
            Ok(described)
        })
    }
}

fn kind(column: &sqlx::postgres::PgColumn) -> ColumnType {
    use sqlx::TypeInfo as _;
    if column.type_info().name() == "BOOL" { ColumnType::Bool } else { ColumnType::Any }
}
