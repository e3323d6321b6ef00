//! Schema changes: mirrors come, change and go, and the views over them follow.

use std::sync::Arc;

use deltamesh_change::{RelationSchema, SchemaChange};
use rusqlite::params;

use super::SqliteReplica;
use super::delta::Failure;
use super::mirror::{Mirror, mirror_table, quote};
use super::state::execute_all;
use crate::error::{At, Error, ErrorKind, Result};
use crate::group::Group;

impl SqliteReplica {
    /// Follows one schema change; says whether anything differs from before.
    pub(super) fn change_schema(
        &mut self,
        group: &Group,
        change: &SchemaChange,
    ) -> std::result::Result<bool, Failure> {
        let source = group.source.as_str();
        match change {
            SchemaChange::Define(schema) => self.define(group, schema),
            SchemaChange::Rename { from, to } => {
                let former = mirror_table(source, from);
                let table = mirror_table(source, &to.relation);
                if !self.state.mirrors.contains_key(&former) {
                    return self.define(group, to);
                }
                self.rename_mirror(&former, &table)?;
                self.record_schema(source, from, to.dsid, None, &format!("rename to {}", to.relation))?;
                self.record_schema(source, &to.relation, to.dsid, Some(to), &format!("rename from {from}"))?;
                self.alter(source, &table, to)?;
                self.follow_schema(&[former, table], group)?;
                Ok(true)
            }
            SchemaChange::Drop { relation, dsid } => {
                let table = mirror_table(source, relation);
                if self.state.mirrors.remove(&table).is_none() {
                    return Ok(false);
                }
                self.record_schema(source, relation, *dsid, None, "drop")?;
                self.freeze_readers(&table)?;
                self.disconnect(&table)?;
                let sql = format!("DROP TABLE main.{}", quote(&table));
                self.connection.execute(&sql, []).at(|| table.as_str())?;
                self.follow_schema(&[table], group)?;
                Ok(true)
            }
        }
    }

    fn define(&mut self, group: &Group, schema: &Arc<RelationSchema>) -> std::result::Result<bool, Failure> {
        let place = || format!("relation {}.{}", group.source, schema.relation);
        schema
            .validate()
            .map_err(|error| Error::new(ErrorKind::Decode, place(), error.to_string()).caused_by(error))?;
        let table = mirror_table(&group.source, &schema.relation);
        let Some(known) = self.state.mirrors.get(&table).map(|mirror| mirror.schema.clone()) else {
            let mirror = Mirror::new(&group.source, schema.clone());
            execute_all(&self.connection, &[mirror.create()], &table)?;
            execute_all(&self.connection, &mirror.connect(), &table)?;
            self.state.mirrors.insert(table.clone(), mirror);
            self.record_schema(&group.source, &schema.relation, schema.dsid, Some(schema), "define")?;
            self.follow_schema(&[table], group)?;
            return Ok(true);
        };
        if known == *schema {
            return Ok(false);
        }
        let difference = difference(&known, schema);
        self.record_schema(&group.source, &schema.relation, schema.dsid, Some(schema), &difference)?;
        self.alter(&group.source, &table, schema)?;
        if known.columns != schema.columns || known.key != schema.key {
            self.follow_schema(&[table], group)?;
        }
        Ok(true)
    }

    /// Gives a mirror its new columns, keeping the values of those that stay.
    fn alter(&mut self, source: &str, table: &str, schema: &Arc<RelationSchema>) -> Result<()> {
        let Some(known) = self.state.mirrors.get(table).map(|mirror| mirror.schema.clone()) else {
            return Ok(());
        };
        let mirror = Mirror::new(source, schema.clone());
        if known.columns != schema.columns || known.key != schema.key {
            self.freeze_readers(table)?;
            self.disconnect(table)?;
            let kept = schema.columns.iter().filter(|column| known.column_index(&column.name).is_some());
            let kept = kept.map(|column| quote(&column.name)).collect::<Vec<_>>().join(", ");
            let building = format!("__deltamesh_building_{table}");
            let statements = [
                mirror.create_named(&building),
                // A former row that the new key cannot tell apart from another is dropped; the source sends what it has.
                format!(
                    "INSERT OR REPLACE INTO main.{} ({kept}) SELECT {kept} FROM main.{}",
                    quote(&building),
                    quote(table)
                ),
                format!("DROP TABLE main.{}", quote(table)),
                format!("ALTER TABLE main.{} RENAME TO {}", quote(&building), quote(table)),
            ];
            execute_all(&self.connection, &statements, table)?;
            execute_all(&self.connection, &mirror.connect(), table)?;
        }
        self.state.mirrors.insert(table.to_owned(), mirror);
        Ok(())
    }

    fn rename_mirror(&mut self, former: &str, table: &str) -> Result<()> {
        self.freeze_readers(former)?;
        self.disconnect(former)?;
        let sql = format!("ALTER TABLE main.{} RENAME TO {}", quote(former), quote(table));
        self.connection.execute(&sql, []).at(|| former)?;
        if let Some(known) = self.state.mirrors.remove(former) {
            let mirror = Mirror { table: table.to_owned(), ..known };
            execute_all(&self.connection, &mirror.connect(), table)?;
            self.state.mirrors.insert(table.to_owned(), mirror);
        }
        Ok(())
    }

    /// Turns views that are read from the mirrors into tables of the rows that they have now: what a new schema changes in
    /// them is found by comparison.
    fn freeze_readers(&self, table: &str) -> Result<()> {
        for name in self.state.dependents(&[table.to_owned()]) {
            let Some(view) = self.state.view(&name) else { continue };
            let storage = &view.definition.storage;
            if self.object_type(storage)?.as_deref() == Some("view") && self.rename_storage(&name, storage)? {
                self.restore_storage(&name, storage)?;
            }
        }
        Ok(())
    }

    /// Removes the TEMP tables of a mirror's images.
    fn disconnect(&self, table: &str) -> Result<()> {
        for name in [deltamesh_view::old_table(table), deltamesh_view::new_table(table)] {
            let sql = format!("DROP TABLE IF EXISTS temp.{}", quote(&name));
            self.connection.execute(&sql, []).at(|| table)?;
        }
        Ok(())
    }

    fn record_schema(
        &self,
        source: &str,
        relation: &str,
        dsid: u64,
        schema: Option<&RelationSchema>,
        difference: &str,
    ) -> Result<()> {
        let place = || format!("record schema of {source}.{relation}");
        let text = schema.map(serde_json::to_string).transpose().map_err(|error| {
            Error::new(ErrorKind::Decode, place(), "schema cannot be written as JSON").caused_by(error)
        })?;
        let sql = "INSERT INTO __deltamesh_schema(source, relation, dsid, schema, diff) VALUES (?1, ?2, ?3, ?4, ?5)";
        let values = params![source, relation, dsid.cast_signed(), text, difference];
        self.connection.execute(sql, values).at(place)?;
        Ok(())
    }
}

/// What a new schema changes, in words: `add b, drop c, type of a, key`.
fn difference(known: &RelationSchema, schema: &RelationSchema) -> String {
    let mut words = Vec::new();
    for column in &schema.columns {
        match known.column_index(&column.name).and_then(|index| known.columns.get(index)) {
            None => words.push(format!("add {}", column.name)),
            Some(former) if former.column_type != column.column_type => {
                words.push(format!("type of {}", column.name));
            }
            Some(former) if former.nullable != column.nullable => {
                words.push(format!("nullability of {}", column.name));
            }
            Some(_) => {}
        }
    }
    let dropped = known.columns.iter().filter(|column| schema.column_index(&column.name).is_none());
    words.extend(dropped.map(|column| format!("drop {}", column.name)));
    let key =
        |schema: &RelationSchema| schema.key_columns().map(|column| column.name.clone()).collect::<Vec<_>>();
    if key(known) != key(schema) {
        words.push("key".to_owned());
    }
    if words.is_empty() {
        words.push("order of columns".to_owned());
    }
    words.join(", ")
}
