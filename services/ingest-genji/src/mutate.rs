//! Row mutations inside a transaction, and how refusals of the engine are named to callers.

use deltamesh_change::Value;
use deltamesh_genji::{Document, Error, ErrorKind, WriteTransaction};
use deltamesh_jetstream::{Code, ServiceError};
use deltamesh_wire::proto::source::v1::Mutation;
use deltamesh_wire::proto::source::v1::mutation::Kind;

use crate::commits::RESERVED;

/// Applies mutations in order. Returns how many rows they wrote or deleted and, where wanted, the row behind each.
///
/// # Errors
/// The first mutation that is refused; those before it are in the transaction.
pub(crate) fn apply(
    transaction: &mut WriteTransaction<'_>,
    mutations: Vec<Mutation>,
    returning: bool,
) -> Result<(u64, Vec<Document>), ServiceError> {
    let mut rows = 0;
    let mut documents = vec![];
    for mutation in mutations {
        let written = apply_one(transaction, mutation, returning)?;
        rows += u64::from(written.is_some());
        if returning {
            documents.push(written.unwrap_or_default());
        }
    }
    Ok((rows, documents))
}

/// The row that was written (without fields if that is not wanted, or behind a delete); nothing where there was none to delete.
fn apply_one(
    transaction: &mut WriteTransaction<'_>,
    mutation: Mutation,
    returning: bool,
) -> Result<Option<Document>, ServiceError> {
    let relation = mutation.relation.as_str();
    check_table(relation)?;
    let invalid = |reason: String| ServiceError::new(Code::InvalidArgument, reason);
    let row: Vec<(String, Value)> = mutation
        .row
        .unwrap_or_default()
        .try_into()
        .map_err(|error| invalid(format!("row of relation {relation}: {error}")))?;
    let refused = |error: Error| {
        let ServiceError { code, message } = refusal(&error);
        ServiceError::new(code, format!("relation {relation}: {message}"))
    };
    let key = match Kind::try_from(mutation.kind) {
        Ok(Kind::Upsert) => transaction.upsert(relation, &row).map_err(refused)?,
        Ok(Kind::Insert) => transaction.insert(relation, &row).map_err(refused)?,
        Ok(Kind::Update) => {
            if !transaction.update(relation, &row).map_err(refused)? {
                let reason = format!("relation {relation} has no such row");
                return Err(ServiceError::new(Code::NotFound, reason));
            }
            transaction.key_of(relation, &row).map_err(refused)?
        }
        Ok(Kind::Delete) => {
            let deleted = transaction.delete(relation, &row).map_err(refused)?;
            return Ok(deleted.then(Document::new));
        }
        Err(_) => return Err(invalid(format!("mutation kind {} is unknown", mutation.kind))),
    };
    if !returning {
        return Ok(Some(Document::new()));
    }
    transaction.get_with_docid(relation, &key).map_err(refused)
}

/// Refuses to write a table of the host's own.
///
/// # Errors
/// It is one.
pub(crate) fn check_table(name: &str) -> Result<(), ServiceError> {
    if name.starts_with(RESERVED) {
        let reason = format!("table {name} is written by the host only");
        return Err(ServiceError::new(Code::PermissionDenied, reason));
    }
    Ok(())
}

pub(crate) fn refusal(error: &Error) -> ServiceError {
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
