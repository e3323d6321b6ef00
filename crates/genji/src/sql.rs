//! The SQL that a hosted database understands: Genji's own words, as far as rows are addressed by key.
//!
//! `INSERT INTO p (id, name) VALUES (?, 'x')` becomes tokens (`scanner`), then a [`Statement`] (`parser`, and `create` for
//! definitions) whose parts are [`Expression`]s; [`crate::Database::execute`] runs it. A statement parsed once is run as
//! often as wanted by [`crate::WriteTransaction::run`]. Every error names the line and column.

mod create;
mod expression;
mod parser;
pub(crate) mod render;
pub(crate) mod scanner;
mod statement;

pub use expression::{Expression, Operator};
pub(crate) use parser::parse_expression;
pub use parser::{parse, parse_statements};
pub use scanner::Position;
pub use statement::{Insert, Statement};

use crate::{Error, ErrorKind};

/// Why SQL text was refused, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at line {}, column {}", position.line, position.column)]
pub(crate) struct SqlError {
    position: Position,
    reason: String,
}

impl SqlError {
    pub(crate) fn new(position: Position, reason: impl Into<String>) -> Self {
        Self { position, reason: reason.into() }
    }
}

impl From<SqlError> for Error {
    fn from(error: SqlError) -> Self {
        Self::new(ErrorKind::Syntax, error.to_string())
    }
}
