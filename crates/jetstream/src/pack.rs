//! Transactions of a source as messages of its change log.
//!
//! A group is published as a whole (see `change.proto`): every message of it carries the ordinal of its first transaction
//! and the position behind its last one, and the last message carries `end`.

use std::collections::BTreeMap;
use std::sync::Arc;

use deltamesh_change::{ChangeEvent, Item, RelationSchema, SchemaChange, SourcePosition, Transaction};
use deltamesh_wire::proto::change::v1::object_change::Change;
use deltamesh_wire::proto::change::v1::{Changes, ObjectChange, RowChange, TransactionRows};
use deltamesh_wire::{CHANGES_CONTENT_TYPE, header, subject};
use prost::Message as _;

use crate::{Headers, Message};

/// Aim for the payload of a message, in bytes.
const MESSAGE_BYTES: usize = 512 << 10;

/// Payload that a message of a server with this limit should have at most, in bytes.
fn message_bytes(max_message: usize) -> usize {
    MESSAGE_BYTES.min(max_message / 2)
}

/// A group in parts keeps at most this many bytes of messages that are not complete.
const OPEN_BYTES: usize = 4 << 20;

/// Packs consecutive transactions into one group.
pub struct GroupPacker {
    source: String,
    limit: usize,
    first_ordinal: u64,
    position: SourcePosition,
    captured_us: i64,
    /// Messages in order; no row may be added to them.
    closed: Vec<Changes>,
    /// The message that takes rows, by relation, with its size.
    open: Vec<(Changes, usize)>,
    /// The last value of each sequence that was moved.
    values: BTreeMap<String, ObjectChange>,
    transactions: usize,
    rows: usize,
    bytes: usize,
}

impl GroupPacker {
    /// An empty group of `source` for a journal with that limit.
    #[must_use]
    pub fn new(source: &str, max_message: usize) -> Self {
        Self {
            source: source.to_owned(),
            limit: message_bytes(max_message),
            first_ordinal: 0,
            position: SourcePosition::default(),
            captured_us: 0,
            closed: vec![],
            open: vec![],
            values: BTreeMap::new(),
            transactions: 0,
            rows: 0,
            bytes: 0,
        }
    }

    /// Number of transactions.
    #[must_use]
    pub fn transactions(&self) -> usize {
        self.transactions
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Encoded size of the rows.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds the next transaction, which was read at `captured_us` (microseconds since 1970-01-01 UTC).
    pub fn push(&mut self, transaction: Transaction, captured_us: i64) {
        if self.transactions == 0 {
            self.first_ordinal = transaction.position.ordinal;
        }
        self.transactions += 1;
        self.captured_us = captured_us;
        let ordinal = transaction.position.ordinal;
        for item in transaction.items {
            match item {
                Item::Row(event) => self.push_row(ordinal, event),
                Item::Schema(change) => self.push_schema(&change),
            }
        }
        self.position = transaction.position;
    }

    /// Adds what the next transaction changes besides rows and schemas.
    pub fn push_objects(&mut self, objects: Vec<ObjectChange>) {
        let is_value = |object: &ObjectChange| matches!(object.change, Some(Change::Value(_)));
        let (values, definitions): (Vec<_>, Vec<_>) = objects.into_iter().partition(is_value);
        if !definitions.is_empty() {
            self.close();
            self.closed.extend(catalog_messages(definitions, self.limit));
        }
        self.values.extend(values.into_iter().map(|value| (value.name.clone(), value)));
    }

    fn push_row(&mut self, ordinal: u64, event: ChangeEvent) {
        let schema = event.schema.clone();
        let row = RowChange::from(event);
        let size = row.encoded_len() + 4;
        self.rows += 1;
        self.bytes += size;
        let index = self.open_message(&schema, size);
        let (changes, bytes) = &mut self.open[index];
        *bytes += size;
        match changes.transactions.last_mut() {
            Some(transaction) if transaction.ordinal == ordinal => transaction.rows.push(row),
            _ => {
                *bytes += 16;
                changes.transactions.push(TransactionRows { ordinal, rows: vec![row] });
            }
        }
    }

    /// Index of the open message for rows of that schema with room for `size` more bytes.
    fn open_message(&mut self, schema: &RelationSchema, size: usize) -> usize {
        let known = self.open.iter().position(|(changes, _)| changes.relation == schema.relation);
        let Some(index) = known else {
            self.open.push((rows_message(schema), 0));
            return self.open.len() - 1;
        };
        let (changes, bytes) = &mut self.open[index];
        if changes.dsid != schema.dsid || (*bytes > 0 && *bytes + size > self.limit) {
            self.closed.push(std::mem::replace(changes, rows_message(schema)));
            *bytes = 0;
        }
        index
    }

    fn push_schema(&mut self, change: &SchemaChange) {
        self.close();
        self.closed.push(schema_message(change));
    }

    fn close(&mut self) {
        self.closed.extend(self.open.drain(..).map(|(changes, _)| changes));
    }

    /// Messages that are complete, for a group of one transaction that comes in parts: each is pushed with the same position
    /// and capture time, and more rows or the end follow.
    #[must_use]
    pub fn take_complete(&mut self) -> Vec<Message> {
        if self.open.iter().map(|(_, bytes)| bytes).sum::<usize>() > OPEN_BYTES {
            self.close();
        }
        // The newest is kept: the last message of the group carries its end.
        let complete = self.closed.len().saturating_sub(1);
        let complete: Vec<Changes> = self.closed.drain(..complete).collect();
        complete.into_iter().map(|changes| self.complete(changes, false)).collect()
    }

    /// A part of the group that says nothing.
    #[must_use]
    pub fn without_rows(&self) -> Changes {
        self.part(Changes::default(), false)
    }

    /// The messages of the group, in order; none where no transaction had anything to say.
    #[must_use]
    pub fn finish(mut self) -> Vec<Message> {
        self.close();
        if !self.values.is_empty() && self.closed.is_empty() {
            self.closed.push(Changes::default());
        }
        if let Some(last) = self.closed.last_mut() {
            last.objects.extend(std::mem::take(&mut self.values).into_values());
        }
        let last = self.closed.len().saturating_sub(1);
        let closed = std::mem::take(&mut self.closed).into_iter().enumerate();
        closed.map(|(index, changes)| self.complete(changes, index == last)).collect()
    }

    fn complete(&self, changes: Changes, end: bool) -> Message {
        message(&self.source, &self.part(changes, end))
    }

    fn part(&self, changes: Changes, end: bool) -> Changes {
        Changes {
            first_ordinal: self.first_ordinal,
            position: Some((&self.position).into()),
            end,
            captured_us: self.captured_us,
            ..changes
        }
    }
}

/// Packs the complete state of a source into one group, message by message, so that it need not fit into memory.
pub struct SnapshotPacker {
    source: String,
    limit: usize,
    position: SourcePosition,
    captured_us: i64,
    open: Option<(Changes, usize)>,
}

impl SnapshotPacker {
    /// A snapshot at `position`, read at `captured_us`, for a journal with that limit.
    #[must_use]
    pub fn new(source: &str, position: SourcePosition, captured_us: i64, max_message: usize) -> Self {
        Self {
            source: source.to_owned(),
            limit: message_bytes(max_message),
            position,
            captured_us,
            open: None,
        }
    }

    /// Declares definitions and sequences. They come before all relations. Returns messages that are complete.
    #[must_use]
    pub fn objects(&mut self, objects: Vec<ObjectChange>) -> Vec<Message> {
        let messages = catalog_messages(objects, self.limit);
        messages.into_iter().filter_map(|changes| self.replace(changes, 0)).collect()
    }

    /// Declares a relation. All relations come before the first row. Returns a message that is complete.
    #[must_use]
    pub fn define(&mut self, schema: &Arc<RelationSchema>) -> Option<Message> {
        let define = schema_message(&SchemaChange::Define(Arc::clone(schema)));
        self.replace(define, 0)
    }

    /// Adds a row. Returns a message that is complete.
    #[must_use]
    pub fn row(&mut self, event: ChangeEvent) -> Option<Message> {
        let schema = event.schema.clone();
        let row = RowChange::from(event);
        let size = row.encoded_len() + 4;
        if let Some((changes, bytes)) = &mut self.open
            && changes.schema.is_none()
            && changes.relation == schema.relation
            && *bytes + size <= self.limit
            && let Some(transaction) = changes.transactions.last_mut()
        {
            *bytes += size;
            transaction.rows.push(row);
            return None;
        }
        let ordinal = self.position.ordinal;
        let transactions = vec![TransactionRows { ordinal, rows: vec![row] }];
        self.replace(Changes { transactions, ..rows_message(&schema) }, size)
    }

    fn replace(&mut self, changes: Changes, size: usize) -> Option<Message> {
        self.open.replace((changes, size)).map(|(changes, _)| self.complete(changes, false))
    }

    /// The last message. A source without relations has a message without relation.
    #[must_use]
    pub fn finish(mut self) -> Message {
        let changes = self.open.take().map(|(changes, _)| changes).unwrap_or_default();
        self.complete(changes, true)
    }

    fn complete(&self, changes: Changes, end: bool) -> Message {
        message(&self.source, &self.part(changes, end))
    }

    /// A part of the group that says nothing.
    #[must_use]
    pub fn without_rows(&self) -> Changes {
        self.part(Changes::default(), false)
    }

    fn part(&self, changes: Changes, end: bool) -> Changes {
        Changes {
            first_ordinal: self.position.ordinal,
            position: Some((&self.position).into()),
            end,
            snapshot: true,
            captured_us: self.captured_us,
            ..changes
        }
    }
}

fn rows_message(schema: &RelationSchema) -> Changes {
    Changes { relation: schema.relation.clone(), dsid: schema.dsid, ..Changes::default() }
}

/// Changes of definitions and sequences, in order.
fn catalog_messages(objects: Vec<ObjectChange>, limit: usize) -> Vec<Changes> {
    let mut messages: Vec<Changes> = vec![];
    let mut bytes = limit;
    for object in objects {
        let size = object.encoded_len() + 4;
        bytes += size;
        match messages.last_mut().filter(|_| bytes <= limit) {
            Some(changes) => changes.objects.push(object),
            None => {
                messages.push(Changes { objects: vec![object], ..Changes::default() });
                bytes = size;
            }
        }
    }
    messages
}

fn schema_message(change: &SchemaChange) -> Changes {
    let (relation, dsid) = match change {
        SchemaChange::Define(schema) | SchemaChange::Rename { to: schema, .. } => {
            (schema.relation.clone(), schema.dsid)
        }
        SchemaChange::Drop { relation, dsid } => (relation.clone(), *dsid),
    };
    Changes { relation, dsid, schema: Some(change.into()), ..Changes::default() }
}

fn message(source: &str, changes: &Changes) -> Message {
    let subject = if changes.schema.is_some() {
        subject::changes_schema(source, &changes.relation)
    } else if changes.relation.is_empty() && !changes.objects.is_empty() {
        subject::changes_catalog(source)
    } else {
        subject::changes(source, &changes.relation)
    };
    Message {
        subject,
        headers: Headers::new().with(header::CONTENT_TYPE, CHANGES_CONTENT_TYPE),
        payload: changes.encode_to_vec().into(),
    }
}
