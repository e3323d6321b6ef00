//! Writing: mutations on their way to the source that holds the relation.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use deltamesh_change::Value;
use deltamesh_jetstream::Client;
use deltamesh_module::MutationKind;
use deltamesh_nats_grpc::{Code, Status};
use deltamesh_wire::proto::source::v1::{MutateRequest, MutateResponse, Mutation, mutation};
use deltamesh_wire::subject;
use prost::Message;
use tokio::time::Instant;

use crate::error::status_of;
use crate::replica::Replica;

/// A source answers after its change log has the rows.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// A relation of a module that was applied just now reaches the replica within this time.
const KNOWN_WITHIN: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The way to the sources.
#[derive(Clone)]
pub(crate) struct Sources {
    client: Client,
    replica: Replica,
    /// Source of each relation that was written to without naming one.
    known: Arc<Mutex<HashMap<String, String>>>,
}

/// The kind of a mutation on the wire.
pub(crate) fn wire_kind(kind: MutationKind) -> mutation::Kind {
    match kind {
        MutationKind::Upsert => mutation::Kind::Upsert,
        MutationKind::Insert => mutation::Kind::Insert,
        MutationKind::Update => mutation::Kind::Update,
        MutationKind::Delete => mutation::Kind::Delete,
    }
}

/// One mutation of one row.
pub(crate) fn mutation(relation: &str, kind: MutationKind, row: Vec<(String, Value)>) -> Mutation {
    Mutation { relation: relation.to_owned(), kind: wire_kind(kind).into(), row: Some(row.into()) }
}

impl Sources {
    pub(crate) fn new(client: Client, replica: Replica) -> Self {
        Self { client, replica, known: Arc::default() }
    }

    /// Sends mutations to their source, the only one that has the relation where they name none, and returns its answer; all of
    /// them are applied, or none.
    pub(crate) async fn mutate(&self, request: MutateRequest) -> Result<MutateResponse, Status> {
        let Some(first) = request.mutations.first() else {
            return Err(Status::invalid_argument("request has no mutations"));
        };
        let source = match request.source.as_str() {
            "" => self.source_of(&first.relation).await?,
            source if subject::is_valid_name(source) => source.to_owned(),
            _ => return Err(Status::invalid_argument("source name is not of [a-z0-9_]")),
        };
        let request = MutateRequest { source: source.clone(), ..request };
        let subject = subject::source_request(&source, "mutate");
        let answer = self.client.request(&subject, request.encode_to_vec(), ANSWER_WITHIN).await;
        let answer = answer.map_err(|error| {
            let mut status = status_of(error);
            if status.code == Code::Unavailable {
                self.known().clear();
                status.message = format!("source {source} does not take writes now: {}", status.message);
            }
            status
        })?;
        MutateResponse::decode(answer)
            .map_err(|_| Status::internal(format!("answer of source {source} cannot be decoded")))
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<String, String>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The only source that has the relation.
    async fn source_of(&self, relation: &str) -> Result<String, Status> {
        if let Some(source) = self.known().get(relation) {
            return Ok(source.clone());
        }
        let deadline = Instant::now() + KNOWN_WITHIN;
        loop {
            let mut sources = self.replica.sources_of(relation).await?;
            match (sources.pop(), sources.is_empty()) {
                (Some(source), true) => {
                    self.known().insert(relation.to_owned(), source.clone());
                    return Ok(source);
                }
                (Some(_), false) => {
                    let reason = format!("relation {relation} is in several sources: name one");
                    return Err(Status::invalid_argument(reason));
                }
                (None, _) if Instant::now() < deadline => tokio::time::sleep(LOOK_AGAIN).await,
                (None, _) => {
                    return Err(Status::new(Code::NotFound, format!("no source has relation {relation}")));
                }
            }
        }
    }
}
