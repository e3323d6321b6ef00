//! The writing side: what the engine says becomes groups of the change log.

use std::collections::VecDeque;
use std::sync::Arc;

use deltamesh_change::{
    ChangeEvent, EnginePosition, Operation, RelationSchema, Row, SourcePosition, Transaction,
};
use deltamesh_genji::{GenjiTransaction, ObjectChange};
use deltamesh_jetstream::{
    Client, Disposition, Error, ErrorKind, Fence, GroupPacker, Message, Publisher, Recovered, SnapshotPacker,
    StreamJournal, ensure_changes, now_us, recover_changes, without_rows,
};
use deltamesh_wire::proto::change::v1::Changes;
use deltamesh_wire::subject;
use tracing::warn;

use crate::engine::Start;
use crate::objects::to_wire;
use crate::schemas::Schemas;
use crate::standby::Mastership;

/// A group takes no further transactions above this many rows.
const GROUP_ROWS: usize = 4000;
/// A group takes no further transactions above this encoded size, in bytes.
const GROUP_BYTES: usize = 1 << 20;

/// A group that is on its way.
struct Sent {
    /// Stream sequence of its last message.
    end: u64,
    position: SourcePosition,
    /// Engine sequence and ordinal of each of its transactions.
    transactions: Vec<(u64, u64)>,
    rows: u64,
    snapshot: bool,
}

/// A group that has become durable.
pub(crate) struct Durable {
    pub(crate) position: SourcePosition,
    /// Engine sequence and ordinal of each of its transactions; empty for a snapshot.
    pub(crate) transactions: Vec<(u64, u64)>,
    pub(crate) rows: u64,
    pub(crate) snapshot: bool,
}

/// The change log of the source, open for writing.
pub(crate) struct ChangeLog {
    source: String,
    publisher: Publisher,
    /// What keeps other writers out, for a source with a lease.
    fence: Option<Fence>,
    /// Whether the stream ends with a position in this directory.
    is_placed: bool,
    schemas: Schemas,
    /// Position behind the last transaction that was published.
    position: SourcePosition,
    /// Position behind the last transaction that is durable.
    durable: SourcePosition,
    captured_us: i64,
    sent: VecDeque<Sent>,
    group: Option<Group>,
    /// A transaction that comes in parts.
    parts: Option<Parts>,
    snapshot: Option<Snapshot>,
    max_message: usize,
}

struct Group {
    packer: GroupPacker,
    transactions: Vec<(u64, u64)>,
}

struct Parts {
    packer: GroupPacker,
    captured_us: i64,
}

struct Snapshot {
    packer: SnapshotPacker,
    rows: u64,
}

impl ChangeLog {
    /// Opens the change log of `source` behind its last complete group; creates it where it is missing. Also says where to
    /// begin to read. With a lease, whatever an earlier writer has in flight is refused from now on.
    ///
    /// # Errors
    /// From the server; [`ErrorKind::Fenced`] where another host has the lease.
    pub(crate) async fn open(
        client: &Client,
        source: &str,
        mastership: Option<&Mastership>,
    ) -> Result<(Self, Start), Error> {
        ensure_changes(client, source).await?;
        let journal = StreamJournal::open(client, &subject::changes_stream(source)).await?;
        let publisher = Publisher::open(journal.clone()).await?;
        let mut fence = None;
        if let Some(mastership) = mastership {
            // Whoever takes the lease behind this publishes behind the end that was just read, or takes its place.
            mastership.keeper.confirm().await?;
            fence = Some(Fence::new(source, &mastership.directory, journal.limits()));
        }
        let recovered = match recover_changes(&journal, source).await {
            Err(error) if error.kind() == ErrorKind::Decode => {
                warn!(source, error = %error.chain(), "change log ends damaged, a new history begins behind it");
                Recovered::default()
            }
            recovered => recovered?,
        };
        let start = match (&recovered.position, &recovered.directory, mastership) {
            (None, ..) => Start::Snapshot { continues: false },
            // Engine positions of another writer mean nothing here.
            (_, Some(directory), Some(own)) if *directory != own.directory => {
                Start::Snapshot { continues: true }
            }
            (Some(position), ..) => Start::Resume(position.engine),
        };
        let position = recovered.position.unwrap_or_else(new_incarnation);
        let mut log = Self {
            source: source.to_owned(),
            publisher,
            fence,
            is_placed: matches!(start, Start::Resume(_)),
            schemas: Schemas::new(client, source, recovered.schemas),
            durable: position.clone(),
            position,
            captured_us: recovered.captured_us,
            sent: VecDeque::new(),
            group: None,
            parts: None,
            snapshot: None,
            max_message: client.max_payload(),
        };
        log.renew_fence().await?;
        Ok((log, start))
    }

    /// Publishes a writer message: everything behind it demands it. Where the stream has a position in this directory it is
    /// a group of its own, so that the stream keeps a position as long as it keeps anything. Inside a snapshot or a
    /// transaction in parts it is a part of it, and before the first snapshot the beginning of a group that never ends.
    async fn renew_fence(&mut self) -> Result<(), Error> {
        let captured_us = self.next_captured_us();
        let Some(fence) = &mut self.fence else { return Ok(()) };
        let end = self.publisher.end() + 1;
        let changes = if let Some(snapshot) = &self.snapshot {
            snapshot.packer.without_rows()
        } else if let Some(parts) = &self.parts {
            parts.packer.without_rows()
        } else {
            let position = SourcePosition { ordinal: self.position.ordinal + 1, ..self.position.clone() };
            let group = Changes { end: self.is_placed, ..without_rows(&position, captured_us) };
            if group.end {
                self.position = position.clone();
                self.sent.push_back(Sent { end, position, transactions: vec![], rows: 0, snapshot: false });
            }
            group
        };
        let message = fence.renew(end, &changes);
        self.hand_on(vec![message]).await
    }

    /// Renews the writer message before the stream lets it go.
    pub(crate) async fn keep(&mut self) -> Result<(), Error> {
        let is_due = self.fence.as_ref().is_some_and(Fence::is_due);
        if is_due && self.group.is_none() { self.renew_fence().await } else { Ok(()) }
    }

    /// Position behind the last transaction that was published.
    pub(crate) fn position(&self) -> &SourcePosition {
        &self.position
    }

    /// Position behind the last transaction that is durable.
    pub(crate) fn durable(&self) -> &SourcePosition {
        &self.durable
    }

    /// Stream sequence of the last durable message.
    pub(crate) fn sequence(&self) -> u64 {
        self.publisher.acked()
    }

    /// Groups on their way.
    pub(crate) fn groups_in_flight(&self) -> usize {
        self.sent.len()
    }

    /// Transactions on their way.
    pub(crate) fn transactions_in_flight(&self) -> u64 {
        self.sent.iter().map(|sent| sent.transactions.len() as u64).sum()
    }

    pub(crate) fn has_room(&self) -> bool {
        self.publisher.has_room()
    }

    /// Whether a snapshot has begun and not ended.
    pub(crate) fn is_in_snapshot(&self) -> bool {
        self.snapshot.is_some()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.publisher.is_idle()
    }

    /// Waits for the oldest message on its way; dropping the future loses nothing. Returns the groups that are durable now.
    pub(crate) async fn next_durable(&mut self) -> Result<Vec<Durable>, Error> {
        let acked = self.publisher.next_ack().await?;
        let mut durable = vec![];
        while self.sent.front().is_some_and(|sent| sent.end <= acked) {
            let Some(sent) = self.sent.pop_front() else { break };
            self.durable = sent.position.clone();
            let Sent { position, transactions, rows, snapshot, .. } = sent;
            durable.push(Durable { position, transactions, rows, snapshot });
        }
        Ok(durable)
    }

    /// Goes on after an error of publishing.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`] where the stream has another writer message than this log's, or none; else from the server.
    pub(crate) async fn recover(&mut self) -> Result<(), Error> {
        if let Some(fence) = &self.fence {
            fence.check(self.publisher.journal()).await?;
        }
        self.publisher.recover().await
    }

    /// Later than every capture time before it: that tells a group that is begun again from its first attempt.
    fn next_captured_us(&mut self) -> i64 {
        let now = i64::try_from(now_us()).unwrap_or(i64::MAX);
        self.captured_us = now.max(self.captured_us + 1);
        self.captured_us
    }

    /// Adds transactions to the group that is being packed; returns whether it takes more.
    pub(crate) async fn add(&mut self, transactions: Vec<GenjiTransaction>) -> Result<bool, Error> {
        self.keep().await?;
        let captured_us = self.next_captured_us();
        let (source, max_message) = (&self.source, self.max_message);
        let group = self.group.get_or_insert_with(|| Group {
            packer: GroupPacker::new(source, max_message),
            transactions: vec![],
        });
        for transaction in transactions {
            let items = self.schemas.assign(transaction.items).await?;
            self.position.ordinal += 1;
            self.position.engine = transaction.position;
            group.transactions.push((transaction.position.sequence, self.position.ordinal));
            group.packer.push_objects(transaction.objects.into_iter().map(to_wire).collect());
            let transaction = Transaction { position: self.position.clone(), items, snapshot: false };
            group.packer.push(transaction, captured_us);
        }
        Ok(group.packer.rows() < GROUP_ROWS && group.packer.bytes() < GROUP_BYTES)
    }

    /// Publishes the group that is being packed.
    pub(crate) async fn publish(&mut self) -> Result<(), Error> {
        match self.group.take() {
            Some(group) => self.end_group(group).await,
            None => Ok(()),
        }
    }

    /// Adds a part of a transaction that is larger than memory: a group of its own, whose messages are published as they
    /// become complete.
    pub(crate) async fn add_part(&mut self, part: GenjiTransaction) -> Result<(), Error> {
        if self.parts.is_none() {
            self.keep().await?;
            self.position.ordinal += 1;
            self.position.engine = part.position;
        }
        let items = self.schemas.assign(part.items).await?;
        let captured_us = match &self.parts {
            Some(parts) => parts.captured_us,
            None => self.next_captured_us(),
        };
        let (source, max_message) = (&self.source, self.max_message);
        let parts = self
            .parts
            .get_or_insert_with(|| Parts { packer: GroupPacker::new(source, max_message), captured_us });
        parts.packer.push_objects(part.objects.into_iter().map(to_wire).collect());
        let transaction = Transaction { position: self.position.clone(), items, snapshot: false };
        parts.packer.push(transaction, captured_us);
        if part.more {
            for message in parts.packer.take_complete() {
                self.send(vec![message]).await?;
            }
            return self.keep().await;
        }
        let Some(Parts { packer, .. }) = self.parts.take() else { return Ok(()) };
        let transactions = vec![(self.position.engine.sequence, self.position.ordinal)];
        self.end_group(Group { packer, transactions }).await
    }

    async fn end_group(&mut self, group: Group) -> Result<(), Error> {
        let Group { packer, transactions } = group;
        let rows = packer.rows() as u64;
        let messages = packer.finish();
        let end = self.publisher.end() + messages.len() as u64;
        let position = self.position.clone();
        self.sent.push_back(Sent { end, position, transactions, rows, snapshot: false });
        self.send(messages).await
    }

    /// Hands messages to the publisher. It keeps them where the server is away; the error comes again with the next ack.
    async fn send(&mut self, mut messages: Vec<Message>) -> Result<(), Error> {
        if let Some(fence) = &mut self.fence {
            fence.seal(&mut messages);
        }
        self.hand_on(messages).await
    }

    async fn hand_on(&mut self, messages: Vec<Message>) -> Result<(), Error> {
        match self.publisher.publish(messages).await {
            Err(error) if error.disposition() == Disposition::Stop => Err(error),
            _ => Ok(()),
        }
    }

    /// Begins a snapshot: the next transaction of this incarnation, or the first of a new one.
    pub(crate) async fn begin_snapshot(
        &mut self,
        engine: EnginePosition,
        objects: Vec<ObjectChange>,
        relations: &[Arc<RelationSchema>],
        continues: bool,
    ) -> Result<(), Error> {
        if !continues {
            self.position = new_incarnation();
        } else if self.snapshot.is_some() || self.parts.is_some() {
            // What was begun broke off; this takes its ordinal.
            self.position.ordinal -= 1;
        }
        self.parts = None;
        self.position.ordinal += 1;
        self.position.engine = engine;
        let captured_us = self.next_captured_us();
        let packer = SnapshotPacker::new(&self.source, self.position.clone(), captured_us, self.max_message);
        let snapshot = self.snapshot.insert(Snapshot { packer, rows: 0 });
        for message in snapshot.packer.objects(objects.into_iter().map(to_wire).collect()) {
            self.send(vec![message]).await?;
        }
        self.schemas.retain(relations);
        for engine in relations {
            let (schema, _) = self.schemas.schema(engine).await?;
            let message = self.snapshot.as_mut().and_then(|snapshot| snapshot.packer.define(&schema));
            self.send(message.into_iter().collect()).await?;
        }
        Ok(())
    }

    /// Adds rows to the snapshot.
    pub(crate) async fn add_snapshot_rows(
        &mut self,
        engine: &Arc<RelationSchema>,
        rows: Vec<Row>,
    ) -> Result<(), Error> {
        self.keep().await?;
        let (schema, _) = self.schemas.schema(engine).await?;
        let Some(snapshot) = self.snapshot.as_mut() else { return Ok(()) };
        let mut messages = vec![];
        for row in rows {
            snapshot.rows += 1;
            messages.extend(snapshot.packer.row(snapshot_row(&schema, row)));
        }
        for message in messages {
            self.send(vec![message]).await?;
        }
        Ok(())
    }

    /// Ends the snapshot and says whether it was published: an empty one of a source that has no history yet is not.
    pub(crate) async fn end_snapshot(&mut self, is_empty: bool) -> Result<bool, Error> {
        let Some(Snapshot { packer, rows }) = self.snapshot.take() else { return Ok(false) };
        // A standby takes over from a position, so a source with a lease always has one.
        if is_empty && self.publisher.end() == 0 && self.fence.is_none() {
            self.position.ordinal -= 1;
            return Ok(false);
        }
        self.is_placed = true;
        let end = self.publisher.end() + 1;
        let position = self.position.clone();
        self.sent.push_back(Sent { end, position, transactions: vec![], rows, snapshot: true });
        self.send(vec![packer.finish()]).await?;
        Ok(true)
    }
}

/// The beginning of a history that continues none.
fn new_incarnation() -> SourcePosition {
    SourcePosition { incarnation: nuid::next().to_string(), ..SourcePosition::default() }
}

fn snapshot_row(schema: &Arc<RelationSchema>, row: Row) -> ChangeEvent {
    let key = schema.key.iter().filter_map(|&index| row.get(index).cloned()).collect();
    ChangeEvent { schema: schema.clone(), operation: Operation::Read, key, before: None, after: Some(row) }
}
