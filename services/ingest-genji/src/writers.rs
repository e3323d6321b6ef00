//! Requests whose transaction is committed, and that wait for the change log to have it.

use std::collections::{BTreeMap, VecDeque};

use deltamesh_change::{EnginePosition, SourcePosition};
use deltamesh_jetstream::{Code, Request, ServiceError};
use tracing::debug;

use crate::answer::Answer;
use crate::log::Durable;
use crate::pages::Results;

/// Ordinals of transactions that became durable before the host said which request they belong to: the tail may be faster.
const RECENT: usize = 4096;

/// A request whose transaction is committed.
pub(crate) struct Committed {
    pub(crate) request: Request,
    pub(crate) position: EnginePosition,
    pub(crate) answer: Answer,
}

/// Answers requests once their transaction is durable in the change log.
pub(crate) struct Writers {
    source: String,
    waiting: BTreeMap<u64, Vec<Committed>>,
    /// Engine sequence and ordinal, of the newest durable transactions.
    recent: VecDeque<(u64, u64)>,
    durable: SourcePosition,
    /// Engine sequence up to which nothing changed a relation behind the transaction of that ordinal.
    passed: (u64, u64),
    /// What is left of answers that did not fit a message.
    pub(crate) results: Results,
}

impl Writers {
    pub(crate) fn new(source: &str) -> Self {
        Self {
            source: source.to_owned(),
            waiting: BTreeMap::new(),
            recent: VecDeque::new(),
            durable: SourcePosition::default(),
            passed: (0, 0),
            results: Results::default(),
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

    /// The engine has written nothing for the change log behind the transaction of that ordinal, up to that sequence.
    pub(crate) async fn passed(&mut self, sequence: u64, ordinal: u64) {
        self.passed = (sequence, ordinal);
        self.answer().await;
    }

    /// Another host writes the change log now: whether it has these transactions is not known here.
    pub(crate) async fn abandon(&mut self) {
        for Committed { request, answer, .. } in std::mem::take(&mut self.waiting).into_values().flatten() {
            // What became of a session is for the other host to say; of anything else nobody can.
            let (code, then) = match answer {
                Answer::Committed => (Code::Unavailable, "send COMMIT again to learn whether it was done"),
                _ => (Code::Aborted, "look before writing again"),
            };
            let reason = format!("source {} is written by another host now; {then}", self.source);
            if let Err(error) = request.fail(&ServiceError::new(code, reason)).await {
                debug!(%error, "nobody took the answer to a mutation");
            }
        }
    }

    /// Answers a request that changed nothing.
    pub(crate) async fn unchanged(&mut self, request: &Request, answer: Answer) {
        answer.send(request, &self.source, None, &mut self.results).await;
    }

    async fn answer(&mut self) {
        let (sequence, ordinal) = self.passed;
        let reached = self.durable.engine.sequence;
        let reached = if self.durable.ordinal >= ordinal { reached.max(sequence) } else { reached };
        while let Some(entry) = self.waiting.first_entry() {
            if *entry.key() > reached {
                break;
            }
            for Committed { request, position, answer } in entry.remove() {
                let position = self.position(position);
                answer.send(&request, &self.source, Some(&position), &mut self.results).await;
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
