//! What can go wrong inside a replica.

use std::fmt;

/// The kind decides what the caller does: wait, ask for a reconcile, refuse the request, or stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// No room left for the replica. Nothing was committed; the same call may be made again.
    Full,
    /// Another connection holds the file longer than the busy timeout. Retryable.
    Busy,
    /// The file is not a database any more, or pages of it are damaged.
    Corrupt,
    /// The operating system refused a read or a write. Retryable.
    Io,
    /// The replica belongs to another writer.
    Locked,
    /// The file was made by another version, or is not a replica.
    Version,
    /// A group does not continue the checkpoint: transactions are missing in between.
    Gap,
    /// A group breaks its contract: an unknown relation, a row of the wrong width, a spool that cannot be read back.
    Decode,
    /// The SQL of a view cannot be parsed, planned or maintained.
    Plan,
    /// A view or relation of that name does not exist.
    NotFound,
    /// A view or relation of that name exists already, or other views depend on it.
    Conflict,
    /// A reader's statement is not a plain SELECT.
    Denied,
    /// A reader's statement was interrupted or ran out of time.
    Interrupted,
    /// SQLite refused a statement.
    Sql,
    /// The replica's thread has ended.
    Stopped,
}

impl ErrorKind {
    /// Whether the same call can succeed later without anybody changing data or definitions.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::Full | Self::Busy | Self::Io)
    }
}

/// A failed call, naming its place (`view chat_feed`, `relation app.message`, `open replica.db`) and the reason.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    place: String,
    reason: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Result of a replica's calls.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of that kind, at that place, for that reason.
    pub fn new(kind: ErrorKind, place: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { kind, place: place.into(), reason: reason.into(), source: None }
    }

    /// The same error with the error that caused it.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same error at another place.
    #[must_use]
    pub(crate) fn at_place(self, place: &str) -> Self {
        Self { place: place.to_owned(), ..self }
    }

    /// An operating system error at that place.
    pub(crate) fn io(place: impl Into<String>, error: std::io::Error) -> Self {
        let full =
            matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded);
        let kind = if full { ErrorKind::Full } else { ErrorKind::Io };
        Self::new(kind, place, error.to_string()).caused_by(error)
    }

    /// What kind of error it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Which part of the replica it concerns.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Why, without the place.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.reason)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| &**source as &(dyn std::error::Error + 'static))
    }
}

/// Says where a SQLite call was made.
pub(crate) trait At<T> {
    /// Turns the error into one of that place.
    fn at<P: Into<String>>(self, place: impl FnOnce() -> P) -> Result<T>;
}

impl<T> At<T> for rusqlite::Result<T> {
    fn at<P: Into<String>>(self, place: impl FnOnce() -> P) -> Result<T> {
        self.map_err(|error| Error::new(sqlite_kind(&error), place(), sqlite_reason(&error)).caused_by(error))
    }
}

fn sqlite_kind(error: &rusqlite::Error) -> ErrorKind {
    use rusqlite::ErrorCode as C;
    match error.sqlite_error_code() {
        Some(C::DiskFull) => ErrorKind::Full,
        Some(C::DatabaseBusy | C::DatabaseLocked) => ErrorKind::Busy,
        Some(C::DatabaseCorrupt | C::NotADatabase) => ErrorKind::Corrupt,
        Some(C::SystemIoFailure | C::CannotOpen) => ErrorKind::Io,
        Some(C::OperationInterrupted) => ErrorKind::Interrupted,
        Some(C::AuthorizationForStatementDenied | C::ReadOnly) => ErrorKind::Denied,
        _ => ErrorKind::Sql,
    }
}

/// SQLite's own words; they name tables and columns, never values.
fn sqlite_reason(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(_, Some(message)) => message.clone(),
        other => other.to_string(),
    }
}
