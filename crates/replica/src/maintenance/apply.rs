//! Applying groups of a change stream.

use std::collections::{BTreeMap, BTreeSet};

use deltamesh_change::{ChangeEvent, Item, Operation, RelationSchema, SchemaChange};
use deltamesh_view::{Dialect, mirror_table};

use super::Maintainer;
use super::cell::Cell;
use super::database::Database;
use super::delta::{Failure, Key, Pending, Stamp, flush};
use super::mirror::KEY_PAGE;
use crate::error::{Error, ErrorKind, Result};
use crate::group::{Applied, Checkpoint, Group, Items};

/// Netted rows that are flushed at once: bounds memory where a transaction is huge.
const FLUSH_ROWS: usize = 50_000;

/// A key that a snapshot has.
struct Seen {
    table: String,
    key: Key,
}

/// Where a group stands against the checkpoint.
enum Continuity {
    Next,
    AlreadyApplied,
}

impl<D: Database> Maintainer<D> {
    /// One attempt at a batch, inside a transaction.
    pub(super) fn apply_groups(&mut self, batch: &[Group]) -> std::result::Result<Applied, Failure> {
        let mut applied = Applied::default();
        let mut pending = Pending::default();
        let mut last: Option<&Group> = None;
        let mut moved: BTreeSet<&str> = BTreeSet::new();
        for group in batch {
            if let Continuity::AlreadyApplied = self.continuity(group)? {
                applied.skipped += 1;
                continue;
            }
            if let Some(last) = last.filter(|last| last.source != group.source || group.snapshot) {
                self.flush(&mut pending, last, &mut applied)?;
            }
            if group.snapshot {
                self.apply_snapshot(group, &mut pending, &mut applied)?;
            } else {
                self.apply_items(group, &mut pending, &mut applied)?;
            }
            self.move_checkpoint(group);
            moved.insert(&group.source);
            applied.groups += 1;
            last = Some(group);
        }
        if let Some(last) = last {
            self.flush(&mut pending, last, &mut applied)?;
        }
        for source in moved {
            self.state
                .checkpoints
                .get(source)
                .map_or(Ok(()), |checkpoint| self.database.store_checkpoint(checkpoint))?;
        }
        Ok(applied)
    }

    /// Contiguous ordinals are what tells a lost message.
    fn continuity(&self, group: &Group) -> Result<Continuity> {
        let gap =
            |reason: String| Err(Error::new(ErrorKind::Gap, format!("source {}", group.source), reason));
        let Some(checkpoint) = self.state.checkpoints.get(&group.source) else {
            return match (group.snapshot, group.first_ordinal) {
                (true, _) | (false, 1) => Ok(Continuity::Next),
                (false, first) => gap(format!("log begins at transaction {first}")),
            };
        };
        let (known, position) = (&checkpoint.position, &group.position);
        if known.incarnation != position.incarnation {
            if group.snapshot {
                return Ok(Continuity::Next);
            }
            return gap(format!("incarnation {} begins without a snapshot", position.incarnation));
        }
        if position.ordinal <= known.ordinal {
            return Ok(Continuity::AlreadyApplied);
        }
        if group.snapshot || group.first_ordinal <= known.ordinal + 1 {
            return Ok(Continuity::Next);
        }
        gap(format!("transactions {} to {} are missing", known.ordinal + 1, group.first_ordinal - 1))
    }

    fn apply_items(
        &mut self,
        group: &Group,
        pending: &mut Pending,
        applied: &mut Applied,
    ) -> std::result::Result<(), Failure> {
        self.visit(group, &mut |replica, item| match item {
            Item::Row(event) => replica.take_row(group, event, pending, applied),
            Item::Schema(change) => {
                replica.flush(pending, group, applied)?;
                applied.schema_changes += usize::from(replica.change_schema(group, change)?);
                Ok(())
            }
        })
    }

    fn visit(
        &mut self,
        group: &Group,
        each: &mut dyn FnMut(&mut Self, &Item) -> std::result::Result<(), Failure>,
    ) -> std::result::Result<(), Failure> {
        match &group.items {
            Items::Memory(items) => items.iter().try_for_each(|item| each(self, item)),
            Items::Spool(spool) => spool.visit(&mut |item| each(self, item)),
        }
    }

    fn take_row(
        &mut self,
        group: &Group,
        event: &ChangeEvent,
        pending: &mut Pending,
        applied: &mut Applied,
    ) -> std::result::Result<(), Failure> {
        if event.operation == Operation::Truncate {
            self.flush(pending, group, applied)?;
            return self.truncate(group, &event.schema, pending, applied);
        }
        let table = mirror_table(&group.source, &event.schema.relation);
        let mirror = self.state.mirrors.get(&table);
        let mirror = mirror.ok_or_else(|| Error::new(ErrorKind::Decode, &table, "relation is unknown"))?;
        pending.take(mirror, event)?;
        if pending.rows() >= FLUSH_ROWS { self.flush(pending, group, applied) } else { Ok(()) }
    }

    fn truncate(
        &mut self,
        group: &Group,
        schema: &RelationSchema,
        pending: &mut Pending,
        applied: &mut Applied,
    ) -> std::result::Result<(), Failure> {
        let table = mirror_table(&group.source, &schema.relation);
        self.delete_unless(group, &table, None, pending, applied)
    }

    /// Deletes the rows of a mirror whose key is not in the table of seen keys, a page at a time.
    fn delete_unless(
        &mut self,
        group: &Group,
        table: &str,
        seen: Option<&str>,
        pending: &mut Pending,
        applied: &mut Applied,
    ) -> std::result::Result<(), Failure> {
        let mut behind: Option<Key> = None;
        loop {
            let Some(mirror) = self.state.mirrors.get(table) else { return Ok(()) };
            let sql = mirror.keys_after(behind.is_none(), seen);
            let page = self.database.rows(table, &sql, behind.as_deref().unwrap_or_default())?;
            let complete = page.len() < KEY_PAGE;
            behind = page.last().cloned();
            for key in page {
                pending.delete(mirror, key);
            }
            self.flush(pending, group, applied)?;
            if complete {
                return Ok(());
            }
        }
    }

    /// Makes the mirrors equal to the source's complete state: its rows are upserts, and what it does not have goes.
    ///
    /// The keys that it has are noted in tables of their own, so that memory stays bounded.
    fn apply_snapshot(
        &mut self,
        group: &Group,
        pending: &mut Pending,
        applied: &mut Applied,
    ) -> std::result::Result<(), Failure> {
        let mut defined: Vec<String> = Vec::new();
        let mut seen = Vec::new();
        self.visit(group, &mut |replica, item| match item {
            Item::Schema(change) => {
                replica.flush(pending, group, applied)?;
                replica.note_seen(&mut seen)?;
                if let SchemaChange::Define(schema) = change
                    && let Some(former) = replica.state.other_case(&group.source, &schema.relation)
                    && !defined.contains(&former.table)
                {
                    let (relation, dsid) = (former.schema.relation.clone(), former.schema.dsid);
                    let drop = SchemaChange::Drop { relation, dsid };
                    applied.schema_changes += usize::from(replica.change_schema(group, &drop)?);
                }
                applied.schema_changes += usize::from(replica.change_schema(group, change)?);
                if let SchemaChange::Define(schema) = change {
                    let table = mirror_table(&group.source, &schema.relation);
                    if !defined.contains(&table) {
                        replica.create_seen(&table)?;
                        defined.push(table);
                    }
                }
                Ok(())
            }
            Item::Row(event) => {
                let table = mirror_table(&group.source, &event.schema.relation);
                let types = event.schema.key_columns().map(|column| column.column_type);
                let key = event.key.iter().zip(types);
                let key = key.map(|(value, kind)| Cell::new(value, kind, D::DIALECT)).collect();
                seen.push(Seen { table, key });
                if seen.len() >= KEY_PAGE {
                    replica.note_seen(&mut seen)?;
                }
                replica.take_row(group, event, pending, applied)
            }
        })?;
        self.flush(pending, group, applied)?;
        self.note_seen(&mut seen)?;
        for table in &defined {
            let seen = D::seen_table(table);
            self.delete_unless(group, table, Some(&seen), pending, applied)?;
            self.database.define(table, &[format!("DROP TABLE {seen}")])?;
        }
        let dropped = self.state.mirrors.values().filter(|mirror| mirror.source == group.source);
        let dropped = dropped.filter(|mirror| !defined.contains(&mirror.table));
        let dropped = dropped.map(|mirror| (mirror.schema.relation.clone(), mirror.schema.dsid));
        for (relation, dsid) in dropped.collect::<Vec<_>>() {
            let change = SchemaChange::Drop { relation, dsid };
            applied.schema_changes += usize::from(self.change_schema(group, &change)?);
        }
        Ok(())
    }

    fn create_seen(&self, table: &str) -> Result<()> {
        let Some(mirror) = self.state.mirrors.get(table) else { return Ok(()) };
        let seen = D::seen_table(table);
        let columns = mirror.schema.key_columns().enumerate().map(|(index, column)| {
            let kind = D::DIALECT.declared_type(column.column_type).filter(|_| D::DIALECT != Dialect::Sqlite);
            format!("k{} {}", index + 1, kind.unwrap_or_default())
        });
        let columns = columns.collect::<Vec<_>>().join(", ");
        let key =
            (1..=mirror.schema.key.len()).map(|index| format!("k{index}")).collect::<Vec<_>>().join(", ");
        let create = D::DIALECT.create_batch_table(&seen, &format!("{columns}, PRIMARY KEY ({key})"));
        self.database.define("reconcile", &[format!("DROP TABLE IF EXISTS {seen}"), create])
    }

    /// Notes the keys that a snapshot has.
    fn note_seen(&self, seen: &mut Vec<Seen>) -> Result<()> {
        let mut tables: BTreeMap<String, Vec<Key>> = BTreeMap::new();
        for Seen { table, key } in seen.drain(..) {
            tables.entry(table).or_default().push(key);
        }
        for (table, keys) in tables {
            let Some(mirror) = self.state.mirrors.get(&table) else { continue };
            let names: Vec<String> = (1..=mirror.schema.key.len()).map(|index| format!("k{index}")).collect();
            let types = mirror.schema.key_columns().map(|column| column.column_type);
            let columns: Vec<_> = names.iter().map(String::as_str).zip(types).collect();
            self.database.insert(&D::seen_table(&table), &columns, &keys, true)?;
        }
        Ok(())
    }

    /// Runs what is pending through mirrors and views, stamped with the group that it ends with.
    pub(super) fn flush(
        &mut self,
        pending: &mut Pending,
        group: &Group,
        applied: &mut Applied,
    ) -> std::result::Result<(), Failure> {
        if pending.rows() == 0 {
            return Ok(());
        }
        self.settle_indexes()?;
        let stamp = self.stamp(group);
        let flushed = flush(&self.database, &self.state, pending, &stamp, self.recompute)?;
        applied.rows += flushed.rows;
        applied.changes += flushed.changes;
        self.note_made(flushed.made);
        Ok(())
    }

    pub(super) fn stamp(&self, group: &Group) -> Stamp {
        Stamp {
            position: format!("{}={}", group.source, group.position),
            dsid: self.state.dsid(&group.source),
            captured_us: group.captured_us,
        }
    }

    /// Where the source of a group stands behind it.
    fn move_checkpoint(&mut self, group: &Group) {
        let checkpoint = Checkpoint {
            source: group.source.clone(),
            position: group.position.clone(),
            stream_sequence: group.stream_sequence,
        };
        self.state.checkpoints.insert(group.source.clone(), checkpoint);
    }
}
