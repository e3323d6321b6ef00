//! What can go wrong with JetStream, and what to do about it.

use std::error::Error as StdError;
use std::fmt;

use async_nats::jetstream;
use async_nats::jetstream::context::{
    CreateStreamError, CreateStreamErrorKind, GetStreamError, GetStreamErrorKind, PublishError,
    PublishErrorKind,
};
use async_nats::jetstream::stream::{
    ConsumerError, ConsumerErrorKind, LastRawMessageError, LastRawMessageErrorKind,
};

/// What went wrong, as far as it decides what to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// No connection, no answer in time, or the server is not ready.
    Unavailable,
    /// The server refuses to store more: disk, memory or a limit.
    Full,
    /// The stream, bucket or service does not exist.
    NotFound,
    /// Another writer has appended to the stream.
    Fenced,
    /// Another writer has appended between two messages of ours that were in flight: one of ours is missing.
    Interleaved,
    /// The stream ends before a message that it had acknowledged.
    Lost,
    /// The stream holds something other than what was published at that sequence.
    Diverged,
    /// The stream no longer holds the message at that sequence.
    Trimmed,
    /// Transaction ordinals of the change log are not contiguous.
    Hole,
    /// A stored message cannot be decoded.
    Decode,
    /// A message is larger than the server accepts.
    TooLarge,
    /// Another stream has the subjects.
    Taken,
    /// The server or this client refuses the request as it is.
    Invalid,
}

/// What a loop does after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Disposition {
    /// Wait and do the same again.
    Retry,
    /// Forget what is in flight, read the stream's state again, and go on from there.
    Reopen,
    /// Ask the source for a snapshot; the log alone cannot continue.
    Reconcile,
    /// Stop this part until someone has mended it; look again from time to time.
    Stop,
}

impl ErrorKind {
    /// The one place that decides between retry, reopen, reconcile and stop.
    #[must_use]
    pub fn disposition(self) -> Disposition {
        match self {
            Self::Unavailable | Self::Full => Disposition::Retry,
            Self::NotFound | Self::Fenced | Self::Lost => Disposition::Reopen,
            Self::Interleaved | Self::Trimmed | Self::Hole | Self::Decode => Disposition::Reconcile,
            Self::Diverged | Self::TooLarge | Self::Taken | Self::Invalid => Disposition::Stop,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Unavailable => "server is not available",
            Self::Full => "server has no room left",
            Self::NotFound => "it does not exist",
            Self::Fenced => "another writer has appended",
            Self::Interleaved => "another writer came in between",
            Self::Lost => "stream lost acknowledged messages",
            Self::Diverged => "stream holds a different message",
            Self::Trimmed => "stream no longer holds it",
            Self::Hole => "transaction ordinals are not contiguous",
            Self::Decode => "message cannot be decoded",
            Self::TooLarge => "message is above the server's limit",
            Self::Taken => "another stream has the subjects",
            Self::Invalid => "request was refused",
        }
    }
}

/// An operation on JetStream that failed.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    action: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of that kind; `action` says what was attempted, as verb and object.
    pub fn new(kind: ErrorKind, action: impl Into<String>) -> Self {
        Self { kind, action: action.into(), source: None }
    }

    pub(crate) fn with(
        kind: ErrorKind,
        action: impl Into<String>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self { kind, action: action.into(), source: Some(source.into()) }
    }

    /// Takes the kind from the cause: an answer of the server names it, everything else is [`ErrorKind::Unavailable`].
    pub(crate) fn from_nats(
        action: impl Into<String>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        let source = source.into();
        let kind = answer_kind(source.as_ref()).unwrap_or(ErrorKind::Unavailable);
        Self { kind, action: action.into(), source: Some(source) }
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What to do about it.
    #[must_use]
    pub fn disposition(&self) -> Disposition {
        self.kind.disposition()
    }

    /// This error and its causes in one line, for logs and status.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            let line = error.to_string();
            if !text.contains(&line) {
                text.push_str(": ");
                text.push_str(&line);
            }
            cause = error.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.action, self.kind.text())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// Searches the chain of causes for an answer of the JetStream API and maps its error code.
fn answer_kind(error: &(dyn StdError + 'static)) -> Option<ErrorKind> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(answer) = answer(error) {
            return Some(code_kind(answer.error_code().0, answer.code()));
        }
        if let Some(error) = error.downcast_ref::<PublishError>()
            && let Some(kind) = publish_kind(error.kind())
        {
            return Some(kind);
        }
        cause = error.source();
    }
    None
}

/// The answer of the JetStream API in an error; some errors of async-nats carry it in their kind, not as their cause.
fn answer(error: &(dyn StdError + 'static)) -> Option<jetstream::Error> {
    if let Some(answer) = error.downcast_ref::<jetstream::Error>() {
        return Some(answer.clone());
    }
    if let Some(error) = error.downcast_ref::<CreateStreamError>()
        && let CreateStreamErrorKind::JetStream(answer) = error.kind()
    {
        return Some(answer);
    }
    if let Some(error) = error.downcast_ref::<GetStreamError>()
        && let GetStreamErrorKind::JetStream(answer) = error.kind()
    {
        return Some(answer);
    }
    if let Some(error) = error.downcast_ref::<ConsumerError>()
        && let ConsumerErrorKind::JetStream(answer) = error.kind()
    {
        return Some(answer);
    }
    if let Some(error) = error.downcast_ref::<LastRawMessageError>()
        && let LastRawMessageErrorKind::JetStream(answer) = error.kind()
    {
        return Some(answer);
    }
    None
}

fn publish_kind(kind: PublishErrorKind) -> Option<ErrorKind> {
    use PublishErrorKind as P;
    match kind {
        P::WrongLastSequence => Some(ErrorKind::Fenced),
        P::MaxPayloadExceeded => Some(ErrorKind::TooLarge),
        // Without a leader or with a stopped server nobody answers either, so that this is no proof of absence.
        P::StreamNotFound | P::TimedOut | P::BrokenPipe | P::MaxAckPending => Some(ErrorKind::Unavailable),
        P::WrongLastMessageId | P::Other => None,
    }
}

/// JetStream API error codes (`errors.json` of nats-server) that decide differently from their HTTP-like status.
fn code_kind(code: u64, status: usize) -> ErrorKind {
    match code {
        // Wrong last sequence, constant or not.
        10071 | 10164 => ErrorKind::Fenced,
        // Consumer, message, stream not found.
        10014 | 10037 | 10059 => ErrorKind::NotFound,
        // Account, cluster, memory and storage resources; maximum messages and bytes.
        10002 | 10023 | 10028 | 10047 | 10077 | 10122 => ErrorKind::Full,
        // Message size above the stream's limit, batch too large.
        10054 | 10199 => ErrorKind::TooLarge,
        // Subjects overlap with those of another stream.
        10065 => ErrorKind::Taken,
        // Incomplete batch (a part was lost on the way), too many open batches.
        10176 | 10210 => ErrorKind::Unavailable,
        _ if status == 404 => ErrorKind::NotFound,
        _ if status == 400 => ErrorKind::Invalid,
        _ => ErrorKind::Unavailable,
    }
}
