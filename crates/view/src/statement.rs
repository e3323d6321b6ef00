//! `CREATE MATERIALIZED VIEW` and `DROP MATERIALIZED VIEW`.

use crate::{Error, ViewOptions};

/// One statement of a text.
#[derive(Debug, Clone)]
pub enum Statement {
    /// `CREATE MATERIALIZED VIEW`.
    Create(Box<CreateView>),
    /// `DROP MATERIALIZED VIEW`.
    Drop(DropView),
}

/// `CREATE [OR REPLACE] MATERIALIZED VIEW name [WITH (…)] AS SELECT …`.
#[derive(Debug, Clone)]
pub struct CreateView {
    /// Name of the view.
    pub name: String,
    /// Whether an existing view of that name is replaced.
    pub replace: bool,
    /// Whether an existing view of that name is left alone.
    pub if_not_exists: bool,
    /// Options of the `WITH` clause.
    pub options: ViewOptions,
    /// The statement's own text, without a trailing semicolon.
    pub sql: String,
}

/// `DROP MATERIALIZED VIEW [IF EXISTS] name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropView {
    /// Name of the view.
    pub name: String,
    /// Whether a missing view is not an error.
    pub if_exists: bool,
}

/// Reads the statements of a text.
///
/// # Errors
/// The first thing that is not one of the two statements, with line and column.
pub fn parse_statements(sql: &str) -> Result<Vec<Statement>, Error> {
    let _ = sql;
    Err(Error::unsupported("views are not parsed yet", None))
}
