//! The reading side: a thread that follows the directory and hands on what it finds.
//!
//! Reading is a few system calls on cached pages, but the engine overwrites its log files in place, so the thread reads as soon
//! as something is written and never waits for the network. While the capture loop is behind it reads ahead into memory, up to a
//! limit; what is lost behind that is found as a gap and healed by a snapshot. An engine that is always faster than the change
//! log would cause snapshot after snapshot: behind each the reader pauses as long as it took.

use std::convert::Infallible;
use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Thread;
use std::time::{Duration, Instant};

use deltamesh_change::{EnginePosition, RelationSchema, Row};
use deltamesh_genji::{
    Engine, Error, ErrorKind, Fault, GenjiTransaction, ObjectChange, ReadOptions, Snapshot, Tail,
};
use tokio::sync::mpsc::{self, error::TrySendError};
use tracing::{info, warn};

use crate::watch::DirectoryWatch;

/// Pause after changes were found: what comes meanwhile is handed on together. The first change of a quiet source never waits;
/// under load fewer and larger groups leave the processor to the application.
const AFTER_CHANGES: Duration = Duration::from_millis(1);
/// Delay between polls of a directory that cannot be watched.
const POLL_BLIND: Duration = Duration::from_millis(2);
/// Delay between polls of a directory that is watched and says nothing.
const POLL_WATCHED: Duration = Duration::from_millis(25);
/// Delay before reading again after a failure.
const RETRY: Duration = Duration::from_millis(200);
/// Delay between looks at the logs while the capture loop has no room.
const READ_AHEAD: Duration = Duration::from_millis(2);
/// Longest pause between a snapshot and one that heals the next gap.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Items that are handed on at once while behind.
const BATCH_ITEMS: usize = 2000;
/// Snapshot rows that are handed on at once.
const BATCH_ROWS: usize = 500;
/// Batches that may wait for the capture loop.
const WAITING: usize = 4;

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// Behind a position that the change log has.
    Resume(EnginePosition),
    /// With the complete state.
    Snapshot {
        /// Whether the state continues the history that the change log has.
        continues: bool,
    },
}

/// What the directory says.
pub(crate) enum EngineEvent {
    /// The tail continues where the change log ends.
    Resumed,
    /// A snapshot begins.
    SnapshotBegin {
        position: EnginePosition,
        objects: Vec<ObjectChange>,
        relations: Vec<Arc<RelationSchema>>,
        continues: bool,
    },
    /// Rows of the snapshot.
    SnapshotRows {
        schema: Arc<RelationSchema>,
        rows: Vec<Row>,
        /// How long the others take, where that is known.
        left: Option<Duration>,
    },
    /// The snapshot is complete.
    SnapshotEnd,
    /// Transactions in source order.
    Transactions(Vec<GenjiTransaction>),
    /// A part of a transaction that is larger than memory; all but its last have [`GenjiTransaction::more`].
    Part(GenjiTransaction),
    /// Up to this sequence number the engine has written nothing else.
    Passed(u64),
    /// Rows or definitions that could not be read; everything else goes on.
    Unreadable(Vec<Fault>),
    /// Nothing can be read at the moment.
    Failed { place: String, reason: String },
    /// Reading works again.
    Works,
}

/// A running reader; dropping it ends the thread.
pub(crate) struct EngineReader {
    events: mpsc::Receiver<EngineEvent>,
    snapshot: Arc<AtomicBool>,
    thread: Thread,
}

impl EngineReader {
    pub(crate) fn spawn(dir: &Path, start: Start) -> std::io::Result<Self> {
        let (sender, events) = mpsc::channel(WAITING);
        let snapshot = Arc::new(AtomicBool::new(false));
        let reader = Reader {
            dir: dir.to_owned(),
            start,
            sender,
            snapshot: snapshot.clone(),
            watch: None,
            failed: false,
            healed: None,
            passed: 0,
            is_in_parts: false,
        };
        let handle = std::thread::Builder::new().name("genji-tail".into()).spawn(move || reader.run())?;
        Ok(Self { events, snapshot, thread: handle.thread().clone() })
    }

    /// The next event; nothing after the thread has ended. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Option<EngineEvent> {
        self.events.recv().await
    }

    /// An event that is already there.
    pub(crate) fn try_next(&mut self) -> Option<EngineEvent> {
        self.events.try_recv().ok()
    }

    /// Asks for a snapshot of the current state.
    pub(crate) fn request_snapshot(&self) {
        self.snapshot.store(true, Ordering::Release);
        self.thread.unpark();
    }

    /// Says that the directory has just been written.
    pub(crate) fn wake(&self) {
        self.thread.unpark();
    }
}

/// Why following ends or pauses.
enum Stop {
    /// Nobody wants to know any more.
    Closed,
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

struct Reader {
    dir: PathBuf,
    start: Start,
    sender: mpsc::Sender<EngineEvent>,
    snapshot: Arc<AtomicBool>,
    watch: Option<DirectoryWatch>,
    failed: bool,
    /// When the last snapshot was complete, and how long it took.
    healed: Option<(Instant, Duration)>,
    /// Sequence number up to which everything was handed on.
    passed: u64,
    /// Whether more parts of the last transaction follow.
    is_in_parts: bool,
}

impl Reader {
    fn run(mut self) {
        let mut tail = None;
        while let Err(Stop::Failed(error)) = self.follow(&mut tail) {
            if self.after_failure(&error, &mut tail).is_err() {
                return;
            }
        }
    }

    fn send(&self, event: EngineEvent) -> Result<(), Stop> {
        self.sender.blocking_send(event).map_err(|_closed| Stop::Closed)
    }

    /// Sends, and calls `read_ahead` while there is no room.
    fn send_reading(&self, mut event: EngineEvent, mut read_ahead: impl FnMut()) -> Result<(), Stop> {
        loop {
            match self.sender.try_send(event) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Closed(_)) => return Err(Stop::Closed),
                Err(TrySendError::Full(back)) => event = back,
            }
            read_ahead();
            std::thread::park_timeout(READ_AHEAD);
        }
    }

    fn follow(&mut self, tail: &mut Option<Tail>) -> Result<Infallible, Stop> {
        loop {
            if self.snapshot.swap(false, Ordering::AcqRel) {
                *tail = None;
                self.start =
                    Start::Snapshot { continues: self.start != Start::Snapshot { continues: false } };
            }
            match tail {
                Some(tail) => self.poll(tail)?,
                None => {
                    *tail = Some(self.open()?);
                    self.watch = Some(DirectoryWatch::new(&Engine::locate(&self.dir).1));
                    // From now on a snapshot continues what has been handed on.
                    self.start = Start::Snapshot { continues: true };
                }
            }
        }
    }

    fn open(&mut self) -> Result<Tail, Stop> {
        let options = ReadOptions::default();
        self.is_in_parts = false;
        match self.start {
            Start::Resume(position) => {
                let tail = Tail::resume(&self.dir, position, &options)?;
                self.works()?;
                self.send(EngineEvent::Resumed)?;
                Ok(tail)
            }
            Start::Snapshot { continues } => {
                let begun = Instant::now();
                let snapshot = Snapshot::open(&self.dir, &options)?;
                self.works()?;
                self.send_snapshot(&snapshot, continues)?;
                self.healed = Some((Instant::now(), begun.elapsed()));
                Ok(snapshot.into_tail())
            }
        }
    }

    fn send_snapshot(&self, snapshot: &Snapshot, continues: bool) -> Result<(), Stop> {
        let relations = snapshot.relations();
        info!(dir = %self.dir.display(), relations = relations.len(), continues, "snapshot begins");
        let mut begun = Instant::now();
        let position = snapshot.position();
        let (objects, relations_sent) = (snapshot.objects()?, relations.clone());
        self.send(EngineEvent::SnapshotBegin { position, objects, relations: relations_sent, continues })?;
        for schema in relations {
            let mut batch = Vec::with_capacity(BATCH_ROWS);
            let asked = Instant::now();
            let rows = snapshot.rows(&schema.relation)?;
            // To find the order of the keys says nothing of the pace.
            begun += asked.elapsed();
            for row in rows {
                batch.push(row?);
                if batch.len() == BATCH_ROWS {
                    let rows = std::mem::take(&mut batch);
                    let left = snapshot.time_left(begun.elapsed());
                    let event = EngineEvent::SnapshotRows { schema: schema.clone(), rows, left };
                    self.send_reading(event, || snapshot.read_ahead())?;
                }
            }
            if !batch.is_empty() {
                let left = snapshot.time_left(begun.elapsed());
                let event = EngineEvent::SnapshotRows { schema, rows: batch, left };
                self.send_reading(event, || snapshot.read_ahead())?;
            }
        }
        self.unreadable(snapshot.faults())?;
        self.send(EngineEvent::SnapshotEnd)
    }

    /// Hands on what is new, or waits a moment.
    fn poll(&mut self, tail: &mut Tail) -> Result<(), Stop> {
        let mut batch = vec![];
        let mut items = 0;
        let mut part = None;
        let mut outcome = Ok(());
        while items < BATCH_ITEMS {
            match tail.poll_part() {
                Ok(Some(found)) if found.more || self.is_in_parts => {
                    part = Some(found);
                    break;
                }
                Ok(Some(transaction)) => {
                    items += transaction.items.len();
                    batch.push(transaction);
                }
                Ok(None) => break,
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
        let is_quiet = batch.is_empty() && part.is_none();
        if let Some(last) = batch.last() {
            self.passed = last.position.sequence;
            self.send_reading(EngineEvent::Transactions(batch), || tail.read_ahead())?;
        }
        if let Some(part) = part {
            self.is_in_parts = part.more;
            if !part.more {
                self.passed = part.position.sequence;
            }
            self.send_reading(EngineEvent::Part(part), || tail.read_ahead())?;
        }
        self.unreadable(tail.faults())?;
        if tail.passed() != self.passed {
            self.passed = tail.passed();
            self.send_reading(EngineEvent::Passed(self.passed), || tail.read_ahead())?;
        }
        outcome?;
        self.works()?;
        match &self.watch {
            Some(watch) if is_quiet => watch.wait(POLL_BLIND, POLL_WATCHED),
            _ => std::thread::park_timeout(AFTER_CHANGES),
        }
        self.check_open()
    }

    fn unreadable(&self, faults: Vec<Fault>) -> Result<(), Stop> {
        if faults.is_empty() { Ok(()) } else { self.send(EngineEvent::Unreadable(faults)) }
    }

    fn works(&mut self) -> Result<(), Stop> {
        if std::mem::take(&mut self.failed) { self.send(EngineEvent::Works) } else { Ok(()) }
    }

    fn check_open(&self) -> Result<(), Stop> {
        if self.sender.is_closed() { Err(Stop::Closed) } else { Ok(()) }
    }

    /// Takes a snapshot where changes are lost, and reports and waits otherwise.
    fn after_failure(&mut self, error: &Error, tail: &mut Option<Tail>) -> Result<(), Stop> {
        match error.kind() {
            ErrorKind::Gap | ErrorKind::Rewound => {
                *tail = None;
                // A history that went back stays another one, whatever is lost before its snapshot is complete.
                let is_other = self.start == Start::Snapshot { continues: false };
                let continues = error.kind() == ErrorKind::Gap && !is_other;
                warn!(dir = %self.dir.display(), %error, continues, "changes are lost, a snapshot replaces them");
                self.start = Start::Snapshot { continues };
                self.pause()
            }
            _ => {
                self.failed = true;
                let (place, reason) = (place(error, &self.dir), reason(error));
                self.send(EngineEvent::Failed { place, reason })?;
                std::thread::park_timeout(RETRY);
                self.check_open()
            }
        }
    }

    /// Waits, so that at most about half of the time goes into snapshots.
    fn pause(&self) -> Result<(), Stop> {
        let Some((complete, took)) = self.healed else { return Ok(()) };
        let until = complete + took.min(LONGEST_PAUSE);
        while Instant::now() < until && !self.snapshot.load(Ordering::Acquire) {
            std::thread::park_timeout(RETRY.min(until.saturating_duration_since(Instant::now())));
            self.check_open()?;
        }
        Ok(())
    }
}

/// File and offset of a failure; the directory where it names none.
fn place(error: &Error, dir: &Path) -> String {
    let file = error.file().unwrap_or(dir).display();
    match error.offset() {
        Some(offset) => format!("{file}:{offset}"),
        None => file.to_string(),
    }
}

/// Reason of a failure with its cause.
fn reason(error: &Error) -> String {
    match error.source() {
        Some(cause) => format!("{}: {cause}", error.reason()),
        None => error.reason().to_owned(),
    }
}
