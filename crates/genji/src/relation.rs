//! A table as a relation: its columns, and how its keys and rows decode.
//!
//! Row `(1, {q: 1}, 3)` of `CREATE TABLE t (id INTEGER NOT NULL, d (...), g DOUBLE, CONSTRAINT t_pk PRIMARY KEY (id))`
//! has the key `4E 45` (namespace 10, integer 1) and the value `45 | E601 F001 DA0171 45 | D0C008…`: the declared fields by
//! position. It becomes the row `[Int(1), Document([("q", Float(1.0))]), Float(3.0)]`.

use std::sync::Arc;

use deltamesh_change::{Column, ColumnType, RelationSchema, Row, Value};

use crate::catalog::{FieldType, Path, TableDefinition};
use crate::engine::Engine;
use crate::{Error, chai};

mod decode;

pub(crate) use decode::take_row;

/// Name of the key column of a table without primary key.
pub const DOCID: &str = "__docid";
/// Name of the column that holds the undeclared fields of a table that allows them.
pub const EXTRA: &str = "__extra";

/// How deep values of a relation may be nested, in messages of the change log: a reader of Protobuf takes a hundred, and a
/// value stands in four. An array takes two for each level, a document three.
const DEEPEST: usize = 96;

/// A table of a user, with the namespace that its rows are in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Relation {
    pub(crate) namespace: i64,
    pub(crate) schema: Arc<RelationSchema>,
    form: Form,
}

/// What the stored bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    Documents(Documents),
    /// Of Chai.
    Columns(chai::Table),
}

/// Documents by a definition of Genji.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Documents {
    definition: TableDefinition,
    /// Declared types of the key's components, in key order.
    key_types: Vec<FieldType>,
    /// Index of the first declared field's column.
    first_field: usize,
}

impl Relation {
    /// The relation of a table. Its schema sequence id is 0: the caller assigns one.
    pub(crate) fn new(namespace: i64, definition: TableDefinition) -> Self {
        let mut columns = Columns::default();
        let primary_key = definition.primary_key().unwrap_or_default();
        let mut key = Vec::new();
        let mut key_types = Vec::new();
        if primary_key.is_empty() {
            key.push(columns.add(DOCID, ColumnType::Int));
            key_types.push(FieldType::Integer);
        }
        let first_field = columns.0.len();
        for field in &definition.document.fields {
            columns.add(&field.name, column_type(&field.field_type));
        }
        for path in primary_key {
            let field_type = definition.type_at(path);
            key.push(declared_column(&definition, path).map_or_else(
                || columns.add(&path.to_string(), column_type(field_type)),
                |field| first_field + field,
            ));
            key_types.push(field_type.clone());
        }
        if definition.document.extra {
            columns.add(EXTRA, ColumnType::Json);
        }
        let mut columns = columns.0;
        // Rows older than ALTER TABLE ADD FIELD lack its fields even where it says NOT NULL: only keys are certain.
        key.iter().for_each(|&index| columns[index].nullable = false);
        let schema = Arc::new(RelationSchema { relation: definition.name.clone(), dsid: 0, columns, key });
        let form = Form::Documents(Documents { definition, key_types, first_field });
        Self { namespace, schema, form }
    }

    /// The relation of a table of Chai. Its schema sequence id is 0: the caller assigns one.
    pub(crate) fn of_columns(namespace: i64, table: chai::Table) -> Self {
        let mut columns = Columns::default();
        for (name, kind) in &table.columns {
            columns.add(name, kind_type(*kind));
        }
        let mut columns = columns.0;
        let key: Vec<usize> = table.key.iter().map(|part| part.column).collect();
        key.iter().for_each(|&index| columns[index].nullable = false);
        let schema = Arc::new(RelationSchema { relation: table.name.clone(), dsid: 0, columns, key });
        Self { namespace, schema, form: Form::Columns(table) }
    }

    /// Whether all key values have a fixed width, so that the engines order the keys well.
    pub(crate) fn has_fixed_keys(&self) -> bool {
        let fixed =
            |field: &FieldType| matches!(field, FieldType::Integer | FieldType::Double | FieldType::Boolean);
        match &self.form {
            Form::Documents(documents) => documents.key_types.iter().all(fixed),
            Form::Columns(table) => table.has_fixed_keys(),
        }
    }

    /// The key's values.
    pub(crate) fn decode_key(&self, components: &[u8]) -> Result<Row, Error> {
        match &self.form {
            Form::Documents(documents) => documents.decode_key(components),
            Form::Columns(table) => table.decode_key(components),
        }
    }

    /// The fields by name, in declared order and then the undeclared ones; without declared fields that are NULL.
    pub(crate) fn decode_document(&self, value: &[u8]) -> Result<Vec<(String, Value)>, Error> {
        let columns = match &self.form {
            Form::Documents(documents) => return documents.decode_document(value),
            Form::Columns(table) => table.columns.iter().zip(table.decode_row(value)?),
        };
        let named = columns.map(|((name, _), value)| (name.clone(), value));
        Ok(named.filter(|(_, value)| !value.is_null()).collect())
    }

    /// The values of a row with that whole key.
    pub(crate) fn decode(&self, key: &[u8], value: &[u8]) -> Result<Row, Error> {
        let engine = match &self.form {
            Form::Documents(_) => Engine::Genji,
            Form::Columns(_) => Engine::Chai,
        };
        let key = self.decode_key(engine.split(key)?.components)?;
        self.decode_row(&key, value)
    }

    /// The row's values: those of the key from `key`, the others from the stored value.
    pub(crate) fn decode_row(&self, key: &Row, value: &[u8]) -> Result<Row, Error> {
        let mut row = match &self.form {
            Form::Documents(documents) => documents.decode_row(value, self.schema.columns.len())?,
            Form::Columns(table) => table.decode_row(value)?,
        };
        for (&column, value) in self.schema.key.iter().zip(key) {
            // Where the row says the same, nothing is copied.
            if row[column] != *value {
                row[column].clone_from(value);
            }
        }
        Ok(row)
    }
}

impl Documents {
    fn decode_key(&self, mut components: &[u8]) -> Result<Row, Error> {
        let input = &mut components;
        let mut key = Row::with_capacity(self.key_types.len());
        for field_type in &self.key_types {
            decode::append_key_value(field_type, input, &mut key)?;
        }
        if input.is_empty() { Ok(key) } else { Err(Error::decode("key has too many components")) }
    }

    fn decode_document(&self, value: &[u8]) -> Result<Vec<(String, Value)>, Error> {
        let (fields, extra) = take_row(&self.definition.document, value)?;
        let names = self.definition.document.fields.iter().map(|field| field.name.clone());
        let declared = names.zip(fields).filter(|(_, value)| !value.is_null());
        Ok(declared.chain(extra).collect())
    }

    /// The row of that many columns, those of the key not filled in.
    fn decode_row(&self, value: &[u8], columns: usize) -> Result<Row, Error> {
        let mut row = Row::with_capacity(columns);
        row.resize(self.first_field, Value::Null);
        let extra = decode::append_row(&self.definition.document, value, &mut row)?;
        row.resize(columns, Value::Null);
        if let Some(last) = row.last_mut().filter(|_| !extra.is_empty()) {
            *last = Value::Document(extra);
        }
        if row.iter().any(|value| depth(value) > DEEPEST) {
            return Err(Error::decode("value is nested too deep"));
        }
        Ok(row)
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Null => 1,
        Value::Array(values) => 2 + values.iter().map(depth).max().unwrap_or_default(),
        Value::Document(fields) => 3 + fields.iter().map(|(_, value)| depth(value)).max().unwrap_or_default(),
        _ => 0,
    }
}

fn declared_column(definition: &TableDefinition, path: &Path) -> Option<usize> {
    let name = path.as_field()?;
    definition.document.fields.iter().position(|field| field.name == name)
}

fn column_type(field_type: &FieldType) -> ColumnType {
    match field_type {
        FieldType::Any => ColumnType::Any,
        FieldType::Integer => ColumnType::Int,
        FieldType::Double => ColumnType::Float,
        FieldType::Text => ColumnType::Text,
        FieldType::Blob => ColumnType::Bytes,
        FieldType::Boolean => ColumnType::Bool,
        FieldType::Array | FieldType::Document(_) => ColumnType::Json,
    }
}

fn kind_type(kind: chai::Kind) -> ColumnType {
    match kind {
        chai::Kind::Integer => ColumnType::Int,
        chai::Kind::Double => ColumnType::Float,
        chai::Kind::Text | chai::Kind::Timestamp => ColumnType::Text,
        chai::Kind::Bytea => ColumnType::Bytes,
        chai::Kind::Boolean => ColumnType::Bool,
    }
}

#[derive(Default)]
struct Columns(Vec<Column>);

impl Columns {
    /// Adds a column and returns its index. Genji tells `a` from `A`, SQL does not: a repeated name gets underscores behind.
    fn add(&mut self, name: &str, column_type: ColumnType) -> usize {
        let mut name = name.to_owned();
        while self.0.iter().any(|column| column.name.eq_ignore_ascii_case(&name)) {
            name.push('_');
        }
        self.0.push(Column::new(name, column_type, true));
        self.0.len() - 1
    }
}

#[cfg(test)]
mod tests;
