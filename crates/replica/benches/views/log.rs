//! The changes of the chat as groups of the change log.

use std::sync::Arc;

use deltamesh_change::{
    ChangeEvent, Column, ColumnType, EnginePosition, Item, Operation, RelationSchema, SchemaChange,
    SourcePosition, Value,
};
use deltamesh_replica::{Group, Items};

use crate::chat::{Change, Chat, Message, Order};

/// Name of the source.
const SOURCE: &str = "app";

/// Changes that are applied in one transaction, and the same as a group of the change log.
pub(crate) struct Batch {
    pub(crate) order: Order,
    pub(crate) changes: Vec<Change>,
    pub(crate) group: Group,
}

/// The chat and its log.
pub(crate) struct Log {
    chat: Chat,
    ordinal: u64,
    schemas: Schemas,
}

impl Log {
    pub(crate) fn new(renames: u64) -> Self {
        Self { chat: Chat::new(renames), ordinal: 0, schemas: Schemas::new() }
    }

    /// The next changes; the first have the definitions of the relations before them.
    pub(crate) fn batch(&mut self, order: Order) -> Batch {
        self.ordinal += 1;
        let changes = self.chat.make(order);
        let mut items = if order == Order::First { self.schemas.definitions() } else { Vec::new() };
        items.extend(changes.iter().map(|change| self.schemas.item(change)));
        let group = Group {
            source: SOURCE.to_owned(),
            first_ordinal: self.ordinal,
            position: SourcePosition {
                incarnation: "1".to_owned(),
                ordinal: self.ordinal,
                engine: EnginePosition { sequence: self.ordinal, log: 1, offset: self.ordinal },
            },
            captured_us: 1,
            stream_sequence: self.ordinal,
            snapshot: false,
            items: Items::Memory(items),
        };
        Batch { order, changes, group }
    }
}

struct Schemas {
    msg: Arc<RelationSchema>,
    usr: Arc<RelationSchema>,
    chat: Arc<RelationSchema>,
}

impl Schemas {
    fn new() -> Self {
        let schema = |relation: &str, dsid, columns: &[(&str, ColumnType)]| {
            let columns = columns.iter().map(|(name, kind)| Column::new(*name, *kind, false)).collect();
            Arc::new(RelationSchema { relation: relation.into(), dsid, columns, key: vec![0] })
        };
        let (int, text) = (ColumnType::Int, ColumnType::Text);
        let message = [("id", int), ("chat", int), ("usr", int), ("body", text), ("sent", int), ("del", int)];
        Self {
            msg: schema("msg", 1, &message),
            usr: schema("usr", 2, &[("id", int), ("name", text)]),
            chat: schema("chat", 3, &[("id", int), ("topic", text)]),
        }
    }

    fn definitions(&self) -> Vec<Item> {
        let schemas = [&self.msg, &self.usr, &self.chat];
        schemas.map(|schema| Item::Schema(SchemaChange::Define(schema.clone()))).into()
    }

    fn item(&self, change: &Change) -> Item {
        let (schema, key, after): (_, i64, Option<Vec<Value>>) = match change {
            Change::Message(Message { id, chat, usr, body, sent, del }) => {
                let row = vec![
                    Value::Int(*id),
                    Value::Int(*chat),
                    Value::Int(*usr),
                    Value::Text(body.clone()),
                    Value::Int(*sent),
                    Value::Int(*del),
                ];
                (&self.msg, *id, Some(row))
            }
            Change::Delete(id) => (&self.msg, *id, None),
            Change::User(id, name) => {
                (&self.usr, *id, Some(vec![Value::Int(*id), Value::Text(name.clone())]))
            }
            Change::Chat(id, topic) => {
                (&self.chat, *id, Some(vec![Value::Int(*id), Value::Text(topic.clone())]))
            }
        };
        let operation = if after.is_some() { Operation::Upsert } else { Operation::Delete };
        let key = vec![Value::Int(key)];
        Item::Row(ChangeEvent { schema: schema.clone(), operation, key, before: None, after })
    }
}
