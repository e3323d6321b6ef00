//! Messages of a change log as whole groups, with their ordinals checked.

use deltamesh_change::SourcePosition;
use deltamesh_wire::proto::change::v1::Changes;
use prost::Message as _;

use crate::{Error, ErrorKind, Stored};

/// Payload bytes of a group that are kept until it is complete.
const KEPT_BYTES: usize = 16 << 20;

/// A group that is complete.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// Stream sequence of its first message.
    pub first_sequence: u64,
    /// Stream sequence of its last message.
    pub last_sequence: u64,
    /// Ordinal of its first transaction.
    pub first_ordinal: u64,
    /// Position behind its last transaction.
    pub position: SourcePosition,
    /// Whether it carries the complete state of the source.
    pub snapshot: bool,
    /// When its last transaction was read, in microseconds since 1970-01-01 UTC.
    pub captured_us: i64,
    /// Its messages, in order; absent where they have more than 16 MiB: the stream has them, one after the other.
    pub messages: Option<Vec<Changes>>,
}

impl Group {
    /// Whether `changes` is a message of this group. A writer that was killed in the middle of a group publishes it
    /// again from its beginning; the capture time then tells the two apart.
    fn is_continued_by(&self, changes: &Changes, position: &SourcePosition) -> bool {
        self.first_ordinal == changes.first_ordinal
            && self.captured_us == changes.captured_us
            && self.snapshot == changes.snapshot
            && self.position == *position
    }
}

/// Decodes the payload of a change-log message.
///
/// # Errors
/// [`ErrorKind::Decode`], naming the stream sequence.
pub fn decode(stored: &Stored) -> Result<Changes, Error> {
    Changes::decode(stored.payload.clone()).map_err(|error| {
        Error::with(ErrorKind::Decode, format!("decode change message {}", stored.sequence), error)
    })
}

/// Collects messages into groups and checks that no transaction is missing.
pub struct GroupReader {
    /// Position behind the last complete group.
    position: Option<SourcePosition>,
    open: Option<Group>,
    /// Payload bytes of the open group.
    bytes: usize,
    awaits_snapshot: bool,
}

impl GroupReader {
    /// Continues behind `position`; without one, from the beginning of a source's history.
    #[must_use]
    pub fn new(position: Option<SourcePosition>) -> Self {
        Self { position, open: None, bytes: 0, awaits_snapshot: false }
    }

    /// Whether a hole was found and only a snapshot can continue.
    #[must_use]
    pub fn awaits_snapshot(&self) -> bool {
        self.awaits_snapshot
    }

    /// Waits for a snapshot and drops every other group, for example because a message is gone.
    pub fn await_snapshot(&mut self) {
        self.awaits_snapshot = true;
        self.open = None;
    }

    /// Takes the next message of the stream; returns the group that it completes.
    ///
    /// # Errors
    /// [`ErrorKind::Decode`]; [`ErrorKind::Hole`] where transactions are missing before this message. After either, every
    /// group up to the next snapshot is dropped: ask the source for one.
    pub fn push(&mut self, stored: &Stored) -> Result<Option<Group>, Error> {
        let result = self.accept(stored);
        if result.is_err() {
            self.await_snapshot();
        }
        result
    }

    fn accept(&mut self, stored: &Stored) -> Result<Option<Group>, Error> {
        let changes = decode(stored)?;
        let position: SourcePosition = changes.position.clone().unwrap_or_default().into();
        let end = changes.end;
        let continues = self.open.as_ref().is_some_and(|group| group.is_continued_by(&changes, &position));
        if !continues {
            (self.open, self.bytes) = (None, 0);
            if self.awaits_snapshot && !changes.snapshot {
                return Ok(None);
            }
            self.check(stored.sequence, &changes, &position)?;
        }
        let group = self.open.get_or_insert_with(|| Group {
            first_sequence: stored.sequence,
            last_sequence: stored.sequence,
            first_ordinal: changes.first_ordinal,
            position,
            snapshot: changes.snapshot,
            captured_us: changes.captured_us,
            messages: Some(vec![]),
        });
        group.last_sequence = stored.sequence;
        self.bytes += stored.payload.len();
        match &mut group.messages {
            Some(messages) if self.bytes <= KEPT_BYTES => messages.push(changes),
            messages => *messages = None,
        }
        if !end {
            return Ok(None);
        }
        let group = self.open.take();
        self.position = group.as_ref().map(|group| group.position.clone());
        self.awaits_snapshot = false;
        Ok(group)
    }

    /// Whether a group that begins with `changes` follows what was read before. A snapshot always does.
    fn check(&self, sequence: u64, changes: &Changes, position: &SourcePosition) -> Result<(), Error> {
        let expected = match &self.position {
            Some(last) if last.incarnation == position.incarnation => last.ordinal + 1,
            _ => 1,
        };
        if changes.snapshot || changes.first_ordinal == expected {
            return Ok(());
        }
        let action = format!(
            "continue with transaction {expected}, message {sequence} begins at {}",
            changes.first_ordinal
        );
        Err(Error::new(ErrorKind::Hole, action))
    }
}

#[cfg(test)]
mod tests;
