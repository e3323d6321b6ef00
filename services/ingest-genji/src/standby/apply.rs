//! Applying the change log to a directory of its own.
//!
//! Every row of the change log is whole, so applying a group twice ends as applying it once. What a group changes may become
//! visible in parts: nobody reads a standby. Definitions, sequences and rows are taken over as the source has them, without
//! checking them again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use deltamesh_change::{ChangeEvent, EnginePosition, Operation, RelationSchema, SchemaChange, Value};
use deltamesh_genji::catalog::{CatalogEntry, EntryKind, TableDefinition};
use deltamesh_genji::{Database, Error, ErrorKind, HostOptions, ObjectChange, WriteTransaction};
use deltamesh_wire::proto::change::v1::Changes;

use super::seen::Seen;
use crate::objects::from_wire;

/// Rows that share a transaction of the directory.
const ROWS: usize = 1000;

/// Why something cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Problem {
    /// The log does not fit what the directory holds: only a snapshot helps.
    Misfit(String),
    /// The directory cannot be read or written.
    Failed(String),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        use ErrorKind as Kind;
        match error.kind() {
            Kind::NotFound | Kind::AlreadyExists | Kind::Constraint | Kind::Type | Kind::Syntax => {
                Self::Misfit(error.to_string())
            }
            _ => Self::Failed(error.to_string()),
        }
    }
}

impl Problem {
    /// Names the relation.
    fn of(self, relation: &str) -> Self {
        match self {
            Self::Misfit(reason) => Self::Misfit(format!("relation {relation}: {reason}")),
            Self::Failed(reason) => Self::Failed(format!("relation {relation}: {reason}")),
        }
    }
}

/// A directory that follows a change log.
pub(crate) struct Applier {
    database: Database,
    dir: PathBuf,
    schemas: BTreeMap<String, Arc<RelationSchema>>,
}

/// The definitions that the source has at some point of the log, by name, and the values of sequences that have changed.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    definitions: BTreeMap<String, CatalogEntry>,
    values: BTreeMap<String, Option<i64>>,
}

impl Wanted {
    fn take(&mut self, objects: Vec<deltamesh_wire::proto::change::v1::ObjectChange>) -> Result<(), Problem> {
        for object in objects {
            match from_wire(object).map_err(Problem::Misfit)? {
                ObjectChange::Define(entry) => {
                    self.definitions.insert(entry.name.clone(), entry);
                }
                ObjectChange::Drop(name) => {
                    self.definitions.remove(&name);
                    self.values.remove(&name);
                }
                ObjectChange::Value { sequence, last } => {
                    self.values.insert(sequence, last);
                }
            }
        }
        Ok(())
    }
}

impl Applier {
    pub(crate) fn open(dir: &Path, schemas: Vec<RelationSchema>) -> Result<Self, String> {
        let database = Database::open(dir, &HostOptions::default()).map_err(text)?;
        let named = |schema: RelationSchema| (schema.relation.clone(), Arc::new(schema));
        Ok(Self { database, dir: dir.to_owned(), schemas: schemas.into_iter().map(named).collect() })
    }

    /// The schemas in force.
    pub(crate) fn schemas(&self) -> Vec<RelationSchema> {
        self.schemas.values().map(|schema| RelationSchema::clone(schema)).collect()
    }

    /// Position of the directory's engine behind what was applied.
    pub(crate) fn position(&self) -> Result<EnginePosition, String> {
        self.database.position().map_err(text)
    }

    pub(crate) fn close(self) -> Result<(), String> {
        self.database.close().map_err(text)
    }

    /// Applies the messages of whole groups.
    pub(crate) fn apply(&mut self, messages: Vec<Changes>) -> Result<(), Problem> {
        let wanted = self.apply_part(None, messages)?;
        self.finish(wanted)
    }

    /// Applies messages of a group; returns what the next ones need, and [`Self::finish`] behind the last.
    pub(crate) fn apply_part(
        &mut self,
        mut wanted: Option<Wanted>,
        messages: Vec<Changes>,
    ) -> Result<Option<Wanted>, Problem> {
        for mut changes in messages {
            let objects = std::mem::take(&mut changes.objects);
            if !objects.is_empty() || changes.schema.is_some() {
                wanted.get_or_insert_with(|| self.present()).take(objects)?;
            }
            match &wanted {
                Some(wanted) if changes.schema.is_some() => self.change(changes, wanted)?,
                _ => {
                    let events = self.events(changes)?;
                    self.write(events)?;
                }
            }
        }
        Ok(wanted)
    }

    /// Ends a group that was applied in parts.
    pub(crate) fn finish(&self, wanted: Option<Wanted>) -> Result<(), Problem> {
        wanted.map_or(Ok(()), |wanted| Ok(self.settle(&wanted)?))
    }

    /// The definitions that the directory has.
    fn present(&self) -> Wanted {
        let entries = self.database.objects().into_iter().map(|entry| (entry.name.clone(), entry));
        Wanted { definitions: entries.collect(), values: BTreeMap::new() }
    }

    fn events(&self, changes: Changes) -> Result<Vec<ChangeEvent>, Problem> {
        let rows = changes.transactions.into_iter().flat_map(|transaction| transaction.rows);
        let mut rows = rows.peekable();
        if rows.peek().is_none() {
            return Ok(vec![]);
        }
        let place = |reason: String| Problem::Misfit(reason).of(&changes.relation);
        let schema = self.schemas.get(&changes.relation).filter(|schema| schema.dsid == changes.dsid);
        let schema = schema.ok_or_else(|| place("its schema is not known".to_owned()))?;
        rows.map(|row| row.into_event(schema).map_err(|error| place(error.to_string()))).collect()
    }

    fn write(&self, events: Vec<ChangeEvent>) -> Result<(), Problem> {
        for events in events.chunks(ROWS) {
            let mut transaction = self.database.begin();
            for event in events {
                apply_event(&mut transaction, event)
                    .map_err(|error| Problem::from(error).of(&event.schema.relation))?;
            }
            transaction.commit()?;
        }
        Ok(())
    }

    fn change(&mut self, changes: Changes, wanted: &Wanted) -> Result<(), Problem> {
        let relation = changes.relation;
        let Some(change) = changes.schema else { return Ok(()) };
        let change = SchemaChange::try_from(change)
            .map_err(|error| Problem::Misfit(error.to_string()).of(&relation))?;
        let tables = self.database.tables();
        let mut transaction = self.database.begin();
        let changed = change_tables(&mut transaction, &tables, &change, wanted);
        changed.and_then(|()| transaction.commit()).map_err(|error| Problem::from(error).of(&relation))?;
        match change {
            SchemaChange::Define(schema) => {
                self.schemas.insert(schema.relation.clone(), schema);
            }
            SchemaChange::Rename { from, to } => {
                self.schemas.remove(&from);
                self.schemas.insert(to.relation.clone(), to);
            }
            SchemaChange::Drop { relation, .. } => {
                self.schemas.remove(&relation);
            }
        }
        Ok(())
    }

    /// Gives the directory the definitions that the source has, and moves its sequences.
    fn settle(&self, wanted: &Wanted) -> Result<(), Error> {
        let mut transaction = self.database.begin();
        let present = self.present().definitions;
        for name in present.keys().filter(|name| !wanted.definitions.contains_key(*name)) {
            transaction.replay_drop(name)?;
        }
        // An index needs its table.
        let is_index = |entry: &&CatalogEntry| entry.kind == EntryKind::Index;
        let (indexes, others): (Vec<_>, Vec<_>) = wanted.definitions.values().partition(is_index);
        for entry in others.into_iter().chain(indexes) {
            if present.get(&entry.name) != Some(entry) {
                transaction.replay_definition(entry)?;
            }
        }
        for (sequence, last) in &wanted.values {
            transaction.replay_value(sequence, *last)?;
        }
        transaction.commit().map(drop)
    }

    /// Applies one message of a snapshot: only rows that differ are written.
    pub(crate) fn apply_snapshot(
        &mut self,
        incoming: &mut Incoming,
        mut changes: Changes,
    ) -> Result<(), Problem> {
        incoming.wanted.take(std::mem::take(&mut changes.objects))?;
        if changes.schema.is_some() {
            if !std::mem::replace(&mut incoming.defines, true) {
                self.schemas.clear();
            }
            return self.change(changes, &incoming.wanted);
        }
        let events = self.events(changes)?;
        let Some(relation) = events.first().map(|event| event.schema.relation.clone()) else {
            return Ok(());
        };
        if incoming.seen.as_ref().is_none_or(|(open, _)| *open != relation) {
            self.finish_relation(incoming)?;
            incoming.seen = Some((relation, self.seen()?));
        }
        if let Some((_, seen)) = &mut incoming.seen {
            events.iter().try_for_each(|event| seen.add(&event.key)).map_err(|error| self.unkept(&error))?;
        }
        self.write(events)
    }

    /// Removes what the snapshot did not hold.
    pub(crate) fn finish_snapshot(&mut self, mut incoming: Incoming) -> Result<(), Problem> {
        self.finish_relation(&mut incoming)?;
        if !incoming.defines {
            self.schemas.clear();
        }
        self.settle(&incoming.wanted)?;
        for table in self.database.tables() {
            if !incoming.finished.contains(&table.name) {
                self.remove_others(&table.name, self.seen()?)?;
            }
        }
        Ok(())
    }

    fn finish_relation(&self, incoming: &mut Incoming) -> Result<(), Problem> {
        let Some((relation, seen)) = incoming.seen.take() else { return Ok(()) };
        self.remove_others(&relation, seen)?;
        incoming.finished.push(relation);
        Ok(())
    }

    /// Deletes the rows whose keys were not seen.
    fn remove_others(&self, relation: &str, seen: Seen) -> Result<(), Problem> {
        let mut passes = seen.passes().map_err(|error| self.unkept(&error))?;
        while let Some(pass) = passes.next().map_err(|error| self.unkept(&error))? {
            let mut surplus = vec![];
            for row in self.database.rows(relation)? {
                let (key, _) = row?;
                if pass.lacks(&key) {
                    surplus.push(key);
                }
                if surplus.len() == ROWS {
                    self.delete(relation, std::mem::take(&mut surplus))?;
                }
            }
            self.delete(relation, surplus)?;
        }
        Ok(())
    }

    fn delete(&self, relation: &str, keys: Vec<Vec<Value>>) -> Result<(), Problem> {
        let mut transaction = self.database.begin();
        for key in keys {
            transaction.delete_by_key(relation, &key)?;
        }
        transaction.commit()?;
        Ok(())
    }

    fn seen(&self) -> Result<Seen, Problem> {
        Seen::new(&self.dir).map_err(|error| self.unkept(&error))
    }

    fn unkept(&self, error: &std::io::Error) -> Problem {
        Problem::Failed(format!("cannot keep keys in {}: {error}", self.dir.display()))
    }
}

/// A snapshot that is being applied.
#[derive(Default)]
pub(crate) struct Incoming {
    wanted: Wanted,
    /// Whether the snapshot has relations.
    defines: bool,
    /// The relation whose rows are coming, with the keys that came.
    seen: Option<(String, Seen)>,
    finished: Vec<String>,
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Makes tables that hold rows of the schema.
fn change_tables(
    transaction: &mut WriteTransaction<'_>,
    tables: &[TableDefinition],
    change: &SchemaChange,
    wanted: &Wanted,
) -> Result<(), Error> {
    let exists = |name: &str| tables.iter().any(|table| table.name == name);
    let define = |transaction: &mut WriteTransaction<'_>, name: &str| {
        // Where it is not wanted any more, it is dropped further on.
        wanted.definitions.get(name).map_or(Ok(()), |entry| transaction.replay_definition(entry))
    };
    match change {
        SchemaChange::Define(schema) => define(transaction, &schema.relation),
        SchemaChange::Rename { from, to } => {
            if exists(from) && !exists(&to.relation) {
                transaction.rename_table(from, &to.relation)?;
            }
            define(transaction, &to.relation)
        }
        SchemaChange::Drop { relation, .. } => transaction.replay_drop(relation),
    }
}

fn apply_event(transaction: &mut WriteTransaction<'_>, event: &ChangeEvent) -> Result<(), Error> {
    let relation = &event.schema.relation;
    match (&event.operation, &event.after) {
        (Operation::Truncate, _) | (_, None) => {
            transaction.delete_by_key(relation, &event.key)?;
        }
        (_, Some(row)) => {
            let columns = event.schema.columns.iter().map(|column| column.name.clone());
            let fields: Vec<(String, Value)> = columns.zip(row.iter().cloned()).collect();
            transaction.replay_row(relation, &fields)?;
        }
    }
    Ok(())
}
