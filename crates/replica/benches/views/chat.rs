//! The chat workload: messages, users, chats; what changes and which views look at it.

use std::sync::Arc;

use deltamesh_change::{
    ChangeEvent, Column, ColumnType, EnginePosition, Item, Operation, RelationSchema, SchemaChange,
    SourcePosition, Value,
};
use deltamesh_replica::{Group, Items};

/// Name of the source.
pub(crate) const SOURCE: &str = "app";
/// Chats; the first has about 1.4 % of the messages.
pub(crate) const CHATS: i64 = 5_000;
/// Users; each has written about a thousandth of the messages.
pub(crate) const USERS: i64 = 1_000;
/// Messages that count as new: half of the updates and deletes hit them.
const NEWEST: i64 = 10_000;

/// Filter, groups, join.
pub(crate) const VIEWS: [(&str, &str); 3] = [
    ("visible", "SELECT id, chat, usr, body, sent FROM msg WHERE body <> '' AND del = 0"),
    (
        "chats",
        "SELECT chat, count(*) AS n, max(sent) AS last, count(DISTINCT usr) AS users
           FROM msg WHERE body <> '' AND del = 0 GROUP BY chat",
    ),
    (
        "feed",
        "SELECT m.id, m.body, m.sent, u.name, c.topic
           FROM msg m JOIN usr u ON u.id = m.usr JOIN chat c ON c.id = m.chat",
    ),
];

/// A row of `msg`.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) id: i64,
    pub(crate) chat: i64,
    pub(crate) usr: i64,
    pub(crate) body: String,
    pub(crate) sent: i64,
    pub(crate) del: i64,
}

/// One change of a row.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// A new message, or a new body of one.
    Message(Message),
    /// A message is gone.
    Delete(i64),
    /// A user has another name.
    User(i64, String),
    /// A chat has a topic.
    Chat(i64, String),
}

/// Changes that are applied in one transaction, and the same as a group of the change log.
pub(crate) struct Batch {
    pub(crate) changes: Vec<Change>,
    pub(crate) group: Group,
}

/// What the application does, the same for everybody who starts with the same numbers.
#[derive(Clone)]
pub(crate) struct Chat {
    random: u64,
    /// Whether the message of that number is there.
    there: Vec<bool>,
    ordinal: u64,
    /// Changes of a thousand that are renames of users.
    renames: u64,
    schemas: Schemas,
}

impl Chat {
    pub(crate) fn new(renames: u64) -> Self {
        Self { random: 7, there: Vec::new(), ordinal: 0, renames, schemas: Schemas::new() }
    }

    /// Definitions, users and chats.
    pub(crate) fn first(&mut self) -> Batch {
        let users = (0..USERS).map(|id| Change::User(id, format!("user {id}")));
        let chats = (0..CHATS).map(|id| Change::Chat(id, format!("topic {id}")));
        let changes: Vec<Change> = users.chain(chats).collect();
        let mut batch = self.batch_of(changes);
        if let Items::Memory(items) = &mut batch.group.items {
            let Schemas { msg, usr, chat } = &self.schemas;
            let defined = [msg, usr, chat].map(|schema| Item::Schema(SchemaChange::Define(schema.clone())));
            items.splice(0..0, defined);
        }
        batch
    }

    /// New messages only.
    pub(crate) fn load(&mut self, rows: i64) -> Batch {
        let changes = (0..rows).map(|_| self.insert()).collect();
        self.batch_of(changes)
    }

    /// 80 % new messages, 15 % new bodies, 5 % deleted, and the renames.
    pub(crate) fn batch(&mut self, size: usize) -> Batch {
        let changes = (0..size).map(|_| self.change()).collect();
        self.batch_of(changes)
    }

    fn change(&mut self) -> Change {
        if self.below(1_000) < self.renames {
            let user = self.below(USERS.cast_unsigned()).cast_signed();
            let name = format!("user {user} of {}", self.below(1 << 40));
            return Change::User(user, name);
        }
        match self.below(100) {
            0..80 => self.insert(),
            80..95 => {
                let id = self.existing();
                Change::Message(self.message(id))
            }
            _ => {
                let id = self.existing();
                if let Some(there) = self.there.get_mut(usize::try_from(id).unwrap_or_default()) {
                    *there = false;
                }
                Change::Delete(id)
            }
        }
    }

    fn insert(&mut self) -> Change {
        let id = i64::try_from(self.there.len()).unwrap_or_default();
        self.there.push(true);
        Change::Message(self.message(id))
    }

    /// Half among the newest, half anywhere.
    fn existing(&mut self) -> i64 {
        let last = i64::try_from(self.there.len()).unwrap_or_default();
        loop {
            let first = if self.below(2) == 0 { (last - NEWEST).max(0) } else { 0 };
            let id = first + self.below((last - first).cast_unsigned()).cast_signed();
            if usize::try_from(id).is_ok_and(|index| self.there[index]) {
                return id;
            }
        }
    }

    /// The message of that number with a body of its own: 5 % are empty. What else it is follows from the number.
    fn message(&mut self, id: i64) -> Message {
        let mut of = Self { random: id.cast_unsigned() ^ 0x5851_f42d_4c95_7f2d, ..Self::new(0) };
        let share = (of.below(1 << 32) as f64) / (1_u64 << 32) as f64;
        let chat = (share * share * CHATS as f64) as i64;
        let (usr, del) = (of.below(USERS.cast_unsigned()).cast_signed(), i64::from(of.below(100) < 3));
        let length = if self.below(100) < 5 { 0 } else { 20 + self.below(80) as usize };
        let word = format!("{:016x} ", self.below(u64::MAX));
        let body = word.repeat(length.div_ceil(word.len()));
        let body = body.get(..length).unwrap_or_default().to_owned();
        Message { id, chat, usr, body, sent: 1_700_000_000_000 + id * 1_000, del }
    }

    fn batch_of(&mut self, changes: Vec<Change>) -> Batch {
        self.ordinal += 1;
        let items = changes.iter().map(|change| self.schemas.item(change)).collect();
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
        Batch { changes, group }
    }

    /// A number below `bound` (splitmix64).
    fn below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

#[derive(Clone)]
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
