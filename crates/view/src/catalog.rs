//! What SQL may refer to: mirrored relations and views.

use std::sync::Arc;

use deltamesh_change::{Column, RelationSchema};

use crate::{BaseRelation, Dialect, Stored, ViewDefinition, block};

/// The relations and views of a replica.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    dialect: Dialect,
    relations: Vec<CatalogRelation>,
    /// Views whose rows are needed in a table.
    kept: Vec<String>,
}

/// One relation or view as a query sees it.
#[derive(Debug, Clone)]
pub(crate) struct CatalogRelation {
    pub(crate) base: BaseRelation,
    /// Table that has the rows and the indexes.
    pub(crate) storage: String,
    /// Visible columns, then the hidden key columns of a view.
    pub(crate) columns: Vec<Column>,
    /// How many columns are visible.
    pub(crate) visible: usize,
    /// Whether the table declares the column's type: mirrors do, views where they repeat such a column.
    pub(crate) typed: Vec<bool>,
    /// Indexes of the key columns.
    pub(crate) key: Vec<usize>,
    /// Whether the rows are in a table (a `stored = never` view has none).
    pub(crate) stored: bool,
}

impl CatalogRelation {
    /// Whether this is a mirror rather than a view.
    pub(crate) fn is_mirror(&self) -> bool {
        self.base.source.is_some()
    }

    /// Index of a visible column, compared without case.
    pub(crate) fn column_index(&self, name: &str) -> Option<usize> {
        self.columns[..self.visible].iter().position(|column| column.name.eq_ignore_ascii_case(name))
    }
}

impl Catalog {
    /// An empty catalog.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a source's relation known; replaces an earlier schema of it.
    pub fn add_relation(&mut self, source: &str, schema: &Arc<RelationSchema>) {
        let table = mirror_table(source, &schema.relation);
        self.insert(CatalogRelation {
            base: BaseRelation {
                source: Some(source.to_owned()),
                relation: schema.relation.clone(),
                table: table.clone(),
            },
            storage: table,
            typed: vec![true; schema.columns.len()],
            columns: schema.columns.clone(),
            visible: schema.columns.len(),
            key: schema.key.clone(),
            stored: true,
        });
    }

    /// Has the relation with this table read from another one, which has some of its rows.
    pub fn read_from(&mut self, mirror: &str, table: &str) {
        for relation in self.relations.iter_mut().filter(|relation| relation.base.table == mirror) {
            table.clone_into(&mut relation.base.table);
            table.clone_into(&mut relation.storage);
        }
    }

    /// Makes a view known; replaces an earlier definition of it.
    pub fn add_view(&mut self, view: &ViewDefinition) {
        let hidden = view.hidden.iter().filter(|hidden| !hidden.state).map(|hidden| &hidden.column);
        let columns: Vec<Column> = view.columns.iter().chain(hidden).cloned().collect();
        let position = |name: &String| columns.iter().position(|column| column.name == *name);
        self.insert(CatalogRelation {
            base: BaseRelation { source: None, relation: view.name.clone(), table: view.stem().to_owned() },
            storage: view.storage.clone(),
            key: view.key.iter().filter_map(position).collect(),
            visible: view.columns.len(),
            typed: columns.iter().map(|column| view.typed.contains(&column.name)).collect(),
            columns,
            stored: view.options.stored != Stored::Never,
        });
    }

    /// With `stored = auto`, has the rows of a view kept in a table: another view reads them, or they are there already.
    pub fn keep_rows(&mut self, view: &str) {
        self.kept.push(view.to_owned());
    }

    /// Whether the rows of a view are needed in a table.
    pub(crate) fn keeps_rows(&self, view: &str) -> bool {
        self.kept.iter().any(|kept| kept.eq_ignore_ascii_case(view))
    }

    /// Relations that a name may mean: `relation`, a view, or `source.relation`; compared without case.
    ///
    /// A relation hides a view of its name, so that making such a view changes no other view's meaning.
    pub(crate) fn find(&self, source: Option<&str>, name: &str) -> Vec<&CatalogRelation> {
        let matches = |relation: &&CatalogRelation| {
            relation.base.relation.eq_ignore_ascii_case(name)
                && source.is_none_or(|source| {
                    relation.base.source.as_deref().is_some_and(|known| known.eq_ignore_ascii_case(source))
                })
        };
        let mut found: Vec<_> = self.relations.iter().filter(matches).collect();
        if found.iter().any(|relation| relation.is_mirror()) {
            found.retain(|relation| relation.is_mirror());
        }
        found
    }

    /// The same relations, for planning in a dialect.
    pub(crate) fn with_dialect(&self, dialect: Dialect) -> Self {
        Self { dialect, ..self.clone() }
    }

    pub(crate) fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The relation or view of that table.
    pub(crate) fn table(&self, table: &str) -> Option<&CatalogRelation> {
        self.relations.iter().find(|relation| relation.base.table.eq_ignore_ascii_case(table))
    }

    pub(crate) fn has_table(&self, table: &str) -> bool {
        self.table(table).is_some()
    }

    pub(crate) fn is_view(&self, name: &str) -> bool {
        self.relations
            .iter()
            .any(|relation| !relation.is_mirror() && relation.base.table.eq_ignore_ascii_case(name))
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let names = self.relations.iter().map(|relation| relation.base.relation.as_str());
        names.filter(|name| !block::is_part(name))
    }

    fn insert(&mut self, relation: CatalogRelation) {
        self.relations.retain(|known| !known.base.table.eq_ignore_ascii_case(&relation.base.table));
        self.relations.push(relation);
    }
}

/// Table of a mirror: `<source>__<relation>`.
#[must_use]
pub fn mirror_table(source: &str, relation: &str) -> String {
    format!("{source}__{relation}")
}
