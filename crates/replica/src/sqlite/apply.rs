//! Applying groups of a change stream.

use deltamesh_change::{ChangeEvent, Item, Operation, RelationSchema, SchemaChange};
use deltamesh_view::mirror_table;
use rusqlite::{named_params, params_from_iter};

use super::SqliteReplica;
use super::delta::{Failure, Pending, Stamp, cells, flush};
use super::mirror::{KEY_PAGE, quote};
use crate::error::{At, Error, ErrorKind, Result};
use crate::group::{Applied, Checkpoint, Group, Items};

/// Netted rows that are flushed at once: bounds memory where a transaction is huge.
const FLUSH_ROWS: usize = 50_000;

/// Where a group stands against the checkpoint.
enum Continuity {
    Next,
    AlreadyApplied,
}

impl SqliteReplica {
    /// One attempt at a batch, inside a transaction.
    pub(super) fn apply_groups(&mut self, batch: &[Group]) -> std::result::Result<Applied, Failure> {
        let mut applied = Applied::default();
        let mut pending = Pending::default();
        let mut last: Option<&Group> = None;
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
            self.move_checkpoint(group)?;
            applied.groups += 1;
            last = Some(group);
        }
        if let Some(last) = last {
            self.flush(&mut pending, last, &mut applied)?;
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
        let mut behind: Option<Vec<super::cell::Cell>> = None;
        loop {
            let Some(mirror) = self.state.mirrors.get(table) else { return Ok(()) };
            let width = mirror.schema.key.len();
            let page = {
                let sql = mirror.keys_after(behind.is_none());
                let mut statement = self.connection.prepare_cached(&sql).at(|| table)?;
                let bound = behind.as_deref().unwrap_or_default();
                let rows = statement.query_map(params_from_iter(bound), |row| cells(row, width));
                rows.at(|| table)?.collect::<rusqlite::Result<Vec<_>>>().at(|| table)?
            };
            let complete = page.len() < KEY_PAGE;
            behind = page.last().cloned();
            for key in page {
                if !self.is_seen(seen, &key)? {
                    pending.delete(mirror, key);
                }
            }
            self.flush(pending, group, applied)?;
            if complete {
                return Ok(());
            }
        }
    }

    fn is_seen(&self, seen: Option<&str>, key: &[super::cell::Cell]) -> Result<bool> {
        let Some(seen) = seen else { return Ok(false) };
        let conditions = (1..=key.len()).map(|index| format!("k{index} = ?{index}"));
        let conditions = conditions.collect::<Vec<_>>().join(" AND ");
        let sql = format!("SELECT EXISTS (SELECT 1 FROM {seen} WHERE {conditions})");
        let mut statement = self.connection.prepare_cached(&sql).at(|| "reconcile")?;
        statement.query_row(params_from_iter(key), |row| row.get(0)).at(|| "reconcile")
    }

    /// Makes the mirrors equal to the source's complete state: its rows are upserts, and what it does not have goes.
    ///
    /// The keys that it has are noted in a file beside the replica, so that memory stays bounded.
    fn apply_snapshot(
        &mut self,
        group: &Group,
        pending: &mut Pending,
        applied: &mut Applied,
    ) -> std::result::Result<(), Failure> {
        let mut defined: Vec<String> = Vec::new();
        self.visit(group, &mut |replica, item| match item {
            Item::Schema(change) => {
                replica.flush(pending, group, applied)?;
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
                        replica.create_seen(&table, schema.key.len())?;
                        defined.push(table);
                    }
                }
                Ok(())
            }
            Item::Row(event) => {
                replica.note_seen(group, event)?;
                replica.take_row(group, event, pending, applied)
            }
        })?;
        self.flush(pending, group, applied)?;
        for table in &defined {
            self.delete_unless(group, table, Some(&seen_table(table)), pending, applied)?;
            let sql = format!("DROP TABLE {}", seen_table(table));
            self.connection.execute(&sql, []).at(|| table.as_str())?;
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

    fn create_seen(&self, table: &str, width: usize) -> Result<()> {
        let seen = seen_table(table);
        let key = (1..=width).map(|index| format!("k{index}")).collect::<Vec<_>>().join(", ");
        let sql = format!(
            "DROP TABLE IF EXISTS {seen}; CREATE TABLE {seen} ({key}, PRIMARY KEY ({key})) WITHOUT ROWID;"
        );
        self.connection.execute_batch(&sql).at(|| "reconcile")
    }

    fn note_seen(&self, group: &Group, event: &ChangeEvent) -> Result<()> {
        let seen = seen_table(&mirror_table(&group.source, &event.schema.relation));
        let places = (1..=event.key.len()).map(|index| format!("?{index}")).collect::<Vec<_>>().join(", ");
        let sql = format!("INSERT OR IGNORE INTO {seen} VALUES ({places})");
        let types = event.schema.key_columns().map(|column| column.column_type);
        let key = event.key.iter().zip(types).map(|(value, kind)| super::cell::Cell::new(value, kind));
        let mut statement = self.connection.prepare_cached(&sql).at(|| "reconcile")?;
        statement.execute(params_from_iter(key)).at(|| "reconcile")?;
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
        let stamp = self.stamp(group);
        let flushed = flush(&self.connection, &self.state, pending, &stamp)?;
        applied.rows += flushed.rows;
        applied.changes += flushed.changes;
        Ok(())
    }

    pub(super) fn stamp(&self, group: &Group) -> Stamp {
        Stamp {
            position: format!("{}={}", group.source, group.position),
            dsid: self.state.dsid(&group.source),
            captured_us: group.captured_us,
        }
    }

    fn move_checkpoint(&mut self, group: &Group) -> Result<()> {
        let sql =
            "INSERT INTO __deltamesh_checkpoint VALUES (:source, :incarnation, :ordinal, :engine_sequence,
                       :engine_log, :engine_offset, :stream_sequence)
                   ON CONFLICT (source) DO UPDATE SET incarnation = excluded.incarnation,
                       ordinal = excluded.ordinal, engine_sequence = excluded.engine_sequence,
                       engine_log = excluded.engine_log, engine_offset = excluded.engine_offset,
                       stream_sequence = excluded.stream_sequence";
        let position = &group.position;
        let place = || "move checkpoint";
        let mut statement = self.connection.prepare_cached(sql).at(place)?;
        let parameters = named_params! {
            ":source": group.source,
            ":incarnation": position.incarnation,
            ":ordinal": position.ordinal.cast_signed(),
            ":engine_sequence": position.engine.sequence.cast_signed(),
            ":engine_log": position.engine.log.cast_signed(),
            ":engine_offset": position.engine.offset.cast_signed(),
            ":stream_sequence": group.stream_sequence.cast_signed(),
        };
        statement.execute(parameters).at(place)?;
        let checkpoint = Checkpoint {
            source: group.source.clone(),
            position: position.clone(),
            stream_sequence: group.stream_sequence,
        };
        self.state.checkpoints.insert(group.source.clone(), checkpoint);
        Ok(())
    }
}

/// Table of the keys that a snapshot has, in the file of the reconcile.
fn seen_table(table: &str) -> String {
    format!("spool.{}", quote(table))
}
