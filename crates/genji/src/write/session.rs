//! A sequence of statements with transactions of their own making.

use super::database::Database;
use super::execute::Executed;
use super::transaction::WriteTransaction;
use crate::sql::{Parameters, Statement, parse};
use crate::{Error, ErrorKind};

/// Statements of one client, with BEGIN, COMMIT and ROLLBACK between them.
///
/// While its transaction is open every other writer of the database waits, in [`Database::begin`]: who serves clients
/// drops a session that is silent for too long, which rolls back. What a transaction may write is bounded by
/// [`crate::HostOptions::transaction_bytes`]; so is what one statement returns or has to hold in memory.
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
    /// [`ErrorKind::Syntax`] with line and column, [`ErrorKind::Unsupported`] for BEGIN in a transaction, COMMIT or ROLLBACK
    /// outside of one and a write in a read-only one, or whatever the statement meets. An open transaction stays open,
    /// unless COMMIT failed.
    pub fn execute(&mut self, sql: &str, parameters: Parameters<'_>) -> Result<Executed, Error> {
        let refuse = |reason| Err(Error::new(ErrorKind::Unsupported, reason));
        let statement = parse(sql)?;
        match (&statement, self.open.take()) {
            (Statement::Begin { read_only }, None) => {
                let transaction = self.database.begin();
                self.open = Some(Open { transaction, read_only: *read_only });
                Ok(Executed::default())
            }
            (Statement::Begin { .. }, open) => {
                self.open = open;
                refuse("a transaction is open already")
            }
            (Statement::Commit, Some(open)) => {
                Ok(Executed { position: open.transaction.commit()?, ..Executed::default() })
            }
            (Statement::Rollback, Some(_)) => Ok(Executed::default()),
            (Statement::Commit | Statement::Rollback, None) => refuse("no transaction is open"),
            (statement, None) => self.database.run(statement, parameters),
            (statement, Some(open)) => {
                let Open { transaction, read_only } = self.open.insert(open);
                if *read_only && writes(statement) {
                    return refuse("the transaction is read-only");
                }
                let (rows, documents) = transaction.collect(statement, parameters)?;
                Ok(Executed { rows, position: None, documents })
            }
        }
    }
}

/// Whether a statement writes; a SELECT does when it takes values of a sequence.
fn writes(statement: &Statement) -> bool {
    match statement {
        Statement::Select(select) => select.projections.iter().any(super::select::takes_values),
        _ => true,
    }
}
