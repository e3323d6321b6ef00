//! Messages on their way to a stream, and as a stream holds them.

use bytes::Bytes;

use crate::Headers;

/// Bytes of a message on the wire besides payload and headers, rounded up: protocol line, header version line, the
/// headers of fence and batch.
const OVERHEAD: usize = 512;

/// A message to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Subject, captured by the stream.
    pub subject: String,
    /// Headers; the publisher adds those of fence and batch.
    pub headers: Headers,
    /// Content.
    pub payload: Bytes,
}

impl Message {
    /// Upper bound of the size on the wire, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.subject.len() + self.headers.len_bytes() + self.payload.len() + OVERHEAD
    }
}

/// A message that a stream holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Stream sequence.
    pub sequence: u64,
    /// Subject.
    pub subject: String,
    /// Headers, with those of fence and batch.
    pub headers: Headers,
    /// Content.
    pub payload: Bytes,
}

impl Stored {
    /// Whether this is what publishing `message` stores.
    #[must_use]
    pub fn is(&self, message: &Message) -> bool {
        self.subject == message.subject
            && self.payload == message.payload
            && message.headers.is_subset_of(&self.headers)
    }
}
