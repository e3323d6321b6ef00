//! The writing side: what the engine says becomes groups of the change log.

use std::collections::VecDeque;
use std::sync::Arc;

use deltamesh_change::{
    ChangeEvent, EnginePosition, Operation, RelationSchema, Row, SourcePosition, Transaction,
};
use deltamesh_genji::GenjiTransaction;
use deltamesh_jetstream::{
    Client, Disposition, Error, ErrorKind, GroupPacker, Message, Publisher, Recovered, SnapshotPacker,
    StreamJournal, check_writer, ensure_changes, fence, now_us, recover_changes,
};
use deltamesh_wire::subject;
use tracing::warn;

use crate::schemas::Schemas;

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
    /// Sequence of the writer message that the stream must end with, for a source with a lease.
    epoch: Option<u64>,
    schemas: Schemas,
    /// Position behind the last transaction that was published.
    position: SourcePosition,
    /// Position behind the last transaction that is durable.
    durable: SourcePosition,
    captured_us: i64,
    sent: VecDeque<Sent>,
    group: Option<Group>,
    snapshot: Option<Snapshot>,
    max_message: usize,
}

struct Group {
    packer: GroupPacker,
    transactions: Vec<(u64, u64)>,
}

struct Snapshot {
    packer: SnapshotPacker,
    rows: u64,
}

impl ChangeLog {
    /// Opens the change log of `source` behind its last complete group; creates it where it is missing. Also returns the
    /// engine position to continue from, if there is one.
    ///
    /// # Errors
    /// From the server; [`ErrorKind::Fenced`] where another host has taken over since `epoch`.
    pub(crate) async fn open(
        client: &Client,
        source: &str,
        epoch: Option<u64>,
    ) -> Result<(Self, Option<EnginePosition>), Error> {
        ensure_changes(client, source).await?;
        let journal = StreamJournal::open(client, &subject::changes_stream(source)).await?;
        let publisher = Publisher::open(journal.clone()).await?;
        let recovered = match recover_changes(&journal, source).await {
            Err(error) if error.kind() == ErrorKind::Decode => {
                warn!(source, error = %error.chain(), "change log ends damaged, a new history begins behind it");
                Recovered::default()
            }
            recovered => recovered?,
        };
        // Engine positions of another writer mean nothing here.
        if let Some(epoch) = epoch {
            check_writer(client, source, epoch).await?;
        }
        let engine = recovered.position.as_ref().map(|position| position.engine);
        let position = recovered.position.unwrap_or_else(new_incarnation);
        let log = Self {
            source: source.to_owned(),
            publisher,
            epoch,
            schemas: Schemas::new(client, source, recovered.schemas),
            durable: position.clone(),
            position,
            captured_us: recovered.captured_us,
            sent: VecDeque::new(),
            group: None,
            snapshot: None,
            max_message: client.max_payload(),
        };
        Ok((log, engine))
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
    pub(crate) async fn recover(&mut self) -> Result<(), Error> {
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
            let transaction = Transaction { position: self.position.clone(), items, snapshot: false };
            group.packer.push(transaction, captured_us);
        }
        Ok(group.packer.rows() < GROUP_ROWS && group.packer.bytes() < GROUP_BYTES)
    }

    /// Publishes the group that is being packed.
    pub(crate) async fn publish(&mut self) -> Result<(), Error> {
        let Some(Group { packer, transactions }) = self.group.take() else { return Ok(()) };
        let rows = packer.rows() as u64;
        let messages = packer.finish();
        let end = self.publisher.end() + messages.len() as u64;
        let position = self.position.clone();
        self.sent.push_back(Sent { end, position, transactions, rows, snapshot: false });
        self.send(messages).await
    }

    /// Hands messages to the publisher. It keeps them where the server is away; the error comes again with the next ack.
    async fn send(&mut self, mut messages: Vec<Message>) -> Result<(), Error> {
        if let Some(epoch) = self.epoch {
            fence(&mut messages, &self.source, epoch);
        }
        match self.publisher.publish(messages).await {
            Err(error) if error.disposition() == Disposition::Stop => Err(error),
            _ => Ok(()),
        }
    }

    /// Begins a snapshot: the next transaction of this incarnation, or the first of a new one.
    pub(crate) async fn begin_snapshot(
        &mut self,
        engine: EnginePosition,
        relations: &[Arc<RelationSchema>],
        continues: bool,
    ) -> Result<(), Error> {
        if !continues {
            self.position = new_incarnation();
        } else if self.snapshot.is_some() {
            // The one before broke off and is begun again under the same ordinal.
            self.position.ordinal -= 1;
        }
        self.position.ordinal += 1;
        self.position.engine = engine;
        let captured_us = self.next_captured_us();
        let packer = SnapshotPacker::new(&self.source, self.position.clone(), captured_us, self.max_message);
        self.snapshot = Some(Snapshot { packer, rows: 0 });
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
        if is_empty && self.publisher.end() == 0 {
            self.position.ordinal -= 1;
            return Ok(false);
        }
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
