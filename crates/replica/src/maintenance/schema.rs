//! Schema changes: mirrors come, change and go, and the views over them follow.

use std::sync::Arc;

use deltamesh_change::{Column, RelationSchema, SchemaChange};
use deltamesh_view::{image_tables, mirror_table, old_table};

use super::Maintainer;
use super::cell::Cell;
use super::database::{Database, Object};
use super::delta::{Failure, is_true};
use super::mirror::{Mirror, durable, quote};
use super::state::View;
use crate::error::{Error, ErrorKind, Result};
use crate::group::Group;

impl<D: Database> Maintainer<D> {
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
                if let Some(other) =
                    self.state.other_case(source, &to.relation).filter(|other| other.table != former)
                {
                    return Err(same_name(source, &to.relation, other).into());
                }
                self.rename_mirror(&former, &table)?;
                self.record_schema(source, from, to.dsid, None, &format!("rename to {}", to.relation))?;
                self.record_schema(source, &to.relation, to.dsid, Some(to), &format!("rename from {from}"))?;
                self.alter(group, &table, to)?;
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
                self.end_feeding_with(&table)?;
                self.disconnect(&table)?;
                self.database.define(&table, &[format!("DROP TABLE {}", durable(D::DIALECT, &table))])?;
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
            if let Some(other) = self.state.other_case(&group.source, &schema.relation) {
                return Err(same_name(&group.source, &schema.relation, other).into());
            }
            let mirror = Mirror::new(&group.source, schema.clone(), D::DIALECT);
            check_names(&mirror)?;
            self.database.define(&table, &[mirror.create()])?;
            self.database.define(&table, &mirror.connect())?;
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
        self.alter(group, &table, schema)?;
        if known.columns != schema.columns || known.key != schema.key {
            self.follow_schema(&[table], group)?;
        }
        Ok(true)
    }

    /// Gives a mirror its new columns, keeping the values of those that stay.
    fn alter(&mut self, group: &Group, table: &str, schema: &Arc<RelationSchema>) -> Result<()> {
        let Some(known) = self.state.mirrors.get(table).map(|mirror| mirror.schema.clone()) else {
            return Ok(());
        };
        let mirror = Mirror::new(&group.source, schema.clone(), D::DIALECT);
        check_names(&mirror)?;
        if known.columns != schema.columns || known.key != schema.key {
            self.freeze_readers(table)?;
            self.end_feeding_with(table)?;
            self.disconnect(table)?;
            let building = building_table(table);
            self.database.define(table, &[mirror.create_named(&building)])?;
            self.keep_values(group, &known, schema, (table, &building))?;
            let statements = [
                format!("DROP TABLE {}", durable(D::DIALECT, table)),
                format!("ALTER TABLE {} RENAME TO {}", durable(D::DIALECT, &building), quote(table)),
            ];
            self.database.define(table, &statements)?;
            self.database.define(table, &mirror.connect())?;
        }
        self.state.mirrors.insert(table.to_owned(), mirror);
        Ok(())
    }

    /// Copies the rows of a mirror to the table of its new schema. Without the columns of the new key they are the rows of
    /// another relation that had the name before: a snapshot brings those that there are, and is asked for where none does.
    fn keep_values(
        &self,
        group: &Group,
        known: &RelationSchema,
        schema: &RelationSchema,
        (table, building): (&str, &str),
    ) -> Result<()> {
        let [table, building] = [table, building].map(|table| durable(D::DIALECT, table));
        let former = |column: &Column| known.columns.get(known.column_index(&column.name)?);
        let is_same = |key: &Column| former(key).is_some_and(|former| former.column_type == key.column_type);
        let place = || format!("relation {}.{}", group.source, schema.relation);
        if !schema.key_columns().all(is_same) {
            let sql = format!("SELECT EXISTS (SELECT 1 FROM {table})");
            let has_rows = is_true(&self.database.rows(&place(), &sql, &[])?);
            if has_rows && !group.snapshot {
                return Err(Error::new(ErrorKind::Gap, place(), "has another key, and its rows are missing"));
            }
            return Ok(());
        }
        let kept = schema.columns.iter().filter_map(|column| {
            let from = former(column)?.column_type;
            let name = quote(&column.name);
            let value = if from == column.column_type {
                name.clone()
            } else {
                self.database.converted(&name, from, column.column_type)?
            };
            Some((name, value))
        });
        let (kept, values): (Vec<String>, Vec<String>) = kept.unzip();
        let (kept, values) = (kept.join(", "), values.join(", "));
        let key = schema.key_columns().map(|column| format!("{} IS NOT NULL", quote(&column.name)));
        let key = key.collect::<Vec<_>>().join(" AND ");
        // A former row that the new key cannot tell apart from another is dropped; the source sends what it has.
        let sql = format!(
            "INSERT INTO {building} ({kept}) SELECT {values} FROM {table} WHERE {key} ON CONFLICT DO NOTHING"
        );
        self.database.define(&place(), &[sql])
    }

    fn rename_mirror(&mut self, former: &str, table: &str) -> Result<()> {
        self.freeze_readers(former)?;
        self.end_feeding_with(former)?;
        self.disconnect(former)?;
        self.drop_indexes(former)?;
        // In two steps: SQLite takes names that differ in case for the same.
        let between = building_table(table);
        for (former, table) in [(former, between.as_str()), (between.as_str(), table)] {
            let sql = format!("ALTER TABLE {} RENAME TO {}", durable(D::DIALECT, former), quote(table));
            self.database.define(former, &[sql])?;
        }
        if let Some(known) = self.state.mirrors.remove(former) {
            let mirror = known.in_table(table.to_owned());
            check_names(&mirror)?;
            self.database.define(table, &mirror.connect())?;
            self.state.mirrors.insert(table.to_owned(), mirror);
        }
        Ok(())
    }

    /// Turns views that are read from the mirrors into tables of the rows that they have now: what a new schema changes in
    /// them is found by comparison.
    pub(super) fn freeze_readers(&self, table: &str) -> Result<()> {
        self.release_owned()?;
        for name in self.state.dependents(&[table.to_owned()]) {
            let Some(View { definition, .. }) = self.state.view(&name) else { continue };
            let storage = &definition.storage;
            if self.database.object(storage)? != Some(Object::View) {
                continue;
            }
            self.hide(&name, definition)?;
            if self.rename_storage(&name, storage)? {
                self.restore_storage(&name, storage)?;
                self.show(&name, definition)?;
            }
        }
        Ok(())
    }

    /// Removes the tables of a mirror's images.
    fn disconnect(&self, table: &str) -> Result<()> {
        let drop = image_tables(D::DIALECT, table).map(|images| format!("DROP TABLE IF EXISTS {images}"));
        self.database.define(table, &drop)
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
        let sql = "INSERT INTO __deltamesh_schema(id, source, relation, dsid, schema, diff) VALUES
                   ((SELECT coalesce(max(id), 0) + 1 FROM __deltamesh_schema), $1, $2, $3, $4, $5)";
        let values = [
            Cell::Text(source.to_owned()),
            Cell::Text(relation.to_owned()),
            Cell::Integer(dsid.cast_signed()),
            text.map_or(Cell::Null, Cell::Text),
            Cell::Text(difference.to_owned()),
        ];
        self.database.execute(&place(), sql, &values).map(|_| ())
    }
}

/// PostgreSQL would take the beginning of a long name for the whole.
fn check_names(mirror: &Mirror) -> Result<()> {
    let tables = [building_table(&mirror.table), old_table(&mirror.table)];
    let columns = mirror.schema.columns.iter().map(|column| column.name.clone());
    let Some(long) = tables.into_iter().chain(columns).find(|name| mirror.dialect.is_too_long(name)) else {
        return Ok(());
    };
    let place = format!("relation {}.{}", mirror.source, mirror.schema.relation);
    Err(Error::new(ErrorKind::Decode, place, format!("name {long} is too long for the replica")))
}

/// Name of a mirror while it is rebuilt or renamed.
fn building_table(table: &str) -> String {
    format!("__deltamesh_building_{table}")
}

/// The log goes on with both names whatever the source does then: only a snapshot without one of them continues.
fn same_name(source: &str, relation: &str, other: &Mirror) -> Error {
    let reason = format!(
        "only case tells its name from {}, and SQL takes both for one: drop or rename one of them at the source, \
         its next snapshot mends it",
        other.schema.relation
    );
    Error::new(ErrorKind::Gap, format!("relation {source}.{relation}"), reason)
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
