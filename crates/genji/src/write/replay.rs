//! Taking over rows, definitions and sequences as another directory has them: nothing is checked, cast or defaulted again.

use std::sync::Arc;

use deltamesh_change::Value;

use super::database::Database;
use super::row::{self, Document};
use super::schema::{Index, Table};
use super::sequence::{self, Position};
use super::transaction::{Write, WriteTransaction, expand, index_set};
use crate::catalog::{
    CatalogEntry, Definition, DocumentDefinition, EntryKind, FieldType, IndexDefinition, TableDefinition,
};
use crate::relation::DOCID;
use crate::{Error, ErrorKind, key};

impl Database {
    /// The definitions of users' tables, indexes and sequences by name, without namespaces.
    pub fn objects(&self) -> Vec<CatalogEntry> {
        let mut entries = self.read(|state| {
            let tables = state.schema.tables().filter(|table| table.namespace >= key::FIRST_USER);
            let mut entries: Vec<CatalogEntry> = tables
                .flat_map(|table| {
                    let indexes = table.indexes.iter().map(|index| &index.entry);
                    std::iter::once(&table.entry).chain(indexes).cloned()
                })
                .collect();
            let sequences = state.schema.sequences().filter(|entry| !entry.name.starts_with("__genji_"));
            entries.extend(sequences.cloned());
            entries
        });
        entries.iter_mut().for_each(|entry| entry.namespace = None);
        entries.sort_by(|left, right| left.name.cmp(&right.name));
        entries
    }
}

impl WriteTransaction<'_> {
    /// Puts a row as it is, with its index entries, unless it is there already. The key of a table without primary key is among the fields.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for an unknown table; [`ErrorKind::Type`] where the key is not complete.
    pub fn replay_row(&mut self, table: &str, fields: &[(String, Value)]) -> Result<(), Error> {
        let table = self.schema.user_table(table)?;
        let document = arranged(&table.definition.document, &expand(&table, fields)?);
        let values = match table.primary_key() {
            Some(paths) => row::values_at(&table.definition, paths, &document),
            None => {
                let docid = fields.iter().find(|(name, _)| name == DOCID).map(|(_, value)| value.clone());
                vec![docid.ok_or_else(|| Error::new(ErrorKind::Type, "docid is missing"))?]
            }
        };
        let key = row::checked_key(table.namespace, &values)?;
        let bytes = row::encode(&table.definition.document, &document)?;
        let mut writes = vec![];
        let new = self.index_entries(&table, &document, &key)?;
        if let Some(stored) = self.stored_at(&table, key.clone())? {
            if row::read(&table.definition.document, &bytes)? == stored.document {
                return Ok(());
            }
            let old = self.index_entries(&table, &stored.document, &key)?;
            writes.extend(old.into_iter().filter(|entry| !new.contains(entry)).map(Write::Delete));
        }
        writes.push(Write::Set(key, bytes));
        writes.extend(new.into_iter().map(index_set));
        self.write(writes)
    }

    /// Creates the object of that definition, or makes the one of that name like it. Rows stay; fields that they lack are
    /// absent.
    ///
    /// # Errors
    /// What reading rows or the definition meets.
    pub fn replay_definition(&mut self, entry: &CatalogEntry) -> Result<(), Error> {
        match (entry.definition()?, self.schema.table(&entry.name)) {
            (Definition::Table(definition), Ok(table)) => self.redefine(&table, entry, &definition),
            (Definition::Table(_), Err(_)) => self.add_table(entry),
            (Definition::Index(definition), _) => self.add_index(entry, definition),
            (Definition::Sequence(_), _) => self.add_sequence(entry),
        }
    }

    fn add_table(&mut self, entry: &CatalogEntry) -> Result<(), Error> {
        self.replay_drop(&entry.name)?;
        let mut writes = vec![];
        let namespace = Some(self.take_namespace(&mut writes)?);
        let entry = CatalogEntry { namespace, ..entry.clone() };
        writes.push(Write::Set(entry.key(), entry.encode()));
        self.schema_mut().put_table(entry)?;
        self.write(writes)
    }

    fn redefine(
        &mut self,
        table: &Arc<Table>,
        entry: &CatalogEntry,
        definition: &TableDefinition,
    ) -> Result<(), Error> {
        let entry = CatalogEntry { namespace: Some(table.namespace), ..entry.clone() };
        if entry == table.entry {
            return Ok(());
        }
        let is_same_form = definition.document == table.definition.document;
        self.write(vec![Write::Set(entry.key(), entry.encode())])?;
        self.schema_mut().put_table(entry)?;
        if is_same_form {
            return Ok(());
        }
        for found in self.stream(&key::prefix(table.namespace))? {
            let (key, bytes) = found?;
            let document = row::read(&table.definition.document, &bytes)?;
            let bytes = row::encode(&definition.document, &arranged(&definition.document, &document))?;
            self.write(vec![Write::Set(key, bytes)])?;
        }
        Ok(())
    }

    fn add_index(&mut self, entry: &CatalogEntry, definition: IndexDefinition) -> Result<(), Error> {
        self.replay_drop(&entry.name)?;
        let owner = entry.owner.as_ref().map_or(&definition.table, |owner| &owner.table);
        let table = self.schema.user_table(owner)?;
        let mut writes = vec![];
        let namespace = self.take_namespace(&mut writes)?;
        let entry = CatalogEntry { namespace: Some(namespace), ..entry.clone() };
        writes.push(Write::Set(entry.key(), entry.encode()));
        self.schema_mut().put_index(entry.clone())?;
        self.write(writes)?;
        let index = Index { entry, definition, namespace };
        self.put_entries(&table, &index)
    }

    fn add_sequence(&mut self, entry: &CatalogEntry) -> Result<(), Error> {
        let mut writes = vec![Write::Set(entry.key(), entry.encode())];
        if self.schema.sequence(&entry.name).is_none() {
            self.replay_drop(&entry.name)?;
            let row = sequence::row_value(&entry.name, None);
            writes.push(Write::Set(sequence::row_key(&entry.name), row));
            self.renew_sequence(&entry.name, Some(Position::default()));
        }
        self.schema_mut().put_sequence(entry.clone());
        self.write(writes)
    }

    /// Drops the table (with its rows and indexes), index or sequence of that name, if there is one.
    ///
    /// # Errors
    /// What reading its keys meets.
    pub fn replay_drop(&mut self, name: &str) -> Result<(), Error> {
        if let Ok(table) = self.schema.table(name) {
            for index in &table.indexes {
                self.drop_entry(&index.entry)?;
            }
            self.drop_entry(&table.entry)?;
            self.schema_mut().remove_table(name);
        } else if let Ok((_, index)) = self.schema.index(name) {
            self.drop_entry(&index.entry)?;
            self.schema_mut().remove_index(name);
        } else if let Some(entry) = self.schema.sequence(name).cloned() {
            self.write(vec![Write::Delete(sequence::row_key(name)), Write::Delete(entry.key())])?;
            self.schema_mut().remove_sequence(name);
            self.renew_sequence(name, None);
        }
        Ok(())
    }

    /// Deletes a catalog row and every key of its namespace, in the engine's order.
    fn drop_entry(&mut self, entry: &CatalogEntry) -> Result<(), Error> {
        let row = Write::Delete(entry.key());
        if entry.kind == EntryKind::Index {
            self.delete_all(entry.namespace.unwrap_or_default())?;
            return self.write(vec![row]);
        }
        self.write(vec![row])?;
        self.delete_all(entry.namespace.unwrap_or_default())
    }

    /// Makes a sequence go on behind a value that was given out or reserved; a sequence that does not exist is passed over.
    ///
    /// # Errors
    /// The transaction cannot be written.
    pub fn replay_value(&mut self, name: &str, last: Option<i64>) -> Result<(), Error> {
        if self.schema.sequence(name).is_none() {
            return Ok(());
        }
        self.write(vec![Write::Set(sequence::row_key(name), sequence::row_value(name, last))])?;
        self.renew_sequence(name, Some(Position::stored(last)));
        Ok(())
    }
}

/// The fields in the form that is stored: every declared one in order, NULL where it is absent, then the others.
fn arranged(definition: &DocumentDefinition, fields: &[(String, Value)]) -> Document {
    let declared = definition.fields.iter().map(|field| {
        let given = fields.iter().find(|(name, _)| *name == field.name).map(|(_, value)| value);
        let value = match (&field.field_type, given) {
            (FieldType::Document(nested), Some(Value::Document(fields))) => {
                Value::Document(arranged(nested, fields))
            }
            (_, value) => value.cloned().unwrap_or(Value::Null),
        };
        (field.name.clone(), value)
    });
    let others = fields.iter().filter(|(name, _)| definition.field(name).is_none()).cloned();
    declared.chain(others).collect()
}
