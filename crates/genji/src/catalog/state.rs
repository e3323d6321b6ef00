//! The catalog at one position of the history: which namespace holds what.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use deltamesh_change::RelationSchema;

use crate::catalog::{CatalogEntry, EntryKind};
use crate::engine::Engine;
use crate::fault::Faults;
use crate::key;
use crate::relation::Relation;

/// What a namespace holds. More than one claim occurs: after a kill, Genji gives the last namespace out again.
#[derive(Debug, Clone, Default)]
pub(crate) struct Space {
    /// Tables whose rows may be here.
    pub(crate) tables: Vec<Arc<Relation>>,
    /// Whether index entries may be here.
    pub(crate) indexed: bool,
    /// Whether a table is here whose definition cannot be read.
    pub(crate) unreadable: bool,
}

impl Space {
    /// Whether more than one table or index claims it.
    pub(crate) fn is_shared(&self) -> bool {
        self.tables.len() > 1 || self.indexed || self.unreadable
    }

    /// Whether a row that one of its tables cannot read is an entry of an index here, or a row of another table.
    pub(crate) fn has_other(&self, one: &Relation, key: &[u8], value: &[u8]) -> bool {
        let is_other = |table: &&Arc<Relation>| table.schema.relation != one.schema.relation;
        (self.indexed && value == [0])
            || self.tables.iter().filter(is_other).any(|table| table.decode(key, value).is_ok())
    }
}

/// An entry with what was made of it.
#[derive(Debug, Clone)]
struct Known {
    kind: EntryKind,
    namespace: Option<i64>,
    relation: Option<Arc<Relation>>,
}

/// Entries by name, and namespaces.
#[derive(Debug, Clone, Default)]
pub(crate) struct CatalogState {
    engine: Engine,
    entries: BTreeMap<String, Known>,
    spaces: HashMap<i64, Arc<Space>>,
}

impl CatalogState {
    /// The empty catalog of an engine.
    pub(crate) fn new(engine: Engine) -> Self {
        Self { engine, ..Self::default() }
    }

    /// Whose catalog it is.
    pub(crate) fn engine(&self) -> Engine {
        self.engine
    }

    /// The relations of the user's tables, by name.
    pub(crate) fn relations(&self) -> Vec<Arc<RelationSchema>> {
        self.entries
            .values()
            .filter_map(|known| known.relation.as_ref())
            .map(|table| table.schema.clone())
            .collect()
    }

    /// The relation of that name.
    pub(crate) fn relation(&self, name: &str) -> Option<&Arc<Relation>> {
        self.entries.get(name)?.relation.as_ref()
    }

    /// What a namespace holds now.
    pub(crate) fn space(&self, namespace: i64) -> Option<&Arc<Space>> {
        self.spaces.get(&namespace)
    }

    /// A catalog row was written. Returns the relation that had this name before.
    pub(crate) fn set(&mut self, key: &[u8], value: &[u8], faults: &mut Faults) -> Option<Arc<Relation>> {
        let entry = match self.engine.entry(value) {
            Ok(entry) => entry,
            Err(error) => {
                let name = self.engine.entry_name(key).unwrap_or_else(|_| "catalog".to_owned());
                faults.add(&name, Some(key.len()), error);
                return None;
            }
        };
        let relation = relation_of(self.engine, &entry, faults).map(Arc::new);
        let known = Known { kind: entry.kind, namespace: entry.namespace, relation };
        let before = self.entries.insert(entry.name.clone(), known);
        for namespace in before.as_ref().and_then(|known| known.namespace).into_iter().chain(entry.namespace)
        {
            self.rebuild(namespace);
        }
        self.report_shared(&entry, faults);
        before.and_then(|known| known.relation)
    }

    /// A catalog row was deleted. Returns its relation.
    pub(crate) fn delete(&mut self, name: &str) -> Option<Arc<Relation>> {
        let known = self.entries.remove(name)?;
        if let Some(namespace) = known.namespace {
            self.rebuild(namespace);
        }
        known.relation
    }

    fn rebuild(&mut self, namespace: i64) {
        let mut space = Space::default();
        let mut claimed = false;
        for known in self.entries.values().filter(|known| known.namespace == Some(namespace)) {
            claimed = true;
            match (&known.relation, known.kind) {
                (Some(table), _) => space.tables.push(table.clone()),
                (None, EntryKind::Index) => space.indexed = true,
                (None, _) => space.unreadable = true,
            }
        }
        if claimed {
            self.spaces.insert(namespace, Arc::new(space));
        } else {
            self.spaces.remove(&namespace);
        }
    }

    /// Names every claim of a namespace that has more than one.
    fn report_shared(&self, entry: &CatalogEntry, faults: &mut Faults) {
        let Some(namespace) = entry.namespace else { return };
        let claims = self.entries.iter().filter(|(_, known)| known.namespace == Some(namespace));
        let names: Vec<&str> = claims.map(|(name, _)| name.as_str()).collect();
        if names.len() > 1 {
            let reason = format!("namespace {namespace} is shared by {}", names.join(", "));
            names.iter().for_each(|name| faults.add(name, None, &reason));
        }
    }
}

/// The relation of a user's table.
fn relation_of(engine: Engine, entry: &CatalogEntry, faults: &mut Faults) -> Option<Relation> {
    entry.namespace.filter(|&namespace| namespace >= key::FIRST_USER)?;
    engine.relation(entry).unwrap_or_else(|error| {
        faults.add(&entry.name, None, error);
        None
    })
}
