//! What a replica would make of the change log.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use deltamesh_change::{Operation, RelationSchema, SchemaChange, SourcePosition, to_json};
use deltamesh_jetstream::{Client, Consumer, ErrorKind, Group, GroupReader, decode};
use deltamesh_wire::proto::change::v1::Changes;

/// The relations of a source, by name and key.
pub(crate) struct Mirror {
    client: Client,
    consumer: Option<Consumer>,
    groups: GroupReader,
    schemas: BTreeMap<String, Arc<RelationSchema>>,
    pub(crate) relations: BTreeMap<String, BTreeMap<String, String>>,
    /// Row events of transactions, not of snapshots.
    pub(crate) events: usize,
    pub(crate) snapshots: usize,
    /// Relations, in the order of their schema changes: `+` defined, `-` dropped, `a>b` renamed.
    pub(crate) changes: Vec<String>,
    pub(crate) messages: usize,
    pub(crate) groups_read: usize,
    pub(crate) position: SourcePosition,
}

impl fmt::Debug for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts: BTreeMap<_, _> =
            self.relations.iter().map(|(relation, rows)| (relation, rows.len())).collect();
        write!(
            f,
            "{counts:?}, {} events, {} snapshots, {} messages, at {}",
            self.events, self.snapshots, self.messages, self.position
        )
    }
}

impl Mirror {
    pub(crate) fn new(client: &Client) -> Self {
        Self {
            client: client.clone(),
            consumer: None,
            groups: GroupReader::new(None),
            schemas: BTreeMap::new(),
            relations: BTreeMap::new(),
            events: 0,
            snapshots: 0,
            changes: vec![],
            messages: 0,
            groups_read: 0,
            position: SourcePosition::default(),
        }
    }

    /// The rows of a relation by column name, sorted, in the engine's own form: null columns are left out.
    pub(crate) fn dump(&self, relation: &str, columns: &[&str]) -> Vec<String> {
        let schema = &self.schemas[relation];
        let mut rows: Vec<String> = self.relations[relation]
            .values()
            .map(|row| {
                let values: Vec<serde_json::Value> = serde_json::from_str(row).expect("json");
                let of = |name: &str| schema.columns.iter().position(|column| column.name == name);
                let value = |name: &&str| values[of(name).expect("column")].clone();
                serde_json::Value::from(columns.iter().map(value).collect::<Vec<_>>()).to_string()
            })
            .collect();
        rows.sort();
        rows
    }

    /// Columns of a relation, in order.
    pub(crate) fn columns(&self, relation: &str) -> Vec<&str> {
        self.schemas[relation].columns.iter().map(|column| column.name.as_str()).collect()
    }

    pub(crate) fn rows(&self, relation: &str) -> usize {
        self.relations.get(relation).map_or(0, BTreeMap::len)
    }

    /// Reads on for a moment. Fails where transactions are missing.
    pub(crate) async fn read(&mut self) {
        if self.consumer.is_none() {
            match Consumer::open(&self.client, "CHANGES_APP", 1).await {
                Ok(consumer) => self.consumer = Some(consumer),
                Err(error) => {
                    let expected = [ErrorKind::NotFound, ErrorKind::Unavailable];
                    assert!(expected.contains(&error.kind()), "{}", error.chain());
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    return;
                }
            }
        }
        let Some(consumer) = &mut self.consumer else { return };
        let next = consumer.next_batch(256, 8 << 20);
        let Ok(batch) = tokio::time::timeout(Duration::from_millis(200), next).await else { return };
        for stored in batch.unwrap_or_default() {
            self.messages += 1;
            if let Some(mut group) = self.groups.push(&stored).expect("no transaction is missing") {
                let messages = match group.messages.take() {
                    Some(messages) => messages,
                    None => self.read_again(&group).await,
                };
                self.apply(&group, messages);
            }
        }
    }

    /// The messages of a group that is not kept in memory.
    async fn read_again(&self, group: &Group) -> Vec<Changes> {
        let again = Consumer::open(&self.client, "CHANGES_APP", group.first_sequence).await;
        let (mut again, mut messages) = (again.expect("stream"), vec![]);
        while again.next_sequence() <= group.last_sequence {
            let batch = again.next_batch(1, 8 << 20).await.expect("messages");
            messages.extend(batch.iter().map(|stored| decode(stored).expect("changes")));
        }
        messages
    }

    fn apply(&mut self, group: &Group, messages: Vec<Changes>) {
        self.groups_read += 1;
        if group.snapshot {
            self.snapshots += 1;
            self.relations.clear();
            self.schemas.clear();
        }
        let mut last = group.first_ordinal;
        for changes in messages {
            if let Some(change) = changes.schema {
                self.change(change.try_into().expect("schema"));
            }
            for transaction in changes.transactions {
                assert!((group.first_ordinal..=group.position.ordinal).contains(&transaction.ordinal));
                last = last.max(transaction.ordinal);
                for row in transaction.rows {
                    let schema = self.schemas.get(&changes.relation).expect("defined before its rows");
                    assert_eq!(schema.dsid, changes.dsid);
                    let event = row.into_event(schema).expect("row");
                    let text = |row: &[deltamesh_change::Value]| {
                        serde_json::Value::from(row.iter().map(to_json).collect::<Vec<_>>()).to_string()
                    };
                    let rows = self.relations.entry(changes.relation.clone()).or_default();
                    if event.operation == Operation::Truncate {
                        rows.clear();
                        continue;
                    }
                    match &event.after {
                        Some(after) => rows.insert(text(&event.key), text(after)),
                        None => rows.remove(&text(&event.key)),
                    };
                    assert_eq!(event.operation == Operation::Read, group.snapshot);
                    self.events += usize::from(!group.snapshot);
                }
            }
        }
        self.position = group.position.clone();
    }

    fn change(&mut self, change: SchemaChange) {
        match change {
            SchemaChange::Define(schema) => {
                self.changes.push(format!("+{}({})", schema.relation, schema.columns.len()));
                self.relations.entry(schema.relation.clone()).or_default();
                self.schemas.insert(schema.relation.clone(), schema);
            }
            SchemaChange::Rename { from, to } => {
                self.changes.push(format!("{from}>{}", to.relation));
                let rows = self.relations.remove(&from).unwrap_or_default();
                self.schemas.remove(&from);
                self.relations.insert(to.relation.clone(), rows);
                self.schemas.insert(to.relation.clone(), to);
            }
            SchemaChange::Drop { relation, .. } => {
                self.changes.push(format!("-{relation}"));
                self.relations.remove(&relation);
                self.schemas.remove(&relation);
            }
        }
    }
}
