//! The schemas in force, and the schema sequence id (DSID) of each.

use std::collections::BTreeMap;
use std::sync::Arc;

use deltamesh_change::{ChangeEvent, Item, RelationSchema, SchemaChange};
use deltamesh_jetstream::{Client, Error, next_dsid};

/// A relation as the engine's reader and as the change log know it.
struct Known {
    /// The schema that the reader handed on last, with DSID 0. Rows share it, so that one comparison of addresses finds it.
    engine: Arc<RelationSchema>,
    published: Arc<RelationSchema>,
}

/// Assigns DSIDs.
pub(crate) struct Schemas {
    client: Client,
    source: String,
    known: BTreeMap<String, Known>,
}

fn is_same(a: &RelationSchema, b: &RelationSchema) -> bool {
    a.columns == b.columns && a.key == b.key
}

impl Schemas {
    /// Begins with the schemas that the change log holds.
    pub(crate) fn new(
        client: &Client,
        source: &str,
        published: BTreeMap<String, Arc<RelationSchema>>,
    ) -> Self {
        let known = |(relation, published): (String, Arc<RelationSchema>)| {
            (relation, Known { engine: published.clone(), published })
        };
        let known = published.into_iter().map(known).collect();
        Self { client: client.clone(), source: source.to_owned(), known }
    }

    /// The items of a transaction with their DSIDs; a definition comes before rows whose schema the log does not have.
    ///
    /// # Errors
    /// The counter cannot be raised.
    pub(crate) async fn assign(&mut self, items: Vec<Item>) -> Result<Vec<Item>, Error> {
        let mut assigned = Vec::with_capacity(items.len());
        for item in items {
            match item {
                Item::Row(event) => {
                    let (schema, is_new) = self.schema(&event.schema).await?;
                    if is_new {
                        assigned.push(Item::Schema(SchemaChange::Define(schema.clone())));
                    }
                    assigned.push(Item::Row(ChangeEvent { schema, ..event }));
                }
                Item::Schema(change) => assigned.push(Item::Schema(self.change(change).await?)),
            }
        }
        Ok(assigned)
    }

    /// The published form of a schema, and whether it is a new one.
    pub(crate) async fn schema(
        &mut self,
        engine: &Arc<RelationSchema>,
    ) -> Result<(Arc<RelationSchema>, bool), Error> {
        if let Some(known) = self.known.get_mut(&engine.relation) {
            if Arc::ptr_eq(&known.engine, engine) {
                return Ok((known.published.clone(), false));
            }
            if is_same(&known.published, engine) {
                known.engine = engine.clone();
                return Ok((known.published.clone(), false));
            }
        }
        Ok((self.define(engine).await?, true))
    }

    async fn define(&mut self, engine: &Arc<RelationSchema>) -> Result<Arc<RelationSchema>, Error> {
        let dsid = next_dsid(&self.client, &self.source).await?;
        let published = Arc::new(RelationSchema { dsid, ..RelationSchema::clone(engine) });
        let known = Known { engine: engine.clone(), published: published.clone() };
        self.known.insert(engine.relation.clone(), known);
        Ok(published)
    }

    /// A change of the engine's catalog raises the DSID even where the columns stay the same: the log may hold the schema
    /// of a relation that a snapshot has dropped since.
    async fn change(&mut self, change: SchemaChange) -> Result<SchemaChange, Error> {
        Ok(match change {
            SchemaChange::Define(engine) => SchemaChange::Define(self.define(&engine).await?),
            SchemaChange::Rename { from, to } => {
                self.known.remove(&from);
                SchemaChange::Rename { from, to: self.define(&to).await? }
            }
            SchemaChange::Drop { relation, .. } => {
                self.known.remove(&relation);
                let dsid = next_dsid(&self.client, &self.source).await?;
                SchemaChange::Drop { relation, dsid }
            }
        })
    }

    /// Forgets every relation that a snapshot does not have.
    pub(crate) fn retain(&mut self, relations: &[Arc<RelationSchema>]) {
        self.known.retain(|name, _| relations.iter().any(|schema| &schema.relation == name));
    }
}
