//! Reading the replica from async code: connections on blocking threads, pages through bounded channels.

mod reading;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use deltamesh_change::{Value, to_json};
use deltamesh_module::Filter;
use deltamesh_nats_grpc::{Code, Status};
use deltamesh_replica::{Error, ErrorKind, Limits, Location, Reader, ViewState};
use serde_json::Value as Json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::cursor::Cursor;
use crate::event::{Event, Row};

/// Reads at once; more wait. A slow subscriber holds one of them only while it takes its snapshot.
const READS: usize = 64;
/// Connections that are kept open between reads.
const KEPT: usize = 8;
/// Pages that wait for a slow taker.
const PAGES_AHEAD: usize = 2;
const QUERY_WITHIN: Duration = Duration::from_secs(30);

/// The replica that this gateway serves.
#[derive(Debug, Clone)]
pub struct Replica {
    location: Arc<Location>,
    idle: Arc<Mutex<Vec<Open>>>,
    reads: Arc<Semaphore>,
}

/// An open connection, and the file that it was opened on, if it is one.
#[derive(Debug)]
struct Open {
    reader: Reader,
    file: Option<(u64, u64)>,
}

impl Open {
    /// Takes a kept connection, unless another file has come in the place of its own.
    fn take(location: &Location, idle: &Mutex<Vec<Self>>) -> Result<Self, Error> {
        let metadata = location.file().and_then(|path| std::fs::metadata(path).ok());
        let file = metadata.map(|metadata| (metadata.dev(), metadata.ino()));
        let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|kept| kept.file == file);
        match idle.pop() {
            Some(kept) => Ok(kept),
            None => Ok(Self { reader: Reader::open(location.clone())?, file }),
        }
    }
}

/// A moment of a replica's feeds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FeedPosition {
    /// Incarnation of the replica.
    pub incarnation: String,
    /// Feed position of the newest change.
    pub last: u64,
    /// How far each source was applied at least.
    pub positions: BTreeMap<String, String>,
}

/// What a subscription reads before it goes live.
#[derive(Debug)]
pub enum Part {
    /// All rows follow.
    SnapshotBegin {
        /// Why, where the subscriber asked to resume.
        reason: String,
    },
    /// Rows of the snapshot.
    Rows(Vec<Event>),
    /// What changed behind the cursor: the first and the last change of each key, in the order of the last.
    Net(Vec<(Event, Event)>),
    /// Everything up to here was in the parts before. Comes last.
    End(FeedPosition),
}

/// Changes of a view as the change log has them, oldest first.
#[derive(Debug)]
pub(crate) struct Logged {
    pub(crate) changes: Vec<Event>,
    /// Where the replica stands, if there are no more changes up to there.
    pub(crate) end: Option<FeedPosition>,
}

/// What a read starts from.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReadFrom {
    pub(crate) view: String,
    pub(crate) filters: Vec<Filter>,
    /// Resume behind this cursor where that is possible.
    pub(crate) cursor: Option<Cursor>,
    /// Without a cursor: all rows, or nothing but the position.
    pub(crate) rows: bool,
}

impl Replica {
    /// A replica at that place, which need not be there yet.
    #[must_use]
    pub fn new(location: impl Into<Location>) -> Self {
        Self {
            location: Arc::new(location.into()),
            idle: Arc::default(),
            reads: Arc::new(Semaphore::new(READS)),
        }
    }

    /// Runs `work` on a blocking thread with a connection of its own.
    fn spawn(
        &self,
        permit: OwnedSemaphorePermit,
        work: impl FnOnce(&mut Reader) -> Result<(), Error> + Send + 'static,
        failed: impl FnOnce(Status) + Send + 'static,
    ) {
        let (location, idle) = (Arc::clone(&self.location), Arc::clone(&self.idle));
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let result = Open::take(&location, &idle).and_then(|mut open| {
                work(&mut open.reader)?;
                let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
                if idle.len() < KEPT {
                    idle.push(open);
                }
                Ok(())
            });
            // A connection that failed is closed.
            if let Err(error) = result {
                failed(status_of(&error));
            }
        });
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, Status> {
        let permit = Arc::clone(&self.reads).acquire_owned().await;
        permit.map_err(|_| Status::unavailable("gateway is draining"))
    }

    async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Reader) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Status> {
        let permit = self.permit().await?;
        let (answer, answered) = tokio::sync::oneshot::channel();
        let answer = Arc::new(Mutex::new(Some(answer)));
        let send = move |result: Result<T, Status>| {
            let answer = answer.lock().unwrap_or_else(PoisonError::into_inner).take();
            // Nobody waits any more where sending fails.
            answer.map(|answer| answer.send(result).is_ok());
        };
        let failed = send.clone();
        self.spawn(
            permit,
            move |reader| {
                send(Ok(work(reader)?));
                Ok(())
            },
            move |status| failed(Err(status)),
        );
        answered.await.unwrap_or_else(|_| Err(Status::internal("replica was not read")))
    }

    /// The views, in order of creation.
    ///
    /// # Errors
    /// The replica is not there or cannot be read.
    pub async fn views(&self) -> Result<Vec<ViewState>, Status> {
        self.call(Reader::views).await
    }

    /// The view of that name.
    ///
    /// # Errors
    /// There is none, or the replica cannot be read.
    pub async fn view(&self, name: &str) -> Result<ViewState, Status> {
        let views = self.views().await?;
        let found = views.into_iter().find(|view| view.definition.name.eq_ignore_ascii_case(name));
        found.ok_or_else(|| Status::new(Code::NotFound, format!("view {name} does not exist")))
    }

    /// Names of the sources that have a relation of that name.
    pub(crate) async fn sources_of(&self, relation: &str) -> Result<Vec<String>, Status> {
        let relation = relation.to_owned();
        self.call(move |reader| {
            let relations = reader.relations()?.into_iter();
            let named = relations.filter(|known| known.schema.relation.eq_ignore_ascii_case(&relation));
            Ok(named.map(|known| known.source).collect())
        })
        .await
    }

    /// Where the feeds stand.
    ///
    /// # Errors
    /// The replica is not there or cannot be read.
    pub async fn position(&self) -> Result<FeedPosition, Status> {
        self.call(reading::position).await
    }

    /// Up to `limit` changes of a view behind a cursor, or why it cannot be resumed.
    pub(crate) async fn log(
        &self,
        view: &str,
        cursor: Cursor,
        limit: usize,
    ) -> Result<Result<Logged, String>, Status> {
        let view = view.to_owned();
        self.call(move |reader| reading::log(reader, &view, &cursor, limit)).await
    }

    /// Reads what a subscription needs before it goes live: the changes behind its cursor, else all rows.
    pub(crate) fn read(&self, from: ReadFrom) -> mpsc::Receiver<Result<Part, Status>> {
        let (parts, receiver) = mpsc::channel(PAGES_AHEAD);
        let replica = self.clone();
        tokio::spawn(async move {
            let permit = match replica.permit().await {
                Ok(permit) => permit,
                Err(status) => {
                    parts.send(Err(status)).await.ok();
                    return;
                }
            };
            let handle = tokio::runtime::Handle::current();
            let taker = reading::Taker { parts: parts.clone(), handle: handle.clone() };
            let failed = move |status| {
                handle.block_on(parts.send(Err(status))).ok();
            };
            replica.spawn(permit, move |reader| reading::read(reader, &from, &taker), failed);
        });
        receiver
    }

    /// Runs a SELECT.
    #[must_use]
    pub fn query(&self, sql: &str, parameters: Vec<Value>) -> Answer {
        let parameters = parameters.iter().map(to_json).collect();
        self.query_json(sql, parameters)
    }

    /// Runs a SELECT with parameters in JSON.
    #[must_use]
    pub fn query_json(&self, sql: &str, parameters: Vec<Json>) -> Answer {
        let (pages, receiver) = mpsc::channel(PAGES_AHEAD);
        let (replica, sql) = (self.clone(), sql.to_owned());
        tokio::spawn(async move {
            let Ok(permit) = replica.permit().await else { return };
            let handle = tokio::runtime::Handle::current();
            let (to, on) = (pages.clone(), handle.clone());
            let failed = move |status| {
                handle.block_on(pages.send(Err(status))).ok();
            };
            let work = move |reader: &mut Reader| {
                let limits = Limits { time: QUERY_WITHIN };
                reader.query(&sql, &parameters, limits, &mut |columns, rows| {
                    let page = Page { columns: columns.to_vec(), rows };
                    match on.block_on(to.send(Ok(page))) {
                        Ok(()) => ControlFlow::Continue(()),
                        Err(_) => ControlFlow::Break(()),
                    }
                })
            };
            replica.spawn(permit, work, failed);
        });
        Answer { pages: receiver, columns: Vec::new() }
    }
}

struct Page {
    columns: Vec<String>,
    rows: Vec<Vec<Json>>,
}

/// The rows of a SELECT as they arrive.
pub struct Answer {
    pages: mpsc::Receiver<Result<Page, Status>>,
    columns: Vec<String>,
}

/// Where the rows of an answer are put.
pub(crate) struct Pages(mpsc::Sender<Result<Page, Status>>);

/// Nobody takes the answer any more.
pub(crate) struct Left;

impl Pages {
    /// Waits for room, then gives rows.
    pub(crate) async fn give(&self, columns: &[&str], rows: Vec<Vec<Json>>) -> Result<(), Left> {
        let columns = columns.iter().map(|&column| column.to_owned()).collect();
        self.0.send(Ok(Page { columns, rows })).await.map_err(|_| Left)
    }

    /// Ends the answer with its reason.
    pub(crate) async fn fail(&self, status: Status) {
        // Nobody waits any more where sending fails.
        self.0.send(Err(status)).await.ok();
    }

    /// Resolves when nobody takes the answer any more.
    pub(crate) async fn left(&self) {
        self.0.closed().await;
    }
}

impl Answer {
    /// An answer that is put together elsewhere.
    pub(crate) fn channel() -> (Pages, Self) {
        let (pages, receiver) = mpsc::channel(PAGES_AHEAD);
        (Pages(pages), Self { pages: receiver, columns: Vec::new() })
    }

    /// The next rows; nothing behind the last. Comes at least once, so that the column names are known.
    ///
    /// # Errors
    /// The statement is not a SELECT, is wrong, or takes too long.
    pub async fn next_rows(&mut self) -> Result<Option<Vec<Vec<Json>>>, Status> {
        match self.pages.recv().await {
            Some(Ok(page)) => {
                self.columns = page.columns;
                Ok(Some(page.rows))
            }
            Some(Err(status)) => Err(status),
            None => Ok(None),
        }
    }

    /// Names of the columns, once rows have arrived.
    #[must_use]
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// A row by column name.
    #[must_use]
    pub fn named(&self, row: Vec<Json>) -> Row {
        self.columns.iter().cloned().zip(row).collect()
    }
}

fn status_of(error: &Error) -> Status {
    let code = match error.kind() {
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::Denied | ErrorKind::Sql | ErrorKind::Plan => Code::InvalidArgument,
        ErrorKind::Interrupted => Code::DeadlineExceeded,
        ErrorKind::Corrupt | ErrorKind::Version | ErrorKind::Decode => Code::Internal,
        _ => Code::Unavailable,
    };
    Status::new(code, error.to_string())
}
