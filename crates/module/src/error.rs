//! Why a module is refused, and why a message is not a row.

use std::fmt;

/// A place in a module's files and what is wrong there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// File within the module; the module's name where no file can be named.
    pub file: String,
    /// Line and column, both from 1, where known.
    pub at: Option<(usize, usize)>,
    /// What is wrong, lower-case, without the place.
    pub reason: String,
}

impl Error {
    pub(crate) fn new(
        file: impl Into<String>,
        at: Option<(usize, usize)>,
        reason: impl Into<String>,
    ) -> Self {
        Self { file: file.into(), at, reason: reason.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Some((line, column)) => write!(f, "{}:{line}:{column}: {}", self.file, self.reason),
            None => write!(f, "{}: {}", self.file, self.reason),
        }
    }
}

impl std::error::Error for Error {}

/// A message that is not a row, or a row that is not a message. Names the field, never its value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("field {field} {reason}")]
pub struct ConvertError {
    /// Dotted path of the field within its message.
    pub field: String,
    /// What is wrong with its value.
    pub reason: &'static str,
}

impl ConvertError {
    pub(crate) fn new(field: impl Into<String>, reason: &'static str) -> Self {
        Self { field: field.into(), reason }
    }

    pub(crate) fn within(mut self, outer: &str) -> Self {
        self.field = format!("{outer}.{}", self.field);
        self
    }
}
