//! A reading connection to a SQLite file.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use deltamesh_change::ColumnType;
use deltamesh_view::Dialect;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::{Connection, Statement, params_from_iter};

use super::connection;
use super::database::{cell, cells};
use crate::error::{At, Error, ErrorKind, Result};
use crate::maintenance::cell::Cell;
use crate::maintenance::database::Read;
use crate::reader::{Interrupt, Limits, Source, TakeCells, TakePage, late};

/// Rows that are given at once.
const PAGE: usize = 500;

/// SQLite's own steps between two looks at the clock; well below a millisecond.
const STEPS: i32 = 10_000;

/// See the module.
#[derive(Debug)]
pub(crate) struct SqliteReader {
    path: PathBuf,
    connection: Connection,
}

impl SqliteReader {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        Ok(Self { connection: connection::open_reader(path)?, path: path.to_owned() })
    }

    /// Lets a clock interrupt what runs; none stops it.
    fn clock(&self, limits: Option<Limits>) -> Result<()> {
        let place = || format!("read {}", self.path.display());
        let Some(limits) = limits else {
            return self.connection.progress_handler::<fn() -> bool>(0, None).at(place);
        };
        let deadline = Instant::now() + limits.time;
        self.connection.progress_handler(STEPS, Some(move || Instant::now() >= deadline)).at(place)
    }

    fn checked_query(&self, sql: &str, parameters: &[Cell], each: &mut TakePage<'_>) -> Result<()> {
        let place = || "query";
        let mut statement = self.connection.prepare(sql).at(place)?;
        if statement.column_count() == 0 || !statement.readonly() {
            return Err(Error::new(ErrorKind::Denied, place(), "not a SELECT"));
        }
        let names = statement.column_names().into_iter().map(str::to_owned).collect::<Vec<_>>();
        let kinds = declared(&statement);
        let mut rows = statement.query(params_from_iter(parameters)).at(place)?;
        let mut page = Vec::new();
        while let Some(row) = rows.next().at(place)? {
            let values = kinds.iter().enumerate();
            let values = values.map(|(index, &kind)| Ok(cell(row.get_ref(index)?).json(kind)));
            page.push(values.collect::<rusqlite::Result<Vec<_>>>().at(place)?);
            if page.len() == PAGE && each(&names, std::mem::take(&mut page)).is_break() {
                return Ok(());
            }
        }
        let _complete = each(&names, page);
        Ok(())
    }
}

impl Read for SqliteReader {
    fn rows(&self, place: &str, sql: &str, parameters: &[Cell]) -> Result<Vec<Vec<Cell>>> {
        self.connection.rows(place, sql, parameters)
    }
}

impl Source for SqliteReader {
    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    fn start(&self, limits: Limits) -> Result<()> {
        self.clock(Some(limits))?;
        self.connection.execute_batch("BEGIN").at(|| "read")
    }

    fn end(&self) -> Result<()> {
        self.clock(None)?;
        // An interrupted statement may have ended it.
        if self.connection.is_autocommit() {
            return Ok(());
        }
        self.connection.execute_batch("ROLLBACK").at(|| "read")
    }

    fn pages(&self, place: &str, sql: &str, parameters: &[Cell], each: &mut TakeCells<'_>) -> Result<()> {
        let mut statement = self.connection.prepare_cached(sql).at(|| place)?;
        let width = statement.column_count();
        let mut rows = statement.query(params_from_iter(parameters)).at(|| place)?;
        let mut page = Vec::new();
        while let Some(row) = rows.next().at(|| place)? {
            page.push(cells(row, width).at(|| place)?);
            if page.len() == PAGE && each(std::mem::take(&mut page))?.is_break() {
                return Ok(());
            }
        }
        let _complete: ControlFlow<()> = each(page)?;
        Ok(())
    }

    fn query(&self, sql: &str, parameters: &[Cell], limits: Limits, each: &mut TakePage<'_>) -> Result<()> {
        let begun = Instant::now();
        self.clock(Some(limits))?;
        self.connection.authorizer(Some(authorize)).at(|| "query")?;
        let result = self.checked_query(sql, parameters, each);
        self.connection.authorizer::<fn(AuthContext<'_>) -> Authorization>(None).at(|| "query")?;
        self.clock(None)?;
        result.map_err(|error| late(error, begun, limits))
    }

    fn interrupt(&self) -> Interrupt {
        let handle = self.connection.get_interrupt_handle();
        Interrupt(Arc::new(move || handle.interrupt()))
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
