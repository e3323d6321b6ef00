//! Mutations that are committed and wait for the change log to have them.

use std::collections::{BTreeMap, VecDeque};

use deltamesh_change::{EnginePosition, SourcePosition};
use deltamesh_jetstream::{Code, Request, ServiceError};
use deltamesh_wire::proto::source::v1::MutateResponse;
use prost::Message as _;
use tracing::debug;

use crate::log::Durable;

/// Ordinals of transactions that became durable before the host said which request they belong to: the tail may be faster.
const RECENT: usize = 4096;

/// A request whose transaction is committed.
pub(crate) struct Committed {
    pub(crate) request: Request,
    pub(crate) position: EnginePosition,
    /// Rows written or deleted.
    pub(crate) rows: u64,
}

/// Answers requests once their transaction is durable in the change log.
pub(crate) struct Writers {
    source: String,
    waiting: BTreeMap<u64, Vec<Committed>>,
    /// Engine sequence and ordinal, of the newest durable transactions.
    recent: VecDeque<(u64, u64)>,
    durable: SourcePosition,
}

impl Writers {
    pub(crate) fn new(source: &str) -> Self {
        Self {
            source: source.to_owned(),
            waiting: BTreeMap::new(),
            recent: VecDeque::new(),
            durable: SourcePosition::default(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.values().map(Vec::len).sum()
    }

    /// A transaction is committed at the source.
    pub(crate) async fn committed(&mut self, committed: Committed) {
        self.waiting.entry(committed.position.sequence).or_default().push(committed);
        self.answer().await;
    }

    /// A group is durable in the change log.
    pub(crate) async fn durable(&mut self, group: &Durable) {
        self.recent.extend(group.transactions.iter().copied());
        let surplus = self.recent.len().saturating_sub(RECENT);
        self.recent.drain(..surplus);
        self.reached(&group.position).await;
    }

    /// The change log is durable up to here.
    pub(crate) async fn reached(&mut self, position: &SourcePosition) {
        self.durable = position.clone();
        self.answer().await;
    }

    /// Another host writes the change log now: whether it has these transactions is not known here.
    pub(crate) async fn abandon(&mut self) {
        let reason =
            format!("source {} is written by another host now; look before writing again", self.source);
        for Committed { request, .. } in std::mem::take(&mut self.waiting).into_values().flatten() {
            if let Err(error) = request.fail(&ServiceError::new(Code::Aborted, reason.clone())).await {
                debug!(%error, "nobody took the answer to a mutation");
            }
        }
    }

    async fn answer(&mut self) {
        while let Some(entry) = self.waiting.first_entry() {
            if *entry.key() > self.durable.engine.sequence {
                break;
            }
            for Committed { request, position, rows } in entry.remove() {
                let position = self.position(position);
                respond(&request, &self.source, Some(&position), rows).await;
            }
        }
    }

    /// Position of the transaction; where its ordinal is not known any more, the position that is durable, behind it.
    fn position(&self, engine: EnginePosition) -> SourcePosition {
        let known = self.recent.iter().rev().find(|(sequence, _)| *sequence == engine.sequence);
        known.map_or_else(
            || self.durable.clone(),
            |&(_, ordinal)| SourcePosition { ordinal, engine, ..self.durable.clone() },
        )
    }
}

/// Answers a mutation.
pub(crate) async fn respond(request: &Request, source: &str, position: Option<&SourcePosition>, rows: u64) {
    let response = MutateResponse { source: source.to_owned(), position: position.map(Into::into), rows };
    if let Err(error) = request.reply(response.encode_to_vec()).await {
        debug!(%error, "nobody took the answer to a mutation");
    }
}
