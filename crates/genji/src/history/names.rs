//! Which name and namespace stands for what, while the history is read.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::catalog::{CatalogEntry, EntryKind};
use crate::engine::Engine;
use crate::stored::StoredTable;

/// Catalog entries by name, with their tables.
#[derive(Debug)]
pub(super) struct Names {
    engine: Engine,
    entries: BTreeMap<String, (CatalogEntry, Option<Arc<StoredTable>>)>,
}

/// Who claims a namespace.
#[derive(Debug, Clone, Default)]
pub(super) struct Claims {
    pub(super) tables: Vec<Arc<StoredTable>>,
    pub(super) is_indexed: bool,
}

impl Names {
    /// No name yet, in the catalog of an engine.
    pub(super) fn new(engine: Engine) -> Self {
        Self { engine, entries: BTreeMap::new() }
    }

    /// Whose catalog it is.
    pub(super) fn engine(&self) -> Engine {
        self.engine
    }

    /// Takes an entry, and returns the one that had its name.
    pub(super) fn set(&mut self, entry: CatalogEntry) -> Option<CatalogEntry> {
        let table = StoredTable::new(self.engine, entry.clone()).map(Arc::new);
        self.entries.insert(entry.name.clone(), (entry, table)).map(|(before, _)| before)
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, name: &str) -> Option<CatalogEntry> {
        self.entries.remove(name).map(|(entry, _)| entry)
    }

    /// Who claims a namespace now; none when nobody does.
    pub(super) fn claims(&self, namespace: i64) -> Option<Claims> {
        let mut claims = None::<Claims>;
        for (entry, table) in self.entries.values().filter(|(entry, _)| entry.namespace == Some(namespace)) {
            let claims = claims.get_or_insert_default();
            claims.tables.extend(table.clone());
            claims.is_indexed |= entry.kind == EntryKind::Index;
        }
        claims
    }
}
