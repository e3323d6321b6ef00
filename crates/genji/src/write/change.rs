//! INSERT, UPDATE and DELETE.

use deltamesh_change::Value;

use super::row;
use super::row::Document;
use super::rows::row_of_entry;
use super::schema::Table;
use super::select::{Sink, project};
use super::transaction::WriteTransaction;
use crate::catalog::{FieldType, Path, PathSegment};
use crate::sql::evaluate::Scope;
use crate::sql::{Change, Expression, Insert, OnConflict, Parameters, Rows, Window};
use crate::{Error, ErrorKind, key};

impl WriteTransaction<'_> {
    /// Runs an INSERT; what it returns of the rows goes to the sink. The result is the number of rows written.
    pub(crate) fn insert_rows(
        &mut self,
        insert: &Insert,
        parameters: Parameters<'_>,
        sink: Sink<'_>,
    ) -> Result<u64, Error> {
        let table = self.schema.user_table(&insert.table)?;
        let mut written = 0;
        match &insert.rows {
            Rows::Documents(rows) => {
                for row in rows {
                    let mut scope = Scope { row: None, key: None, parameters, sequences: Some(self) };
                    let Value::Document(document) = row.evaluate(&mut scope)? else {
                        return Err(Error::new(ErrorKind::Type, "inserted value is not a document"));
                    };
                    written += self.insert_row(&table, insert, document, parameters, sink)?;
                }
            }
            Rows::Lists(lists) => {
                for list in lists {
                    let fields = &table.definition.document.fields;
                    if list.len() > fields.len() {
                        let reason = format!("too many values for table {}", insert.table);
                        return Err(Error::new(ErrorKind::Syntax, reason));
                    }
                    let mut document = Document::with_capacity(list.len());
                    for (field, value) in fields.iter().zip(list) {
                        let mut scope = Scope { row: None, key: None, parameters, sequences: Some(self) };
                        document.push((field.name.clone(), value.evaluate(&mut scope)?));
                    }
                    written += self.insert_row(&table, insert, document, parameters, sink)?;
                }
            }
            Rows::Query(select, names) => {
                if select.tables().any(|table| table == insert.table) {
                    let reason = "cannot read and write the same table";
                    return Err(Error::new(ErrorKind::Unsupported, reason));
                }
                for document in self.selected(select, parameters)? {
                    let document = renamed(document, names.as_deref())?;
                    written += self.insert_row(&table, insert, document, parameters, sink)?;
                }
            }
        }
        Ok(written)
    }

    fn insert_row(
        &mut self,
        table: &Table,
        insert: &Insert,
        document: Document,
        parameters: Parameters<'_>,
        sink: Sink<'_>,
    ) -> Result<u64, Error> {
        let document = self.validated(table, document)?;
        if let Some(action) = insert.on_conflict {
            let taken = self.in_the_way(table, &document, action)?;
            if !taken.is_empty() {
                return match action {
                    OnConflict::Nothing => Ok(0),
                    OnConflict::Replace => self.replace_taken(table, taken, document).map(|()| 1),
                };
            }
        }
        let values = self.put_new(table, &document)?;
        if !insert.returning.is_empty() {
            let read = row::document_as_read(&table.definition.document, &document);
            let mut scope = Scope { row: Some(&read), key: Some(&values), parameters, sequences: Some(self) };
            sink(project(&insert.returning, &mut scope)?)?;
        }
        Ok(1)
    }

    /// The keys of the rows that hold the document's key or one of its unique values, that of the key last; those found first
    /// are enough to do nothing.
    fn in_the_way(
        &self,
        table: &Table,
        document: &[(String, Value)],
        action: OnConflict,
    ) -> Result<Vec<Vec<u8>>, Error> {
        let mut taken = Vec::new();
        for index in table.indexes.iter().filter(|index| index.definition.unique) {
            let values = row::values_at(&table.definition, &index.definition.paths, document);
            if values.iter().any(Value::is_null) {
                continue;
            }
            for entry in self.prefix(&key::encode(index.namespace, &values)?)?.keys() {
                taken.extend(row_of_entry(entry)?.filter(|key| !taken.contains(key)));
            }
        }
        if action == OnConflict::Nothing && !taken.is_empty() {
            return Ok(taken);
        }
        if let Some(paths) = table.primary_key() {
            let key =
                row::checked_key(table.namespace, &row::key_values(&table.definition, paths, document)?)?;
            if self.value(&key)?.is_some() {
                taken.retain(|other| *other != key);
                taken.push(key);
            }
        }
        Ok(taken)
    }

    /// Puts a document in the place of the rows in its way. Unlike Genji it leaves no row under another row's key, and no
    /// index entry of a replaced row.
    fn replace_taken(
        &mut self,
        table: &Table,
        mut taken: Vec<Vec<u8>>,
        document: Document,
    ) -> Result<(), Error> {
        let own = match table.primary_key() {
            Some(paths) => {
                row::checked_key(table.namespace, &row::key_values(&table.definition, paths, &document)?)?
            }
            None => taken.first().cloned().unwrap_or_default(),
        };
        taken.retain(|key| *key != own);
        for key in taken {
            if let Some(stored) = self.stored_at(table, key)? {
                self.remove(table, stored)?;
            }
        }
        match self.stored_at(table, own)? {
            Some(stored) => self.replace(table, stored, document),
            None => self.put_new(table, &document).map(drop),
        }
    }

    /// Runs an UPDATE; returns how many rows it wrote.
    pub(crate) fn update_rows(
        &mut self,
        table: &str,
        changes: &[Change],
        filter: Option<&Expression>,
        parameters: Parameters<'_>,
    ) -> Result<u64, Error> {
        let table = self.schema.user_table(table)?;
        for change in changes {
            if let Change::Unset(name) = change
                && table.primary_key().unwrap_or_default().contains(&Path::field(name))
            {
                return Err(Error::new(ErrorKind::Constraint, format!("key field {name} cannot be unset")));
            }
        }
        let nulls = copied_nulls(&table, changes);
        let mut written = 0;
        for key in self.matching(&table, filter, parameters)? {
            let values = key::split(&key)?.values()?;
            let Some(stored) = self.stored_at(&table, key)? else { continue };
            let mut document = stored.document.clone();
            let mut is_whole = true;
            for change in changes {
                if document == stored.document {
                    require_set(&table, &document, change)?;
                }
                is_whole = self.change(&mut document, &values, change, nulls, parameters)?;
                if !is_whole {
                    break;
                }
            }
            // A path that leads nowhere leaves the row as it is.
            if is_whole {
                let document = self.validated(&table, document)?;
                self.put_changed(&table, stored, document)?;
                written += 1;
            }
        }
        Ok(written)
    }

    /// Makes one change; false if its path leads nowhere. Of a document the fields that `nulls` declares are NULL where it has
    /// none.
    fn change(
        &mut self,
        document: &mut Document,
        key: &[Value],
        change: &Change,
        nulls: &FieldType,
        parameters: Parameters<'_>,
    ) -> Result<bool, Error> {
        match change {
            Change::Unset(name) => {
                document.retain(|(field, _)| field != name);
                Ok(true)
            }
            Change::Set(path, expression) => {
                let mut scope =
                    Scope { row: Some(document), key: Some(key), parameters, sequences: Some(self) };
                let value = expression.evaluate(&mut scope)?;
                Ok(set(document, &path.0, with_nulls(nulls, value)))
            }
        }
    }

    /// Runs a DELETE; returns how many rows it removed.
    pub(crate) fn delete_rows(
        &mut self,
        table: &str,
        filter: Option<&Expression>,
        window: &Window,
        parameters: Parameters<'_>,
    ) -> Result<u64, Error> {
        let table = self.schema.user_table(table)?;
        let mut removed = 0;
        for key in self.windowed_keys(&table, filter, window, parameters)? {
            if let Some(stored) = self.stored_at(&table, key)? {
                self.remove(&table, stored)?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

/// Refuses to unset a declared field that a row as it is stored does not have; of undeclared ones Genji does not mind.
fn require_set(table: &Table, document: &[(String, Value)], change: &Change) -> Result<(), Error> {
    match change {
        Change::Unset(name)
            if table.definition.document.field(name).is_some()
                && !document.iter().any(|(field, _)| field == name) =>
        {
            Err(Error::new(ErrorKind::NotFound, format!("field {name} is not set")))
        }
        _ => Ok(()),
    }
}

/// What the one change of a statement copies within a row. Genji copies a document as it is stored there, with its NULLs, so
/// that they take no default; a second change copies without them.
fn copied_nulls<'t>(table: &'t Table, changes: &[Change]) -> &'t FieldType {
    match changes {
        [Change::Set(_, Expression::Path(path, _))] => table.definition.type_at(path),
        _ => &FieldType::Any,
    }
}

/// A document with the declared fields in order, NULL where it has none.
fn with_nulls(field_type: &FieldType, value: Value) -> Value {
    match (field_type, value) {
        (FieldType::Document(definition), Value::Document(mut fields)) => {
            let mut whole = Document::with_capacity(fields.len().max(definition.fields.len()));
            for field in &definition.fields {
                let at = fields.iter().position(|(name, _)| *name == field.name);
                let value = at.map_or(Value::Null, |at| fields.remove(at).1);
                whole.push((field.name.clone(), with_nulls(&field.field_type, value)));
            }
            whole.append(&mut fields);
            Value::Document(whole)
        }
        (_, value) => value,
    }
}

/// The document with its fields under other names.
fn renamed(document: Document, names: Option<&[String]>) -> Result<Document, Error> {
    let Some(names) = names else { return Ok(document) };
    if names.len() != document.len() {
        let reason = format!("{} values for {} fields", document.len(), names.len());
        return Err(Error::new(ErrorKind::Syntax, reason));
    }
    Ok(names.iter().cloned().zip(document.into_iter().map(|(_, value)| value)).collect())
}

/// Sets what a path leads to; the last field of it may be new. False if the path leads nowhere.
fn set(document: &mut Document, path: &[PathSegment], value: Value) -> bool {
    let Some((PathSegment::Field(name), rest)) = path.split_first() else { return false };
    let slot = document.iter_mut().find(|(field, _)| field == name).map(|(_, value)| value);
    match (slot, rest.is_empty()) {
        (Some(slot), true) => {
            *slot = value;
            true
        }
        (None, true) => {
            document.push((name.clone(), value));
            true
        }
        (Some(slot), false) => set_in(slot, rest, value),
        (None, false) => false,
    }
}

fn set_in(container: &mut Value, path: &[PathSegment], value: Value) -> bool {
    match (container, path.split_first()) {
        (Value::Document(fields), _) => set(fields, path, value),
        (Value::Array(items), Some((PathSegment::Index(index), rest))) => {
            let Some(slot) = items.get_mut(*index) else { return false };
            if rest.is_empty() {
                *slot = value;
                return true;
            }
            set_in(slot, rest, value)
        }
        _ => false,
    }
}
