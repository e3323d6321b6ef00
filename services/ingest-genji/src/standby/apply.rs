//! Applying the change log to a directory of its own.
//!
//! Every row of the change log is whole, so applying a group twice ends as applying it once. What a group changes may become
//! visible in parts: nobody reads a standby.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::path::Path as FilePath;
use std::sync::Arc;

use deltamesh_change::{
    ChangeEvent, ColumnType, EnginePosition, Operation, RelationSchema, Row, SchemaChange, Value,
};
use deltamesh_genji::catalog::{
    ConstraintKind, DocumentDefinition, FieldDefinition, FieldType, Path, TableConstraint, TableDefinition,
};
use deltamesh_genji::{DOCID, Database, EXTRA, Error, HostOptions, ReadOptions, Snapshot, WriteTransaction};
use deltamesh_wire::proto::change::v1::Changes;

/// Rows that share a transaction of the directory.
const ROWS: usize = 1000;

/// A directory that follows a change log.
pub(crate) struct Applier {
    database: Database,
    dir: std::path::PathBuf,
    schemas: BTreeMap<String, Arc<RelationSchema>>,
    /// The tables as their master defines them, by name.
    pub(crate) definitions: BTreeMap<String, TableDefinition>,
}

impl Applier {
    pub(crate) fn open(dir: &FilePath, schemas: Vec<RelationSchema>) -> Result<Self, String> {
        let database = Database::open(dir, &HostOptions::default()).map_err(|error| error.to_string())?;
        let named = |schema: RelationSchema| (schema.relation.clone(), Arc::new(schema));
        let schemas = schemas.into_iter().map(named).collect();
        Ok(Self { database, dir: dir.to_owned(), schemas, definitions: BTreeMap::new() })
    }

    /// The schemas in force.
    pub(crate) fn schemas(&self) -> Vec<RelationSchema> {
        self.schemas.values().map(|schema| RelationSchema::clone(schema)).collect()
    }

    /// Position of the directory's engine behind what was applied.
    pub(crate) fn position(&self) -> Result<EnginePosition, String> {
        self.database.position().map_err(|error| error.to_string())
    }

    pub(crate) fn close(self) -> Result<(), String> {
        self.database.close().map_err(|error| error.to_string())
    }

    /// Whether a message defines a table whose definition by its master is not known.
    pub(crate) fn lacks_definition(&self, changes: &Changes) -> bool {
        let Some(Ok(change)) = changes.schema.clone().map(SchemaChange::try_from) else { return false };
        match change {
            SchemaChange::Define(schema) | SchemaChange::Rename { to: schema, .. } => {
                self.definitions.get(&schema.relation).is_none_or(|known| !fits(known, &schema))
            }
            SchemaChange::Drop { .. } => false,
        }
    }

    /// Applies the messages of a group.
    pub(crate) fn apply(&mut self, messages: Vec<Changes>) -> Result<(), String> {
        for changes in messages {
            if let Some(change) = changes.schema {
                let change = SchemaChange::try_from(change).map_err(|error| error.to_string())?;
                self.change(change).map_err(|error| format!("relation {}: {error}", changes.relation))?;
                continue;
            }
            let events = self.events(changes)?;
            self.write(events)?;
        }
        Ok(())
    }

    fn events(&self, changes: Changes) -> Result<Vec<ChangeEvent>, String> {
        let rows = changes.transactions.into_iter().flat_map(|transaction| transaction.rows);
        let mut rows = rows.peekable();
        if rows.peek().is_none() {
            return Ok(vec![]);
        }
        let place = |reason: String| format!("relation {}: {reason}", changes.relation);
        let schema = self.schemas.get(&changes.relation).filter(|schema| schema.dsid == changes.dsid);
        let schema = schema.ok_or_else(|| place("its schema is not known".to_owned()))?;
        rows.map(|row| row.into_event(schema).map_err(|error| place(error.to_string()))).collect()
    }

    fn write(&self, events: Vec<ChangeEvent>) -> Result<(), String> {
        for events in events.chunks(ROWS) {
            let mut transaction = self.database.begin();
            for event in events {
                apply_event(&mut transaction, event)
                    .map_err(|error| format!("relation {}: {error}", event.schema.relation))?;
            }
            transaction.commit().map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn change(&mut self, change: SchemaChange) -> Result<(), Error> {
        let tables = self.database.tables();
        let find = |name: &str| tables.iter().find(|table| table.name == name);
        let mut transaction = self.database.begin();
        match &change {
            SchemaChange::Define(schema) => self.define(&mut transaction, find(&schema.relation), schema)?,
            SchemaChange::Rename { from, to } => match find(from) {
                Some(table) if find(&to.relation).is_none() => {
                    transaction.rename_table(from, &to.relation)?;
                    let table = TableDefinition { name: to.relation.clone(), ..table.clone() };
                    self.define(&mut transaction, Some(&table), to)?;
                }
                _ => self.define(&mut transaction, find(&to.relation), to)?,
            },
            SchemaChange::Drop { relation, .. } => {
                if find(relation).is_some() {
                    transaction.drop_table(relation)?;
                }
            }
        }
        transaction.commit()?;
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

    /// Makes the table one that holds rows of the schema.
    fn define(
        &self,
        transaction: &mut WriteTransaction<'_>,
        table: Option<&TableDefinition>,
        schema: &RelationSchema,
    ) -> Result<(), Error> {
        let known = self.definitions.get(&schema.relation).filter(|known| fits(known, schema));
        let wanted = known.cloned().unwrap_or_else(|| derived(schema));
        let Some(table) = table else { return transaction.create_table(&wanted) };
        let count = table.document.fields.len();
        let is_extended = wanted.document.fields.iter().take(count).map(|field| &field.name).eq(table
            .document
            .fields
            .iter()
            .map(|field| &field.name))
            && key_names(table) == key_names(&wanted);
        if !is_extended {
            transaction.drop_table(&table.name)?;
            return transaction.create_table(&wanted);
        }
        wanted.document.fields[count..].iter().try_for_each(|field| transaction.add_field(&table.name, field))
    }

    /// Makes the directory equal to a snapshot; [`Self::finish_snapshot`] ends it.
    pub(crate) fn begin_snapshot(&self) -> Result<SnapshotDiff, String> {
        SnapshotDiff::read(&self.dir).map_err(|error| error.to_string())
    }

    /// Applies one message of a snapshot: only rows that differ are written.
    pub(crate) fn apply_snapshot(&mut self, diff: &mut SnapshotDiff, changes: Changes) -> Result<(), String> {
        if changes.schema.is_some() {
            if !std::mem::replace(&mut diff.defines, true) {
                self.schemas.clear();
            }
            return self.apply(vec![changes]);
        }
        let mut events = self.events(changes)?;
        events.retain(|event| diff.differs(event));
        self.write(events)
    }

    /// Removes what the snapshot did not hold.
    pub(crate) fn finish_snapshot(&mut self, diff: SnapshotDiff) -> Result<(), String> {
        if !diff.defines {
            self.schemas.clear();
        }
        let mut transaction = self.database.begin();
        for table in self.database.tables() {
            if !self.schemas.contains_key(&table.name) {
                transaction.drop_table(&table.name).map_err(|error| error.to_string())?;
            }
        }
        transaction.commit().map_err(|error| error.to_string())?;
        for (relation, rows) in diff.rows {
            if !self.schemas.contains_key(&relation) {
                continue;
            }
            let keys: Vec<Row> = rows.into_values().map(|(key, _)| key).collect();
            for keys in keys.chunks(ROWS) {
                let mut transaction = self.database.begin();
                for key in keys {
                    transaction.delete_by_key(&relation, key).map_err(|error| error.to_string())?;
                }
                transaction.commit().map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }
}

/// The rows of a directory before a snapshot is applied: keys, and a hash of each row.
pub(crate) struct SnapshotDiff {
    rows: HashMap<String, HashMap<String, (Row, u128)>>,
    hashers: [RandomState; 2],
    /// Whether the snapshot has relations.
    defines: bool,
}

impl SnapshotDiff {
    fn read(dir: &FilePath) -> Result<Self, Error> {
        let mut diff =
            Self { rows: HashMap::new(), hashers: [RandomState::new(), RandomState::new()], defines: false };
        let snapshot = Snapshot::open(dir, &ReadOptions::default())?;
        for schema in snapshot.relations() {
            let mut rows = HashMap::new();
            for row in snapshot.rows(&schema.relation)? {
                let row = row?;
                let key: Row = schema.key.iter().filter_map(|&index| row.get(index).cloned()).collect();
                rows.insert(text(&key), (key, diff.hash(&row)));
            }
            diff.rows.insert(schema.relation.clone(), rows);
        }
        Ok(diff)
    }

    fn hash(&self, row: &Row) -> u128 {
        let text = text(row);
        let [first, second] = &self.hashers;
        u128::from(first.hash_one(&text)) << 64 | u128::from(second.hash_one(&text))
    }

    /// Whether the directory holds another row under that key, or none.
    fn differs(&mut self, event: &ChangeEvent) -> bool {
        let Some(after) = &event.after else { return true };
        let hash = self.hash(after);
        let rows = self.rows.get_mut(&event.schema.relation);
        let before = rows.and_then(|rows| rows.remove(&text(&event.key)));
        before.is_none_or(|(_, known)| known != hash)
    }
}

/// One text for equal values of equal kinds.
fn text(row: &Row) -> String {
    format!("{row:?}")
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
            transaction.upsert(relation, &fields)?;
        }
    }
    Ok(())
}

/// Whether a table's rows have the columns of the schema.
fn fits(table: &TableDefinition, schema: &RelationSchema) -> bool {
    let has = |name: &str| schema.column_index(name).is_some();
    let declared = |name: &str| {
        table.document.field(name).is_some()
            || key_names(table).iter().any(|key| key == name)
            || (name == EXTRA && table.document.extra)
            || (name == DOCID && key_names(table).is_empty())
    };
    table.document.fields.iter().all(|field| has(&field.name))
        && schema.columns.iter().all(|column| declared(&column.name))
        && schema
            .key_columns()
            .all(|column| column.name == DOCID || key_names(table).iter().any(|key| key == &column.name))
}

fn key_names(table: &TableDefinition) -> Vec<String> {
    table.primary_key().unwrap_or_default().iter().map(ToString::to_string).collect()
}

/// A table that holds rows of the schema, where its master's definition is not known.
fn derived(schema: &RelationSchema) -> TableDefinition {
    let key: Vec<Path> = schema
        .key_columns()
        .filter(|column| column.name != DOCID)
        .map(|column| Path::field(&column.name))
        .collect();
    let fields = schema.columns.iter().filter(|column| column.name != DOCID && column.name != EXTRA);
    let fields = fields.map(|column| FieldDefinition {
        name: column.name.clone(),
        field_type: field_type(column.column_type),
        not_null: !column.nullable,
        default: None,
    });
    let primary_key = (!key.is_empty()).then(|| TableConstraint {
        name: format!("{}_pk", schema.relation),
        kind: ConstraintKind::PrimaryKey(key),
    });
    TableDefinition {
        name: schema.relation.clone(),
        document: DocumentDefinition {
            fields: fields.collect(),
            extra: schema.columns.iter().any(|column| column.name == EXTRA),
        },
        constraints: primary_key.into_iter().collect(),
    }
}

fn field_type(column: ColumnType) -> FieldType {
    match column {
        ColumnType::Bool => FieldType::Boolean,
        ColumnType::Int => FieldType::Integer,
        ColumnType::Float => FieldType::Double,
        ColumnType::Text | ColumnType::Decimal => FieldType::Text,
        ColumnType::Bytes => FieldType::Blob,
        ColumnType::Json | ColumnType::Any => FieldType::Any,
    }
}
