//! Runs SQL statements, each in a transaction of its own.

use deltamesh_change::{EnginePosition, Value};

use super::database::Database;
use super::transaction::WriteTransaction;
use crate::catalog::Path;
use crate::sql::{Expression, Insert, Operator, Position, SqlError, Statement, parse};
use crate::{Error, ErrorKind};

/// What a statement did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executed {
    /// Rows inserted, changed or deleted.
    pub rows: u64,
    /// Where the engine stands after it; `None` if it changed nothing.
    pub position: Option<EnginePosition>,
}

impl Database {
    /// Parses and runs one statement in its own transaction; `?` takes the parameters in order.
    ///
    /// # Errors
    /// [`ErrorKind::Syntax`] with line and column, or whatever the statement meets. Then nothing was changed.
    pub fn execute(&self, sql: &str, parameters: &[Value]) -> Result<Executed, Error> {
        let statement = parse(sql)?;
        let mut transaction = self.begin();
        let rows = transaction.run(&statement, parameters)?;
        Ok(Executed { rows, position: transaction.commit()? })
    }
}

impl WriteTransaction<'_> {
    /// Parses and runs one statement inside this transaction; returns how many rows it changed.
    ///
    /// # Errors
    /// As [`Database::execute`]. Rows that an INSERT of several added before the one that failed stay in the transaction.
    pub fn execute(&mut self, sql: &str, parameters: &[Value]) -> Result<u64, Error> {
        self.run(&parse(sql)?, parameters)
    }

    /// Runs a parsed statement.
    ///
    /// # Errors
    /// As [`Self::execute`].
    pub fn run(&mut self, statement: &Statement, parameters: &[Value]) -> Result<u64, Error> {
        match statement {
            Statement::CreateTable { if_not_exists, definition } => {
                none_if(self.create_table(definition), *if_not_exists, ErrorKind::AlreadyExists)
            }
            Statement::CreateIndex { if_not_exists, definition } => {
                none_if(self.create_index(definition), *if_not_exists, ErrorKind::AlreadyExists)
            }
            Statement::DropTable { if_exists, name } => {
                none_if(self.drop_table(name), *if_exists, ErrorKind::NotFound)
            }
            Statement::DropIndex { if_exists, name } => {
                none_if(self.drop_index(name), *if_exists, ErrorKind::NotFound)
            }
            Statement::RenameTable { from, to } => self.rename_table(from, to).map(|()| 0),
            Statement::AddField { table, field } => self.add_field(table, field).map(|()| 0),
            Statement::Insert(insert) => self.insert_rows(insert, parameters),
            Statement::Update { table, set, filter } => {
                self.update_rows(table, set, filter.as_ref(), parameters)
            }
            Statement::Delete { table, filter } => {
                let key = self.key_of_filter(table, filter.as_ref(), parameters)?;
                self.delete_by_key(table, &key).map(u64::from)
            }
        }
    }

    fn insert_rows(&mut self, insert: &Insert, parameters: &[Value]) -> Result<u64, Error> {
        for row in &insert.rows {
            let Value::Document(fields) = row.constant(parameters)? else {
                return Err(Error::new(ErrorKind::Type, "inserted value is not a document"));
            };
            self.insert(&insert.table, &fields)?;
        }
        Ok(insert.rows.len() as u64)
    }

    fn update_rows(
        &mut self,
        table: &str,
        set: &[(Path, Expression)],
        filter: Option<&Expression>,
        parameters: &[Value],
    ) -> Result<u64, Error> {
        let key = self.key_of_filter(table, filter, parameters)?;
        let changes: Vec<(Path, Value)> = set
            .iter()
            .map(|(path, value)| Ok((path.clone(), value.constant(parameters)?)))
            .collect::<Result<_, SqlError>>()?;
        self.update_by_key(table, &key, &changes).map(u64::from)
    }

    /// The key that a WHERE clause fixes: every key field, or `pk()`, compared with a constant, joined by AND.
    fn key_of_filter(
        &self,
        table: &str,
        filter: Option<&Expression>,
        parameters: &[Value],
    ) -> Result<Vec<Value>, Error> {
        let table = self.schema.user_table(table)?;
        let paths = table.primary_key().unwrap_or_default();
        let unfixed = |position| SqlError::new(position, "WHERE must compare each key field with a constant");
        let filter = filter.ok_or_else(|| unfixed(Position { line: 1, column: 1 }))?;
        let mut terms = Vec::new();
        collect_terms(filter, &mut terms)?;
        let mut key = vec![None; paths.len().max(1)];
        let mut place = Position::default();
        for (left, right, position) in terms {
            place = position;
            let (target, value) = match (left, right) {
                (target @ (Expression::Path(..) | Expression::Key(_)), value)
                | (value, target @ (Expression::Path(..) | Expression::Key(_))) => (target, value),
                _ => return Err(unfixed(position).into()),
            };
            let value = value.constant(parameters)?;
            match (target, value) {
                (Expression::Key(_), Value::Array(values)) => key = values.into_iter().map(Some).collect(),
                (Expression::Key(_), value) => key = vec![Some(value)],
                (Expression::Path(path, _), value) => {
                    let at = paths.iter().position(|key| key == path).ok_or_else(|| unfixed(position))?;
                    if let Some(slot) = key.get_mut(at)
                        && slot.replace(value).is_some()
                    {
                        return Err(SqlError::new(position, "key field is compared twice").into());
                    }
                }
                _ => return Err(unfixed(position).into()),
            }
        }
        key.into_iter().collect::<Option<Vec<Value>>>().ok_or_else(|| unfixed(place).into())
    }
}

/// A statement with IF [NOT] EXISTS does nothing instead of failing so.
fn none_if(result: Result<(), Error>, tolerant: bool, kind: ErrorKind) -> Result<u64, Error> {
    match result {
        Err(error) if tolerant && error.kind() == kind => Ok(0),
        other => other.map(|()| 0),
    }
}

type Term<'a> = (&'a Expression, &'a Expression, Position);

/// Takes a conjunction of equalities apart.
fn collect_terms<'a>(filter: &'a Expression, terms: &mut Vec<Term<'a>>) -> Result<(), SqlError> {
    match filter {
        Expression::Binary(left, Operator::And, right, _) => {
            collect_terms(left, terms)?;
            collect_terms(right, terms)
        }
        Expression::Binary(left, Operator::Equal, right, position) => {
            terms.push((left, right, *position));
            Ok(())
        }
        Expression::Path(_, position) | Expression::Key(position) | Expression::Parameter(_, position) => {
            Err(SqlError::new(*position, "WHERE must compare each key field with a constant"))
        }
        Expression::Literal(_) | Expression::Array(_) | Expression::Document(_) => Err(SqlError::new(
            Position { line: 1, column: 1 },
            "WHERE must compare each key field with a constant",
        )),
    }
}
