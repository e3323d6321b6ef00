//! A sequence of statements with transactions of their own making.

use super::database::{Database, Submitted};
use super::execute::{Executed, Kept};
use super::row::Document;
use super::transaction::WriteTransaction;
use crate::sql::{Parameters, Statement, parse};
use crate::{Error, ErrorKind};

/// Statements of one client, with BEGIN, COMMIT and ROLLBACK between them.
///
/// While its transaction is open every other writer of the database waits, in [`Database::begin`]: who serves clients
/// drops a session that is silent for too long, which rolls back. What one statement returns or has to hold in memory is
/// bounded by [`crate::HostOptions::transaction_bytes`].
pub struct Session<'a> {
    database: &'a Database,
    open: Option<Open<'a>>,
}

struct Open<'a> {
    transaction: WriteTransaction<'a>,
    read_only: bool,
}

impl<'a> Session<'a> {
    /// A session without a transaction.
    #[must_use]
    pub fn new(database: &'a Database) -> Self {
        Self { database, open: None }
    }

    /// Whether a transaction is open.
    #[must_use]
    pub fn in_transaction(&self) -> bool {
        self.open.is_some()
    }

    /// Runs one statement: in the open transaction, else in one of its own. After COMMIT the position is where the engine
    /// stands; statements of an open transaction have none.
    ///
    /// # Errors
    /// [`ErrorKind::Syntax`] with line and column, or as [`Self::run`].
    pub fn execute(&mut self, sql: &str, parameters: Parameters<'_>) -> Result<Executed, Error> {
        let mut kept = Kept::new(self.database.options.transaction_bytes);
        let (rows, submitted) = self.run(&parse(sql)?, parameters, &mut |row| kept.push(row))?;
        if let Some(submitted) = &submitted {
            self.database.wait(submitted)?;
        }
        let position = submitted.map(|submitted| submitted.position);
        Ok(Executed { rows, position, documents: kept.documents })
    }

    /// Runs a parsed statement; returns how many rows it changed, and what was submitted: the transaction that COMMIT ends, or
    /// the statement's own. [`Database::wait`] or [`Database::sync`] makes it durable. What the statement returns goes to the
    /// sink, which ends a SELECT by returning false.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for BEGIN in a transaction, COMMIT or ROLLBACK outside of one and a write in a read-only
    /// one, or whatever the statement meets. An open transaction stays open, unless COMMIT failed.
    pub fn run(
        &mut self,
        statement: &Statement,
        parameters: Parameters<'_>,
        sink: &mut dyn FnMut(Document) -> Result<bool, Error>,
    ) -> Result<(u64, Option<Submitted>), Error> {
        let refuse = |reason| Err(Error::new(ErrorKind::Unsupported, reason));
        match (statement, self.open.take()) {
            (Statement::Begin { read_only }, None) => {
                let transaction = self.database.begin();
                self.open = Some(Open { transaction, read_only: *read_only });
                Ok((0, None))
            }
            (Statement::Begin { .. }, open) => {
                self.open = open;
                refuse("a transaction is open already")
            }
            (Statement::Commit, Some(open)) => Ok((0, open.transaction.submit()?)),
            (Statement::Rollback, Some(_)) => Ok((0, None)),
            (Statement::Commit | Statement::Rollback, None) => refuse("no transaction is open"),
            (statement, None) => {
                let mut transaction = self.database.begin();
                let rows = transaction.run(statement, parameters, sink)?;
                Ok((rows, transaction.submit()?))
            }
            (statement, Some(open)) => {
                let Open { transaction, read_only } = self.open.insert(open);
                if *read_only && writes(statement) {
                    return refuse(READ_ONLY);
                }
                Ok((transaction.run(statement, parameters, sink)?, None))
            }
        }
    }

    /// The open transaction, for writes that are no statements.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] where none is open, or a read-only one.
    pub fn transaction(&mut self) -> Result<&mut WriteTransaction<'a>, Error> {
        let refuse = |reason| Err(Error::new(ErrorKind::Unsupported, reason));
        match &mut self.open {
            Some(Open { transaction, read_only: false }) => Ok(transaction),
            Some(_) => refuse(READ_ONLY),
            None => refuse("no transaction is open"),
        }
    }
}

const READ_ONLY: &str = "the transaction is read-only";

/// Whether a statement writes; a SELECT does when it takes values of a sequence.
fn writes(statement: &Statement) -> bool {
    match statement {
        Statement::Select(select) => select.takes_values(),
        _ => true,
    }
}
