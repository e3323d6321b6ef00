//! What the pipeline knows of each source.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use deltamesh_jetstream::{Client, Hop, StatusBoard};
use deltamesh_replica::{Applied, Assembler, Error, ErrorKind, Group, Replica};
use deltamesh_wire::subject;
use tokio::time::Instant;

use crate::consume::Arrival;
use crate::feed::Rate;

/// How long a source may take to begin the snapshot that it was asked for, before it is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(30);
/// The same where it did not answer: it may have been about to start.
const ASK_UNANSWERED: Duration = Duration::from_secs(2);
/// How long a source may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Groups on their way into the replica.
pub(crate) struct Waiting {
    pub(crate) source: String,
    pub(crate) groups: Vec<Group>,
    /// Failed attempts.
    pub(crate) attempt: usize,
    pub(crate) until: Instant,
}

impl Waiting {
    pub(crate) fn now(source: &str, groups: Vec<Group>) -> Self {
        Self { source: source.to_owned(), groups, attempt: 0, until: Instant::now() }
    }
}

pub(crate) struct Source {
    /// Sequence of the next message to read.
    pub(crate) next: u64,
    /// Newest message of the stream, as far as known.
    pub(crate) stream_last: Arc<AtomicU64>,
    assembler: Assembler,
    applied: u64,
    position: String,
    rate: Rate,
    /// When the source was last asked for a snapshot; nothing but a snapshot is applied until it comes.
    asked: Option<Instant>,
    /// It did not answer.
    unanswered: Arc<AtomicBool>,
}

/// All sources, and the batch that could not be applied yet. While there is one nothing more is taken.
pub(crate) struct Sources {
    client: Client,
    board: StatusBoard,
    sources: BTreeMap<String, Source>,
    waiting: Option<Waiting>,
}

impl Sources {
    /// The sources at the replica's checkpoints; large groups are spooled in `folder`.
    pub(crate) fn new(
        client: &Client,
        board: &StatusBoard,
        names: &[String],
        replica: &dyn Replica,
        folder: &Path,
    ) -> Self {
        let checkpoints = replica.checkpoints();
        let relations = replica.relations();
        let source = |name: &String| {
            let checkpoint = checkpoints.iter().find(|checkpoint| checkpoint.source == *name);
            let applied = checkpoint.map_or(0, |checkpoint| checkpoint.stream_sequence);
            let schemas = relations.iter().filter(|relation| relation.source == *name);
            let schemas = schemas.map(|relation| relation.schema.clone());
            let source = Source {
                next: applied + 1,
                stream_last: Arc::new(AtomicU64::new(0)),
                assembler: Assembler::new(name, schemas, folder),
                applied,
                position: checkpoint.map(|checkpoint| checkpoint.position.to_string()).unwrap_or_default(),
                rate: Rate::default(),
                asked: None,
                unanswered: Arc::default(),
            };
            (name.clone(), source)
        };
        let sources = names.iter().map(source).collect();
        Self { client: client.clone(), board: board.clone(), sources, waiting: None }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &Source)> {
        self.sources.iter()
    }

    /// Whether an error means that the log does not continue what the replica has.
    pub(crate) fn is_gap(error: &Error) -> bool {
        matches!(error.kind(), ErrorKind::Gap | ErrorKind::Decode)
    }

    pub(crate) fn take_waiting(&mut self) -> Option<Waiting> {
        self.waiting.take()
    }

    pub(crate) fn put_waiting(&mut self, waiting: Option<Waiting>) {
        self.waiting = waiting;
    }

    /// Puts messages together to groups that can be applied.
    pub(crate) fn assemble(&mut self, arrival: Arrival) -> Option<Waiting> {
        let mut groups: Vec<Group> = Vec::new();
        let mut broken = None;
        let source = self.sources.get_mut(&arrival.source)?;
        if arrival.restarted {
            source.assembler.skip_group();
        }
        for message in arrival.messages {
            match source.assembler.push(&message.payload, message.sequence) {
                Ok(None) => {}
                Ok(Some(group)) => {
                    // What comes behind a hole is in the snapshot that fills it; what comes behind that is not.
                    let is_behind_hole = source.asked.is_some() || broken.is_some();
                    if group.snapshot || !is_behind_hole || groups.iter().any(|group| group.snapshot) {
                        groups.push(group);
                    }
                }
                Err(error) => broken = Some(error),
            }
        }
        if let Some(error) = broken {
            self.ask_snapshot(&arrival.source, &error);
        }
        (!groups.is_empty()).then(|| Waiting::now(&arrival.source, groups))
    }

    /// Whether a group can be applied at all: while a snapshot is awaited nothing else can.
    pub(crate) fn accepts(&self, group: &Group) -> bool {
        group.snapshot || self.sources.get(&group.source).is_none_or(|source| source.asked.is_none())
    }

    /// Notes what was applied.
    pub(crate) fn applied(&mut self, name: &str, groups: &[Group], applied: &Applied) {
        let Some(source) = self.sources.get_mut(name) else { return };
        if let Some(group) = groups.last() {
            source.applied = source.applied.max(group.stream_sequence);
            source.position = group.position.to_string();
        }
        source.rate.add(usize::try_from(applied.rows).unwrap_or(usize::MAX));
        if source.asked.is_some() && groups.iter().any(|group| group.snapshot) {
            source.asked = None;
            self.board.clear(&format!("source {name}"));
            tracing::info!(source = name, rows = applied.rows, "source is reconciled");
        }
        self.show(name);
    }

    /// Asks a source for a snapshot; until it comes the source stands still.
    pub(crate) fn ask_snapshot(&mut self, name: &str, error: &Error) {
        self.board.raise(&format!("source {name}"), error.place(), error.reason());
        if let Some(source) = self.sources.get_mut(name)
            && source.asked.is_none_or(|asked| asked.elapsed() >= ASK_AGAIN)
        {
            source.asked = Some(Instant::now());
            self.ask(name);
        }
    }

    fn ask(&self, name: &str) {
        let Some(source) = self.sources.get(name) else { return };
        let (client, name, unanswered) = (self.client.clone(), name.to_owned(), source.unanswered.clone());
        tokio::spawn(async move {
            let asked = client.request(&subject::source_request(&name, "reconcile"), "", ANSWER_WITHIN).await;
            unanswered.store(asked.is_err(), Ordering::Relaxed);
            match asked {
                Ok(_) => tracing::info!(source = name, "asked for a snapshot"),
                Err(error) => tracing::warn!(source = name, %error, "cannot ask for a snapshot"),
            }
        });
    }

    /// Asks again where no snapshot has come, and renews what the status shows.
    pub(crate) fn tick(&mut self) {
        let mut again = Vec::new();
        for (name, source) in &mut self.sources {
            let unanswered = source.unanswered.load(Ordering::Relaxed);
            let wait = if unanswered { ASK_UNANSWERED } else { ASK_AGAIN };
            if source.asked.is_some_and(|asked| asked.elapsed() >= wait) {
                source.asked = Some(Instant::now());
                source.unanswered.store(false, Ordering::Relaxed);
                again.push(name.clone());
            }
        }
        again.iter().for_each(|name| self.ask(name));
        for name in self.sources.keys().cloned().collect::<Vec<_>>() {
            self.show(&name);
        }
    }

    fn show(&mut self, name: &str) {
        let Some(source) = self.sources.get_mut(name) else { return };
        self.board.set_hop(Hop {
            hop: "apply".to_owned(),
            subject: name.to_owned(),
            position: source.position.clone(),
            lag: source.stream_last.load(Ordering::Relaxed).saturating_sub(source.applied),
            rate: source.rate.per_second(),
            ..Hop::default()
        });
    }
}
