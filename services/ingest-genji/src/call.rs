//! Requests to a hosted source: what they ask for, and running it.

use deltamesh_change::Value;
use deltamesh_genji::sql::{Parameters, Statement, parse};
use deltamesh_genji::{Database, Error, ErrorKind, Session, Submitted};
use deltamesh_jetstream::{Code, Request, ServiceError};
use deltamesh_wire::proto::change::v1::Document;
use deltamesh_wire::proto::source::v1::{ExecuteRequest, MutateRequest, Mutation};
use prost::Message as _;

use crate::answer::Answer;
use crate::commits::RESERVED;
use crate::mutate::{apply, check_table, refusal};
use crate::pages::{HEADER, HEADROOM, Pages, Room};

/// A request that is understood.
pub(crate) struct Call {
    pub(crate) request: Request,
    /// Session that it belongs to; empty for none.
    pub(crate) session: String,
    pub(crate) work: Work,
}

/// What a request asks for.
pub(crate) enum Work {
    Mutate { mutations: Vec<Mutation>, returning: bool },
    Execute { statement: Box<Statement>, bound: Bound },
}

/// Parameters of a statement.
pub(crate) enum Bound {
    Positional(Vec<Value>),
    Named(Vec<(String, Value)>),
}

impl Bound {
    fn parameters(&self) -> Parameters<'_> {
        match self {
            Self::Positional(values) => Parameters::Positional(values),
            Self::Named(values) => Parameters::Named(values),
        }
    }
}

impl Call {
    /// Whether it begins a session.
    pub(crate) fn begins(&self) -> bool {
        matches!(self.work.statement(), Some(Statement::Begin { .. }))
    }
}

impl Work {
    /// Mutations, and their session.
    ///
    /// # Errors
    /// The request is none of mutations.
    pub(crate) fn mutate(payload: &[u8]) -> Result<(String, Self), ServiceError> {
        match MutateRequest::decode(payload) {
            Ok(MutateRequest { mutations, session, returning, .. }) => {
                Ok((session, Self::Mutate { mutations, returning }))
            }
            Err(_) => Err(ServiceError::new(Code::InvalidArgument, "not a MutateRequest")),
        }
    }

    /// A statement, and its session.
    ///
    /// # Errors
    /// The request is none of a statement, or of one that cannot be run.
    pub(crate) fn execute(payload: &[u8]) -> Result<(String, Self), ServiceError> {
        let (session, statement, bound) = statement(payload)?;
        Ok((session, Self::Execute { statement: Box::new(statement), bound }))
    }

    /// The statement, if it is one.
    pub(crate) fn statement(&self) -> Option<&Statement> {
        match self {
            Self::Mutate { .. } => None,
            Self::Execute { statement, .. } => Some(statement),
        }
    }

    /// Runs it: in the session's transaction if one is open, else in one of its own, which is submitted.
    ///
    /// # Errors
    /// The refusal. A transaction of its own is undone then; an open one keeps what was done before the refusal.
    pub(crate) fn run(
        self,
        database: &Database,
        session: &mut Session<'_>,
        max_message: usize,
        room: &Room,
    ) -> Result<(Option<Submitted>, Answer), ServiceError> {
        match self {
            Self::Mutate { mutations, returning } if session.in_transaction() => {
                let transaction = session.transaction().map_err(|error| refusal(&error))?;
                let (rows, documents) = apply(transaction, mutations, returning)?;
                Ok((None, mutated(rows, documents, max_message)?))
            }
            Self::Mutate { mutations, returning } => {
                let mut transaction = database.begin();
                let (rows, documents) = apply(&mut transaction, mutations, returning)?;
                let answer = mutated(rows, documents, max_message)?;
                Ok((transaction.submit().map_err(|error| refusal(&error))?, answer))
            }
            Self::Execute { statement, bound } => {
                let mut pages = Pages::new(max_message, room);
                let ran = session.run(&statement, bound.parameters(), &mut |row| pages.push(row));
                let (rows, submitted) = ran.map_err(|error| unreturned(&error, &pages))?;
                Ok((submitted, executed(rows, pages)))
            }
        }
    }

    /// Runs a SELECT over what is committed, while the session of another is open. None where it has to wait: it is something
    /// else, or the session has written too much to read beside it.
    ///
    /// # Errors
    /// The refusal.
    pub(crate) fn read(
        &self,
        database: &Database,
        max_message: usize,
        room: &Room,
    ) -> Result<Option<Answer>, ServiceError> {
        let Self::Execute { statement, bound } = self else { return Ok(None) };
        let Statement::Select(select) = statement.as_ref() else { return Ok(None) };
        if select.takes_values() {
            return Ok(None);
        }
        let mut pages = Pages::new(max_message, room);
        let ran = database.select(select, bound.parameters(), &mut |row| pages.push(row));
        let is_run = ran.map_err(|error| unreturned(&error, &pages))?;
        Ok(is_run.then(|| executed(0, pages)))
    }
}

/// The answer of a statement.
fn executed(rows: u64, pages: Pages) -> Answer {
    Answer::Executed { rows, session: String::new(), returned: pages.finish() }
}

/// Why a statement failed: its own error, or that its rows are too many.
fn unreturned(error: &Error, pages: &Pages) -> ServiceError {
    match error.kind() {
        ErrorKind::Unsupported if pages.is_refused() => {
            ServiceError::new(Code::ResourceExhausted, error.to_string())
        }
        _ => refusal(error),
    }
}

fn statement(payload: &[u8]) -> Result<(String, Statement, Bound), ServiceError> {
    let invalid = |reason: String| ServiceError::new(Code::InvalidArgument, reason);
    let decoded = ExecuteRequest::decode(payload);
    let ExecuteRequest { statement, parameters, named, session } =
        decoded.map_err(|_not_one| invalid("not an ExecuteRequest".to_owned()))?;
    if !parameters.is_empty() && !named.is_empty() {
        return Err(invalid("parameters are all positional or all named".to_owned()));
    }
    let bound = if named.is_empty() {
        let values = parameters.into_iter().map(Value::try_from).collect::<Result<_, _>>();
        Bound::Positional(values.map_err(|error| invalid(error.to_string()))?)
    } else {
        let values = Document { fields: named }.try_into();
        Bound::Named(values.map_err(|error| invalid(format!("named parameters: {error}")))?)
    };
    let statement = parse(&statement).map_err(|error| refusal(&error))?;
    let misplaced = match (&statement, session.is_empty()) {
        (Statement::Begin { .. }, false) => "a session has one transaction: send BEGIN without a session",
        (Statement::Commit | Statement::Rollback, true) => {
            "COMMIT and ROLLBACK need the session that BEGIN answered"
        }
        _ => return written(&statement).map_or(Ok(()), check_table).map(|()| (session, statement, bound)),
    };
    Err(ServiceError::new(Code::FailedPrecondition, misplaced))
}

/// Name of the table that a statement writes or defines.
fn written(statement: &Statement) -> Option<&str> {
    match statement {
        Statement::CreateTable { definition, .. } => Some(&definition.name),
        Statement::CreateIndex { definition, .. } => Some(&definition.table),
        Statement::RenameTable { from, to } => Some(if to.starts_with(RESERVED) { to } else { from }),
        Statement::Drop { name: table, .. }
        | Statement::AddField { table, .. }
        | Statement::Update { table, .. }
        | Statement::Delete { table, .. } => Some(table),
        Statement::Insert(insert) => Some(&insert.table),
        _ => None,
    }
}

/// The answer to mutations, if it fits a message.
fn mutated(
    rows: u64,
    documents: Vec<deltamesh_genji::Document>,
    max_message: usize,
) -> Result<Answer, ServiceError> {
    let documents: Vec<Document> = documents.into_iter().map(Into::into).collect();
    let size: usize = documents.iter().map(|document| document.encoded_len() + HEADER).sum();
    if size > max_message.saturating_sub(HEADROOM) {
        let reason = "returned rows exceed a message: write fewer at once, or do not ask for them";
        return Err(ServiceError::new(Code::ResourceExhausted, reason));
    }
    Ok(Answer::Mutated { rows, documents })
}
