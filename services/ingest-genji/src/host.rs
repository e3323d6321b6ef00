//! The writing side of a hosted source: a thread that owns the database.
//!
//! It runs one request after the other (`sessions`), each in its transaction, and hands what it ran to a second thread, which
//! makes it durable (`flush`): so requests that arrive together share a flush of the engine's log.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::time::Duration;

use deltamesh_change::EnginePosition;
use deltamesh_genji::{Database, Error, ErrorKind, HostOptions};
use deltamesh_jetstream::{Code, Request, ServiceError};
use tokio::sync::mpsc;

use crate::answer::Answer;
use crate::gauges::Gauges;
use crate::pages::Room;
use crate::sessions::{Endings, Serving, Task, Waiting};
use crate::{Limits, flush, tables};

/// Requests that may wait for the database.
const WAITING: usize = 1024;
/// Answers that may wait for their flush.
const UNFLUSHED: usize = 256;
/// Delay before the database is opened again after a failure.
const RETRY: Duration = Duration::from_millis(500);

/// What became of a task.
pub(crate) enum HostEvent {
    Opened,
    Failed {
        place: String,
        reason: String,
    },
    /// A request has taken effect; no position where nothing changed.
    Written {
        request: Request,
        position: Option<EnginePosition>,
        answer: Answer,
    },
    Refused {
        request: Request,
        error: ServiceError,
    },
    /// A module's relations are tables, or the reason why not.
    Module {
        name: String,
        version: u64,
        result: Result<(), String>,
    },
    /// The database is closed; nothing comes behind it.
    Closed,
}

/// The running thread; dropping it lets the thread finish what waits, close the database and end.
pub(crate) struct Host {
    jobs: Option<SyncSender<Task>>,
    events: mpsc::Receiver<HostEvent>,
    gauges: Arc<Gauges>,
}

impl Host {
    /// Answers hold at most `max_message` bytes.
    pub(crate) fn spawn(
        source: &str,
        dir: &Path,
        limits: &Limits,
        max_message: usize,
    ) -> std::io::Result<Self> {
        let (jobs, job_queue) = sync_channel(WAITING);
        let (sender, events) = mpsc::channel(WAITING);
        let gauges = Arc::new(Gauges::default());
        let thread = Thread {
            source: source.to_owned(),
            dir: dir.to_owned(),
            limits: limits.clone(),
            max_message,
            room: Room::default(),
            modules: tables::Modules::default(),
            jobs: job_queue,
            waiting: VecDeque::new(),
            endings: Endings::default(),
            events: sender,
            gauges: gauges.clone(),
        };
        std::thread::Builder::new().name("genji-host".into()).spawn(move || thread.run())?;
        Ok(Self { jobs: Some(jobs), events, gauges })
    }

    /// What the threads say of themselves.
    pub(crate) fn gauges(&self) -> &Gauges {
        &self.gauges
    }

    /// Hands on a task, or returns it where too many wait or the host is closing.
    pub(crate) fn submit(&self, task: Task) -> Result<(), Task> {
        match &self.jobs {
            Some(jobs) => jobs.try_send(task).map_err(|refused| match refused {
                TrySendError::Full(task) | TrySendError::Disconnected(task) => task,
            }),
            None => Err(task),
        }
    }

    /// What has happened. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> HostEvent {
        self.events.recv().await.unwrap_or(HostEvent::Closed)
    }

    /// Takes no more jobs; [`HostEvent::Closed`] comes when those that wait are done and the database is closed.
    pub(crate) fn close(&mut self) {
        self.jobs = None;
    }
}

/// What the thread keeps while the database is opened and closed.
pub(crate) struct Thread {
    source: String,
    dir: PathBuf,
    pub(crate) limits: Limits,
    pub(crate) max_message: usize,
    /// Of the rows that statements return.
    pub(crate) room: Room,
    modules: tables::Modules,
    pub(crate) jobs: Receiver<Task>,
    /// What waits for a session to end.
    pub(crate) waiting: VecDeque<Waiting>,
    pub(crate) endings: Endings,
    events: mpsc::Sender<HostEvent>,
    pub(crate) gauges: Arc<Gauges>,
}

/// Why serving ended.
pub(crate) enum End {
    /// There are no more tasks.
    Done,
    /// The database takes no more writes until it is opened again.
    Broken,
}

impl Thread {
    fn run(mut self) {
        loop {
            match self.open_and_serve() {
                Ok(End::Done) => break,
                Ok(End::Broken) => {}
                Err(error) => {
                    self.failed(&error);
                    if self.refuse_all(&error) {
                        break;
                    }
                    std::thread::sleep(RETRY);
                }
            }
        }
        self.tell(HostEvent::Closed);
    }

    fn open_and_serve(&mut self) -> Result<End, Error> {
        let database = Database::open(&self.dir, &HostOptions::default())?;
        self.tell(HostEvent::Opened);
        let end = self.serve(&database)?;
        if let Err(error) = database.close() {
            self.failed(&error);
        }
        Ok(end)
    }

    fn serve(&mut self, database: &Database) -> Result<End, Error> {
        let (sender, queue) = sync_channel(UNFLUSHED);
        let (events, gauges) = (self.events.clone(), self.gauges.clone());
        std::thread::scope(|scope| {
            let flushing = std::thread::Builder::new().name("genji-flush".into());
            flushing
                .spawn_scoped(scope, move || flush::run(database, &queue, &events, &gauges))
                .map_err(|error| Error::new(ErrorKind::Io, format!("cannot start a thread: {error}")))?;
            Ok(Serving::new(self, database, sender)?.run())
        })
    }

    /// Nobody listens only when the service is gone; then there is nobody to tell.
    fn tell(&self, event: HostEvent) {
        let _gone = self.events.blocking_send(event);
    }

    fn failed(&self, error: &Error) {
        let place = error.file().unwrap_or(&self.dir).display().to_string();
        self.tell(HostEvent::Failed { place, reason: reason(error) });
    }

    /// Refuses what waits while the database cannot be opened; returns whether nothing can come any more.
    fn refuse_all(&mut self, error: &Error) -> bool {
        let error = ServiceError::new(Code::Unavailable, format!("database is not open: {error}"));
        for Waiting { task, .. } in std::mem::take(&mut self.waiting) {
            self.refuse_task(task, &error);
        }
        loop {
            match self.jobs.try_recv() {
                Ok(task) => self.refuse_task(task, &error),
                Err(TryRecvError::Empty) => return false,
                Err(TryRecvError::Disconnected) => return true,
            }
        }
    }

    pub(crate) fn refuse_task(&self, task: Task, error: &ServiceError) {
        match task {
            Task::Call(call) => self.refuse(call.request, error.clone()),
            Task::Module { name, value } => {
                let (version, result) = (tables::version(&value), Err(error.message.clone()));
                self.tell(HostEvent::Module { name, version, result });
            }
        }
    }

    pub(crate) fn refuse(&self, request: Request, error: ServiceError) {
        self.tell(HostEvent::Refused { request, error });
    }

    pub(crate) fn apply_module(&mut self, database: &Database, name: String, value: &[u8]) {
        let result = self.modules.apply(database, &self.source, value);
        self.tell(HostEvent::Module { name, version: tables::version(value), result });
    }
}

fn reason(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{}: {cause}", error.reason()),
        None => error.reason().to_owned(),
    }
}
