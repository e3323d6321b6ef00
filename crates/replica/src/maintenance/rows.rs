//! Rows of views as canonical JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use deltamesh_change::{Column, ColumnType};
use deltamesh_view::ViewDefinition;
use deltamesh_wire::subject::token;
use serde_json::{Map, Value as Json};

use super::cell::Cell;
use super::mirror::quote;
use crate::error::{Error, ErrorKind, Result};

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

    /// The selected columns.
    pub(crate) fn selected(&self) -> impl Iterator<Item = &Column> {
        self.definition.columns.iter().chain(self.hidden.iter().copied())
    }

    /// The same, quoted.
    pub(crate) fn columns(&self) -> String {
        let columns = self.selected().map(|column| quote(&column.name)).collect::<Vec<_>>().join(", ");
        if columns.is_empty() { "NULL".to_owned() } else { columns }
    }

    /// Key and row.
    pub(crate) fn read(&self, row: &[Cell]) -> (Vec<Json>, Map<String, Json>) {
        let value = |index: usize, kind| row.get(index).map_or(Json::Null, |cell| cell.json(kind));
        let key = self.key.iter().map(|&(index, kind)| value(index, kind)).collect();
        let columns = self.definition.columns.iter().enumerate();
        let values = columns.map(|(index, column)| (column.name.clone(), value(index, column.column_type)));
        (key, values.collect())
    }

    /// Feed subject of a row.
    pub(crate) fn subject(&self, row: &[Cell]) -> String {
        let place = |name: &String| {
            let visible = self.definition.columns.iter().chain(self.hidden.iter().copied());
            visible.enumerate().find(|(_, column)| column.name == *name)
        };
        let tokens = self.definition.subject.iter().filter_map(place);
        let tokens =
            tokens.map(|(index, column)| match row.get(index).map(|cell| cell.json(column.column_type)) {
                None | Some(Json::Null) => token(""),
                Some(Json::String(text)) => token(&text),
                Some(other) => token(&other.to_string()),
            });
        let tokens = tokens.collect::<Vec<_>>().join(".");
        let tokens = if tokens.is_empty() { token("") } else { tokens };
        format!("feed.{}.{tokens}", self.definition.name)
    }
}

/// A canonical JSON value as the parameter that equals it in a column of that type.
pub(crate) fn parameter(json: &Json, column: ColumnType) -> Result<Cell> {
    let refused = || Error::new(ErrorKind::Denied, "filter", format!("not a value of a {column:?} column"));
    Ok(match (json, column) {
        (Json::Null, _) => Cell::Null,
        (json, ColumnType::Json) => Cell::Text(json.to_string()),
        (Json::Bool(value), _) => Cell::Integer(i64::from(*value)),
        (Json::Number(number), ColumnType::Text | ColumnType::Decimal) => Cell::Text(number.to_string()),
        (Json::Number(number), _) => match (number.as_i64(), number.as_f64()) {
            (Some(value), _) => Cell::Integer(value),
            (None, Some(value)) if column == ColumnType::Int && value.fract() == 0.0 => {
                Cell::Integer(value as i64)
            }
            (None, Some(value)) => Cell::Real(value),
            (None, None) => return Err(refused()),
        },
        (Json::String(text), ColumnType::Int) => Cell::Integer(text.parse().map_err(|_| refused())?),
        (Json::String(text), ColumnType::Bytes) => Cell::Blob(STANDARD.decode(text).map_err(|_| refused())?),
        (Json::String(text), _) => Cell::Text(text.clone()),
        (Json::Array(_) | Json::Object(_), ColumnType::Any) => Cell::Text(json.to_string()),
        (Json::Array(_) | Json::Object(_), _) => return Err(refused()),
    })
}
