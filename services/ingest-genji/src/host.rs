//! The writing side of a hosted source: a thread that owns the database.
//!
//! Requests that arrive together become one transaction of the engine, and so share one flush. If one of them is refused,
//! each is run by itself.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use deltamesh_change::EnginePosition;
use deltamesh_genji::catalog::TableDefinition;
use deltamesh_genji::{Database, Error, HostOptions};
use deltamesh_jetstream::{Code, Request, ServiceError};
use deltamesh_wire::proto::source::v1::MutateRequest;
use prost::Message as _;
use tokio::sync::mpsc;

use crate::{mutate, tables};

/// Requests that may wait for the database.
const WAITING: usize = 1024;
/// Requests that may share a transaction.
const GROUP: usize = 256;
/// Delay before the database is opened again after a failure.
const RETRY: Duration = Duration::from_millis(500);

/// Work for the database.
pub(crate) enum Job {
    Mutate(Request),
    Execute(Request),
    /// A module, as the bucket holds it.
    Module {
        name: String,
        value: Bytes,
    },
}

/// What became of it.
pub(crate) enum HostEvent {
    Opened,
    /// The statements that define the tables, where they have changed.
    Tables(Vec<String>),
    Failed {
        place: String,
        reason: String,
    },
    /// A request has taken effect; no position where nothing changed.
    Written {
        request: Request,
        position: Option<EnginePosition>,
        rows: u64,
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
    jobs: Option<mpsc::Sender<Job>>,
    events: mpsc::Receiver<HostEvent>,
}

impl Host {
    pub(crate) fn spawn(source: &str, dir: &Path) -> std::io::Result<Self> {
        let (jobs, job_queue) = mpsc::channel(WAITING);
        let (sender, events) = mpsc::channel(WAITING);
        let thread = Thread {
            source: source.to_owned(),
            dir: dir.to_owned(),
            modules: tables::Modules::default(),
            jobs: job_queue,
            events: sender,
            tables: vec![],
        };
        std::thread::Builder::new().name("genji-host".into()).spawn(move || thread.run())?;
        Ok(Self { jobs: Some(jobs), events })
    }

    /// Hands on a job, or returns it where too many wait or the host is closing.
    pub(crate) fn submit(&self, job: Job) -> Result<(), Job> {
        match &self.jobs {
            Some(jobs) => jobs.try_send(job).map_err(mpsc::error::TrySendError::into_inner),
            None => Err(job),
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

struct Thread {
    source: String,
    dir: PathBuf,
    modules: tables::Modules,
    jobs: mpsc::Receiver<Job>,
    events: mpsc::Sender<HostEvent>,
    /// The definitions that were told last.
    tables: Vec<TableDefinition>,
}

/// Why serving ended.
enum End {
    /// There are no more jobs.
    Done,
    /// The database takes no more writes until it is opened again.
    Broken,
}

impl Thread {
    fn run(mut self) {
        loop {
            match Database::open(&self.dir, &HostOptions::default()) {
                Ok(database) => {
                    self.tell(HostEvent::Opened);
                    let end = self.serve(&database);
                    if let Err(error) = database.close() {
                        self.failed(&error);
                    }
                    if matches!(end, End::Done) {
                        break;
                    }
                }
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
        loop {
            match self.jobs.try_recv() {
                Ok(Job::Mutate(request) | Job::Execute(request)) => {
                    let error =
                        ServiceError::new(Code::Unavailable, format!("database is not open: {error}"));
                    self.tell(HostEvent::Refused { request, error });
                }
                Ok(Job::Module { name, value }) => {
                    let result = Err(format!("database is not open: {error}"));
                    self.tell(HostEvent::Module { name, version: tables::version(&value), result });
                }
                Err(mpsc::error::TryRecvError::Empty) => return false,
                Err(mpsc::error::TryRecvError::Disconnected) => return true,
            }
        }
    }

    fn serve(&mut self, database: &Database) -> End {
        self.tell_tables(database);
        while let Some(job) = self.jobs.blocking_recv() {
            let mut next = Some(job);
            while let Some(job) = next.take() {
                match job {
                    Job::Mutate(request) => next = self.mutate_group(database, request),
                    Job::Execute(request) => {
                        self.execute(database, request);
                        self.tell_tables(database);
                    }
                    Job::Module { name, value } => {
                        let result = self.modules.apply(database, &self.source, &value);
                        self.tell_tables(database);
                        self.tell(HostEvent::Module { name, version: tables::version(&value), result });
                    }
                }
            }
            // A failed write closes the database for writing.
            if database.position().is_err() {
                return End::Broken;
            }
        }
        End::Done
    }

    /// Runs a mutation together with those that wait behind it; returns the first job that is no mutation.
    fn mutate_group(&mut self, database: &Database, first: Request) -> Option<Job> {
        let mut next = None;
        let mut requests = vec![first];
        while requests.len() < GROUP {
            match self.jobs.try_recv() {
                Ok(Job::Mutate(request)) => requests.push(request),
                Ok(job) => {
                    next = Some(job);
                    break;
                }
                Err(_) => break,
            }
        }
        let mut group = vec![];
        for request in requests {
            match MutateRequest::decode(request.payload.clone()) {
                Ok(mutation) => group.push((request, mutation.mutations)),
                Err(_) => {
                    self.refuse(request, ServiceError::new(Code::InvalidArgument, "not a MutateRequest"));
                }
            }
        }
        if group.len() > 1
            && let Ok((position, rows)) = mutate::run(database, group.iter().map(|(_, list)| list.as_slice()))
        {
            for ((request, _), rows) in group.into_iter().zip(rows) {
                self.tell(HostEvent::Written { request, position, rows });
            }
            return next;
        }
        for (request, mutations) in group {
            match mutate::run(database, [mutations.as_slice()]) {
                Ok((position, rows)) => {
                    self.tell(HostEvent::Written { request, position, rows: rows.iter().sum() });
                }
                Err(error) => self.refuse(request, error),
            }
        }
        next
    }

    fn execute(&self, database: &Database, request: Request) {
        match mutate::execute(database, &request.payload) {
            Ok((position, rows)) => self.tell(HostEvent::Written { request, position, rows }),
            Err(error) => self.refuse(request, error),
        }
    }

    /// A standby makes its tables like these.
    fn tell_tables(&mut self, database: &Database) {
        let tables = database.tables();
        if tables != self.tables {
            self.tell(HostEvent::Tables(tables.iter().map(ToString::to_string).collect()));
            self.tables = tables;
        }
    }

    fn refuse(&self, request: Request, error: ServiceError) {
        self.tell(HostEvent::Refused { request, error });
    }
}

fn reason(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{}: {cause}", error.reason()),
        None => error.reason().to_owned(),
    }
}
