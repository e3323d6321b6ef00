//! Publishing view changes whose stream sequence is fixed beforehand.

use deltamesh_wire::subject;

use crate::journal::{Journal, StreamJournal};
use crate::{Client, Error, ErrorKind, Message, Publisher};

/// The writer of a replica's feed stream.
pub struct FeedPublisher<J = StreamJournal> {
    publisher: Publisher<J>,
}

impl FeedPublisher {
    /// Opens the feed stream of `replica`, which [`crate::ensure_feed`] has made.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where it does not exist; else from the server.
    pub async fn open(client: &Client, replica: &str) -> Result<Self, Error> {
        let journal = StreamJournal::open(client, &subject::feed_stream(replica)).await?;
        Ok(Self { publisher: Publisher::open(journal).await? })
    }
}

impl<J: Journal> FeedPublisher<J> {
    /// Sequence of the newest message of the stream: the outbox is published up to here.
    #[must_use]
    pub fn last_sequence(&self) -> u64 {
        self.publisher.acked()
    }

    /// Publishes messages that must get the sequences `first`, `first + 1`, …, and waits until the stream has them. Messages
    /// that the stream has already, because an ack was lost or the process was restarted, are not published again.
    ///
    /// Safe to repeat with the same messages after any error. Returns [`Self::last_sequence`].
    ///
    /// # Errors
    /// [`ErrorKind::Lost`]: the stream ends before `first - 1`; publish again from [`Self::last_sequence`] + 1.
    /// [`ErrorKind::Diverged`]: the stream holds other messages under these sequences. Else from the server.
    pub async fn publish(&mut self, first: u64, messages: Vec<Message>) -> Result<u64, Error> {
        if !self.publisher.is_idle() {
            self.publisher.recover().await?;
            self.publisher.flush().await?;
        }
        let last = self.publisher.acked();
        if first > last + 1 {
            let action = format!("publish feed message {first}, stream ends at {last}");
            return Err(Error::new(ErrorKind::Lost, action));
        }
        let known = usize::try_from(last + 1 - first).unwrap_or(usize::MAX);
        if known > messages.len() {
            let action = format!("publish feed message {first}, stream is at {last}");
            return Err(Error::new(ErrorKind::Diverged, action));
        }
        if let Some(message) = known.checked_sub(1).and_then(|index| messages.get(index)) {
            self.verify(last, message).await?;
        }
        for message in messages.into_iter().skip(known) {
            self.publisher.publish(vec![message]).await?;
        }
        self.publisher.flush().await
    }

    async fn verify(&self, sequence: u64, message: &Message) -> Result<(), Error> {
        match self.publisher.journal().read(sequence).await {
            Ok(stored) if stored.is(message) => Ok(()),
            Ok(_) => Err(Error::new(ErrorKind::Diverged, format!("check feed message {sequence}"))),
            // A stream of which everything has aged out.
            Err(error) if error.kind() == ErrorKind::Trimmed => Ok(()),
            Err(error) => Err(error),
        }
    }
}
