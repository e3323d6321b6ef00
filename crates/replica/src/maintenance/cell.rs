//! Values as a replica stores them.

use std::cmp::Ordering;

use deltamesh_change::{ColumnType, Value, to_json};
use deltamesh_view::Dialect;
use serde_json::{Number, Value as Json};

/// One stored value. Two cells are equal exactly when the database stores the same thing for both.
#[derive(Debug, Clone)]
pub(crate) enum Cell {
    Null,
    Integer(i64),
    Real(f64),
    Text(String),
    Blob(Vec<u8>),
    /// JSON of a column that holds JSON whatever the value is, as [`normal`] spells it.
    Json(String),
    /// Keeps what the mirror has; never stored.
    Unchanged,
}

impl Cell {
    /// The cell that a column of that type holds for the value: what SQLite's column affinity would make of it, made here
    /// so that before and after images compare equal when they are stored equal.
    pub(crate) fn new(value: &Value, column: ColumnType, dialect: Dialect) -> Self {
        match (value, column) {
            (Value::Null, _) => Self::Null,
            (Value::Unchanged, _) => Self::Unchanged,
            (value, ColumnType::Json | ColumnType::Any) if dialect == Dialect::Postgres => {
                Self::Json(normal(to_json(value)).to_string())
            }
            (Value::Float(value), ColumnType::Float) if dialect == Dialect::Postgres && value.is_nan() => {
                Self::Real(f64::NAN)
            }
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

    /// The number, or 0 where it is none.
    pub(crate) fn integer(&self) -> i64 {
        match self {
            Self::Integer(value) => *value,
            Self::Text(text) => text.parse().unwrap_or_default(),
            _ => 0,
        }
    }

    /// The text, if it is one.
    pub(crate) fn text(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text),
            Self::Integer(value) => Some(value.to_string()),
            _ => None,
        }
    }

    /// The value by its own kind; truth values and, in SQLite, JSON columns are integers and text here.
    pub(crate) fn value(&self) -> Value {
        match self {
            Self::Null | Self::Unchanged => Value::Null,
            Self::Integer(value) => Value::Int(*value),
            Self::Real(value) => Value::Float(*value),
            Self::Text(text) | Self::Json(text) => Value::Text(text.clone()),
            Self::Blob(bytes) => Value::Bytes(bytes.clone()),
        }
    }

    /// The canonical JSON of a value of a column of that type.
    pub(crate) fn json(&self, column: ColumnType) -> Json {
        let parsed = |text: &str| serde_json::from_str(text).unwrap_or_else(|_| to_json(&self.value()));
        match (self, column) {
            (Self::Integer(value), ColumnType::Bool) => Json::Bool(*value != 0),
            (Self::Json(text), _) | (Self::Text(text), ColumnType::Json) => parsed(text),
            _ => to_json(&self.value()),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Null => 0,
            Self::Integer(_) => 1,
            Self::Real(_) => 2,
            Self::Text(_) => 3,
            Self::Blob(_) => 4,
            Self::Json(_) => 5,
            Self::Unchanged => 6,
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
            (Self::Text(a), Self::Text(b)) | (Self::Json(a), Self::Json(b)) => a.cmp(b),
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

/// JSON in one spelling: fields in the order of their names, numbers beyond 2^53 as the doubles that they are.
pub(crate) fn normal(json: Json) -> Json {
    match json {
        Json::Number(number) => {
            let exact = number.as_i64().is_some_and(|value| value.unsigned_abs() <= 1 << 53);
            let double = number.as_f64().filter(|_| !exact).and_then(Number::from_f64);
            Json::Number(double.unwrap_or(number))
        }
        Json::Array(values) => Json::Array(values.into_iter().map(normal).collect()),
        Json::Object(fields) => {
            let mut fields: Vec<(String, Json)> =
                fields.into_iter().map(|(name, value)| (name, normal(value))).collect();
            fields.sort_by(|(one, _), (other, _)| one.cmp(other));
            Json::Object(fields.into_iter().collect())
        }
        other => other,
    }
}
