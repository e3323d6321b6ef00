//! The SQL that a hosted database understands: Genji's own (`docs/genji-sql.md` says what of it).
//!
//! `UPDATE p SET n = n + ? WHERE id = 1` becomes tokens (`scanner`), then a [`Statement`] (`parser`, `select`, `create` for
//! definitions) whose parts are [`Expression`]s (`operators`, `operand`); [`crate::Database::execute`] runs it. A statement
//! parsed once is run as often as wanted by [`crate::WriteTransaction::run`]. What an expression is worth is in `evaluate`.
//! Every error names the line and column.

mod arithmetic;
pub(crate) mod compare;
mod create;
pub(crate) mod evaluate;
mod expression;
mod like;
mod math;
mod operand;
mod operators;
mod parser;
pub(crate) mod render;
pub(crate) mod scanner;
mod select;
mod sequence;
mod statement;

pub use expression::{Aggregate, Expression, Function, Operator, Parameters};
pub use math::MathFunction;
pub(crate) use parser::parse_expression;
pub use parser::{parse, parse_statements};
pub use scanner::Position;
pub use statement::{
    Change, Compound, Insert, Object, OnConflict, Projection, Rows, Select, Statement, Window,
};

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

    /// The text of a failed cast.
    pub(crate) fn misfit(position: Position) -> String {
        Self::new(position, "value cannot be cast").to_string()
    }
}

impl From<SqlError> for Error {
    fn from(error: SqlError) -> Self {
        Self::new(ErrorKind::Syntax, error.to_string())
    }
}
