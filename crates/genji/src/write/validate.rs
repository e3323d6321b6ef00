//! From what a statement gives to a document that can be stored: defaults, types, NOT NULL, CHECK.

use deltamesh_change::Value;

use super::row::{self, Document};
use super::schema::Table;
use super::sequence;
use super::transaction::{Write, WriteTransaction};
use crate::catalog::{DocumentDefinition, FieldType};
use crate::sql::Parameters;
use crate::sql::evaluate::{Scope, Sequences};
use crate::{Error, ErrorKind};

/// Where the value of a default stands: positions of fields, outermost first.
type Place = Vec<String>;

impl WriteTransaction<'_> {
    /// The document with defaults in the place of absent fields, cast and checked.
    pub(crate) fn validated(&mut self, table: &Table, mut document: Document) -> Result<Document, Error> {
        if !table.defaults.is_empty() {
            let mut wanted = Vec::new();
            absent(&table.definition.document, &mut document, &mut Vec::new(), &mut wanted);
            for (place, default) in wanted {
                let value = self.default_value(table, &default, &place)?;
                put(&mut document, &place, value);
            }
        }
        self.checked(table, document)
    }

    /// The document cast and checked, without defaults.
    pub(crate) fn checked(&self, table: &Table, document: Document) -> Result<Document, Error> {
        let document = row::validate(&table.definition.document, &document)?;
        if table.checks.is_empty() {
            return Ok(document);
        }
        let read = row::document_as_read(&table.definition.document, &document);
        for (name, check) in &table.checks {
            let value = check.evaluate(&mut Scope::row(&read, Parameters::Positional(&[])))?;
            let holds = match value {
                Value::Null => true,
                Value::Bool(value) => value,
                Value::Int(value) => value != 0,
                Value::Float(value) => value != 0.0,
                _ => false,
            };
            if !holds {
                return Err(Error::new(
                    ErrorKind::Constraint,
                    format!("check constraint {name} is violated"),
                ));
            }
        }
        Ok(document)
    }

    fn default_value(&mut self, table: &Table, text: &str, place: &[String]) -> Result<Value, Error> {
        let default = table.defaults.get(text).ok_or_else(|| {
            let reason = format!("default of field {} cannot be read", place.join("."));
            Error::new(ErrorKind::Unsupported, reason)
        })?;
        default.evaluate(&mut Scope {
            row: None,
            key: None,
            parameters: Parameters::Positional(&[]),
            sequences: Some(self),
        })
    }
}

impl Sequences for WriteTransaction<'_> {
    fn next_value(&mut self, name: &str) -> Result<i64, Error> {
        let definition = self.schema.sequence_definition(name)?;
        let mut position = self.position_of(name);
        let (value, lease) = position.next(&definition)?;
        if let Some(lease) = lease {
            let row = sequence::row_value(name, Some(lease));
            self.write(vec![Write::Set(sequence::row_key(name), row)])?;
        }
        self.set_position(name, Some(position));
        Ok(value)
    }
}

/// Finds the absent fields that have a default, in nested documents too. Texts of documents are cast on the way.
fn absent(
    definition: &DocumentDefinition,
    document: &mut Document,
    place: &mut Place,
    wanted: &mut Vec<(Place, String)>,
) {
    for field in &definition.fields {
        let given = document.iter_mut().find(|(name, _)| *name == field.name).map(|(_, value)| value);
        place.push(field.name.clone());
        match (given, &field.default, &field.field_type) {
            (None, Some(default), _) => wanted.push((place.clone(), default.clone())),
            (Some(value), _, FieldType::Document(nested)) => {
                if let Some(Value::Document(fields)) = super::cast::to_document(value) {
                    *value = Value::Document(fields);
                }
                if let Value::Document(fields) = value {
                    absent(nested, fields, place, wanted);
                }
            }
            _ => {}
        }
        place.pop();
    }
}

fn put(document: &mut Document, place: &[String], value: Value) {
    let Some((name, rest)) = place.split_first() else { return };
    if rest.is_empty() {
        document.push((name.clone(), value));
    } else if let Some((_, Value::Document(nested))) = document.iter_mut().find(|(field, _)| field == name) {
        put(nested, rest, value);
    }
}
