//! Who may write a change log: the lease that says it, and the fence that holds it.
//!
//! The lease is a key of the bucket LEASES that its holder writes again and again, each time on top of its own last
//! revision. Who sees no new revision for a while, by its own clock, may write the key on top of that revision; of two who
//! try, one succeeds. No clocks are compared, and nothing expires at the server.
//!
//! The lease decides who should write; the stream decides who can. Who takes over publishes a *writer message* on a subject
//! of its own, and every message of a writer demands that the last writer message is still its own ([`fence`]). So what a
//! former writer has in flight is refused, whatever sequence it expects.

use async_nats::jetstream::kv;
use async_nats::jetstream::stream::{RawMessageErrorKind, StorageType};
use deltamesh_change::SourcePosition;
use deltamesh_wire::proto::change::v1::Changes;
use deltamesh_wire::{CHANGES_CONTENT_TYPE, header, subject};
use prost::Message as _;
use serde::{Deserialize, Serialize};

use crate::{Client, Error, ErrorKind, Headers, Journal as _, Message, Stored, StreamJournal, topology};

const BUCKET: &str = "LEASES";
/// Relation token of writer messages.
const WRITER: &str = "__writer";
/// Header of a writer message: the directory that its writer captures.
const DIRECTORY: &str = "Deltamesh-Directory";
/// Header of a writer message: position behind the last group before it.
const CONTINUES: &str = "Deltamesh-Continues";
const EXPECTED_SEQUENCE: &str = "Nats-Expected-Last-Subject-Sequence";
const EXPECTED_SUBJECT: &str = "Nats-Expected-Last-Subject-Sequence-Subject";

/// What a lease says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Directory whose host holds the lease.
    pub directory: String,
    /// Directory of the last writer that the stream has: the holder, except while it takes over.
    pub writer: String,
    /// Whether the holder has given it up.
    pub released: bool,
    /// Counts renewals, for people who look.
    pub renewals: u64,
}

/// The leases of all sources.
#[derive(Clone)]
pub struct Leases {
    store: kv::Store,
}

impl Leases {
    /// Opens the bucket, and creates it where it is missing.
    ///
    /// # Errors
    /// The server refuses or does not answer.
    pub async fn open(client: &Client) -> Result<Self, Error> {
        if let Ok(store) = client.context().get_key_value(BUCKET).await {
            return Ok(Self { store });
        }
        let config = kv::Config {
            bucket: BUCKET.to_owned(),
            description: "Who may write a change log".to_owned(),
            history: 1,
            storage: StorageType::File,
            num_replicas: 1,
            ..kv::Config::default()
        };
        let created = client.context().create_key_value(config).await;
        let store = created.map_err(|error| Error::from_nats(format!("create bucket {BUCKET}"), error))?;
        Ok(Self { store })
    }

    /// The lease of a source with its revision.
    ///
    /// # Errors
    /// The server does not answer; [`ErrorKind::Decode`].
    pub async fn get(&self, source: &str) -> Result<Option<(Lease, u64)>, Error> {
        let action = || format!("read {BUCKET}/{source}");
        let entry = self.store.entry(source).await.map_err(|error| Error::from_nats(action(), error))?;
        let Some(entry) = entry.filter(|entry| entry.operation == kv::Operation::Put) else {
            return Ok(None);
        };
        let lease = serde_json::from_slice(&entry.value)
            .map_err(|error| Error::with(ErrorKind::Decode, action(), error))?;
        Ok(Some((lease, entry.revision)))
    }

    /// Writes the lease on top of a revision (0 for none) and returns the new one.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`]: someone else has written it. Else the server does not answer; it may be written then.
    pub async fn put(&self, source: &str, lease: &Lease, revision: u64) -> Result<u64, Error> {
        let action = || format!("write {BUCKET}/{source}");
        let value =
            serde_json::to_vec(lease).map_err(|error| Error::with(ErrorKind::Invalid, action(), error))?;
        let written = self.store.update(source, value.into(), revision).await;
        written.map_err(|error| Error::from_nats(action(), error))
    }

    /// The statements that define the tables of a source, as its writer has put them there.
    ///
    /// # Errors
    /// The server does not answer; [`ErrorKind::Decode`].
    pub async fn definitions(&self, source: &str) -> Result<Vec<String>, Error> {
        let action = || format!("read {BUCKET}/{source}.tables");
        let value = self.store.get(format!("{source}.tables")).await;
        let Some(value) = value.map_err(|error| Error::from_nats(action(), error))? else {
            return Ok(vec![]);
        };
        serde_json::from_slice(&value).map_err(|error| Error::with(ErrorKind::Decode, action(), error))
    }

    /// Replaces the statements that define the tables of a source.
    ///
    /// # Errors
    /// The server refuses or does not answer.
    pub async fn put_definitions(&self, source: &str, statements: &[String]) -> Result<(), Error> {
        let action = || format!("write {BUCKET}/{source}.tables");
        let value = serde_json::to_vec(statements)
            .map_err(|error| Error::with(ErrorKind::Invalid, action(), error))?;
        let written = self.store.put(format!("{source}.tables"), value.into()).await;
        written.map(drop).map_err(|error| Error::from_nats(action(), error))
    }
}

/// A writer message of a change log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writer {
    /// Its stream sequence.
    pub sequence: u64,
    /// The directory that the writer captures: engine positions from here on are positions in it.
    pub directory: String,
    /// Position behind the last group before, in the directory of the writer before.
    pub continues: SourcePosition,
}

/// The newest writer message of the change log of `source`.
///
/// # Errors
/// [`ErrorKind::NotFound`]: no such stream. [`ErrorKind::Decode`]. Else from the server.
pub async fn last_writer(client: &Client, source: &str) -> Result<Option<Writer>, Error> {
    let journal = StreamJournal::open(client, &subject::changes_stream(source)).await?;
    journal.read_last(&writer_subject(source)).await?.map(|stored| writer(&stored)).transpose()
}

/// The first writer message behind a sequence.
///
/// # Errors
/// As [`last_writer`].
pub async fn next_writer(client: &Client, source: &str, sequence: u64) -> Result<Option<Writer>, Error> {
    let name = subject::changes_stream(source);
    let stream = topology::get(client, &name).await?;
    let subject = writer_subject(source);
    let found = stream.get_first_raw_message_by_subject(subject.clone(), sequence + 1).await;
    match found {
        Ok(message) => writer(&Stored {
            sequence: message.sequence,
            subject: message.subject.to_string(),
            headers: Headers::from_nats(&message.headers),
            payload: message.payload,
        })
        .map(Some),
        Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
        Err(error) => Err(Error::from_nats(format!("read next of {subject}"), error)),
    }
}

/// Publishes a writer message as the message behind `after`: a group without rows at `position`, which is a position in
/// `directory`. Returns its sequence.
///
/// # Errors
/// [`ErrorKind::Fenced`]: the stream does not end at `after`. Else from the server; it may be published then.
pub async fn publish_writer(
    client: &Client,
    source: &str,
    after: u64,
    writer: &Writer,
    position: &SourcePosition,
    captured_us: i64,
) -> Result<u64, Error> {
    let changes = Changes {
        first_ordinal: position.ordinal,
        position: Some(position.into()),
        end: true,
        captured_us,
        ..Changes::default()
    };
    let message = Message {
        subject: writer_subject(source),
        headers: Headers::new()
            .with(header::CONTENT_TYPE, CHANGES_CONTENT_TYPE)
            .with(DIRECTORY, &writer.directory)
            .with(CONTINUES, writer.continues.to_string()),
        payload: changes.encode_to_vec().into(),
    };
    let journal = StreamJournal::open(client, &subject::changes_stream(source)).await?;
    journal.append(after, &[message]).await?.await
}

/// Checks that writer message `epoch` (0: none) is the last one of the change log of `source`.
///
/// # Errors
/// [`ErrorKind::Fenced`] where it is not; as [`last_writer`].
pub async fn check_writer(client: &Client, source: &str, epoch: u64) -> Result<(), Error> {
    let writer = last_writer(client, source).await?.map_or(0, |writer| writer.sequence);
    if writer == epoch {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Fenced, format!("continue the change log of {source}")))
}

/// Makes the stream refuse messages once the last writer message is not that of sequence `writer` (0: none).
pub fn fence(messages: &mut [Message], source: &str, writer: u64) {
    for message in messages {
        message.headers = std::mem::take(&mut message.headers)
            .with(EXPECTED_SEQUENCE, writer.to_string())
            .with(EXPECTED_SUBJECT, writer_subject(source));
    }
}

fn writer_subject(source: &str) -> String {
    subject::changes(source, WRITER)
}

fn writer(stored: &Stored) -> Result<Writer, Error> {
    let invalid = || {
        Error::with(
            ErrorKind::Decode,
            format!("decode writer message {}", stored.sequence),
            "header is missing",
        )
    };
    Ok(Writer {
        sequence: stored.sequence,
        directory: stored.headers.get(DIRECTORY).ok_or_else(invalid)?.to_owned(),
        continues: stored
            .headers
            .get(CONTINUES)
            .and_then(|position| position.parse().ok())
            .ok_or_else(invalid)?,
    })
}
