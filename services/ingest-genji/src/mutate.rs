//! Mutations and statements of a request, run on the database.

use deltamesh_change::{EnginePosition, Value};
use deltamesh_genji::{Database, Error, ErrorKind, WriteTransaction};
use deltamesh_jetstream::{Code, ServiceError};
use deltamesh_wire::proto::source::v1::mutation::Kind;
use deltamesh_wire::proto::source::v1::{ExecuteRequest, Mutation};
use prost::Message as _;

/// Runs the mutations of several requests in one transaction, all or none. Returns the position behind it (none where
/// nothing changed) and the number of rows of each request.
///
/// # Errors
/// The first mutation that is refused, or the commit; then nothing has changed.
pub(crate) fn run<'a>(
    database: &Database,
    requests: impl IntoIterator<Item = &'a [Mutation]>,
) -> Result<(Option<EnginePosition>, Vec<u64>), ServiceError> {
    let mut transaction = database.begin();
    let mut rows = vec![];
    for mutations in requests {
        let mut changed = 0;
        for mutation in mutations {
            changed += u64::from(apply(&mut transaction, mutation)?);
        }
        rows.push(changed);
    }
    let position = transaction.commit().map_err(|error| refusal(&error))?;
    Ok((position, rows))
}

/// Whether a row was written or deleted.
fn apply(transaction: &mut WriteTransaction<'_>, mutation: &Mutation) -> Result<bool, ServiceError> {
    let relation = mutation.relation.as_str();
    let invalid = |reason: String| ServiceError::new(Code::InvalidArgument, reason);
    let row = mutation.row.clone().unwrap_or_default();
    let row: Vec<(String, Value)> =
        row.try_into().map_err(|error| invalid(format!("row of relation {relation}: {error}")))?;
    let refused = |error: Error| refusal_of(relation, &error);
    match Kind::try_from(mutation.kind) {
        Ok(Kind::Upsert) => transaction.upsert(relation, &row).map(|_key| true).map_err(refused),
        Ok(Kind::Insert) => transaction.insert(relation, &row).map(|_key| true).map_err(refused),
        Ok(Kind::Update) => match transaction.update(relation, &row).map_err(refused)? {
            true => Ok(true),
            false => Err(ServiceError::new(Code::NotFound, format!("relation {relation} has no such row"))),
        },
        Ok(Kind::Delete) => transaction.delete(relation, &row).map_err(refused),
        Err(_) => Err(invalid(format!("mutation kind {} is unknown", mutation.kind))),
    }
}

/// Runs one statement of the source's own SQL.
///
/// # Errors
/// The statement is refused; then nothing has changed.
pub(crate) fn execute(
    database: &Database,
    payload: &[u8],
) -> Result<(Option<EnginePosition>, u64), ServiceError> {
    let invalid = |reason: String| ServiceError::new(Code::InvalidArgument, reason);
    let request = ExecuteRequest::decode(payload).map_err(|_| invalid("not an ExecuteRequest".into()))?;
    let parameters = request.parameters.into_iter().map(Value::try_from).collect::<Result<Vec<_>, _>>();
    let parameters = parameters.map_err(|error| invalid(error.to_string()))?;
    let executed = database.execute(&request.statement, &parameters).map_err(|error| refusal(&error))?;
    Ok((executed.position, executed.rows))
}

fn refusal_of(relation: &str, error: &Error) -> ServiceError {
    ServiceError::new(code(error.kind()), format!("relation {relation}: {error}"))
}

fn refusal(error: &Error) -> ServiceError {
    ServiceError::new(code(error.kind()), error.to_string())
}

/// How a failure of the engine is named to callers.
fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::Syntax | ErrorKind::Type | ErrorKind::Decode => Code::InvalidArgument,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::AlreadyExists => Code::AlreadyExists,
        ErrorKind::Constraint => Code::FailedPrecondition,
        ErrorKind::Unsupported => Code::Unimplemented,
        ErrorKind::Io | ErrorKind::Closed | ErrorKind::Locked => Code::Unavailable,
        ErrorKind::Corrupt => Code::DataLoss,
        ErrorKind::Gap | ErrorKind::Rewound => Code::Internal,
    }
}
