//! One writer of a stream: fenced, pipelined, never doubled, never lost.
//!
//! Every append names the sequence that it must follow, so an append is stored at exactly one place or not at all. That
//! makes sending it again harmless: of two copies one is stored, the other is refused. After a lost ack the publisher
//! therefore looks up what the stream holds, drops what is there, and sends the rest again.
//!
//! With several appends in flight there is one gap that sequences alone cannot close: a foreign message may take the place
//! of ours while the next of ours still fits behind it. [`Publisher::recover`] finds that and says
//! [`ErrorKind::Interleaved`]; the writer then owes its readers a snapshot.

use std::collections::VecDeque;

use crate::journal::{Ack, Journal, MAX_BATCH, StreamJournal};
use crate::{Error, ErrorKind, Message};

/// [`Publisher::has_room`] says no at this many appends. Enough to hide the way to the server; more would only delay acks
/// where the server flushes each message (`sync_interval: always`), and what waits longer is packed better.
const WINDOW: usize = 16;

/// Most appends in flight, for those who publish without asking for room.
const IN_FLIGHT: usize = 256;

/// Above this many bytes, waiting and in flight, [`Publisher::has_room`] says no.
const ROOM_BYTES: usize = 16 << 20;

/// Fewer messages than this go out one by one. The server stages an atomic batch in files of its own, which takes as long as
/// flushing about ten messages (`docs/adr/0009`).
const MIN_BATCH: usize = 9;

/// Above this many bytes an append goes out in parts: one message each, not atomic.
const MAX_BATCH_BYTES: usize = 32 << 20;

struct Append {
    /// Sequence that its last message gets.
    end: u64,
    bytes: usize,
    messages: Vec<Message>,
}

impl Append {
    fn first(&self) -> u64 {
        self.end + 1 - self.messages.len() as u64
    }
}

/// Publishes to a journal whose only writer it is.
pub struct Publisher<J = StreamJournal> {
    journal: J,
    queue: VecDeque<Append>,
    /// For the first entries of the queue: absent where it has not been sent, or has failed.
    acks: VecDeque<Option<Ack>>,
    bytes: usize,
    /// Last sequence that is durable.
    acked: u64,
    /// Last sequence after everything in the queue.
    end: u64,
}

impl<J: Journal> Publisher<J> {
    /// Continues behind the newest message of the journal.
    ///
    /// # Errors
    /// The journal's state cannot be read.
    pub async fn open(journal: J) -> Result<Self, Error> {
        let last = journal.bounds().await?.last;
        Ok(Self { journal, queue: VecDeque::new(), acks: VecDeque::new(), bytes: 0, acked: last, end: last })
    }

    /// Where the messages go.
    pub fn journal(&self) -> &J {
        &self.journal
    }

    /// Sequence of the last message that is durable.
    #[must_use]
    pub fn acked(&self) -> u64 {
        self.acked
    }

    /// Sequence that the last published message has or will have.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Whether every published message is durable.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether more should be published before acks have come in.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.queue.len() < WINDOW && self.bytes < ROOM_BYTES
    }

    /// Takes messages that follow each other: few, or more than a batch can hold, as plain messages, else as an atomic batch.
    /// Returns the sequence of the last one.
    ///
    /// After an error the messages are kept: [`Self::recover`] sends them again.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`] where a message is above the limit (nothing is taken then); else from sending.
    pub async fn publish(&mut self, messages: Vec<Message>) -> Result<u64, Error> {
        let limit = self.journal.max_message();
        if let Some(message) = messages.iter().find(|message| message.size() > limit) {
            let action = format!("publish {} bytes on {}", message.size(), message.subject);
            return Err(Error::new(ErrorKind::TooLarge, action));
        }
        let bytes: usize = messages.iter().map(Message::size).sum();
        if (MIN_BATCH..=MAX_BATCH).contains(&messages.len()) && bytes <= MAX_BATCH_BYTES {
            self.enqueue(messages);
        } else {
            for message in messages {
                self.enqueue(vec![message]);
            }
        }
        self.send().await?;
        Ok(self.end)
    }

    fn enqueue(&mut self, messages: Vec<Message>) {
        if messages.is_empty() {
            return;
        }
        let bytes = messages.iter().map(Message::size).sum();
        self.bytes += bytes;
        self.end += messages.len() as u64;
        self.queue.push_back(Append { end: self.end, bytes, messages });
    }

    /// Sends what waits, as far as the window allows. Dropping the future is safe: what was not marked as sent is sent
    /// again, and a second copy is refused by the fence.
    async fn send(&mut self) -> Result<(), Error> {
        self.acks.resize_with(self.queue.len().min(IN_FLIGHT), || None);
        for (append, ack) in self.queue.iter().zip(&mut self.acks) {
            if ack.is_none() {
                *ack = Some(self.journal.append(append.first() - 1, &append.messages).await?);
            }
        }
        Ok(())
    }

    /// Waits for the oldest append to become durable and returns [`Self::acked`]; waits forever while there is none.
    /// Dropping the future loses nothing.
    ///
    /// # Errors
    /// From the journal. What was published is kept; [`Self::recover`] decides.
    pub async fn next_ack(&mut self) -> Result<u64, Error> {
        self.send().await?;
        let (Some(append), Some(Some(ack))) = (self.queue.front(), self.acks.front_mut()) else {
            return std::future::pending().await;
        };
        let end = append.end;
        let result = ack.await;
        // A finished future must not be polled again.
        self.acks[0] = None;
        let sequence = result?;
        if sequence != end {
            let action = format!("publish message {end}, stored as {sequence}");
            return Err(Error::new(ErrorKind::Diverged, action));
        }
        self.confirm();
        self.send().await?;
        Ok(self.acked)
    }

    fn confirm(&mut self) {
        self.acks.pop_front();
        if let Some(append) = self.queue.pop_front() {
            self.bytes -= append.bytes;
            self.acked = append.end;
        }
    }

    /// Waits until everything is durable.
    ///
    /// # Errors
    /// As [`Self::next_ack`].
    pub async fn flush(&mut self) -> Result<u64, Error> {
        while !self.is_idle() {
            self.next_ack().await?;
        }
        Ok(self.acked)
    }

    /// Goes on after an error: looks up what the journal holds, and sends again what it does not.
    ///
    /// # Errors
    /// Again unavailable: call it again later. [`ErrorKind::Fenced`], [`ErrorKind::Interleaved`] or [`ErrorKind::Lost`]:
    /// this publisher is done; open a new one and publish from what the journal holds.
    pub async fn recover(&mut self) -> Result<(), Error> {
        self.settle().await;
        let bounds = self.journal.bounds().await?;
        if bounds.last < self.acked {
            let action = format!("continue behind message {}, stream ends at {}", self.acked, bounds.last);
            return Err(Error::new(ErrorKind::Lost, action));
        }
        while let Some(append) = self.queue.front() {
            if bounds.last < append.first() {
                break;
            }
            if !holds(&self.journal, append, bounds.last).await? {
                return Err(self.fenced(bounds.last).await?);
            }
            self.confirm();
        }
        if bounds.last > self.acked {
            return Err(self.fenced(bounds.last).await?);
        }
        self.send().await
    }

    /// Lets every append in flight come to its end, so that nothing of ours arrives after the look-up.
    async fn settle(&mut self) {
        for ack in self.acks.iter_mut() {
            if let Some(ack) = ack.as_mut() {
                // Whether it failed is decided by what the journal holds.
                let _outcome = ack.await;
            }
            *ack = None;
        }
    }

    /// The error for a foreign message in the place of our oldest one.
    async fn fenced(&mut self, last: u64) -> Result<Error, Error> {
        let mut kind = ErrorKind::Fenced;
        for append in self.queue.iter().skip(1) {
            if holds(&self.journal, append, last).await? {
                kind = ErrorKind::Interleaved;
            }
        }
        Ok(Error::new(kind, format!("publish message {}", self.acked + 1)))
    }
}

/// Whether the journal, which ends at `last`, holds the append where it belongs.
async fn holds(journal: &impl Journal, append: &Append, last: u64) -> Result<bool, Error> {
    let Some(message) = append.messages.last() else { return Ok(true) };
    if append.end > last {
        return Ok(false);
    }
    Ok(journal.read(append.end).await?.is(message))
}

#[cfg(test)]
mod tests;
