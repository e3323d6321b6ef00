//! Who may write a change log: the lease that says it, and the fence that holds it.
//!
//! The lease is a key of the bucket LEASES that its holder writes again and again, each time on top of its own last
//! revision. Who sees no new revision for a while, by its own clock, may write the key on top of that revision; of two who
//! try, one succeeds. No clocks are compared, and nothing expires at the server.
//!
//! The lease decides who should write; the stream decides who can. A writer publishes a *writer message* on a subject of
//! its own, at the end of the stream and while it provably holds the lease, and every message of it demands that the last
//! writer message is still its own ([`Fence`]). So what a former writer has in flight is refused, whatever sequence it
//! expects. Where no writer message is left, because the stream was trimmed, nobody's messages are taken until the holder of
//! the lease has published a new one; nobody ever demands that there is none.

use std::time::{Duration, Instant};

use async_nats::jetstream::kv;
use async_nats::jetstream::stream::StorageType;
use deltamesh_change::SourcePosition;
use deltamesh_wire::proto::change::v1::Changes;
use deltamesh_wire::{CHANGES_CONTENT_TYPE, header, subject};
use prost::Message as _;
use serde::{Deserialize, Serialize};

use crate::{Client, Error, ErrorKind, Headers, Journal as _, Message, Stored, StreamJournal};

const BUCKET: &str = "LEASES";
/// Relation token of writer messages.
const WRITER: &str = "__writer";
/// Header of a message of a source with a lease: the directory whose engine positions it carries.
const DIRECTORY: &str = "Deltamesh-Directory";
const EXPECTED_SEQUENCE: &str = "Nats-Expected-Last-Subject-Sequence";
const EXPECTED_SUBJECT: &str = "Nats-Expected-Last-Subject-Sequence-Subject";
/// A writer message is renewed when this part of what the stream keeps has come behind it.
const RENEWED_AT: u32 = 4;
/// Former writers that a lease remembers.
const FORMER: usize = 16;

/// What a lease says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Directory whose host holds the lease.
    pub directory: String,
    /// Directory of the last host that may have published rows: the holder, except while it takes over.
    pub writer: String,
    /// Whether the holder has given it up.
    pub released: bool,
    /// Counts renewals, for people who look.
    pub renewals: u64,
    /// How far each of the newest former writers counts, oldest first.
    #[serde(default)]
    pub former: Vec<Former>,
}

/// A directory that another one has replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Former {
    /// The directory.
    pub directory: String,
    /// Position in it behind the last group that counts.
    pub position: SourcePosition,
    /// Stream sequence of the writer message behind that group.
    pub sequence: u64,
}

impl Lease {
    /// The first lease of a source, held by its writer.
    #[must_use]
    pub fn new(directory: &str) -> Self {
        Self {
            directory: directory.to_owned(),
            writer: directory.to_owned(),
            released: false,
            renewals: 0,
            former: vec![],
        }
    }

    /// The holder has become the writer.
    pub fn replace_writer(&mut self, former: Option<Former>) {
        self.writer.clone_from(&self.directory);
        self.former.extend(former);
        let surplus = self.former.len().saturating_sub(FORMER);
        self.former.drain(..surplus);
    }

    /// How far a directory counts that was the writer once.
    #[must_use]
    pub fn former(&self, directory: &str) -> Option<&Former> {
        self.former.iter().rev().find(|former| former.directory == directory)
    }
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
}

/// The directory whose engine positions a message carries; none where its source has no lease.
#[must_use]
pub fn directory(stored: &Stored) -> Option<&str> {
    stored.headers.get(DIRECTORY)
}

/// The directory that the change log of `source` ends with.
///
/// # Errors
/// The server does not answer.
pub async fn last_directory(client: &Client, source: &str) -> Result<Option<String>, Error> {
    let journal = match StreamJournal::open(client, &subject::changes_stream(source)).await {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        journal => journal?,
    };
    let last = journal.read_last(&subject::changes_all(source)).await?;
    Ok(last.as_ref().and_then(directory).map(str::to_owned))
}

/// Publishes the writer message of a directory that takes over, as the message behind `after`: a group without rows at
/// `position`, which is a position in `directory`. Returns its sequence.
///
/// # Errors
/// [`ErrorKind::Fenced`]: the stream does not end at `after`. Else from the server; it may be published then.
pub async fn publish_writer(
    client: &Client,
    source: &str,
    after: u64,
    directory: &str,
    position: &SourcePosition,
    captured_us: i64,
) -> Result<u64, Error> {
    let journal = StreamJournal::open(client, &subject::changes_stream(source)).await?;
    let message = writer_message(source, directory, &without_rows(position, captured_us));
    journal.append(after, &[message]).await?.await
}

/// A complete group at that position that says nothing else.
#[must_use]
pub fn without_rows(position: &SourcePosition, captured_us: i64) -> Changes {
    Changes {
        first_ordinal: position.ordinal,
        position: Some(position.into()),
        end: true,
        captured_us,
        ..Changes::default()
    }
}

fn writer_message(source: &str, directory: &str, changes: &Changes) -> Message {
    Message {
        subject: writer_subject(source),
        headers: Headers::new().with(header::CONTENT_TYPE, CHANGES_CONTENT_TYPE).with(DIRECTORY, directory),
        payload: changes.encode_to_vec().into(),
    }
}

fn writer_subject(source: &str) -> String {
    subject::changes(source, WRITER)
}

/// What a stream keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Messages; absent where any number is kept.
    pub messages: Option<u64>,
    /// Bytes; absent where any size is kept.
    pub bytes: Option<u64>,
    /// Age; absent where messages do not grow old.
    pub age: Option<Duration>,
}

/// Makes the stream of a source refuse what its writer sends once another one has taken over.
#[derive(Debug)]
pub struct Fence {
    source: String,
    directory: String,
    limits: Limits,
    /// Sequences of this fence's first and newest writer message; absent before the first.
    epochs: Option<(u64, u64)>,
    /// What came behind the newest one.
    since: Instant,
    messages: u64,
    bytes: u64,
}

impl Fence {
    /// For the writer of `directory`, which still has to publish its writer message.
    #[must_use]
    pub fn new(source: &str, directory: &str, limits: Limits) -> Self {
        let (source, directory) = (source.to_owned(), directory.to_owned());
        Self { source, directory, limits, epochs: None, since: Instant::now(), messages: 0, bytes: 0 }
    }

    /// Makes messages demand the newest writer message.
    pub fn seal(&mut self, messages: &mut [Message]) {
        self.messages += messages.len() as u64;
        for message in messages {
            let headers = std::mem::take(&mut message.headers).with(DIRECTORY, &self.directory);
            message.headers = self.demand(headers);
            self.bytes += message.size() as u64;
        }
    }

    fn demand(&self, headers: Headers) -> Headers {
        let Some((_, epoch)) = self.epochs else { return headers };
        headers
            .with(EXPECTED_SEQUENCE, epoch.to_string())
            .with(EXPECTED_SUBJECT, writer_subject(&self.source))
    }

    /// A writer message, to be published as message `sequence`; what is sealed from now on demands it. The first one
    /// demands nothing: whoever publishes it must know that the lease was its own after it had read the end of the stream.
    #[must_use]
    pub fn renew(&mut self, sequence: u64, changes: &Changes) -> Message {
        let mut message = writer_message(&self.source, &self.directory, changes);
        message.headers = self.demand(message.headers);
        let first = self.epochs.map_or(sequence, |(first, _)| first);
        self.epochs = Some((first, sequence));
        (self.since, self.messages, self.bytes) = (Instant::now(), 0, 0);
        message
    }

    /// Whether the writer message should be renewed before the stream lets it go.
    #[must_use]
    pub fn is_due(&self) -> bool {
        let Limits { messages, bytes, age } = self.limits;
        let parts = u64::from(RENEWED_AT);
        messages.is_some_and(|limit| self.messages >= limit / parts)
            || bytes.is_some_and(|limit| self.bytes >= limit / parts)
            || age.is_some_and(|limit| self.since.elapsed() >= limit / RENEWED_AT)
    }

    /// Checks that the last writer message of the stream is one of this fence.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`] where it is another's, or none is left. Else from the server.
    pub async fn check(&self, journal: &StreamJournal) -> Result<(), Error> {
        let last = journal.read_last(&writer_subject(&self.source)).await?;
        let is_own = |stored: &Stored| {
            directory(stored) == Some(&self.directory)
                && self.epochs.is_some_and(|(first, _)| stored.sequence >= first)
        };
        if last.as_ref().is_some_and(is_own) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Fenced, format!("continue the change log of {}", self.source)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_remembers_the_newest_former_writers() {
        let mut lease = Lease::new("0");
        for number in 1..=20_u64 {
            let position = SourcePosition { ordinal: number, ..SourcePosition::default() };
            let former = Former { directory: lease.writer.clone(), position, sequence: number };
            lease.directory = number.to_string();
            lease.replace_writer(Some(former));
        }
        assert_eq!((lease.writer.as_str(), lease.former.len()), ("20", FORMER));
        assert_eq!(lease.former("3"), None);
        assert_eq!(lease.former("19").map(|former| former.sequence), Some(20));
    }

    #[test]
    fn a_writer_message_is_renewed_in_time() {
        let limits = Limits { messages: Some(8), bytes: None, age: None };
        let mut fence = Fence::new("app", "d", limits);
        let message = || Message { subject: "s".into(), headers: Headers::new(), payload: "x".into() };
        let first = fence.renew(5, &Changes::default());
        assert_eq!((first.headers.get(EXPECTED_SEQUENCE), fence.is_due()), (None, false));
        let mut messages = [message(), message()];
        fence.seal(&mut messages);
        assert_eq!((messages[1].headers.get(EXPECTED_SEQUENCE), fence.is_due()), (Some("5"), true));
        let second = fence.renew(8, &Changes::default());
        assert_eq!((second.headers.get(EXPECTED_SEQUENCE), fence.is_due()), (Some("5"), false));
        let mut messages = [message()];
        fence.seal(&mut messages);
        assert_eq!(messages[0].headers.get(EXPECTED_SEQUENCE), Some("8"));
        assert_eq!(messages[0].headers.get(DIRECTORY), Some("d"));
    }
}
