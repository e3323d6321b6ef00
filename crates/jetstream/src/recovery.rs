//! Where a change log stands, read from the change log itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_nats::jetstream::message::PublishMessage;
use deltamesh_change::{RelationSchema, SchemaChange, SourcePosition};
use deltamesh_wire::subject;

use crate::group::decode;
use crate::journal::{Journal, StreamJournal};
use crate::lease::directory;
use crate::{Client, Error, ErrorKind, Stored};

/// Header of a counter stream (ADR-49): what to add.
const COUNTER_INCREMENT: &str = "Nats-Incr";

/// State of a change log at its last complete group.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Recovered {
    /// Sequence of the last message of that group; 0 for none.
    pub sequence: u64,
    /// Position behind that group; absent where the stream holds none.
    pub position: Option<SourcePosition>,
    /// Directory whose engine position that is, where the source has a lease.
    pub directory: Option<String>,
    /// Newest capture time of any message, in microseconds since 1970-01-01 UTC. A writer that continues uses later ones.
    pub captured_us: i64,
    /// Schemas in force, by relation, as far as the stream still holds them.
    pub schemas: BTreeMap<String, Arc<RelationSchema>>,
}

/// Reads where the change log of `source` stands.
///
/// # Errors
/// [`ErrorKind::NotFound`]: no such stream. [`ErrorKind::Decode`]: a message in question is damaged. Else from the server.
pub async fn recover_changes(journal: &StreamJournal, source: &str) -> Result<Recovered, Error> {
    let mut recovered = Recovered::default();
    find_last_group(journal, &mut recovered).await?;
    let mut messages = vec![];
    for subject in journal.subjects(&subject::changes_schema_all(source)).await? {
        messages.extend(journal.read_last(&subject).await?);
    }
    messages.retain(|stored| stored.sequence <= recovered.sequence);
    recovered.schemas = schemas(messages)?;
    Ok(recovered)
}

/// Walks back over the messages of a group that was never finished.
async fn find_last_group(journal: &impl Journal, recovered: &mut Recovered) -> Result<(), Error> {
    let bounds = journal.bounds().await?;
    let mut sequence = bounds.last;
    while sequence >= bounds.first && sequence > 0 {
        let stored = match journal.read(sequence).await {
            Ok(stored) => stored,
            Err(error) if error.kind() == ErrorKind::Trimmed => break,
            Err(error) => return Err(error),
        };
        let changes = decode(&stored)?;
        recovered.captured_us = recovered.captured_us.max(changes.captured_us);
        if changes.end {
            recovered.sequence = sequence;
            recovered.position = changes.position.map(Into::into);
            recovered.directory = directory(&stored).map(str::to_owned);
            break;
        }
        sequence -= 1;
    }
    Ok(())
}

/// The schemas that remain after the schema messages, the newest of each subject.
fn schemas(mut messages: Vec<Stored>) -> Result<BTreeMap<String, Arc<RelationSchema>>, Error> {
    messages.sort_by_key(|stored| stored.sequence);
    let mut schemas = BTreeMap::new();
    for stored in messages {
        let Some(change) = decode(&stored)?.schema else { continue };
        let change = SchemaChange::try_from(change).map_err(|error| {
            Error::with(ErrorKind::Decode, format!("decode schema message {}", stored.sequence), error)
        })?;
        match change {
            SchemaChange::Define(schema) => {
                schemas.insert(schema.relation.clone(), schema);
            }
            SchemaChange::Rename { from, to } => {
                schemas.remove(&from);
                schemas.insert(to.relation.clone(), to);
            }
            SchemaChange::Drop { relation, .. } => {
                schemas.remove(&relation);
            }
        }
    }
    Ok(schemas)
}

/// Raises the schema sequence counter of `source` by one and returns it. A number whose ack is lost is not used.
///
/// # Errors
/// The server refuses or does not answer.
pub async fn next_dsid(client: &Client, source: &str) -> Result<u64, Error> {
    let subject = subject::dsid(source);
    let action = || format!("raise counter {subject}");
    let publish = PublishMessage::build().header(COUNTER_INCREMENT, "+1");
    let sent = client.context().send_publish(subject.clone(), publish).await;
    let ack = sent.map_err(|error| Error::from_nats(action(), error))?;
    let ack = ack.await.map_err(|error| Error::from_nats(action(), error))?;
    ack.value
        .as_deref()
        .and_then(|value| value.parse().ok())
        .ok_or_else(|| Error::with(ErrorKind::Decode, action(), "ack carries no counter value"))
}
