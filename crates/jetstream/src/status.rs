//! What each service instance says about itself on request: hops with position and lag, and faults.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use deltamesh_wire::subject;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tracing::{info, warn};

use crate::service::Requests;
use crate::{Client, Error};

/// Status of one service instance.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Name of the program.
    pub service: String,
    /// What distinguishes it from others of its kind: source or replica.
    pub instance: String,
    /// Process id.
    pub pid: u32,
    /// Stages of the path of a change in this instance.
    pub hops: Vec<Hop>,
    /// What does not work at this moment.
    pub faults: Vec<Fault>,
}

/// One stage of the path of a change.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Hop {
    /// Name: `capture`, `publish`, `apply`, `feed`, ….
    pub hop: String,
    /// What it works on: a source, view or stream.
    pub subject: String,
    /// Where it stands.
    pub position: String,
    /// How much is known to be waiting: messages or transactions.
    pub lag: u64,
    /// Rows or messages per second over the last seconds.
    pub rate: f64,
    /// Further figures.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// A part that does not work.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The part that stands still.
    pub part: String,
    /// Where: file and offset, stream and sequence, file and line.
    pub place: String,
    /// Why.
    pub reason: String,
    /// Since when, in microseconds since 1970-01-01 UTC.
    pub since: u64,
}

/// Microseconds since 1970-01-01 UTC.
#[must_use]
pub fn now_us() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX)
}

/// The status of this process, written by its loops and read by [`answer_status`]. Cheap to clone.
#[derive(Debug, Clone)]
pub struct StatusBoard {
    board: Arc<Mutex<Board>>,
}

#[derive(Debug)]
struct Board {
    service: String,
    instance: String,
    hops: BTreeMap<(String, String), Hop>,
    faults: BTreeMap<String, Fault>,
    /// Faults that have begun.
    raised: u64,
}

impl StatusBoard {
    /// An empty board.
    pub fn new(service: impl Into<String>, instance: impl Into<String>) -> Self {
        let (service, instance) = (service.into(), instance.into());
        let board = Board { service, instance, hops: BTreeMap::new(), faults: BTreeMap::new(), raised: 0 };
        Self { board: Arc::new(Mutex::new(board)) }
    }

    fn with<T>(&self, f: impl FnOnce(&mut Board) -> T) -> T {
        f(&mut self.board.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sets a hop; it is known by its name and subject.
    pub fn set_hop(&self, hop: Hop) {
        self.with(|board| board.hops.insert((hop.hop.clone(), hop.subject.clone()), hop));
    }

    /// Removes a hop.
    pub fn remove_hop(&self, hop: &str, subject: &str) {
        self.with(|board| board.hops.remove(&(hop.to_owned(), subject.to_owned())));
    }

    /// Sets the fault of a part. Logged when it is new or its place or reason changed.
    pub fn raise(&self, part: &str, place: impl Into<String>, reason: impl Into<String>) {
        let (place, reason) = (place.into(), reason.into());
        self.with(|board| {
            let known = board.faults.get(part);
            if known.is_some_and(|fault| fault.place == place && fault.reason == reason) {
                return;
            }
            warn!(part, place, reason, "part stands still");
            let since = known.map(|fault| fault.since);
            board.raised += u64::from(since.is_none());
            let since = since.unwrap_or_else(now_us);
            board.faults.insert(part.to_owned(), Fault { part: part.to_owned(), place, reason, since });
        });
    }

    /// The part works again.
    pub fn clear(&self, part: &str) {
        if self.with(|board| board.faults.remove(part)).is_some() {
            info!(part, "part works again");
        }
    }

    /// How many faults have begun since the process was started.
    pub(crate) fn raised(&self) -> u64 {
        self.with(|board| board.raised)
    }

    /// Everything on the board.
    #[must_use]
    pub fn status(&self) -> Status {
        self.with(|board| Status {
            service: board.service.clone(),
            instance: board.instance.clone(),
            pid: std::process::id(),
            hops: board.hops.values().cloned().collect(),
            faults: board.faults.values().cloned().collect(),
        })
    }
}

/// Answers status requests with what is on the board, until dropped or the connection is closed.
///
/// # Errors
/// The connection is closed.
pub async fn answer_status(client: &Client, board: &StatusBoard) -> Result<(), Error> {
    let mut requests = Requests::subscribe(client, subject::STATUS, None).await?;
    while let Some(request) = requests.next().await {
        match serde_json::to_vec(&board.status()) {
            Ok(status) => request.reply(status).await?,
            Err(error) => warn!(%error, "cannot encode status"),
        }
    }
    Ok(())
}

/// Asks every service instance for its status and returns what arrives within `wait`, by service and instance.
///
/// # Errors
/// The connection is closed.
pub async fn gather_status(client: &Client, wait: Duration) -> Result<Vec<Status>, Error> {
    let mut replies = client.request_many(subject::STATUS, "").await?;
    let deadline = tokio::time::Instant::now() + wait;
    let mut gathered = vec![];
    // No service at all answers as an error, which is an empty result here.
    while let Ok(Some(reply)) =
        replies.next(deadline.saturating_duration_since(tokio::time::Instant::now())).await
    {
        match serde_json::from_slice::<Status>(&reply) {
            Ok(status) => gathered.push(status),
            Err(error) => warn!(%error, "cannot decode a status"),
        }
    }
    gathered.sort_by(|a, b| (&a.service, &a.instance, a.pid).cmp(&(&b.service, &b.instance, b.pid)));
    Ok(gathered)
}
