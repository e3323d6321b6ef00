//! From the operations of one transaction to the changes that it made.
//!
//! Per key the last operation counts, at its place in the order. Catalog rows take effect where they stand, so that every
//! row is read by the definition of its time; the rows of a dropped table are deleted after its catalog row, so its
//! definition is kept to the end and the drop is reported behind them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use deltamesh_change::{ChangeEvent, EnginePosition, Item, Operation as ChangeOperation, SchemaChange};

use crate::Error;
use crate::batch::Operation;
use crate::catalog::{CatalogState, EntryKind, Space};
use crate::engine::{Cleared, Engine};
use crate::fault::Faults;
use crate::key::{self, Key};
use crate::object::ObjectChange;
use crate::relation::Relation;

/// One transaction of the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenjiTransaction {
    /// Position behind it.
    pub position: EnginePosition,
    /// Changes in the engine's order. Rows are upserts and deletes: the log does not tell insert from update.
    pub items: Vec<Item>,
    /// Changes of definitions and sequences in the engine's order.
    pub objects: Vec<ObjectChange>,
    /// Whether the host died inside the transaction. Genji does not roll it back, so its part stays visible.
    pub partial: bool,
    /// Whether more items of the same transaction follow, see [`crate::Tail::poll_part`].
    pub more: bool,
}

impl GenjiTransaction {
    /// Whether it changed anything that is told.
    pub(crate) fn says_something(&self) -> bool {
        self.more || !(self.items.is_empty() && self.objects.is_empty())
    }
}

/// An operation on a row.
struct RowOperation<'a> {
    order: usize,
    /// Index into the spaces that were met.
    space: usize,
    key: &'a [u8],
    /// The key behind its namespace.
    components: &'a [u8],
    /// None: deleted.
    value: Option<&'a [u8]>,
}

/// A table whose catalog row was deleted and not written again yet.
struct Dropped {
    order: usize,
    name: String,
    relation: Arc<Relation>,
}

/// What one part of a transaction leaves to the next: tables that are gone unless their rows' definition comes back.
#[derive(Default)]
pub(crate) struct Carried {
    dropped: HashMap<i64, Dropped>,
    retired: HashMap<i64, Arc<Space>>,
}

impl std::fmt::Debug for Carried {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Carried").field("dropped", &self.dropped.len()).finish_non_exhaustive()
    }
}

/// Collects the operations of a transaction, or of a part of it.
pub(crate) struct Assembly<'a> {
    engine: Engine,
    catalog: &'a mut CatalogState,
    faults: &'a mut Faults,
    order: usize,
    rows: Vec<RowOperation<'a>>,
    /// The namespaces of the rows, and what they held when they were written.
    spaces: Vec<(i64, Arc<Space>)>,
    /// Whether the catalog is still as it was for the last of them.
    is_current: bool,
    /// Changes of the schema, and the ends of all rows of a table, in order.
    others: Vec<(usize, Item)>,
    dropped: HashMap<i64, Dropped>,
    retired: HashMap<i64, Arc<Space>>,
    /// Whether a table got a namespace that another table has.
    shares: bool,
}

impl<'a> Assembly<'a> {
    /// Begins with what the part before left: nothing, at the beginning of a transaction.
    pub(crate) fn behind(carried: Carried, catalog: &'a mut CatalogState, faults: &'a mut Faults) -> Self {
        let Carried { mut dropped, retired } = carried;
        dropped.values_mut().for_each(|dropped| dropped.order = 0);
        Self {
            engine: catalog.engine(),
            catalog,
            faults,
            order: 0,
            rows: Vec::new(),
            spaces: Vec::new(),
            is_current: false,
            others: Vec::new(),
            dropped,
            retired,
            shares: false,
        }
    }

    /// Adds the operations of a batch.
    pub(crate) fn add(&mut self, operations: &[Operation<'a>]) {
        self.rows.reserve(operations.len());
        for operation in operations {
            self.order += 1;
            let (key, value) = match *operation {
                Operation::Set { key, value } => (key, Some(value)),
                Operation::Delete { key } => (key, None),
                Operation::RangeDelete { start, end } => {
                    if let Ok(Cleared::Space(namespace)) = self.engine.cleared(start, end) {
                        self.empty(namespace);
                    }
                    continue;
                }
            };
            match (self.engine.split(key), value) {
                (Ok(Key { namespace: key::CATALOG, .. }), Some(value)) => self.set_entry(key, value),
                (Ok(Key { namespace: key::CATALOG, .. }), None) => self.delete_entry(key),
                (Ok(Key { namespace: namespace @ key::FIRST_USER..key::FIRST_TRANSIENT, components }), _) => {
                    if let Some(space) = self.space(namespace, key, value) {
                        self.rows.push(RowOperation { order: self.order, space, key, components, value });
                    }
                }
                (Ok(_), _) => {}
                (Err(_), _) => self.faults.add("database", Some(key.len()), "key has no namespace"),
            }
        }
    }

    /// The index of what the namespace of a row holds; none where the key is no row's.
    fn space(&mut self, namespace: i64, key: &[u8], value: Option<&[u8]>) -> Option<usize> {
        if self.is_current && self.spaces.last().is_some_and(|&(last, _)| last == namespace) {
            return Some(self.spaces.len() - 1);
        }
        match self.catalog.space(namespace).or_else(|| self.retired.get(&namespace)) {
            // Entries of an index, or rows of a table whose definition is a fault of its own.
            Some(space) if space.tables.is_empty() => None,
            Some(space) => {
                self.spaces.push((namespace, space.clone()));
                self.is_current = true;
                Some(self.spaces.len() - 1)
            }
            // Entries of an index that is gone from the catalog are no rows.
            None if value.is_none() || value == Some(&[0]) => None,
            None => {
                let place = format!("namespace {namespace}");
                self.faults.add(&place, Some(key.len()), "row belongs to no known table");
                None
            }
        }
    }

    /// A table or an index has lost all keys.
    fn empty(&mut self, namespace: i64) {
        let spaces = &self.spaces;
        self.rows.retain(|row| spaces[row.space].0 != namespace);
        let space = self.catalog.space(namespace).or_else(|| self.retired.get(&namespace));
        let tables = space.map(|space| space.tables.as_slice()).unwrap_or_default();
        self.others.extend(tables.iter().map(|table| (self.order, Item::Row(emptied(table)))));
        if let Some(dropped) = self.dropped.get_mut(&namespace) {
            dropped.order = self.order;
        }
    }

    fn set_entry(&mut self, key: &[u8], value: &[u8]) {
        self.is_current = false;
        let before = self.catalog.set(key, value, self.faults);
        let Ok(entry) = self.engine.entry(value) else { return };
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
        self.others.extend(change.map(|change| (self.order, Item::Schema(change))));
    }

    fn delete_entry(&mut self, key: &[u8]) {
        self.is_current = false;
        let Ok(name) = self.engine.entry_name(key) else { return };
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

    /// The changes of a part in order, and what it leaves to the next. A drop is told when nothing of its table can follow:
    /// with the last part, or where another table takes the name.
    pub(crate) fn finish(self, is_last: bool) -> (Vec<Item>, Carried) {
        let Self { mut rows, mut others, mut dropped, retired, spaces, faults, .. } = self;
        keep_last(&mut rows);
        if !dropped.is_empty() {
            for row in &rows {
                if let Some(dropped) = dropped.get_mut(&spaces[row.space].0) {
                    dropped.order = dropped.order.max(row.order);
                }
            }
        }
        let (told, dropped): (HashMap<_, _>, HashMap<_, _>) =
            dropped.into_iter().partition(|(_, dropped)| is_last || is_taken(&others, &dropped.name));
        // A drop has the order of its table's last row, and stands behind it.
        others.extend(told.into_values().map(|dropped| {
            (dropped.order, Item::Schema(SchemaChange::Drop { relation: dropped.name, dsid: 0 }))
        }));
        others.sort_by_key(|(order, _)| *order);
        let mut items = Vec::with_capacity(rows.len() + others.len());
        let mut others = others.into_iter().peekable();
        for row in &rows {
            while let Some((_, item)) = others.next_if(|(order, _)| *order < row.order) {
                items.push(item);
            }
            row_items(&spaces[row.space].1, row, faults, &mut items);
        }
        items.extend(others.map(|(_, item)| item));
        (items, Carried { dropped, retired })
    }
}

/// Whether a table gets that name.
fn is_taken(others: &[(usize, Item)], name: &str) -> bool {
    others.iter().any(|(_, item)| match item {
        Item::Schema(SchemaChange::Define(schema) | SchemaChange::Rename { to: schema, .. }) => {
            schema.relation == name
        }
        _ => false,
    })
}

/// Keeps the last operation on each key.
fn keep_last(rows: &mut Vec<RowOperation<'_>>) {
    if rows.is_sorted_by(|one, next| one.key < next.key) {
        return;
    }
    let mut seen = HashSet::with_capacity(rows.len());
    rows.reverse();
    rows.retain(|row| seen.insert(row.key));
    rows.reverse();
}

/// The change of one key in every table that may own it.
fn row_items(space: &Space, row: &RowOperation<'_>, faults: &mut Faults, items: &mut Vec<Item>) {
    // A shared namespace: real Genji shows a row in each table of it that can decode the row.
    let is_shared = space.is_shared();
    let mut failure = None;
    let before = items.len();
    for relation in &space.tables {
        if let Err(error) = append_change(relation, row, items) {
            failure = Some((&relation.schema.relation, error));
        }
    }
    let found = items.len() > before;
    // The end of a key that never was a row's changes nothing: spilled transactions of Genji delete such keys.
    let is_no_row = row.value.is_none_or(|value| space.indexed && value == [0]);
    if let Some((relation, error)) = failure.filter(|_| !(is_no_row || found && is_shared)) {
        faults.add(relation, Some(row.key.len()), error);
    }
}

/// The end of all rows of a table.
fn emptied(table: &Relation) -> ChangeEvent {
    let (operation, key) = (ChangeOperation::Truncate, Vec::new());
    ChangeEvent { schema: table.schema.clone(), operation, key, before: None, after: None }
}

/// Appends what an operation changes in a table.
fn append_change(relation: &Relation, row: &RowOperation<'_>, items: &mut Vec<Item>) -> Result<(), Error> {
    let key = relation.decode_key(row.components)?;
    let after = row.value.map(|value| relation.decode_row(&key, value)).transpose()?;
    let operation = if after.is_some() { ChangeOperation::Upsert } else { ChangeOperation::Delete };
    let schema = relation.schema.clone();
    items.push(Item::Row(ChangeEvent { schema, operation, key, before: None, after }));
    Ok(())
}
