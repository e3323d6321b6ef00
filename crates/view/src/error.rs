//! Why a statement was refused.

use std::fmt;

use datafusion_sql::sqlparser::tokenizer::{Location as TokenLocation, Span};

/// Place in the text that was given to [`crate::parse_statements`], both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// Line.
    pub line: u64,
    /// Column, in characters.
    pub column: u64,
}

impl Location {
    /// The start of a parsed item; none for an item that the parser made up.
    pub(crate) fn of(span: Span) -> Option<Self> {
        Self::at(span.start)
    }

    pub(crate) fn at(location: TokenLocation) -> Option<Self> {
        (location.line > 0).then_some(Self { line: location.line, column: location.column })
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// What kind of refusal an [`Error`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The text is not a statement.
    Syntax,
    /// A relation, column or function does not exist, or a name means two things.
    Name,
    /// The types do not fit.
    Type,
    /// Well formed, but it cannot be maintained (yet); the text says what to write instead.
    Unsupported,
    /// An option of the `WITH` clause, or the view's name or key.
    Definition,
}

/// A refused statement. `Display` starts with `line:column: ` where the place is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// What kind.
    pub kind: ErrorKind,
    /// Where.
    pub location: Option<Location>,
    /// What, and what to write instead.
    pub message: String,
}

impl Error {
    fn new(kind: ErrorKind, message: impl Into<String>, location: Option<Location>) -> Self {
        Self { kind, location, message: message.into() }
    }

    pub(crate) fn syntax(message: impl Into<String>, location: Option<Location>) -> Self {
        Self::new(ErrorKind::Syntax, message, location)
    }

    pub(crate) fn name(message: impl Into<String>, location: Option<Location>) -> Self {
        Self::new(ErrorKind::Name, message, location)
    }

    pub(crate) fn types_at(message: impl Into<String>, location: Option<Location>) -> Self {
        Self::new(ErrorKind::Type, message, location)
    }

    pub(crate) fn unsupported(message: impl Into<String>, location: Option<Location>) -> Self {
        Self::new(ErrorKind::Unsupported, message, location)
    }

    pub(crate) fn definition(message: impl Into<String>, location: Option<Location>) -> Self {
        Self::new(ErrorKind::Definition, message, location)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(location) = self.location {
            write!(f, "{location}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
