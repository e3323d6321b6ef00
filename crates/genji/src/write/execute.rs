//! Runs SQL statements, each in a transaction of its own.

use deltamesh_change::{EnginePosition, Value};

use super::database::Database;
use super::row::Document;
use super::select::Sink;
use super::transaction::WriteTransaction;
use crate::sql::{Object, Parameters, Select, Statement, parse};
use crate::{Error, ErrorKind};

/// What a statement did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Executed {
    /// Rows inserted, changed or deleted.
    pub rows: u64,
    /// Where the engine stands after it; `None` if it changed nothing.
    pub position: Option<EnginePosition>,
    /// What a SELECT or RETURNING returned.
    pub documents: Vec<Document>,
}

impl Database {
    /// Parses and runs one statement in its own transaction; `?` takes the parameters in order.
    ///
    /// # Errors
    /// [`ErrorKind::Syntax`] with line and column, or whatever the statement meets. Then nothing was changed.
    pub fn execute(&self, sql: &str, parameters: &[Value]) -> Result<Executed, Error> {
        self.execute_with(sql, Parameters::Positional(parameters))
    }

    /// As [`Self::execute`], with parameters of either kind.
    ///
    /// # Errors
    /// As [`Self::execute`].
    pub fn execute_with(&self, sql: &str, parameters: Parameters<'_>) -> Result<Executed, Error> {
        self.run(&parse(sql)?, parameters)
    }

    pub(crate) fn run(&self, statement: &Statement, parameters: Parameters<'_>) -> Result<Executed, Error> {
        let mut transaction = self.begin();
        let (rows, documents) = transaction.collect(statement, parameters)?;
        Ok(Executed { rows, position: transaction.commit()?, documents })
    }
}

impl WriteTransaction<'_> {
    /// Parses and runs one statement inside this transaction; returns how many rows it changed.
    ///
    /// # Errors
    /// As [`Database::execute`]. Rows that a statement wrote before the one that failed stay in the transaction, as they
    /// do in Genji.
    pub fn execute(&mut self, sql: &str, parameters: &[Value]) -> Result<u64, Error> {
        self.run(&parse(sql)?, Parameters::Positional(parameters), &mut |_| Ok(true))
    }

    /// Runs a parsed statement; returns how many rows it changed. What a SELECT or RETURNING returns goes to the sink,
    /// which ends a SELECT by returning false.
    ///
    /// # Errors
    /// As [`Self::execute`], or what the sink returns.
    pub fn run(
        &mut self,
        statement: &Statement,
        parameters: Parameters<'_>,
        sink: &mut dyn FnMut(Document) -> Result<bool, Error>,
    ) -> Result<u64, Error> {
        match statement {
            Statement::Select(select) => self.select(select, parameters, sink).map(|()| 0),
            Statement::Insert(insert) => self.insert_rows(insert, parameters, sink),
            Statement::Update { table, changes, filter } => {
                self.update_rows(table, changes, filter.as_ref(), parameters)
            }
            Statement::Delete { table, filter, window } => {
                self.delete_rows(table, filter.as_ref(), window, parameters)
            }
            Statement::Begin { .. } | Statement::Commit | Statement::Rollback => {
                Err(Error::new(ErrorKind::Unsupported, "transactions need a session"))
            }
            definition => self.define(definition).map(|()| 0),
        }
    }

    fn define(&mut self, statement: &Statement) -> Result<(), Error> {
        match statement {
            Statement::CreateTable { if_not_exists, definition } => {
                none_if(self.create_table(definition), *if_not_exists, ErrorKind::AlreadyExists)
            }
            Statement::CreateIndex { if_not_exists, definition } => {
                none_if(self.create_index(definition), *if_not_exists, ErrorKind::AlreadyExists)
            }
            Statement::CreateSequence { if_not_exists, definition } => {
                none_if(self.create_sequence(definition), *if_not_exists, ErrorKind::AlreadyExists)
            }
            Statement::Drop { object, if_exists, name } => {
                let dropped = match object {
                    Object::Table => self.drop_table(name),
                    Object::Index => self.drop_index(name),
                    Object::Sequence => self.drop_sequence(name),
                };
                none_if(dropped, *if_exists, ErrorKind::NotFound)
            }
            Statement::Reindex { name } => self.reindex(name.as_deref()),
            Statement::RenameTable { from, to } => self.rename_table(from, to),
            Statement::AddField { table, field, constraints } => {
                self.add_field_with(table, field, constraints)
            }
            _ => Err(Error::new(ErrorKind::Unsupported, "statement defines nothing")),
        }
    }

    /// Runs a statement and keeps what it returns, up to a limit of bytes.
    pub(crate) fn collect(
        &mut self,
        statement: &Statement,
        parameters: Parameters<'_>,
    ) -> Result<(u64, Vec<Document>), Error> {
        let mut kept = Kept::new(self.byte_limit());
        let rows = self.run(statement, parameters, &mut |row| kept.push(row))?;
        Ok((rows, kept.documents))
    }

    /// The rows of a query.
    pub(crate) fn selected(
        &mut self,
        select: &Select,
        parameters: Parameters<'_>,
    ) -> Result<Vec<Document>, Error> {
        let mut kept = Kept::new(self.byte_limit());
        let sink: Sink<'_> = &mut |row| kept.push(row);
        self.select(select, parameters, sink)?;
        Ok(kept.documents)
    }
}

/// Rows that are kept, up to a limit of bytes.
pub(crate) struct Kept {
    pub(crate) documents: Vec<Document>,
    size: usize,
    limit: usize,
}

impl Kept {
    pub(crate) fn new(limit: usize) -> Self {
        Self { documents: Vec::new(), size: 0, limit }
    }

    pub(crate) fn push(&mut self, row: Document) -> Result<bool, Error> {
        self.size +=
            row.iter().map(|(name, value)| name.len() + super::aggregate::size(value)).sum::<usize>();
        if self.size > self.limit {
            let reason = format!("returned rows exceed {} bytes", self.limit);
            return Err(Error::new(ErrorKind::Unsupported, reason));
        }
        self.documents.push(row);
        Ok(true)
    }
}

/// A statement with IF [NOT] EXISTS does nothing instead of failing so.
fn none_if(result: Result<(), Error>, tolerant: bool, kind: ErrorKind) -> Result<(), Error> {
    match result {
        Err(error) if tolerant && error.kind() == kind => Ok(()),
        other => other,
    }
}
