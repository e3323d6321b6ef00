//! One subscriber of a view: snapshot or catch-up from the replica, then live, and back to catch-up whenever it fell behind.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use deltamesh_module::Filter;
use deltamesh_nats_grpc::{Code, Status};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::cursor::Cursor;
use crate::event::Event;
use crate::feed::{Hub, Queue};
use crate::narrow::{accepts, narrow, net};
use crate::replica::{FeedPosition, Part, ReadFrom, Replica};

/// A subscriber to whom nothing was delivered gets its cursor renewed this often.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// The same where it waits for the end of a transaction.
const END_WITHIN: Duration = Duration::from_millis(20);

/// What a subscriber wants.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// The view.
    pub view: String,
    /// Only rows that meet all of these.
    pub filters: Vec<Filter>,
    /// Snapshot, changes, or both.
    pub mode: Mode,
    /// Continue behind this cursor instead of starting with a snapshot.
    pub cursor: Option<Cursor>,
}

/// Which parts of a feed a subscriber wants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// The rows, then their changes.
    #[default]
    SnapshotAndChanges,
    /// Changes from now on.
    ChangesOnly,
    /// The rows, then the end.
    SnapshotOnly,
}

/// What a subscriber gets next.
#[derive(Debug, Clone)]
pub enum Item {
    /// A fresh snapshot begins: rows that the subscriber has are void.
    SnapshotBegin {
        /// Why, where the subscriber asked to resume.
        reason: String,
    },
    /// A row of the snapshot.
    Row(Arc<Event>),
    /// The snapshot is complete.
    SnapshotEnd,
    /// A change.
    Change(Arc<Event>),
    /// Everything up to the cursor has been delivered.
    Progress,
}

/// A running subscription.
#[derive(Debug)]
pub struct Subscription {
    hub: Hub,
    draining: watch::Receiver<bool>,
    replica: Replica,
    wanted: Wanted,
    phase: Phase,
    cursor: Cursor,
    pending: VecDeque<Item>,
    /// A change was delivered whose transaction has not ended yet.
    in_transaction: bool,
    progress_at: Instant,
}

#[derive(Debug)]
enum Phase {
    /// The replica is being read; changes since then wait in the queue.
    Reading {
        parts: mpsc::Receiver<Result<Part, Status>>,
        queue: Queue,
        snapshot: bool,
    },
    Live(Queue),
    Ended,
}

impl Subscription {
    /// Starts a subscription.
    #[must_use]
    pub fn start(hub: &Hub, replica: &Replica, wanted: Wanted) -> Self {
        let mut subscription = Self {
            hub: hub.clone(),
            draining: hub.draining(),
            replica: replica.clone(),
            cursor: wanted.cursor.clone().unwrap_or_default(),
            wanted,
            phase: Phase::Ended,
            pending: VecDeque::new(),
            in_transaction: false,
            progress_at: Instant::now() + PROGRESS_EVERY,
        };
        let cursor = subscription.wanted.cursor.clone();
        subscription.read(cursor);
        subscription
    }

    /// Attaches to the live end first and reads the replica then, so that the two overlap.
    fn read(&mut self, cursor: Option<Cursor>) {
        let queue = self.hub.attach(&self.wanted.view);
        let parts = self.replica.read(ReadFrom {
            view: self.wanted.view.clone(),
            filters: self.wanted.filters.clone(),
            cursor,
            rows: self.wanted.mode != Mode::ChangesOnly,
        });
        self.phase = Phase::Reading { parts, queue, snapshot: false };
    }

    /// What to hand back to resume behind the last item.
    #[must_use]
    pub fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// The next item; nothing where the subscription is complete. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The replica cannot be read, the view does not exist, or the gateway drains.
    pub async fn next(&mut self) -> Result<Option<Item>, Status> {
        loop {
            if let Some(item) = self.pending.pop_front() {
                return Ok(Some(item));
            }
            match &mut self.phase {
                Phase::Ended => return Ok(None),
                Phase::Reading { parts, .. } => {
                    let part = tokio::select! {
                        part = parts.recv() => part,
                        () = drained(&mut self.draining) => return Err(draining()),
                    };
                    // A reader that ends early has given up on a subscriber that takes nothing.
                    self.take(part.unwrap_or_else(|| Err(too_slow()))?);
                }
                Phase::Live(queue) => {
                    tokio::select! {
                        event = queue.next() => match event {
                            Some(event) => self.deliver(&event),
                            None => self.read(Some(self.cursor.clone())),
                        },
                        () = sleep_until(self.progress_at) => self.progress(),
                        () = drained(&mut self.draining) => return Err(draining()),
                    }
                }
            }
        }
    }

    /// A part of what is read from the replica.
    fn take(&mut self, part: Part) {
        let filters = &self.wanted.filters;
        match part {
            Part::SnapshotBegin { reason } => {
                if let Phase::Reading { snapshot, .. } = &mut self.phase {
                    *snapshot = true;
                }
                self.cursor = Cursor::default();
                self.pending.push_back(Item::SnapshotBegin { reason });
            }
            Part::Rows(rows) => {
                let accepted = rows.into_iter().filter(|event| accepts(filters, &event.row));
                self.pending.extend(accepted.map(|event| Item::Row(Arc::new(event))));
            }
            Part::Net(changes) => {
                let netted = changes.into_iter().filter_map(|(first, last)| net(filters, &first, &last));
                self.pending.extend(netted.map(|event| Item::Change(Arc::new(event))));
            }
            Part::End(at) => self.complete(at),
        }
    }

    /// Everything was read: the cursor moves to where the replica stood, and the queue takes over.
    fn complete(&mut self, at: FeedPosition) {
        let Phase::Reading { queue, snapshot, .. } = std::mem::replace(&mut self.phase, Phase::Ended) else {
            return;
        };
        self.cursor = at.into();
        self.pending.push_back(if snapshot { Item::SnapshotEnd } else { Item::Progress });
        self.in_transaction = false;
        self.progress_at = Instant::now() + PROGRESS_EVERY;
        if self.wanted.mode != Mode::SnapshotOnly {
            self.phase = Phase::Live(queue);
        }
    }

    /// A live change, unless the replica's rows had it already.
    fn deliver(&mut self, event: &Arc<Event>) {
        if event.sequence <= self.cursor.sequence {
            return;
        }
        self.cursor.sequence = event.sequence;
        for (source, position) in &event.positions {
            self.cursor.positions.insert(source.clone(), position.clone());
        }
        if let Some(event) = narrow(&self.wanted.filters, event) {
            self.in_transaction = !event.transaction_end;
            self.progress_at = Instant::now() + if self.in_transaction { END_WITHIN } else { PROGRESS_EVERY };
            self.pending.push_back(Item::Change(event));
        }
    }

    /// Moves the cursor over changes that were not for this subscriber.
    fn progress(&mut self) {
        // Read before the queue is looked at: everything up to here that is for us is in the queue.
        let head = self.hub.head();
        let Phase::Live(queue) = &mut self.phase else { return };
        if let Some(event) = queue.try_next() {
            return self.deliver(&event);
        }
        self.progress_at = Instant::now() + PROGRESS_EVERY;
        if queue.is_cut() || (head <= self.cursor.sequence && !self.in_transaction) {
            return;
        }
        self.cursor.sequence = self.cursor.sequence.max(head);
        self.in_transaction = false;
        self.pending.push_back(Item::Progress);
    }
}

pub(crate) async fn drained(draining: &mut watch::Receiver<bool>) {
    // Each subscription holds the hub, so the sender is there.
    if draining.wait_for(|draining| *draining).await.is_err() {
        std::future::pending::<()>().await;
    }
}

pub(crate) fn draining() -> Status {
    Status::unavailable("gateway is draining")
}

pub(crate) fn too_slow() -> Status {
    Status::new(Code::ResourceExhausted, "subscriber takes its rows too slowly")
}
