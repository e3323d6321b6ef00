//! Why a server or client could not be set up. Outcomes of calls are [`crate::Status`].

use std::error::Error as StdError;
use std::fmt;

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The connection refused a subscription, publish or flush.
    Nats,
    /// Another instance answers under the same node id.
    NodeIdTaken,
    /// A name cannot be a subject token.
    Name,
    /// The server has been shut down.
    Stopped,
}

/// A failure of [`crate::Server`] or [`crate::Client`]; the cause is its `source()`.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    context: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, context: impl Into<String>) -> Self {
        Self { kind, context: context.into(), source: None }
    }

    /// For `map_err`: names what was tried.
    pub(crate) fn nats<E: StdError + Send + Sync + 'static>(
        context: impl Into<String>,
    ) -> impl FnOnce(E) -> Self {
        move |source| Self { kind: ErrorKind::Nats, context: context.into(), source: Some(Box::new(source)) }
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.context)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
