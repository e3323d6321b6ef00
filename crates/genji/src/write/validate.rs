//! From what a statement gives to a document that can be stored: defaults, types, NOT NULL, CHECK.

use deltamesh_change::Value;

use super::row::{self, Document};
use super::schema::Table;
use super::sequence;
use super::transaction::{Write, WriteTransaction};
use crate::sql::Parameters;
use crate::sql::evaluate::{Scope, Sequences};
use crate::{Error, ErrorKind};

impl WriteTransaction<'_> {
    /// The document with defaults in the place of absent fields, cast and checked.
    pub(crate) fn validated(&mut self, table: &Table, document: Document) -> Result<Document, Error> {
        let document = row::validate(&table.definition.document, &document, &mut |field| {
            field.default.as_ref().map(|default| self.default_value(table, default, &field.name)).transpose()
        })?;
        self.checked(table, document)
    }

    /// A validated document for which all CHECK constraints hold.
    fn checked(&self, table: &Table, document: Document) -> Result<Document, Error> {
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

    fn default_value(&mut self, table: &Table, text: &str, field: &str) -> Result<Value, Error> {
        let default = table.defaults.get(text).ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, format!("default of field {field} cannot be read"))
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
        self.move_sequence(name, position);
        Ok(value)
    }
}
