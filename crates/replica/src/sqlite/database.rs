//! What maintenance asks of SQLite.

use std::path::PathBuf;

use deltamesh_change::ColumnType;
use deltamesh_view::{Dialect, Program, Stored, ViewDefinition};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension as _, ToSql, named_params, params_from_iter};

use super::connection::Lock;
use super::wal::Checkpoints;
use crate::error::{At, Result};
use crate::group::Checkpoint;
use crate::maintenance::cell::Cell;
use crate::maintenance::database::{Database, Object, Read};
use crate::maintenance::delta::{Filled, Key, Loaded, Net, Stamp};
use crate::maintenance::mirror::{Mirror, quote};
use crate::maintenance::state::last_sequence;

/// The connection that writes a SQLite file, and the right to do so.
#[derive(Debug)]
pub struct Sqlite {
    pub(super) path: PathBuf,
    pub(super) checkpoints: Checkpoints,
    pub(super) connection: Connection,
    _lock: Lock,
}

impl Sqlite {
    pub(super) fn new(path: PathBuf, connection: Connection, lock: Lock) -> Result<Self> {
        let checkpoints = Checkpoints::start(&path)?;
        Ok(Self { path, checkpoints, connection, _lock: lock })
    }

    fn place(&self) -> String {
        format!("replica {}", self.path.display())
    }
}

impl ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null | Self::Unchanged => ValueRef::Null,
            Self::Integer(value) => ValueRef::Integer(*value),
            Self::Real(value) => ValueRef::Real(*value),
            Self::Text(value) | Self::Json(value) => ValueRef::Text(value.as_bytes()),
            Self::Blob(value) => ValueRef::Blob(value),
        }))
    }
}

/// The cell that was read.
pub(super) fn cell(value: ValueRef<'_>) -> Cell {
    match value {
        ValueRef::Null => Cell::Null,
        ValueRef::Integer(value) => Cell::Integer(value),
        ValueRef::Real(value) => Cell::Real(value),
        ValueRef::Text(value) => Cell::Text(String::from_utf8_lossy(value).into_owned()),
        ValueRef::Blob(value) => Cell::Blob(value.to_vec()),
    }
}

pub(super) fn cells(row: &rusqlite::Row<'_>, columns: usize) -> rusqlite::Result<Vec<Cell>> {
    (0..columns).map(|index| row.get_ref(index).map(cell)).collect()
}

impl Read for Connection {
    fn rows(&self, place: &str, sql: &str, parameters: &[Cell]) -> Result<Vec<Vec<Cell>>> {
        let mut statement = self.prepare_cached(sql).at(|| place)?;
        let width = statement.column_count();
        let rows = statement.query_map(params_from_iter(parameters), |row| cells(row, width));
        rows.at(|| place)?.collect::<rusqlite::Result<_>>().at(|| place)
    }
}

impl Sqlite {
    /// The greatest key of a mirror whose key is the rowid: rows that are appended need not be looked for.
    fn last_key(&self, mirror: &Mirror) -> Result<Option<i64>> {
        if !mirror.is_rowid_key() {
            return Ok(None);
        }
        let sql =
            format!("SELECT coalesce(max({}), {}) FROM {}", mirror.key(""), i64::MIN, mirror.table_name());
        let place = || mirror.table.as_str();
        let mut statement = self.connection.prepare_cached(&sql).at(place)?;
        statement.query_row([], |row| row.get(0)).map(Some).at(place)
    }

    fn control(&self, sql: &str) -> Result<()> {
        let place = || self.place();
        self.connection.prepare_cached(sql).at(place)?.execute([]).map(|_| ()).at(place)
    }
}

/// Changes nothing, but only a writer may do it.
const LOCK: &str = "DELETE FROM main.__deltamesh_meta WHERE FALSE";

impl Read for Sqlite {
    fn rows(&self, place: &str, sql: &str, parameters: &[Cell]) -> Result<Vec<Vec<Cell>>> {
        self.connection.rows(place, sql, parameters)
    }
}

impl Database for Sqlite {
    const DIALECT: Dialect = Dialect::Sqlite;
    const FRESH: &str = "lower(hex(randomblob(8)))";
    const STORE_PUBLISHED: &str = "UPDATE __deltamesh_meta SET value = $1 WHERE name = 'published'";

    fn store_checkpoint(&self, checkpoint: &Checkpoint) -> Result<()> {
        let sql = "INSERT INTO __deltamesh_checkpoint VALUES ($1, $2, $3, $4, $5, $6, $7)
                   ON CONFLICT (source) DO UPDATE SET incarnation = excluded.incarnation,
                       ordinal = excluded.ordinal, engine_sequence = excluded.engine_sequence,
                       engine_log = excluded.engine_log, engine_offset = excluded.engine_offset,
                       stream_sequence = excluded.stream_sequence";
        let texts = [&checkpoint.source, &checkpoint.position.incarnation];
        let texts = texts.map(|text| Cell::Text(text.clone()));
        let numbers = checkpoint.numbers().map(|number| Cell::Integer(number.cast_signed()));
        self.execute("store checkpoint", sql, &[texts.as_slice(), &numbers].concat()).map(|_| ())
    }

    /// RETURNING would make a table of its own.
    fn end_changes(&self, before: u64) -> Result<u64> {
        let last = last_sequence(self)?.max(before);
        if last > before {
            let sql = "UPDATE __deltamesh_changes SET tx_end = 1 WHERE seq = $1";
            self.execute("finish changes", sql, &[Cell::Integer(last.cast_signed())])?;
        }
        Ok(last)
    }

    /// `BEGIN IMMEDIATE` would lock the attached file of the reconcile too, which takes as long as some statements.
    fn begin(&self) -> Result<()> {
        let begun = self.control("BEGIN").and_then(|()| self.control(LOCK));
        if begun.is_err() {
            self.rollback()?;
        }
        begun
    }

    fn commit(&self) -> Result<()> {
        self.control("COMMIT")?;
        self.care_for_wal();
        Ok(())
    }

    fn rollback(&self) -> Result<()> {
        if self.connection.is_autocommit() {
            return Ok(());
        }
        self.connection.execute_batch("ROLLBACK").at(|| self.place())
    }

    fn execute(&self, place: &str, sql: &str, parameters: &[Cell]) -> Result<u64> {
        let mut statement = self.connection.prepare_cached(sql).at(|| place)?;
        statement.execute(params_from_iter(parameters)).map(|rows| rows as u64).at(|| place)
    }

    fn define(&self, place: &str, statements: &[String]) -> Result<()> {
        for sql in statements {
            self.connection.execute(sql, []).at(|| place)?;
        }
        Ok(())
    }

    fn insert(
        &self,
        table: &str,
        columns: &[(&str, ColumnType)],
        rows: &[Vec<Cell>],
        once: bool,
    ) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let names = columns.iter().map(|(name, _)| quote(name)).collect::<Vec<_>>().join(", ");
        let places = (1..=columns.len()).map(|number| format!("?{number}")).collect::<Vec<_>>().join(", ");
        let ignore = if once { " OR IGNORE" } else { "" };
        let sql = format!("INSERT{ignore} INTO {table} ({names}) VALUES ({places})");
        let mut statement = self.connection.prepare_cached(&sql).at(|| table)?;
        for row in rows {
            statement.execute(params_from_iter(row)).at(|| table)?;
        }
        Ok(())
    }

    /// In the file of the reconcile.
    fn seen_table(mirror: &str) -> String {
        format!("spool.{}", quote(mirror))
    }

    fn images(&self, mirror: &Mirror, keys: &[&Key]) -> Result<Vec<Option<Vec<Cell>>>> {
        let place = || mirror.table.as_str();
        let conditions = mirror.schema.key_columns().enumerate();
        let conditions =
            conditions.map(|(index, column)| format!("{} = ?{}", quote(&column.name), index + 1));
        let conditions = conditions.collect::<Vec<_>>().join(" AND ");
        let sql = format!("SELECT {} FROM {} WHERE {conditions}", mirror.columns(), mirror.table_name());
        let mut select = self.connection.prepare_cached(&sql).at(place)?;
        let width = mirror.schema.columns.len();
        let last = self.last_key(mirror)?;
        let mut image = |key: &&Key| -> Result<Option<Vec<Cell>>> {
            if let (Some(last), [Cell::Integer(key)]) = (last, key.as_slice())
                && *key > last
            {
                return Ok(None);
            }
            let mut rows = select.query(params_from_iter(key.iter())).at(place)?;
            rows.next().at(place)?.map(|row| cells(row, width)).transpose().at(place)
        };
        keys.iter().map(&mut image).collect()
    }

    fn load_images(&self, mirror: &Mirror, net: Net) -> Result<Loaded> {
        Loaded::by_images(self, mirror, net)
    }

    fn record(&self, program: &Program, images: &Filled, stamp: &Stamp) -> Result<u64> {
        let place = || program.definition.name.as_str();
        let mut changes = 0;
        for action in program.record.iter().filter(|action| images.let_run(action)) {
            let mut statement = self.connection.prepare_cached(&action.sql).at(place)?;
            let parameters = named_params! {
                ":position": stamp.position,
                ":dsid": stamp.dsid.cast_signed(),
                ":captured_us": stamp.captured_us,
            };
            changes += statement.execute(parameters).at(place)? as u64;
        }
        Ok(changes)
    }

    fn append(
        &self,
        columns: &[(&str, ColumnType)],
        rows: &[Vec<Cell>],
        stamped: &[(&str, Cell)],
    ) -> Result<()> {
        let names = stamped.iter().map(|(name, _)| (*name, ColumnType::Any));
        let columns: Vec<_> = columns.iter().copied().chain(names).collect();
        let whole =
            |row: &Vec<Cell>| row.iter().chain(stamped.iter().map(|(_, cell)| cell)).cloned().collect();
        let rows: Vec<Vec<Cell>> = rows.iter().map(whole).collect();
        self.insert("__deltamesh_changes", &columns, &rows, false)
    }

    fn object(&self, name: &str) -> Result<Option<Object>> {
        let sql =
            "SELECT type = 'view' FROM main.sqlite_schema WHERE name = ?1 AND type IN ('table', 'view')";
        let is_view = self.connection.query_row(sql, [name], |row| row.get::<_, bool>(0));
        let is_view = is_view.optional().at(|| name)?;
        Ok(is_view.map(|is_view| if is_view { Object::View } else { Object::Table }))
    }

    fn indexes(&self, table: &str) -> Result<Vec<String>> {
        let sql =
            "SELECT name FROM main.sqlite_schema WHERE type = 'index' AND tbl_name = ?1 AND sql IS NOT NULL";
        let mut statement = self.connection.prepare(sql).at(|| table)?;
        let names = statement.query_map([table], |row| row.get::<_, String>(0)).at(|| table)?;
        names.collect::<rusqlite::Result<Vec<_>>>().at(|| table)
    }

    fn order(&self, definition: &ViewDefinition) -> Result<Option<Vec<(String, ColumnType)>>> {
        let sql = "SELECT wr FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND name = ?1";
        let without_rowid: Option<bool> = self
            .connection
            .query_row(sql, [&definition.storage], |row| row.get(0))
            .optional()
            .at(|| definition.storage.as_str())?;
        let hides_rowid = definition.columns.iter().any(|column| column.name.eq_ignore_ascii_case("rowid"));
        Ok(match without_rowid {
            Some(true) => Some(definition.key.iter().map(|name| (quote(name), ColumnType::Any)).collect()),
            Some(false) if !hides_rowid => Some(vec![("rowid".to_owned(), ColumnType::Int)]),
            None if !definition.stored && definition.options.stored == Stored::Auto => {
                Some(definition.key.iter().map(|name| (quote(name), ColumnType::Any)).collect())
            }
            _ => None,
        })
    }

    /// Affinity does it.
    fn converted(&self, column: &str, _from: ColumnType, _to: ColumnType) -> Option<String> {
        Some(column.to_owned())
    }

    fn rest(&self) -> Result<()> {
        self.reset_wal()
    }
}

#[cfg(test)]
mod tests {
    use deltamesh_change::Value;

    use super::*;

    /// What SQLite gives back for the cell equals the cell, whatever the column.
    #[test]
    fn a_cell_is_what_sqlite_stores() {
        let connection = Connection::open_in_memory().unwrap();
        let values = [
            Value::Null,
            Value::Bool(true),
            Value::Int(7),
            Value::Int(i64::MIN),
            Value::Float(1.5),
            Value::Float(2.0),
            Value::Float(-0.0),
            Value::Float(f64::NAN),
            Value::Float(f64::INFINITY),
            Value::Decimal("-12.30".into()),
            Value::Text("12".into()),
            Value::Text(String::new()),
            Value::Bytes(vec![0, 255]),
            Value::Array(vec![Value::Int(1), Value::Text("a".into())]),
        ];
        for column in [
            ColumnType::Bool,
            ColumnType::Int,
            ColumnType::Float,
            ColumnType::Decimal,
            ColumnType::Text,
            ColumnType::Bytes,
            ColumnType::Json,
            ColumnType::Any,
        ] {
            let name = Dialect::Sqlite.declared_type(column).unwrap_or_default();
            connection.execute_batch(&format!("DROP TABLE IF EXISTS t; CREATE TABLE t(v {name})")).unwrap();
            for value in &values {
                // The source keeps text out of its number columns.
                if matches!(value, Value::Text(_) | Value::Decimal(_))
                    && matches!(column, ColumnType::Bool | ColumnType::Int | ColumnType::Float)
                {
                    continue;
                }
                let cell = Cell::new(value, column, Dialect::Sqlite);
                connection.execute("DELETE FROM t", []).unwrap();
                connection.execute("INSERT INTO t VALUES (?1)", [&cell]).unwrap();
                let stored = connection
                    .query_row("SELECT v FROM t", [], |row| row.get_ref(0).map(super::cell))
                    .unwrap();
                assert_eq!(stored, cell, "{value:?} in {column:?}");
            }
        }
    }
}
