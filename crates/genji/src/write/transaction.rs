//! One write transaction: reads its own writes, becomes one batch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, MutexGuard};

use deltamesh_change::{EnginePosition, Value};

use super::backfill::Savepoint;
use super::database::{Database, Submitted, Writer};
use super::memtable::{ENTRY_OVERHEAD, Version};
use super::merge::{Found, Live};
use super::row::{self, Document};
use super::schema::{Index, Schema, Table};
use super::sequence::{self, Position, Positions};
use super::spill::Spilled;
use crate::batch::BatchWriter;
use crate::catalog::Path;
use crate::{Error, ErrorKind, key};

/// The name under which a caller gives the key of a table without primary key.
const DOCID: &str = crate::relation::DOCID;
/// The name under which a caller gives a document of undeclared fields.
const EXTRA: &str = crate::relation::EXTRA;

/// An open write transaction. Dropping it undoes everything; each call for one row either takes effect whole or not at all.
/// But values that were taken from sequences are not given out again.
pub struct WriteTransaction<'a> {
    pub(crate) database: &'a Database,
    pub(crate) writer: MutexGuard<'a, Writer>,
    pub(crate) schema: Arc<Schema>,
    pub(crate) schema_changed: bool,
    sequences: BTreeMap<String, Option<Position>>,
    /// The sequences that it created or dropped.
    renewed: BTreeSet<String>,
    pub(crate) batch: BatchWriter,
    pub(crate) overlay: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// Set while parts of it are written; given back before the writer.
    pub(crate) spilled: Option<Spilled<'a>>,
    /// Set while a definition runs of which no part is written.
    pub(crate) savepoint: Option<Savepoint>,
    /// Whether a definition failed of which parts are written.
    pub(crate) is_broken: bool,
}

/// One operation to come.
pub(crate) enum Write {
    Set(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
}

impl Write {
    fn bytes(&self) -> usize {
        match self {
            Self::Set(key, value) => key.len() + value.len(),
            Self::Delete(key) => key.len(),
        }
    }
}

/// A row as it is stored now.
pub(crate) struct Stored {
    pub(crate) key: Vec<u8>,
    bytes: Vec<u8>,
    pub(crate) document: Document,
}

impl<'a> WriteTransaction<'a> {
    pub(crate) fn new(database: &'a Database, writer: MutexGuard<'a, Writer>) -> Self {
        Self {
            schema: database.read(|state| state.schema.clone()),
            database,
            writer,
            schema_changed: false,
            sequences: BTreeMap::new(),
            renewed: BTreeSet::new(),
            batch: BatchWriter::new(),
            overlay: BTreeMap::new(),
            spilled: None,
            savepoint: None,
            is_broken: false,
        }
    }

    /// Makes the transaction visible and durable; transactions that commit together share a flush. `None` if it changed nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the log could not be written: whether the transaction survived shows after reopening.
    /// [`ErrorKind::Closed`] if an earlier one failed so, or if a definition larger than memory failed in this one.
    pub fn commit(self) -> Result<Option<EnginePosition>, Error> {
        let database = self.database;
        let Some(submitted) = self.submit()? else { return Ok(None) };
        database.wait(&submitted)?;
        Ok(Some(submitted.position))
    }

    /// Writes the transaction and makes it visible, and lets the next one begin; [`Database::wait`] or [`Database::sync`]
    /// makes it durable, for many at once. `None` if it changed nothing.
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub fn submit(mut self) -> Result<Option<Submitted>, Error> {
        self.writer.files()?;
        self.require_whole()?;
        self.end_spilled();
        if self.batch.is_empty() {
            self.end_sequences();
            return Ok(None);
        }
        let batch = std::mem::take(&mut self.batch);
        let schema = self.schema_changed.then(|| self.schema.clone());
        let submitted = self.writer.commit(batch, schema, self.database)?;
        self.spilled = None;
        self.end_sequences();
        Ok(Some(submitted))
    }

    /// Puts the positions of sequences where this transaction leaves them.
    fn end_sequences(&mut self) {
        for (name, moved) in std::mem::take(&mut self.sequences) {
            match moved {
                Some(moved) => self.writer.sequences.insert(name, moved),
                None => self.writer.sequences.remove(&name),
            };
        }
    }

    /// Whether committing it would change anything.
    #[must_use]
    pub fn has_changes(&self) -> bool {
        !self.batch.is_empty() || self.spilled.is_some()
    }

    /// Whether the database still takes writes.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] after a failed write.
    pub fn check(&mut self) -> Result<(), Error> {
        self.writer.files().map(drop)
    }

    /// Inserts a row; returns its key.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for an unknown table or field, [`ErrorKind::Type`], [`ErrorKind::Constraint`] (NOT NULL,
    /// UNIQUE), [`ErrorKind::AlreadyExists`] for the primary key.
    pub fn insert(&mut self, table: &str, fields: &[(String, Value)]) -> Result<Vec<Value>, Error> {
        let table = self.schema.user_table(table)?;
        if table.primary_key().is_none() && fields.iter().any(|(name, _)| name == DOCID) {
            return Err(Error::new(ErrorKind::Unsupported, "docids are given by the database"));
        }
        self.insert_into(&table, expand(&table, fields)?)
    }

    /// Inserts a row or replaces the whole row of the same key; returns the key.
    ///
    /// # Errors
    /// As [`Self::insert`], without [`ErrorKind::AlreadyExists`].
    pub fn upsert(&mut self, table: &str, fields: &[(String, Value)]) -> Result<Vec<Value>, Error> {
        let table = self.schema.user_table(table)?;
        let document = expand(&table, fields)?;
        let Ok(key) = self.key_in(&table, fields) else { return self.insert_into(&table, document) };
        match self.stored(&table, &key)? {
            Some(stored) => {
                let document = self.validated(&table, document)?;
                self.replace(&table, stored, document)?;
                Ok(key)
            }
            None if table.primary_key().is_none() => {
                Err(Error::new(ErrorKind::NotFound, "no row has this docid"))
            }
            None => self.insert_into(&table, document),
        }
    }

    /// Changes the named fields of the row whose key is among them; says whether there is such a row.
    ///
    /// # Errors
    /// As [`Self::insert`]; [`ErrorKind::Type`] when the key is not complete.
    pub fn update(&mut self, table: &str, fields: &[(String, Value)]) -> Result<bool, Error> {
        let table = self.schema.user_table(table)?;
        let key = self.key_in(&table, fields)?;
        let changes: Vec<(Path, Value)> = expand(&table, fields)?
            .into_iter()
            .filter(|(_, value)| *value != Value::Unchanged)
            .map(|(name, value)| (Path::field(name), value))
            .collect();
        self.update_row(&table, &key, &changes)
    }

    /// Changes fields of the row of that key; says whether there is such a row.
    ///
    /// # Errors
    /// As [`Self::update`].
    pub fn update_by_key(
        &mut self,
        table: &str,
        key: &[Value],
        changes: &[(Path, Value)],
    ) -> Result<bool, Error> {
        let table = self.schema.user_table(table)?;
        self.update_row(&table, key, changes)
    }

    /// Deletes the row whose key is among the fields; says whether there was one.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for an unknown table, [`ErrorKind::Type`] when the key is not complete.
    pub fn delete(&mut self, table: &str, fields: &[(String, Value)]) -> Result<bool, Error> {
        let table = self.schema.user_table(table)?;
        let key = self.key_in(&table, fields)?;
        self.delete_row(&table, &key)
    }

    /// Deletes the row of that key; says whether there was one.
    ///
    /// # Errors
    /// As [`Self::delete`].
    pub fn delete_by_key(&mut self, table: &str, key: &[Value]) -> Result<bool, Error> {
        let table = self.schema.user_table(table)?;
        self.delete_row(&table, key)
    }

    /// The row of that key as this transaction sees it.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for an unknown table, [`ErrorKind::Type`] for a key of other types.
    pub fn get(&self, table: &str, key: &[Value]) -> Result<Option<Document>, Error> {
        let table = self.schema.user_table(table)?;
        Ok(self.stored(&table, key)?.map(|stored| stored.document))
    }

    /// The key among named fields, as [`Self::update`] and [`Self::delete`] find their row.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for an unknown table, [`ErrorKind::Type`] when the key is not complete.
    pub fn key_of(&self, table: &str, fields: &[(String, Value)]) -> Result<Vec<Value>, Error> {
        let table = self.schema.user_table(table)?;
        self.key_in(&table, fields)
    }

    /// As [`Self::get`], with the docid as first field where that is the key.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn get_with_docid(&self, table: &str, key: &[Value]) -> Result<Option<Document>, Error> {
        let table = self.schema.user_table(table)?;
        let Some(Stored { mut document, .. }) = self.stored(&table, key)? else { return Ok(None) };
        if let (None, [docid]) = (table.primary_key(), key) {
            document.insert(0, (DOCID.to_owned(), docid.clone()));
        }
        Ok(Some(document))
    }

    fn insert_into(&mut self, table: &Table, document: Document) -> Result<Vec<Value>, Error> {
        let document = self.validated(table, document)?;
        self.put_new(table, &document)
    }

    /// Writes a validated document as a new row; returns its key.
    pub(crate) fn put_new(
        &mut self,
        table: &Table,
        document: &[(String, Value)],
    ) -> Result<Vec<Value>, Error> {
        let bytes = row::encode(&table.definition.document, document)?;
        let mut writes = Vec::with_capacity(2 + table.indexes.len());
        let mut docid = None;
        let values = match table.primary_key() {
            Some(paths) => row::key_values(&table.definition, paths, document)?,
            None => {
                let (name, position, stored) = self.next_docid(table)?;
                if let Some(lease) = stored {
                    writes.push(Write::Set(sequence::row_key(name), sequence::row_value(name, Some(lease))));
                }
                docid = Some((name.to_owned(), position));
                vec![Value::Int(position.last().unwrap_or_default())]
            }
        };
        let key = row::checked_key(table.namespace, &values)?;
        let entries = self.index_entries(table, document, &key)?;
        for index in &table.indexes {
            self.check_unique(table, index, document, &[])?;
        }
        if self.value(&key)?.is_some() {
            let reason = format!("table {} has a row of this key", table.definition.name);
            return Err(Error::new(ErrorKind::AlreadyExists, reason));
        }
        writes.push(Write::Set(key, bytes));
        writes.extend(entries.into_iter().map(index_set));
        self.write(writes)?;
        if let Some((name, position)) = docid {
            self.move_sequence(&name, position);
        }
        Ok(values)
    }

    /// The docid sequence of a table, where it stands after the next docid, and what to store for it.
    fn next_docid<'t>(&self, table: &'t Table) -> Result<(&'t str, Position, Option<i64>), Error> {
        let name = table.entry.docid_sequence.as_deref();
        let name =
            name.ok_or_else(|| Error::new(ErrorKind::Corrupt, "table has neither key nor docid sequence"))?;
        let mut position = self.position_of(name);
        let definition = self.schema.sequence_definition(name)?;
        let (_, stored) = position.next(&definition)?;
        Ok((name, position, stored))
    }

    fn update_row(&mut self, table: &Table, key: &[Value], changes: &[(Path, Value)]) -> Result<bool, Error> {
        let Some(stored) = self.stored(table, key)? else { return Ok(false) };
        let mut document = stored.document.clone();
        for (path, value) in changes {
            row::set_at(&mut document, path, value)?;
        }
        let document = self.validated(table, document)?;
        self.put_changed(table, stored, document)?;
        Ok(true)
    }

    /// Puts a validated document in the place of a stored one, under another key if the key's fields changed.
    pub(crate) fn put_changed(
        &mut self,
        table: &Table,
        stored: Stored,
        document: Document,
    ) -> Result<(), Error> {
        if let Some(paths) = table.primary_key() {
            let key =
                row::checked_key(table.namespace, &row::key_values(&table.definition, paths, &document)?)?;
            if key != stored.key {
                if self.value(&key)?.is_some() {
                    let reason = format!("table {} has a row of this key", table.definition.name);
                    return Err(Error::new(ErrorKind::AlreadyExists, reason));
                }
                self.remove(table, stored)?;
                return self.put_new(table, &document).map(drop);
            }
        }
        self.replace(table, stored, document)
    }

    /// Puts a validated document in the place of a stored one; the key stays.
    pub(crate) fn replace(&mut self, table: &Table, stored: Stored, document: Document) -> Result<(), Error> {
        let bytes = row::encode(&table.definition.document, &document)?;
        let old = self.index_entries(table, &stored.document, &stored.key)?;
        let new = self.index_entries(table, &document, &stored.key)?;
        let mut writes = Vec::new();
        let mut sets = Vec::new();
        for ((index, old), new) in table.indexes.iter().zip(old).zip(new) {
            if old == new {
                continue;
            }
            self.check_unique(table, index, &document, &new)?;
            writes.push(Write::Delete(old));
            sets.push(index_set(new));
        }
        if bytes != stored.bytes {
            writes.push(Write::Set(stored.key, bytes));
        }
        writes.extend(sets);
        self.write(writes)
    }

    fn delete_row(&mut self, table: &Table, key: &[Value]) -> Result<bool, Error> {
        let Some(stored) = self.stored(table, key)? else { return Ok(false) };
        self.remove(table, stored)?;
        Ok(true)
    }

    /// Deletes a stored row with its index entries.
    pub(crate) fn remove(&mut self, table: &Table, stored: Stored) -> Result<(), Error> {
        let mut writes: Vec<Write> = self
            .index_entries(table, &stored.document, &stored.key)?
            .into_iter()
            .map(Write::Delete)
            .collect();
        writes.push(Write::Delete(stored.key));
        self.write(writes)
    }

    /// The stored row of a key given by its values.
    fn stored(&self, table: &Table, key: &[Value]) -> Result<Option<Stored>, Error> {
        self.stored_at(table, key::encode(table.namespace, &row::cast_key(&table.definition, key)?)?)
    }

    /// The stored row of an encoded key.
    pub(crate) fn stored_at(&self, table: &Table, key: Vec<u8>) -> Result<Option<Stored>, Error> {
        let Some(bytes) = self.value(&key)? else { return Ok(None) };
        let document = row::read(&table.definition.document, &bytes)?;
        Ok(Some(Stored { key, bytes, document }))
    }

    /// The values of the key among named fields.
    fn key_in(&self, table: &Table, fields: &[(String, Value)]) -> Result<Vec<Value>, Error> {
        let docid = [Path::field(DOCID)];
        let paths = table.primary_key().unwrap_or(&docid);
        let named = |path: &Path| {
            let name = path.to_string();
            fields.iter().find(|(field, _)| *field == name).map(|(_, value)| value)
        };
        let missing = |path: &Path| Error::new(ErrorKind::Type, format!("key field {path} is missing"));
        paths
            .iter()
            .map(|path| path.find(fields).or_else(|| named(path)).cloned().ok_or_else(|| missing(path)))
            .collect()
    }

    /// The keys of the row's index entries, one per index.
    pub(super) fn index_entries(
        &self,
        table: &Table,
        document: &[(String, Value)],
        row_key: &[u8],
    ) -> Result<Vec<Vec<u8>>, Error> {
        table.indexes.iter().map(|index| index_entry(table, index, document, row_key)).collect()
    }

    /// Refuses a second row with the same indexed values as the row of `entry`, unless one of them is null.
    pub(crate) fn check_unique(
        &self,
        table: &Table,
        index: &Index,
        document: &[(String, Value)],
        entry: &[u8],
    ) -> Result<(), Error> {
        if !index.definition.unique {
            return Ok(());
        }
        let values = row::values_at(&table.definition, &index.definition.paths, document);
        if values.iter().any(Value::is_null) {
            return Ok(());
        }
        let taken = self.prefix(&key::encode(index.namespace, &values)?)?;
        if taken.keys().any(|key| key != entry) {
            let reason = format!("unique index {} has these values", index.definition.name);
            return Err(Error::new(ErrorKind::Constraint, reason));
        }
        Ok(())
    }

    /// The value of a key as this transaction sees it.
    pub(crate) fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        match self.overlay.get(key) {
            Some(value) => Ok(value.clone()),
            None => self.database.read(|state| state.store.get(key)),
        }
    }

    /// The keys that begin with `prefix` as this transaction sees them, in byte order.
    pub(crate) fn prefix(&self, prefix: &[u8]) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Error> {
        let mut found = self.database.read(|state| state.store.prefix(prefix))?;
        for (key, value) in
            self.overlay.range(prefix.to_vec()..).take_while(|(key, _)| key.starts_with(prefix))
        {
            match value {
                Some(value) => found.insert(key.clone(), value.clone()),
                None => found.remove(key),
            };
        }
        Ok(found)
    }

    /// The keys that begin with `prefix` as this transaction sees them now, in Genji's order, a block at a time. What it
    /// writes afterwards does not show.
    pub(crate) fn stream(&self, prefix: &[u8]) -> Result<Live, Error> {
        let written = self.overlay.range(prefix.to_vec()..).take_while(|(key, _)| key.starts_with(prefix));
        let found = |(key, value): (&Vec<u8>, &Option<Vec<u8>>)| Found {
            key: key.clone(),
            version: Version { sequence: u64::MAX, value: value.clone() },
        };
        let overlay = written.map(found).collect();
        self.database.read(|state| state.store.stream(prefix, overlay))
    }

    /// Adds operations to the batch.
    pub(crate) fn write(&mut self, writes: Vec<Write>) -> Result<(), Error> {
        self.require_whole()?;
        let bytes: usize = writes.iter().map(Write::bytes).sum();
        if bytes > self.database.options.transaction_bytes {
            return Err(self.size_error());
        }
        for write in writes {
            match write {
                Write::Set(key, value) => {
                    self.batch.set(&key, &value);
                    self.put(key, Some(value));
                }
                Write::Delete(key) => {
                    self.batch.delete(&key);
                    self.put(key, None);
                }
            }
        }
        let held = self.batch.size() + self.batch.count() as usize * ENTRY_OVERHEAD;
        if held < self.database.options.spill_bytes { Ok(()) } else { self.spill() }
    }

    pub(crate) fn size_error(&self) -> Error {
        let limit = self.database.options.transaction_bytes;
        Error::new(ErrorKind::Unsupported, format!("one call changes more than {limit} bytes"))
    }

    /// Most bytes that a statement may hold in memory.
    pub(crate) fn byte_limit(&self) -> usize {
        self.database.options.transaction_bytes
    }

    /// Where a sequence stands for this transaction.
    pub(crate) fn position_of(&self, name: &str) -> Position {
        let committed: &Positions = &self.writer.sequences;
        match self.sequences.get(name) {
            Some(moved) => moved.unwrap_or_default(),
            None => committed.get(name).copied().unwrap_or_default(),
        }
    }

    /// Moves a sequence.
    pub(crate) fn move_sequence(&mut self, name: &str, position: Position) {
        self.sequences.insert(name.to_owned(), Some(position));
    }

    /// Begins a sequence anew, or forgets it.
    pub(crate) fn renew_sequence(&mut self, name: &str, position: Option<Position>) {
        self.renewed.insert(name.to_owned());
        self.sequences.insert(name.to_owned(), position);
    }

    /// Leaves the positions of sequences where they are, of a transaction that is undone: its values are not given out again.
    pub(crate) fn pass_sequences(&mut self) {
        for (name, moved) in std::mem::take(&mut self.sequences) {
            if let (Some(moved), Some(position)) = (moved, self.writer.sequences.get_mut(&name))
                && !self.renewed.contains(&name)
            {
                position.pass(moved);
            }
        }
    }
}

/// The key of a row's entry in an index: indexed values, then the row's key as a blob.
pub(crate) fn index_entry(
    table: &Table,
    index: &Index,
    document: &[(String, Value)],
    row_key: &[u8],
) -> Result<Vec<u8>, Error> {
    let mut values = row::values_at(&table.definition, &index.definition.paths, document);
    values.push(Value::Bytes(row_key.to_vec()));
    row::checked_key(index.namespace, &values)
}

/// Sets an index entry; its value is one zero byte.
pub(crate) fn index_set(entry: Vec<u8>) -> Write {
    Write::Set(entry, vec![0])
}

/// The row that named columns of the relation stand for: the docid left out, keys inside documents and undeclared fields
/// put in their places.
pub(super) fn expand(table: &Table, fields: &[(String, Value)]) -> Result<Document, Error> {
    let definition = &table.definition.document;
    let paths = table.primary_key().unwrap_or_default();
    let mut document = Document::with_capacity(fields.len());
    for (name, value) in fields {
        if definition.field(name).is_some() {
            document.push((name.clone(), value.clone()));
        }
    }
    for (name, value) in fields.iter().filter(|(name, _)| definition.field(name).is_none()) {
        if let Some(path) = paths.iter().find(|path| path.to_string() == *name) {
            row::set_at(&mut document, path, value)?;
            continue;
        }
        match value {
            _ if table.primary_key().is_none() && name == DOCID => {}
            Value::Null | Value::Unchanged if definition.extra && name == EXTRA => {}
            Value::Document(extra) if definition.extra && name == EXTRA => {
                document.extend(extra.iter().cloned())
            }
            _ => document.push((name.clone(), value.clone())),
        }
    }
    Ok(document)
}
