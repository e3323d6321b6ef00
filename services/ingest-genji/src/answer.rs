//! Answers to mutations and statements.

use deltamesh_change::SourcePosition;
use deltamesh_jetstream::Request;
use deltamesh_wire::proto::change::v1::Document;
use deltamesh_wire::proto::source::v1::{ExecuteResponse, MutateResponse};
use prost::Message as _;
use tracing::debug;

use crate::pages::{Page, Results, Rows};

/// What a request is told beside the position.
pub(crate) enum Answer {
    Mutated {
        rows: u64,
        documents: Vec<Document>,
    },
    Executed {
        rows: u64,
        session: String,
        returned: Rows,
    },
    /// A session's COMMIT, which may be sent again.
    Committed,
}

impl Answer {
    /// That a statement without rows was run.
    pub(crate) fn done() -> Self {
        Self::session(String::new())
    }

    /// To BEGIN.
    pub(crate) fn session(session: String) -> Self {
        Self::Executed { rows: 0, session, returned: Rows::default() }
    }

    /// Sends it; what does not fit one message is left in `results`.
    pub(crate) async fn send(
        self,
        request: &Request,
        source: &str,
        position: Option<&SourcePosition>,
        results: &mut Results,
    ) {
        let (source, position) = (source.to_owned(), position.map(Into::into));
        let message = match self {
            Self::Mutated { rows, documents } => {
                MutateResponse { source, position, rows, documents }.encode_to_vec()
            }
            Self::Committed => {
                ExecuteResponse { source, position, ..ExecuteResponse::default() }.encode_to_vec()
            }
            Self::Executed { rows, session, returned } => {
                let (documents, next) = results.begin(returned);
                ExecuteResponse { source, position, rows, session, documents, next }.encode_to_vec()
            }
        };
        reply(request, message).await;
    }
}

/// Sends a page of a result.
pub(crate) async fn send_page(request: &Request, source: &str, (documents, next): (Page, String)) {
    let page = ExecuteResponse { source: source.to_owned(), documents, next, ..ExecuteResponse::default() };
    reply(request, page.encode_to_vec()).await;
}

async fn reply(request: &Request, message: Vec<u8>) {
    if let Err(error) = request.reply(message).await {
        debug!(%error, "nobody took an answer");
    }
}
