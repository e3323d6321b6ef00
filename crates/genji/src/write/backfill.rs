//! What a definition changes in every row of a table: entries of a new index, rows of a new form, deletions.
//!
//! A table may be larger than memory, so its rows are read and written one at a time: what is too much for memory goes to
//! the log in parts, as any large transaction does (`spill`). A definition that fails on the way takes back what it wrote
//! ([`Savepoint`]); once a part is in the log only the transaction as a whole can be taken back.

use std::sync::Arc;

use super::filter::values_length;
use super::row;
use super::schema::{Index, Schema, Table};
use super::transaction::{Write, WriteTransaction, index_entry, index_set};
use crate::batch::BatchMark;
use crate::{Error, ErrorKind, key};

/// Where a transaction stood before a definition.
pub(crate) struct Savepoint {
    batch: BatchMark,
    /// What was written over since, in order.
    undo: Vec<Overwritten>,
}

/// A key of the overlay, and what stood there; the inner nothing is a deletion.
struct Overwritten {
    key: Vec<u8>,
    before: Option<Option<Vec<u8>>>,
}

impl WriteTransaction<'_> {
    /// Runs a definition: whole, or nothing of it stays.
    pub(crate) fn whole(&mut self, define: impl FnOnce(&mut Self) -> Result<(), Error>) -> Result<(), Error> {
        let before: Arc<Schema> = self.schema.clone();
        self.savepoint = Some(Savepoint { batch: self.batch.mark(), undo: Vec::new() });
        let result = define(self);
        let savepoint = self.savepoint.take();
        if result.is_err() {
            self.schema = before;
            match savepoint {
                Some(savepoint) => self.rewind(savepoint),
                None => self.is_broken = true,
            }
        }
        result
    }

    fn rewind(&mut self, savepoint: Savepoint) {
        self.batch.rewind(savepoint.batch);
        for Overwritten { key, before } in savepoint.undo.into_iter().rev() {
            match before {
                Some(before) => self.overlay.insert(key, before),
                None => self.overlay.remove(&key),
            };
        }
    }

    /// Refuses to go on where a definition failed of which parts are in the log.
    pub(crate) fn require_whole(&self) -> Result<(), Error> {
        if self.is_broken {
            return Err(Error::new(ErrorKind::Closed, "a definition failed, only rollback is possible"));
        }
        Ok(())
    }

    /// Notes what a key is to hold.
    pub(crate) fn put(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        match &mut self.savepoint {
            Some(savepoint) => {
                let before = self.overlay.insert(key.clone(), value);
                savepoint.undo.push(Overwritten { key, before });
            }
            None => drop(self.overlay.insert(key, value)),
        }
    }

    /// Writes the entries of a new index for all rows of its table.
    pub(crate) fn write_entries(&mut self, table: &Table, index: &Index) -> Result<(), Error> {
        self.put_entries(table, index)?;
        self.require_distinct(index)
    }

    /// As [`Self::write_entries`], equal values or not.
    pub(crate) fn put_entries(&mut self, table: &Table, index: &Index) -> Result<(), Error> {
        for row in self.stream(&key::prefix(table.namespace))? {
            let (row_key, bytes) = row?;
            let document = row::read(&table.definition.document, &bytes)?;
            self.write(vec![index_set(index_entry(table, index, &document, &row_key)?)])?;
        }
        Ok(())
    }

    /// Refuses equal values in a unique index: in its order they stand side by side.
    fn require_distinct(&self, index: &Index) -> Result<(), Error> {
        if !index.definition.unique {
            return Ok(());
        }
        let mut before = Vec::new();
        for entry in self.stream(&key::prefix(index.namespace))? {
            let (mut entry, _) = entry?;
            let is_null = |value: &deltamesh_change::Value| value.is_null();
            let length = values_length(&entry).unwrap_or(entry.len());
            if entry.get(..length) == Some(before.as_slice())
                && !key::split(&entry)?.values()?.iter().any(is_null)
            {
                let reason = format!("unique index {} would have equal rows", index.definition.name);
                return Err(Error::new(ErrorKind::Constraint, reason));
            }
            entry.truncate(length);
            before = entry;
        }
        Ok(())
    }

    /// Deletes every key of a namespace.
    pub(crate) fn delete_all(&mut self, namespace: i64) -> Result<(), Error> {
        for entry in self.stream(&key::prefix(namespace))? {
            let (key, _) = entry?;
            self.write(vec![Write::Delete(key)])?;
        }
        Ok(())
    }

    /// Writes the rows of a table in its new form, and their entries in new indexes.
    pub(crate) fn rewrite_rows(
        &mut self,
        before: &Table,
        name: &str,
        indexes: &[String],
    ) -> Result<(), Error> {
        let after = self.schema.table(name)?;
        let is_new = |index: &&Arc<Index>| indexes.contains(&index.definition.name);
        for row in self.stream(&key::prefix(before.namespace))? {
            let (key, bytes) = row?;
            let document = row::read(&before.definition.document, &bytes)?;
            let document = self.validated(&after, document)?;
            let bytes = row::encode(&after.definition.document, &document)?;
            let mut writes = Vec::new();
            for index in after.indexes.iter().filter(is_new) {
                writes.push(index_set(index_entry(&after, index, &document, &key)?));
            }
            writes.push(Write::Set(key, bytes));
            self.write(writes)?;
        }
        after.indexes.iter().filter(is_new).try_for_each(|index| self.require_distinct(index))
    }
}
