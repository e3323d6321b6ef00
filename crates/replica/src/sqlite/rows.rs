//! Rows of views as canonical JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use deltamesh_change::{Column, ColumnType, to_json};
use deltamesh_view::ViewDefinition;
use rusqlite::types::{Value as SqlValue, ValueRef};
use serde_json::{Map, Value as Json};

use super::functions::value_of;
use super::mirror::quote;
use crate::error::{Error, ErrorKind, Result};

/// The canonical JSON of a stored value of a column of that type.
pub(crate) fn column_json(value: ValueRef<'_>, column: ColumnType) -> Json {
    match (value, column) {
        (ValueRef::Integer(value), ColumnType::Bool) => Json::Bool(value != 0),
        (ValueRef::Text(text), ColumnType::Json) => {
            serde_json::from_slice(text).unwrap_or_else(|_| to_json(&value_of(value)))
        }
        _ => to_json(&value_of(value)),
    }
}

/// Reads the rows of a view: its visible columns first, then the hidden ones of the key.
pub(crate) struct RowReader<'a> {
    definition: &'a ViewDefinition,
    /// Where each key column stands among the selected ones.
    key: Vec<(usize, ColumnType)>,
    hidden: Vec<&'a Column>,
}

impl<'a> RowReader<'a> {
    pub(crate) fn new(definition: &'a ViewDefinition) -> Self {
        let mut hidden: Vec<&Column> = Vec::new();
        let mut key = Vec::new();
        for name in &definition.key {
            let visible = definition.columns.iter().position(|column| column.name == *name);
            if let Some(index) = visible {
                key.push((index, definition.columns[index].column_type));
            } else if let Some(found) = definition.hidden.iter().find(|found| found.column.name == *name) {
                key.push((definition.columns.len() + hidden.len(), found.column.column_type));
                hidden.push(&found.column);
            }
        }
        Self { definition, key, hidden }
    }

    /// The selected columns, quoted.
    pub(crate) fn columns(&self) -> String {
        let columns = self.definition.columns.iter().chain(self.hidden.iter().copied());
        let columns = columns.map(|column| quote(&column.name)).collect::<Vec<_>>().join(", ");
        if columns.is_empty() { "NULL".to_owned() } else { columns }
    }

    /// Key and row.
    pub(crate) fn read(&self, row: &rusqlite::Row<'_>) -> rusqlite::Result<(Vec<Json>, Map<String, Json>)> {
        let key = self.key.iter().map(|&(index, kind)| Ok(column_json(row.get_ref(index)?, kind)));
        let key = key.collect::<rusqlite::Result<_>>()?;
        let columns = self.definition.columns.iter().enumerate();
        let values = columns.map(|(index, column)| {
            Ok((column.name.clone(), column_json(row.get_ref(index)?, column.column_type)))
        });
        Ok((key, values.collect::<rusqlite::Result<_>>()?))
    }
}

/// A canonical JSON value as the parameter that equals it in a column of that type.
pub(crate) fn parameter(json: &Json, column: ColumnType) -> Result<SqlValue> {
    let refused = || Error::new(ErrorKind::Denied, "filter", format!("not a value of a {column:?} column"));
    Ok(match (json, column) {
        (Json::Null, _) => SqlValue::Null,
        (json, ColumnType::Json) => SqlValue::Text(json.to_string()),
        (Json::Bool(value), _) => SqlValue::Integer(i64::from(*value)),
        (Json::Number(number), ColumnType::Text | ColumnType::Decimal) => SqlValue::Text(number.to_string()),
        (Json::Number(number), _) => match (number.as_i64(), number.as_f64()) {
            (Some(value), _) => SqlValue::Integer(value),
            (None, Some(value)) if column == ColumnType::Int && value.fract() == 0.0 => {
                SqlValue::Integer(value as i64)
            }
            (None, Some(value)) => SqlValue::Real(value),
            (None, None) => return Err(refused()),
        },
        (Json::String(text), ColumnType::Int) => SqlValue::Integer(text.parse().map_err(|_| refused())?),
        (Json::String(text), ColumnType::Bytes) => {
            SqlValue::Blob(STANDARD.decode(text).map_err(|_| refused())?)
        }
        (Json::String(text), _) => SqlValue::Text(text.clone()),
        (Json::Array(_) | Json::Object(_), ColumnType::Any) => SqlValue::Text(json.to_string()),
        (Json::Array(_) | Json::Object(_), _) => return Err(refused()),
    })
}
