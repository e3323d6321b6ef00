//! Why reading or writing a Genji directory failed.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

/// What kind of failure it is, and with it what a caller can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The operating system refused; the cause is in `source()`.
    Io,
    /// Bytes of a file are damaged. A later call reads them again, because the file may have been mended.
    Corrupt,
    /// Changes were missed for good: take a new snapshot.
    Gap,
    /// The engine's history went backwards (or is another one): take a new snapshot.
    Rewound,
    /// The directory uses something that Genji 0.15 never writes.
    Unsupported,
    /// Bytes are not a value, key, batch or row.
    Decode,
    /// Another process has the database open.
    Locked,
    /// SQL that does not parse or cannot be run here.
    Syntax,
    /// A table, index, sequence or row does not exist.
    NotFound,
    /// A table, index, sequence or key exists already.
    AlreadyExists,
    /// NOT NULL, UNIQUE or CHECK refused the row.
    Constraint,
    /// A value does not fit the type of its field.
    Type,
    /// The database was closed, or stopped after a failed write.
    Closed,
}

/// A failure with its place. Displays this level only; the cause is in `source()`.
///
/// As small as a pointer: what decodes a value returns one of the two, millions of times a second.
#[derive(Debug)]
pub struct Error(Box<Failure>);

#[derive(Debug)]
struct Failure {
    kind: ErrorKind,
    reason: Cow<'static, str>,
    file: Option<PathBuf>,
    offset: Option<u64>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// A failure of that kind. The reason is lower-case, a few words, without row values.
    pub fn new(kind: ErrorKind, reason: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Failure { kind, reason: reason.into(), file: None, offset: None, source: None }))
    }

    /// Bytes that are not what they should be.
    #[cold]
    pub(crate) fn decode(reason: &'static str) -> Self {
        Self::new(ErrorKind::Decode, reason)
    }

    /// The same failure once more, without its cause: for each row of a table that has one.
    pub(crate) fn decode_again(error: &Self) -> Self {
        Self::new(error.0.kind, error.0.reason.clone())
    }

    /// An operating system error while doing `action` (verb and object) with `file`.
    pub(crate) fn io(action: &'static str, file: &Path, source: std::io::Error) -> Self {
        Self::new(ErrorKind::Io, action).in_file(file).caused_by(source)
    }

    /// Names the file.
    #[must_use]
    pub(crate) fn in_file(mut self, file: &Path) -> Self {
        self.0.file = Some(file.to_owned());
        self
    }

    /// Names the byte offset in the file.
    #[must_use]
    pub(crate) fn at(mut self, offset: u64) -> Self {
        self.0.offset = Some(offset);
        self
    }

    /// Keeps the cause.
    #[must_use]
    pub(crate) fn caused_by(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.0.source = Some(Box::new(source));
        self
    }

    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The reason alone, without file and offset.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.0.reason
    }

    /// The file concerned.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.0.file.as_deref()
    }

    /// The byte offset in the file.
    #[must_use]
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }

    /// Whether the operating system said that the file does not exist.
    pub(crate) fn is_missing_file(&self) -> bool {
        self.0
            .source
            .as_deref()
            .and_then(|source| source.downcast_ref::<std::io::Error>())
            .is_some_and(|source| source.kind() == std::io::ErrorKind::NotFound)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.reason)?;
        if let Some(file) = &self.0.file {
            write!(f, " in {}", file.display())?;
        }
        if let Some(offset) = self.0.offset {
            write!(f, " at byte {offset}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}
