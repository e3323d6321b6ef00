//! Values as SQLite stores them.

use std::cmp::Ordering;

use deltamesh_change::{ColumnType, Value, to_json};
use rusqlite::ToSql;
use rusqlite::types::{ToSqlOutput, ValueRef};

/// One stored value. Two cells are equal exactly when SQLite stores the same thing for both.
#[derive(Debug, Clone)]
pub(crate) enum Cell {
    Null,
    Integer(i64),
    Real(f64),
    Text(String),
    Blob(Vec<u8>),
    /// Keeps what the mirror has; never stored.
    Unchanged,
}

impl Cell {
    /// The cell that a column of that type holds for the value: what SQLite's column affinity would make of it, made here
    /// so that before and after images compare equal when they are stored equal.
    pub(crate) fn new(value: &Value, column: ColumnType) -> Self {
        match (value, column) {
            (Value::Null, _) => Self::Null,
            (Value::Unchanged, _) => Self::Unchanged,
            (_, ColumnType::Json) | (Value::Array(_) | Value::Document(_), _) => {
                Self::Text(to_json(value).to_string())
            }
            (Value::Bool(_) | Value::Int(_) | Value::Float(_), ColumnType::Text | ColumnType::Decimal) => {
                Self::Text(to_json(value).to_string().trim_matches('"').to_owned())
            }
            (Value::Bool(value), _) => number(i64::from(*value), column),
            (Value::Int(value), _) => number(*value, column),
            (Value::Float(value), _) => double(*value, column),
            (Value::Decimal(value) | Value::Text(value), _) => Self::Text(value.clone()),
            (Value::Bytes(value), _) => Self::Blob(value.clone()),
        }
    }

    /// The cell that was read from the database.
    pub(crate) fn from_sql(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Null => Self::Null,
            ValueRef::Integer(value) => Self::Integer(value),
            ValueRef::Real(value) => Self::Real(value),
            ValueRef::Text(value) => Self::Text(String::from_utf8_lossy(value).into_owned()),
            ValueRef::Blob(value) => Self::Blob(value.to_vec()),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Null => 0,
            Self::Integer(_) => 1,
            Self::Real(_) => 2,
            Self::Text(_) => 3,
            Self::Blob(_) => 4,
            Self::Unchanged => 5,
        }
    }
}

fn number(value: i64, column: ColumnType) -> Cell {
    if column == ColumnType::Float { Cell::Real(value as f64) } else { Cell::Integer(value) }
}

fn double(value: f64, column: ColumnType) -> Cell {
    let integral = value.fract() == 0.0 && value.abs() < 9.2e18;
    if value.is_nan() {
        // SQLite would store NULL.
        Cell::Text("NaN".to_owned())
    } else if integral && matches!(column, ColumnType::Int | ColumnType::Bool) {
        Cell::Integer(value as i64)
    } else {
        Cell::Real(if value == 0.0 { 0.0 } else { value })
    }
}

impl Ord for Cell {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Integer(a), Self::Integer(b)) => a.cmp(b),
            (Self::Real(a), Self::Real(b)) => a.total_cmp(b),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            (Self::Blob(a), Self::Blob(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for Cell {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Cell {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Cell {}

impl ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null | Self::Unchanged => ValueRef::Null,
            Self::Integer(value) => ValueRef::Integer(*value),
            Self::Real(value) => ValueRef::Real(*value),
            Self::Text(value) => ValueRef::Text(value.as_bytes()),
            Self::Blob(value) => ValueRef::Blob(value),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What SQLite gives back for the cell equals the cell, whatever the column.
    #[test]
    fn a_cell_is_what_sqlite_stores() {
        let connection = rusqlite::Connection::open_in_memory().unwrap();
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
            let name = deltamesh_view::Dialect::Sqlite.declared_type(column).unwrap_or_default();
            connection.execute_batch(&format!("DROP TABLE IF EXISTS t; CREATE TABLE t(v {name})")).unwrap();
            for value in &values {
                // The source keeps text out of its number columns.
                if matches!(value, Value::Text(_) | Value::Decimal(_))
                    && matches!(column, ColumnType::Bool | ColumnType::Int | ColumnType::Float)
                {
                    continue;
                }
                let cell = Cell::new(value, column);
                connection.execute("DELETE FROM t", []).unwrap();
                connection.execute("INSERT INTO t VALUES (?1)", [&cell]).unwrap();
                let stored = connection
                    .query_row("SELECT v FROM t", [], |row| Ok(Cell::from_sql(row.get_ref(0)?)))
                    .unwrap();
                assert_eq!(stored, cell, "{value:?} in {column:?}");
            }
        }
    }
}
