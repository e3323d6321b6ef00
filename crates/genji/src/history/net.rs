//! The net effect of a transaction's operations.

use std::collections::HashMap;

use crate::Error;
use crate::batch::{Batch, Operation};
use crate::catalog::{CatalogEntry, EntryKind};
use crate::engine::{Cleared, Engine};
use crate::history::names::{Claims, Names};
use crate::history::{Image, LoggedChange, LoggedSchema, RowOperation, SchemaOperation};
use crate::key;
use crate::stored::StoredTable;

/// What a transaction did to one key.
struct Written {
    sequence: u64,
    claims: Claims,
    before: Option<Vec<u8>>,
}

/// Collects the operations of a transaction.
pub(super) struct Net<'a> {
    engine: Engine,
    names: &'a mut Names,
    state: &'a mut HashMap<Vec<u8>, Vec<u8>>,
    schema: Vec<LoggedSchema>,
    rows: HashMap<Vec<u8>, Written>,
    /// Who claimed the namespaces that nobody claims any more.
    retired: HashMap<i64, Claims>,
    /// Tables as they were defined before the transaction, where it changed them: what reads the rows of then.
    former: HashMap<i64, StoredTable>,
}

impl<'a> Net<'a> {
    pub(super) fn new(names: &'a mut Names, state: &'a mut HashMap<Vec<u8>, Vec<u8>>) -> Self {
        let engine = names.engine();
        let (rows, retired, former) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { engine, names, state, schema: Vec::new(), rows, retired, former }
    }

    pub(super) fn add(&mut self, batch: &Batch<'_>) {
        for (sequence, operation) in (batch.sequence..).zip(&batch.operations) {
            let (key, value) = match *operation {
                Operation::Set { key, value } => (key, Some(value)),
                Operation::Delete { key } => (key, None),
                Operation::RangeDelete { start, end } => {
                    if let Ok(Cleared::Space(_)) = self.engine.cleared(start, end) {
                        self.empty(sequence, start);
                    }
                    continue;
                }
            };
            match (self.engine.namespace_of(key), value) {
                (Some(key::CATALOG), Some(value)) => self.set_entry(sequence, value),
                (Some(key::CATALOG), None) => self.delete_entry(sequence, key),
                (Some(namespace @ key::FIRST_USER..key::FIRST_TRANSIENT), _) => {
                    self.row(sequence, namespace, key, value);
                }
                (Some(_), _) => {}
                (None, _) => self.write(sequence, Claims::default(), key, value),
            }
        }
    }

    /// A catalog row that does not decode changes no name; a snapshot shows it with its reason.
    fn set_entry(&mut self, sequence: u64, value: &[u8]) {
        let Ok(entry) = self.engine.entry(value) else { return };
        let operation = match self.names.set(entry.clone()) {
            Some(before) if before == entry => return,
            Some(before) => {
                self.keep_former(before);
                SchemaOperation::Alter
            }
            None => self.renamed(&entry).map_or(SchemaOperation::Create, SchemaOperation::Rename),
        };
        self.schema.push(LoggedSchema { sequence, operation, entry });
    }

    fn keep_former(&mut self, entry: CatalogEntry) {
        let Some(namespace) = entry.namespace else { return };
        if let Some(table) = StoredTable::new(self.engine, entry) {
            self.former.entry(namespace).or_insert(table);
        }
    }

    /// The name that a table of the same namespace lost in this transaction; its drop is none, then.
    fn renamed(&mut self, entry: &CatalogEntry) -> Option<String> {
        let is_same = |change: &LoggedSchema| {
            change.operation == SchemaOperation::Drop
                && change.entry.kind == EntryKind::Table
                && entry.kind == EntryKind::Table
                && entry.namespace.is_some()
                && change.entry.namespace == entry.namespace
        };
        let index = self.schema.iter().rposition(is_same)?;
        Some(self.schema.remove(index).entry.name)
    }

    fn delete_entry(&mut self, sequence: u64, key: &[u8]) {
        let Ok(name) = self.engine.entry_name(key) else { return };
        let Some(entry) = self.names.remove(&name) else { return };
        self.keep_former(entry.clone());
        if let Some(namespace) = entry.namespace {
            let mut claims = self.names.claims(namespace).unwrap_or_default();
            claims.tables.extend(StoredTable::new(self.engine, entry.clone()).map(Into::into));
            claims.is_indexed |= entry.kind == EntryKind::Index;
            self.retired.insert(namespace, claims);
        }
        self.schema.push(LoggedSchema { sequence, operation: SchemaOperation::Drop, entry });
    }

    fn row(&mut self, sequence: u64, namespace: i64, key: &[u8], value: Option<&[u8]>) {
        let claims = self.names.claims(namespace).or_else(|| self.retired.get(&namespace).cloned());
        match claims {
            Some(claims) if claims.tables.is_empty() => {}
            Some(claims) => self.write(sequence, claims, key, value),
            // Entries of an index that is gone from the catalog are no rows.
            None if value.is_none() || value == Some(&[0]) => {}
            None => self.write(sequence, Claims::default(), key, value),
        }
    }

    /// All keys with that prefix are gone.
    fn empty(&mut self, sequence: u64, prefix: &[u8]) {
        let Some(namespace) = self.engine.namespace_of(prefix) else { return };
        let mut keys: Vec<_> = self.state.keys().filter(|key| key.starts_with(prefix)).cloned().collect();
        keys.sort_by(|left, right| self.engine.compare(left, right));
        for key in keys {
            self.row(sequence, namespace, &key, None);
        }
    }

    fn write(&mut self, sequence: u64, claims: Claims, key: &[u8], value: Option<&[u8]>) {
        let before = match value {
            Some(value) => self.state.insert(key.to_vec(), value.to_vec()),
            None => self.state.remove(key),
        };
        match self.rows.get_mut(key) {
            Some(written) => (written.sequence, written.claims) = (sequence, claims),
            None => drop(self.rows.insert(key.to_vec(), Written { sequence, claims, before })),
        }
    }

    /// The changes in order.
    pub(super) fn finish(self) -> (Vec<LoggedSchema>, Vec<LoggedChange>) {
        let mut rows: Vec<_> = self.rows.into_iter().collect();
        rows.sort_by_key(|(_, written)| written.sequence);
        let mut changes = Vec::with_capacity(rows.len());
        for (key, written) in rows {
            let former = self.engine.namespace_of(&key).and_then(|namespace| self.former.get(&namespace));
            let after = self.state.get(&key).map(Vec::as_slice);
            changes_of(self.engine, &key, &written, former, after, &mut changes);
        }
        (self.schema, changes)
    }
}

/// The change of one key in every table that may own it; where none can read it, with the reason.
fn changes_of(
    engine: Engine,
    key: &[u8],
    written: &Written,
    former: Option<&StoredTable>,
    after: Option<&[u8]>,
    out: &mut Vec<LoggedChange>,
) {
    let namespace = engine.namespace_of(key);
    let before = written.before.as_deref();
    if before.is_none() && after.is_none() {
        return;
    }
    let first = out.len();
    for table in &written.claims.tables {
        let image = |table: &StoredTable, value| table.primary_key(key).and_then(|_| table.document(value));
        let former = former.filter(|_| written.claims.tables.len() == 1).unwrap_or(table);
        let change = LoggedChange {
            sequence: written.sequence,
            table: Some(table.entry.name.clone()),
            namespace,
            key: key.to_vec(),
            primary_key: table.primary_key(key).ok(),
            operation: RowOperation::Noop,
            before: before.map(|value| image(former, value)),
            after: after.map(|value| image(table, value)),
        };
        out.push(with_operation(change, before, after));
    }
    let is_readable = |change: &LoggedChange| {
        [&change.before, &change.after].into_iter().flatten().all(|image| image.is_ok())
    };
    // A shared namespace: Genji shows a row in each table of it that can read the row.
    let is_shared = written.claims.is_indexed || written.claims.tables.len() > 1;
    let is_entry =
        written.claims.is_indexed && [before, after].into_iter().flatten().all(|value| value == [0]);
    if is_shared && (is_entry || out[first..].iter().any(is_readable)) {
        let mut index = 0;
        out.retain(|change| {
            index += 1;
            index <= first || is_readable(change)
        });
    }
    if written.claims.tables.is_empty() {
        let unknown = |_: &[u8]| Err(Error::decode("row belongs to no known table"));
        let change = LoggedChange {
            sequence: written.sequence,
            table: None,
            namespace,
            key: key.to_vec(),
            primary_key: None,
            operation: RowOperation::Noop,
            before: before.map(unknown),
            after: after.map(unknown),
        };
        out.push(with_operation(change, before, after));
    }
}

/// Fills in what happened; a write of equal values shows none.
fn with_operation(mut change: LoggedChange, before: Option<&[u8]>, after: Option<&[u8]>) -> LoggedChange {
    let equal = |one: &Image, other: &Image| match (one, other) {
        (Ok(one), Ok(other)) => one == other,
        _ => before == after,
    };
    change.operation = match (&change.before, &change.after) {
        (None, _) => RowOperation::Insert,
        (_, None) => RowOperation::Delete,
        (Some(one), Some(other)) if equal(one, other) => RowOperation::Noop,
        _ => RowOperation::Update,
    };
    if change.operation == RowOperation::Noop {
        (change.before, change.after) = (None, None);
    }
    change
}
