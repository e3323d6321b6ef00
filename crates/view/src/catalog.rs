//! What SQL may refer to: mirrored relations and views.

use std::sync::Arc;

use deltamesh_change::{Column, RelationSchema};

use crate::ViewDefinition;

/// The relations and views of a replica.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    relations: Vec<CatalogRelation>,
}

/// One relation or view as a query sees it.
#[derive(Debug, Clone)]
pub(crate) struct CatalogRelation {
    /// Source of a mirror; `None` for a view.
    pub(crate) source: Option<String>,
    /// Name within the source, or the view's name.
    pub(crate) name: String,
    /// Table to read.
    pub(crate) table: String,
    /// Table that has the indexes and the rows.
    pub(crate) storage: String,
    /// Visible columns.
    pub(crate) columns: Vec<Column>,
    /// Names of the key columns; hidden ones make `key_visible` false.
    pub(crate) key: Vec<String>,
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
            source: Some(source.to_owned()),
            name: schema.relation.clone(),
            storage: table.clone(),
            table,
            columns: schema.columns.clone(),
            key: schema.key_columns().map(|column| column.name.clone()).collect(),
        });
    }

    /// Makes a view known; replaces an earlier definition of it.
    pub fn add_view(&mut self, view: &ViewDefinition) {
        self.insert(CatalogRelation {
            source: None,
            name: view.name.clone(),
            table: view.name.clone(),
            storage: view.storage.clone(),
            columns: view.columns.clone(),
            key: view.key.clone(),
        });
    }

    fn insert(&mut self, relation: CatalogRelation) {
        self.relations.retain(|known| !known.table.eq_ignore_ascii_case(&relation.table));
        self.relations.push(relation);
    }
}

/// Table of a mirror: `<source>__<relation>`.
#[must_use]
pub fn mirror_table(source: &str, relation: &str) -> String {
    format!("{source}__{relation}")
}
