//! The seam between publishing and what keeps the messages: a stream of JetStream, or memory in a simulation.

use std::future::Future;

use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{LastRawMessageErrorKind, RawMessageErrorKind, Stream};
use futures::future::BoxFuture;
use nuid::NUIDStr;

use crate::{ANSWER_TIMEOUT, Client, Error, ErrorKind, Limits, Message, Stored, topology};

/// Most messages that one atomic append may have.
pub const MAX_BATCH: usize = 1000;

/// First and last sequence of a journal. An empty one has `first == last + 1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Sequence of the oldest message that is still there.
    pub first: u64,
    /// Sequence of the newest message.
    pub last: u64,
}

/// An append that has been sent: resolves to the sequence of its last message once that is durable.
pub type Ack = BoxFuture<'static, Result<u64, Error>>;

/// An ordered, durable, fenced list of messages.
pub trait Journal: Send + Sync {
    /// Sends messages, all or none of which are stored, the first at `after + 1`. Appends that were sent one after the
    /// other arrive in that order, so the next need not wait for this one's ack.
    ///
    /// The append fails with [`ErrorKind::Fenced`] where the journal's last sequence is not `after`.
    fn append(&self, after: u64, messages: &[Message]) -> impl Future<Output = Result<Ack, Error>> + Send;

    /// First and last sequence.
    fn bounds(&self) -> impl Future<Output = Result<Bounds, Error>> + Send;

    /// The message at a sequence; [`ErrorKind::Trimmed`] where it is not there.
    fn read(&self, sequence: u64) -> impl Future<Output = Result<Stored, Error>> + Send;

    /// Largest size of a message, in bytes.
    fn max_message(&self) -> usize;
}

/// A JetStream stream as a [`Journal`].
#[derive(Clone)]
pub struct StreamJournal {
    client: Client,
    stream: Stream,
    name: String,
}

impl StreamJournal {
    /// The stream of that name.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there is none.
    pub async fn open(client: &Client, name: &str) -> Result<Self, Error> {
        let stream = topology::get(client, name).await?;
        Ok(Self { client: client.clone(), stream, name: name.to_owned() })
    }

    /// Name of the stream.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the stream keeps.
    #[must_use]
    pub fn limits(&self) -> Limits {
        let config = &self.stream.cached_info().config;
        let count = |limit: i64| u64::try_from(limit).ok().filter(|limit| *limit > 0);
        Limits {
            messages: count(config.max_messages),
            bytes: count(config.max_bytes),
            age: Some(config.max_age).filter(|age| !age.is_zero()),
        }
    }

    /// The newest message on a subject, which may have wildcards.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn read_last(&self, subject: &str) -> Result<Option<Stored>, Error> {
        match self.stream.get_last_raw_message_by_subject(subject).await {
            Ok(message) => Ok(Some(stored(message))),
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(Error::from_nats(format!("read last of {subject}"), error)),
        }
    }

    /// Subjects that match `pattern` and have messages.
    pub(crate) async fn subjects(&self, pattern: &str) -> Result<Vec<String>, Error> {
        use futures::TryStreamExt as _;
        let action = || format!("list subjects of {}", self.name);
        let listing = self.stream.info_with_subjects(pattern);
        let listing = listing.await.map_err(|error| Error::from_nats(action(), error))?;
        let subjects: Vec<(String, usize)> =
            listing.try_collect().await.map_err(|error| Error::from_nats(action(), error))?;
        Ok(subjects.into_iter().map(|(subject, _)| subject).collect())
    }

    async fn send_one(&self, after: u64, message: &Message) -> Result<Ack, Error> {
        let mut headers = message.headers.to_nats()?;
        headers.insert(async_nats::header::NATS_EXPECTED_LAST_SEQUENCE, after.to_string());
        self.request(&message.subject, headers, message.payload.clone()).await
    }

    async fn send_batch(&self, after: u64, messages: &[Message]) -> Result<Ack, Error> {
        let id = nuid::next();
        let (last, others) =
            messages.split_last().ok_or_else(|| Error::new(ErrorKind::Invalid, "append nothing"))?;
        for (index, message) in others.iter().enumerate() {
            let mut headers = batch_headers(message, &id, index)?;
            if index == 0 {
                headers.insert(async_nats::header::NATS_EXPECTED_LAST_SEQUENCE, after.to_string());
            }
            self.client
                .nats()
                .publish_with_headers(message.subject.clone(), headers, message.payload.clone())
                .await
                .map_err(|error| Error::from_nats(format!("publish to {}", self.name), error))?;
        }
        let mut headers = batch_headers(last, &id, others.len())?;
        headers.insert(async_nats::header::NATS_BATCH_COMMIT, async_nats::header::NATS_BATCH_COMMIT_FINAL);
        self.request(&last.subject, headers, last.payload.clone()).await
    }

    /// Sends a message that is answered with an ack. The ack fails at once when the connection is lost: whether the
    /// message arrived is then for the caller to look up.
    async fn request(
        &self,
        subject: &str,
        headers: async_nats::HeaderMap,
        payload: bytes::Bytes,
    ) -> Result<Ack, Error> {
        let action = format!("publish to {}", self.name);
        let mut losses = self.client.losses();
        losses.mark_unchanged();
        let publish = PublishMessage::build().headers(headers).payload(payload);
        let sent = self.client.context().send_publish(subject.to_owned(), publish).await;
        let ack = sent.map_err(|error| Error::from_nats(action.clone(), error))?.into_future();
        Ok(Box::pin(async move {
            tokio::select! {
                answer = ack => match answer {
                    Ok(ack) => Ok(ack.sequence),
                    Err(error) => Err(Error::from_nats(action, error)),
                },
                _ = losses.changed() => {
                    Err(Error::with(ErrorKind::Unavailable, action, "connection was lost before the ack"))
                }
            }
        }))
    }
}

fn batch_headers(message: &Message, id: &NUIDStr, index: usize) -> Result<async_nats::HeaderMap, Error> {
    let mut headers = message.headers.to_nats()?;
    headers.insert(async_nats::header::NATS_BATCH_ID, id.as_str());
    headers.insert(async_nats::header::NATS_BATCH_SEQUENCE, (index + 1).to_string());
    Ok(headers)
}

fn stored(message: async_nats::jetstream::message::StreamMessage) -> Stored {
    Stored {
        sequence: message.sequence,
        subject: message.subject.to_string(),
        headers: crate::Headers::from_nats(&message.headers),
        payload: message.payload,
    }
}

impl Journal for StreamJournal {
    async fn append(&self, after: u64, messages: &[Message]) -> Result<Ack, Error> {
        match messages {
            [message] => self.send_one(after, message).await,
            messages => self.send_batch(after, messages).await,
        }
    }

    async fn bounds(&self) -> Result<Bounds, Error> {
        let info = tokio::time::timeout(ANSWER_TIMEOUT, self.stream.get_info()).await;
        let action = || format!("read state of {}", self.name);
        let info = info
            .map_err(|late| Error::with(ErrorKind::Unavailable, action(), late))?
            .map_err(|error| Error::from_nats(action(), error))?;
        let first = info.state.first_sequence.max(1);
        Ok(Bounds { first, last: info.state.last_sequence.max(first - 1) })
    }

    async fn read(&self, sequence: u64) -> Result<Stored, Error> {
        let action = || format!("read message {sequence} of {}", self.name);
        // Not a direct get: another replica than the leader may lag behind an ack.
        match self.stream.get_raw_message(sequence).await {
            Ok(message) => Ok(stored(message)),
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => {
                Err(Error::with(ErrorKind::Trimmed, action(), error))
            }
            Err(error) => Err(Error::from_nats(action(), error)),
        }
    }

    fn max_message(&self) -> usize {
        self.client.max_payload()
    }
}
