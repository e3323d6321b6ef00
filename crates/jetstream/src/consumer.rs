//! Reading a stream in order, from a sequence on, without a durable state at the server.

use std::time::Duration;

use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer};
use futures::{FutureExt as _, StreamExt as _};

use crate::journal::{Journal, StreamJournal};
use crate::reopen::Reopen;
use crate::{Client, Error, ErrorKind, Headers, Stored};

/// The server says at least this often that it is still there.
const HEARTBEAT: Duration = Duration::from_secs(5);
const EXPIRES: Duration = Duration::from_secs(30);
/// The server forgets a consumer that nobody reads from after this time.
const INACTIVE: Duration = Duration::from_secs(60);
/// Messages that the server may send ahead.
const PREFETCH_MESSAGES: usize = 1000;
/// Bytes that the server may send ahead.
const PREFETCH_BYTES: usize = 8 << 20;

/// Reads a stream in order. Reconnects and continues by itself; finds out when messages are missing.
pub struct Consumer {
    client: Client,
    journal: StreamJournal,
    /// Sequence of the next message to return.
    next: u64,
    messages: Option<pull::Stream>,
    reopen: Reopen<pull::Stream>,
    /// Taken from the stream, but beyond the last batch's bounds.
    spare: Option<Stored>,
}

impl Consumer {
    /// Reads the stream of that name; the first message is that of sequence `first`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]: there is no such stream. [`ErrorKind::Trimmed`]: message `first` is gone.
    /// [`ErrorKind::Lost`]: the stream ends before `first - 1`.
    pub async fn open(client: &Client, stream: &str, first: u64) -> Result<Self, Error> {
        let journal = StreamJournal::open(client, stream).await?;
        let next = first.max(1);
        let consumer = Self {
            client: client.clone(),
            journal,
            next,
            messages: None,
            reopen: Reopen::new(client.losses()),
            spare: None,
        };
        check(&consumer.journal, next).await?;
        Ok(consumer)
    }

    /// Sequence of the next message that [`Self::next_batch`] returns.
    #[must_use]
    pub fn next_sequence(&self) -> u64 {
        self.next
    }

    /// First and last sequence of the stream, to know the lag.
    ///
    /// # Errors
    /// The server does not answer.
    pub fn bounds(&self) -> impl Future<Output = Result<crate::Bounds, Error>> + Send + use<> {
        let journal = self.journal.clone();
        async move { journal.bounds().await }
    }

    /// Waits for the next message and returns it with those that have already arrived behind it, in order and without a
    /// hole: at most `max_messages`, and at most `max_bytes` of payload unless the first alone is larger.
    ///
    /// Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`]: already waited for; call again. [`ErrorKind::Trimmed`]: the next message is gone.
    /// [`ErrorKind::Lost`]: the stream was replaced by one that ends earlier.
    pub async fn next_batch(&mut self, max_messages: usize, max_bytes: usize) -> Result<Vec<Stored>, Error> {
        let first = self.next_message().await?;
        let mut bytes = first.payload.len();
        let mut batch = vec![first];
        while batch.len() < max_messages {
            // An error is found again by the next call, after the messages that are here.
            let Some(Ok(message)) = self.next_message().now_or_never() else { break };
            bytes += message.payload.len();
            if bytes > max_bytes {
                self.next = message.sequence;
                self.spare = Some(message);
                break;
            }
            batch.push(message);
        }
        Ok(batch)
    }

    async fn next_message(&mut self) -> Result<Stored, Error> {
        if let Some(message) = self.spare.take() {
            self.next = message.sequence + 1;
            return Ok(message);
        }
        loop {
            let Some(messages) = self.messages.as_mut() else {
                let (client, journal, next) = (&self.client, &self.journal, self.next);
                let opened = self.reopen.open(|| open(client.clone(), journal.clone(), next)).await?;
                self.messages = Some(opened);
                continue;
            };
            let received = tokio::select! {
                biased;
                received = messages.next() => received,
                () = self.reopen.lost() => None,
            };
            // Connection lost, heartbeats missed, consumer gone: begin again from where we are.
            let Some(Ok(message)) = received else {
                self.messages = None;
                continue;
            };
            let message = stored(&message)?;
            if message.sequence < self.next {
                continue;
            }
            if message.sequence > self.next {
                self.messages = None;
                check(&self.journal, self.next).await?;
                continue;
            }
            self.reopen.succeeded();
            self.next += 1;
            return Ok(message);
        }
    }
}

/// Creates a consumer at the server that starts at message `next`.
async fn open(client: Client, journal: StreamJournal, next: u64) -> Result<pull::Stream, Error> {
    check(&journal, next).await?;
    let action = || format!("read {} from {next}", journal.name());
    let config = pull::Config {
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: next },
        ack_policy: AckPolicy::None,
        inactive_threshold: INACTIVE,
        memory_storage: true,
        num_replicas: 1,
        ..pull::Config::default()
    };
    let consumer: PullConsumer = client
        .context()
        .create_consumer_on_stream(config, journal.name())
        .await
        .map_err(|error| Error::from_nats(action(), error))?;
    consumer
        .stream()
        .max_messages_per_batch(PREFETCH_MESSAGES)
        .max_bytes_per_batch(PREFETCH_BYTES.max(client.max_payload()))
        .heartbeat(HEARTBEAT)
        .expires(EXPIRES)
        .messages()
        .await
        .map_err(|error| Error::from_nats(action(), error))
}

/// Whether the stream still has message `next`, or will get it.
async fn check(journal: &StreamJournal, next: u64) -> Result<(), Error> {
    let bounds = journal.bounds().await?;
    let kind = if bounds.first > next {
        ErrorKind::Trimmed
    } else if bounds.last + 1 < next {
        ErrorKind::Lost
    } else {
        return Ok(());
    };
    let action = format!("read {} from {next}, it has {} to {}", journal.name(), bounds.first, bounds.last);
    Err(Error::new(kind, action))
}

fn stored(message: &async_nats::jetstream::Message) -> Result<Stored, Error> {
    let info = message
        .info()
        .map_err(|error| Error::with(ErrorKind::Decode, "read message metadata", error.to_string()))?;
    Ok(Stored {
        sequence: info.stream_sequence,
        subject: message.subject.to_string(),
        headers: message.headers.as_ref().map(Headers::from_nats).unwrap_or_default(),
        payload: message.payload.clone(),
    })
}
