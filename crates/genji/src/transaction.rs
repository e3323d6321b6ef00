//! From the operations of one transaction to the changes that it made.
//!
//! Per key the last operation counts, at its place in the order. Catalog rows take effect where they stand, so that every
//! row is read by the definition of its time; the rows of a dropped table are deleted after its catalog row, so its
//! definition is kept to the end and the drop is reported behind them.

use std::collections::HashMap;
use std::sync::Arc;

use deltamesh_change::{ChangeEvent, EnginePosition, Item, Operation as ChangeOperation, SchemaChange};

use crate::Error;
use crate::batch::Operation;
use crate::catalog::{CatalogEntry, CatalogState, EntryKind, Space};
use crate::fault::Faults;
use crate::key;
use crate::relation::Relation;

/// One transaction of the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenjiTransaction {
    /// Position behind it.
    pub position: EnginePosition,
    /// Changes in the engine's order. Rows are upserts and deletes: the log does not tell insert from update.
    pub items: Vec<Item>,
    /// Whether the host died inside the transaction. Genji does not roll it back, so its part stays visible.
    pub partial: bool,
}

/// The last operation on a key.
struct RowOperation<'a> {
    order: usize,
    space: Arc<Space>,
    /// None: deleted.
    value: Option<&'a [u8]>,
}

/// A table whose catalog row was deleted and not written again yet.
struct Dropped {
    order: usize,
    name: String,
    relation: Arc<Relation>,
}

/// Collects the operations of a transaction.
pub(crate) struct Assembly<'a> {
    catalog: &'a mut CatalogState,
    faults: &'a mut Faults,
    order: usize,
    rows: HashMap<&'a [u8], RowOperation<'a>>,
    schema: Vec<(usize, SchemaChange)>,
    dropped: HashMap<i64, Dropped>,
    retired: HashMap<i64, Arc<Space>>,
    /// Whether a table got a namespace that another table has.
    shares: bool,
}

impl<'a> Assembly<'a> {
    pub(crate) fn new(catalog: &'a mut CatalogState, faults: &'a mut Faults) -> Self {
        Self {
            catalog,
            faults,
            order: 0,
            rows: HashMap::new(),
            schema: Vec::new(),
            dropped: HashMap::new(),
            retired: HashMap::new(),
            shares: false,
        }
    }

    /// Adds the operations of a batch.
    pub(crate) fn add(&mut self, operations: &[Operation<'a>]) {
        for operation in operations {
            self.order += 1;
            let (key, value) = match *operation {
                Operation::Set { key, value } => (key, Some(value)),
                Operation::Delete { key } => (key, None),
                // Only the rollback segment is deleted by range.
                Operation::RangeDelete { .. } => continue,
            };
            match (key::namespace_of(key), value) {
                (Some(key::CATALOG), Some(value)) => self.set_entry(key, value),
                (Some(key::CATALOG), None) => self.delete_entry(key),
                (Some(namespace @ key::FIRST_USER..key::FIRST_TRANSIENT), _) => {
                    self.row(namespace, key, value)
                }
                (Some(_), _) => {}
                (None, _) => self.faults.add("database", Some(key.len()), "key has no namespace"),
            }
        }
    }

    fn row(&mut self, namespace: i64, key: &'a [u8], value: Option<&'a [u8]>) {
        let space = self.catalog.space(namespace).or_else(|| self.retired.get(&namespace));
        match space {
            // Entries of an index, or rows of a table whose definition is a fault of its own.
            Some(space) if space.tables.is_empty() => {}
            Some(space) => {
                let space = space.clone();
                self.rows.insert(key, RowOperation { order: self.order, space, value });
            }
            // Entries of an index that is gone from the catalog are no rows.
            None if value.is_none() || value == Some(&[0]) => {}
            None => {
                self.faults.add(
                    &format!("namespace {namespace}"),
                    Some(key.len()),
                    "row belongs to no known table",
                );
            }
        }
    }

    fn set_entry(&mut self, key: &[u8], value: &[u8]) {
        let before = self.catalog.set(key, value, self.faults);
        let Ok(entry) = CatalogEntry::decode(value) else { return };
        let Some(relation) = self.catalog.relation(&entry.name).filter(|_| entry.kind == EntryKind::Table)
        else {
            return;
        };
        let schema = relation.schema.clone();
        let space = self.catalog.space(relation.namespace);
        self.shares |= before.is_none() && space.is_some_and(|space| space.tables.len() > 1);
        let dropped = self.dropped.remove(&relation.namespace);
        let change = match (&dropped, before) {
            (Some(dropped), _) if dropped.name != entry.name => {
                Some(SchemaChange::Rename { from: dropped.name.clone(), to: schema })
            }
            (Some(Dropped { relation, .. }), _) if relation.schema == schema => None,
            (None, Some(before)) if before.schema == schema => None,
            _ => Some(SchemaChange::Define(schema)),
        };
        self.schema.extend(change.map(|change| (self.order, change)));
    }

    fn delete_entry(&mut self, key: &[u8]) {
        let Ok(name) = CatalogEntry::name_of_key(key) else { return };
        let spaces = self.catalog.relation(&name).map(|relation| relation.namespace);
        if let Some((namespace, space)) =
            spaces.and_then(|namespace| Some((namespace, self.catalog.space(namespace)?.clone())))
        {
            self.retired.insert(namespace, space);
        }
        if let Some(relation) = self.catalog.delete(&name) {
            let namespace = relation.namespace;
            self.dropped.insert(namespace, Dropped { order: self.order, name, relation });
        }
    }

    /// Whether a table got a namespace that another table has. Genji shows it the rows of the other from then on; which,
    /// the log does not say.
    pub(crate) fn shares_namespace(&self) -> bool {
        self.shares
    }

    /// The changes in order.
    pub(crate) fn finish(self) -> Vec<Item> {
        let mut items: Vec<(usize, Item)> = Vec::with_capacity(self.rows.len() + self.schema.len());
        let mut dropped: HashMap<i64, Dropped> = self.dropped;
        for (key, operation) in self.rows {
            if let Some(dropped) = key::namespace_of(key).and_then(|namespace| dropped.get_mut(&namespace)) {
                dropped.order = dropped.order.max(operation.order);
            }
            row_items(key, &operation, self.faults, |item| items.push((operation.order, item)));
        }
        items.extend(self.schema.into_iter().map(|(order, change)| (order, Item::Schema(change))));
        items.extend(dropped.into_values().map(|dropped| {
            (dropped.order, Item::Schema(SchemaChange::Drop { relation: dropped.name, dsid: 0 }))
        }));
        // A drop has the order of its table's last row, and stands behind it.
        items.sort_by_key(|(order, item)| (*order, matches!(item, Item::Schema(SchemaChange::Drop { .. }))));
        items.into_iter().map(|(_, item)| item).collect()
    }
}

/// The change of one key in every table that may own it.
fn row_items(key: &[u8], operation: &RowOperation<'_>, faults: &mut Faults, mut emit: impl FnMut(Item)) {
    let space = &operation.space;
    // A shared namespace: real Genji shows a row in each table of it that can decode the row.
    let is_shared = space.tables.len() > 1 || space.indexed || space.unreadable;
    let mut failure = None;
    let mut found = false;
    for relation in &space.tables {
        match change(relation, key, operation.value) {
            Ok(event) => {
                found = true;
                emit(Item::Row(event));
            }
            Err(error) => failure = Some((&relation.schema.relation, error)),
        }
    }
    // The end of a key that never was a row's changes nothing: spilled transactions of Genji delete such keys.
    let is_no_row = operation.value.is_none_or(|value| space.indexed && value == [0]);
    if let Some((relation, error)) = failure.filter(|_| !(is_no_row || found && is_shared)) {
        faults.add(relation, Some(key.len()), error);
    }
}

fn change(relation: &Relation, key: &[u8], value: Option<&[u8]>) -> Result<ChangeEvent, Error> {
    let key = relation.decode_key(key::split(key)?.components)?;
    let after = value.map(|value| relation.decode_row(&key, value)).transpose()?;
    let operation = if after.is_some() { ChangeOperation::Upsert } else { ChangeOperation::Delete };
    Ok(ChangeEvent { schema: relation.schema.clone(), operation, key, before: None, after })
}
