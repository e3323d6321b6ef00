//! What a writer has to know of the catalog, prepared so that writing a row parses nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::catalog::{
    CatalogEntry, ConstraintKind, Definition, DocumentDefinition, EntryKind, FieldType, IndexDefinition,
    Path, SequenceDefinition, TableDefinition,
};
use crate::sql::{Expression, parse_expression};
use crate::{Error, ErrorKind, key};

/// A table with all that a write to it needs.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub(crate) entry: CatalogEntry,
    pub(crate) definition: TableDefinition,
    pub(crate) namespace: i64,
    /// In name order, the order in which Genji writes their entries.
    pub(crate) indexes: Vec<Arc<Index>>,
    /// The DEFAULT clauses that can be evaluated, by their text.
    pub(crate) defaults: BTreeMap<String, Expression>,
    /// The CHECK constraints by name, in the order of their definition.
    pub(crate) checks: Vec<(String, Expression)>,
    /// Why rows cannot be written or read here, if so.
    pub(crate) fault: Option<&'static str>,
}

/// An index of a table.
#[derive(Debug, Clone)]
pub(crate) struct Index {
    pub(crate) entry: CatalogEntry,
    pub(crate) definition: IndexDefinition,
    pub(crate) namespace: i64,
}

/// A sequence with its definition, if that can be read.
#[derive(Debug, Clone)]
struct Sequence {
    entry: CatalogEntry,
    definition: Option<Arc<SequenceDefinition>>,
}

/// Tables, indexes and sequences by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Schema {
    tables: BTreeMap<String, Arc<Table>>,
    /// The table of each index.
    indexes: BTreeMap<String, String>,
    sequences: BTreeMap<String, Sequence>,
    /// Objects whose definition cannot be read, and why.
    unreadable: BTreeMap<String, String>,
    last_namespace: i64,
}

impl Schema {
    /// Reads the rows of the catalog. An object that cannot be read is set aside; the others are usable.
    pub(crate) fn load(entries: Vec<CatalogEntry>) -> Self {
        let mut schema = Self { last_namespace: key::FIRST_USER - 1, ..Self::default() };
        let (tables, others): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|entry| entry.kind == EntryKind::Table);
        for entry in tables.into_iter().chain(others) {
            schema.note_namespace(entry.namespace.unwrap_or_default());
            let name = entry.name.clone();
            let owner = entry.owner.as_ref().map(|owner| owner.table.clone());
            let loaded = match entry.kind {
                EntryKind::Table => schema.put_table(entry),
                EntryKind::Index => schema.put_index(entry),
                EntryKind::Sequence => {
                    schema.put_sequence(entry);
                    Ok(())
                }
            };
            if let Err(error) = loaded {
                schema.unreadable.insert(name, error.to_string());
                // Rows written without the index would be missing from it.
                schema.mark(owner.as_deref(), "the definition of an index cannot be read");
            }
        }
        schema.mark_shared_namespaces();
        schema
    }

    fn mark(&mut self, table: Option<&str>, fault: &'static str) {
        if let Some(table) = table.and_then(|name| self.tables.get_mut(name)) {
            Arc::make_mut(table).fault = Some(fault);
        }
    }

    /// Two objects with one namespace mix their keys: neither can be trusted.
    fn mark_shared_namespaces(&mut self) {
        let mut owners: BTreeMap<i64, Vec<String>> = BTreeMap::new();
        for table in self.tables.values() {
            let of_indexes = table.indexes.iter().map(|index| index.namespace);
            for namespace in of_indexes.chain([table.namespace]) {
                owners.entry(namespace).or_default().push(table.definition.name.clone());
            }
        }
        for name in owners.into_values().filter(|names| names.len() > 1).flatten() {
            self.mark(Some(&name), "its namespace is used by another table or index");
        }
    }

    /// The table of that name.
    pub(crate) fn table(&self, name: &str) -> Result<Arc<Table>, Error> {
        self.tables
            .get(name)
            .cloned()
            .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("no table {name}")))
    }

    /// The table whose rows may be written and read by users.
    pub(crate) fn user_table(&self, name: &str) -> Result<Arc<Table>, Error> {
        let table = self.table(name)?;
        if table.namespace < key::FIRST_USER {
            return Err(Error::new(ErrorKind::Unsupported, format!("table {name} belongs to the engine")));
        }
        table.usable()
    }

    /// The table whose rows may be read: a user's or the engine's own.
    pub(crate) fn readable_table(&self, name: &str) -> Result<Arc<Table>, Error> {
        self.table(name)?.usable()
    }

    /// All tables in name order.
    pub(crate) fn tables(&self) -> impl Iterator<Item = &Arc<Table>> {
        self.tables.values()
    }

    /// The index of that name, with its table.
    pub(crate) fn index(&self, name: &str) -> Result<(Arc<Table>, Arc<Index>), Error> {
        let missing = || Error::new(ErrorKind::NotFound, format!("no index {name}"));
        let table = self.table(self.indexes.get(name).ok_or_else(missing)?)?;
        let index = table.indexes.iter().find(|index| index.definition.name == name).cloned();
        Ok((table, index.ok_or_else(missing)?))
    }

    /// The catalog row of a sequence.
    pub(crate) fn sequence(&self, name: &str) -> Option<&CatalogEntry> {
        self.sequences.get(name).map(|sequence| &sequence.entry)
    }

    /// The definition of a sequence.
    pub(crate) fn sequence_definition(&self, name: &str) -> Result<Arc<SequenceDefinition>, Error> {
        let missing = || Error::new(ErrorKind::NotFound, format!("no sequence {name}"));
        let unreadable = || Error::new(ErrorKind::Unsupported, format!("sequence {name} cannot be read"));
        self.sequences.get(name).ok_or_else(missing)?.definition.clone().ok_or_else(unreadable)
    }

    /// The sequences in name order.
    pub(crate) fn sequences(&self) -> impl Iterator<Item = &CatalogEntry> {
        self.sequences.values().map(|sequence| &sequence.entry)
    }

    /// Whether a table, index or sequence has the name.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.tables.contains_key(name)
            || self.indexes.contains_key(name)
            || self.sequences.contains_key(name)
            || self.unreadable.contains_key(name)
    }

    /// The first of `base`, `base1`, `base2`, … that is free.
    pub(crate) fn free_name(&self, base: &str) -> String {
        let mut name = base.to_owned();
        let mut number = 0u64;
        while self.contains(&name) {
            number += 1;
            name = format!("{base}{number}");
        }
        name
    }

    /// Raises the highest namespace known.
    pub(crate) fn note_namespace(&mut self, namespace: i64) {
        if namespace < key::FIRST_TRANSIENT {
            self.last_namespace = self.last_namespace.max(namespace);
        }
    }

    /// Takes a namespace that was never used.
    pub(crate) fn next_namespace(&mut self) -> Result<i64, Error> {
        let next = self.last_namespace + 1;
        if next >= key::FIRST_TRANSIENT {
            return Err(Error::new(ErrorKind::Unsupported, "namespaces are used up"));
        }
        self.last_namespace = next;
        Ok(next)
    }

    /// Adds or replaces a table; its indexes stay.
    pub(crate) fn put_table(&mut self, entry: CatalogEntry) -> Result<(), Error> {
        let Definition::Table(mut definition) = entry.definition()? else {
            return Err(Error::decode("catalog row of a table defines something else"));
        };
        definition.name.clone_from(&entry.name);
        let namespace = entry.namespace.ok_or_else(|| Error::decode("table has no namespace"))?;
        self.note_namespace(namespace);
        let mut defaults = BTreeMap::new();
        collect_defaults(&definition.document, &mut defaults);
        let mut checks = Vec::new();
        let mut fault = None;
        for constraint in &definition.constraints {
            if let ConstraintKind::Check(text) = &constraint.kind {
                match parse_expression(text) {
                    Ok(check) => checks.push((constraint.name.clone(), check)),
                    Err(_) => fault = Some("a check constraint cannot be read"),
                }
            }
        }
        let indexes = self.tables.get(&entry.name).map(|table| table.indexes.clone()).unwrap_or_default();
        let name = entry.name.clone();
        self.tables
            .insert(name, Arc::new(Table { entry, definition, namespace, indexes, defaults, checks, fault }));
        Ok(())
    }

    /// Adds or replaces an index.
    pub(crate) fn put_index(&mut self, entry: CatalogEntry) -> Result<(), Error> {
        let Definition::Index(mut definition) = entry.definition()? else {
            return Err(Error::decode("catalog row of an index defines something else"));
        };
        if let Some(owner) = &entry.owner {
            definition.table.clone_from(&owner.table);
        }
        definition.name.clone_from(&entry.name);
        let namespace = entry.namespace.ok_or_else(|| Error::decode("index has no namespace"))?;
        self.note_namespace(namespace);
        let Some(table) = self.tables.get_mut(&definition.table) else {
            return Err(Error::decode("index belongs to no table"));
        };
        self.indexes.insert(definition.name.clone(), definition.table.clone());
        let table = Arc::make_mut(table);
        table.indexes.retain(|index| index.definition.name != definition.name);
        table.indexes.push(Arc::new(Index { entry, definition, namespace }));
        table.indexes.sort_by(|left, right| left.definition.name.cmp(&right.definition.name));
        Ok(())
    }

    /// Adds or replaces a sequence.
    pub(crate) fn put_sequence(&mut self, entry: CatalogEntry) {
        let definition = match entry.definition() {
            Ok(Definition::Sequence(definition)) => Some(Arc::new(definition)),
            _ => None,
        };
        self.sequences.insert(entry.name.clone(), Sequence { entry, definition });
    }

    /// Forgets a table and its indexes.
    pub(crate) fn remove_table(&mut self, name: &str) {
        self.tables.remove(name);
        self.indexes.retain(|_, table| table != name);
    }

    /// Forgets an index.
    pub(crate) fn remove_index(&mut self, name: &str) {
        if let Some(table) = self.indexes.remove(name).and_then(|table| self.tables.get_mut(&table)) {
            Arc::make_mut(table).indexes.retain(|index| index.definition.name != name);
        }
    }

    /// Forgets a sequence.
    pub(crate) fn remove_sequence(&mut self, name: &str) {
        self.sequences.remove(name);
    }
}

impl Table {
    fn usable(self: Arc<Self>) -> Result<Arc<Self>, Error> {
        match self.fault {
            Some(fault) => {
                let reason = format!("table {} is unusable: {fault}", self.definition.name);
                Err(Error::new(ErrorKind::Unsupported, reason))
            }
            None => Ok(self),
        }
    }

    /// The primary key's paths.
    pub(crate) fn primary_key(&self) -> Option<&[Path]> {
        self.definition.primary_key()
    }
}

/// Parses the DEFAULT clauses. A row that needs one that cannot be read is refused when it comes.
fn collect_defaults(document: &DocumentDefinition, defaults: &mut BTreeMap<String, Expression>) {
    for field in &document.fields {
        if let Some(text) = &field.default
            && let Ok(expression) = parse_expression(text)
        {
            defaults.insert(text.clone(), expression);
        }
        if let FieldType::Document(nested) = &field.field_type {
            collect_defaults(nested, defaults);
        }
    }
}
