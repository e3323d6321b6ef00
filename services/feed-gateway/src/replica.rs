//! Reading the replica from async code: connections on blocking threads, pages through bounded channels.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use deltamesh_change::{ColumnType, Value, to_json};
use deltamesh_module::Filter;
use deltamesh_nats_grpc::{Code, Status};
use deltamesh_replica::{Error, ErrorKind, Limits, OutboxRow, Reader, SnapshotRow, ViewState};
use serde_json::Value as Json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::cursor::Cursor;
use crate::event::{Encoded, Event, Operation, Row, positions};

/// Reads at once; more wait. A slow subscriber holds one of them only while it takes its snapshot.
const READS: usize = 64;
/// Connections that are kept open between reads.
const KEPT: usize = 8;
/// Pages that wait for a slow taker.
const PAGES_AHEAD: usize = 2;
/// A taker that lets a page wait longer is cut off: its read holds back the cleaning up behind the writer.
const PAGE_WITHIN: Duration = Duration::from_secs(30);
const SNAPSHOT_WITHIN: Duration = Duration::from_secs(600);
const QUERY_WITHIN: Duration = Duration::from_secs(30);
/// A subscriber that missed more changes than this gets a fresh snapshot.
const CATCH_UP: usize = 100_000;
const CATCH_UP_PAGE: usize = 5_000;

/// The replica that this gateway serves.
#[derive(Debug, Clone)]
pub struct Replica {
    path: Arc<Path>,
    idle: Arc<Mutex<Vec<Reader>>>,
    reads: Arc<Semaphore>,
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
    /// A replica in that file, which need not be there yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path: PathBuf = path.into();
        Self { path: path.into(), idle: Arc::default(), reads: Arc::new(Semaphore::new(READS)) }
    }

    /// Runs `work` on a blocking thread with a connection of its own.
    fn spawn(
        &self,
        permit: OwnedSemaphorePermit,
        work: impl FnOnce(&mut Reader) -> Result<(), Error> + Send + 'static,
        failed: impl FnOnce(Status) + Send + 'static,
    ) {
        let (path, idle) = (Arc::clone(&self.path), Arc::clone(&self.idle));
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let kept = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let opened = kept.map_or_else(|| Reader::open(&path), Ok);
            let result = opened.and_then(|mut reader| {
                work(&mut reader)?;
                let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
                if idle.len() < KEPT {
                    idle.push(reader);
                }
                Ok(())
            });
            // A reader that failed is closed: the file may have been replaced.
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
        self.call(position).await
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
            let taker = Taker { parts: parts.clone(), handle: handle.clone() };
            let failed = move |status| {
                handle.block_on(parts.send(Err(status))).ok();
            };
            replica.spawn(permit, move |reader| read(reader, &from, &taker), failed);
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

impl Answer {
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

/// Where a blocking read puts what it found.
struct Taker {
    parts: mpsc::Sender<Result<Part, Status>>,
    handle: tokio::runtime::Handle,
}

impl Taker {
    /// Waits for room. Breaks where the subscriber has gone or is too slow.
    fn put(&self, part: Part) -> ControlFlow<()> {
        let sent = self.handle.block_on(self.parts.send_timeout(Ok(part), PAGE_WITHIN));
        if sent.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }
}

fn position(reader: &mut Reader) -> Result<FeedPosition, Error> {
    let incarnation = reader.incarnation()?;
    let checkpoints = reader.checkpoints()?.into_iter();
    let positions =
        checkpoints.map(|checkpoint| (checkpoint.source, checkpoint.position.to_string())).collect();
    // Read last: what it covers includes the checkpoints.
    Ok(FeedPosition { incarnation, last: reader.last_sequence()?, positions })
}

fn read(reader: &mut Reader, from: &ReadFrom, taker: &Taker) -> Result<(), Error> {
    let views = reader.views()?;
    if !views.iter().any(|view| view.definition.name.eq_ignore_ascii_case(&from.view)) {
        return Err(Error::new(ErrorKind::NotFound, format!("view {}", from.view), "does not exist"));
    }
    let reason = match &from.cursor {
        Some(cursor) => match catch_up(reader, from, cursor)? {
            Ok((net, at)) => {
                for page in pages(net) {
                    if taker.put(Part::Net(page)).is_break() {
                        return Ok(());
                    }
                }
                let _sent = taker.put(Part::End(at));
                return Ok(());
            }
            Err(reason) => reason,
        },
        None if !from.rows => {
            let at = position(reader)?;
            let _sent = taker.put(Part::End(at));
            return Ok(());
        }
        None => String::new(),
    };
    snapshot(reader, from, reason, taker)
}

fn pages<T>(items: Vec<T>) -> impl Iterator<Item = Vec<T>> {
    let mut items = items.into_iter();
    std::iter::from_fn(move || {
        let page: Vec<T> = items.by_ref().take(CATCH_UP_PAGE).collect();
        (!page.is_empty()).then_some(page)
    })
}

fn snapshot(reader: &mut Reader, from: &ReadFrom, reason: String, taker: &Taker) -> Result<(), Error> {
    let at = position(reader)?;
    if taker.put(Part::SnapshotBegin { reason }).is_break() {
        return Ok(());
    }
    let filter = pushed_down(reader, from)?;
    let mut gone = false;
    let limits = Limits { time: SNAPSHOT_WITHIN };
    let last = reader.snapshot(&from.view, &filter, limits, &mut |rows| {
        let taken = taker.put(Part::Rows(rows.into_iter().map(row_event).collect()));
        gone = taken.is_break();
        taken
    })?;
    // The rows are of one incarnation: a new one begins only under the same lock that numbers changes anew.
    if !gone && reader.incarnation()? == at.incarnation {
        let _sent = taker.put(Part::End(FeedPosition { last, ..at }));
    }
    Ok(())
}

/// Conditions that the replica can check by itself: single columns, with values of the column's type.
fn pushed_down(reader: &mut Reader, from: &ReadFrom) -> Result<Vec<(String, Json)>, Error> {
    let views = reader.views()?;
    let view = views.iter().find(|view| view.definition.name.eq_ignore_ascii_case(&from.view));
    let columns = view.map(|view| view.definition.columns.as_slice()).unwrap_or_default();
    let typed = |filter: &Filter| {
        let [name] = filter.path.as_slice() else { return None };
        let column = columns.iter().find(|column| &column.name == name)?;
        let same = matches!(
            (column.column_type, &filter.value),
            (ColumnType::Text, Json::String(_)) | (ColumnType::Bool, Json::Bool(_))
        ) || (column.column_type == ColumnType::Int && filter.value.is_i64());
        same.then(|| (name.clone(), filter.value.clone()))
    };
    Ok(from.filters.iter().filter_map(typed).collect())
}

fn row_event(row: SnapshotRow) -> Event {
    Event {
        sequence: 0,
        operation: Operation::Read,
        key: row.key,
        row: row.row,
        before: None,
        positions: Vec::new(),
        transaction_end: false,
        captured_us: None,
        encoded: Encoded::default(),
    }
}

type CaughtUp = (Vec<(Event, Event)>, FeedPosition);

/// The first and last change of each key behind the cursor; or why the cursor cannot be resumed.
fn catch_up(
    reader: &mut Reader,
    from: &ReadFrom,
    cursor: &Cursor,
) -> Result<Result<CaughtUp, String>, Error> {
    let at = position(reader)?;
    let refused = |reason: &str| Ok(Err(reason.to_owned()));
    if at.incarnation != cursor.incarnation {
        return refused("cursor is of another replica");
    }
    if cursor.sequence > at.last {
        return refused("cursor is ahead of the replica");
    }
    // Events of each key: the first, and the last where there are several.
    let mut net: HashMap<String, (Event, Option<Event>)> = HashMap::new();
    let (mut after, mut read) = (cursor.sequence, 0);
    while after < at.last {
        let page = reader.changes_after(after, Some(&from.view), CATCH_UP_PAGE)?;
        let complete = page.len() < CATCH_UP_PAGE;
        for change in page.into_iter().take_while(|change| change.sequence <= at.last) {
            (after, read) = (change.sequence, read + 1);
            let key = change.key.clone();
            let event = change_event(change)?;
            match net.get_mut(&key) {
                Some((_, last)) => *last = Some(event),
                None => {
                    net.insert(key, (event, None));
                }
            }
        }
        if complete {
            break;
        }
        if read > CATCH_UP {
            return refused("cursor is too far behind");
        }
    }
    // Looked at last: what was trimmed meanwhile shows here.
    if cursor.sequence + 1 < reader.retained_from()? {
        return refused("cursor is past retention");
    }
    let both = |(first, last): (Event, Option<Event>)| {
        let last = last.unwrap_or_else(|| first.clone());
        (first, last)
    };
    let mut net: Vec<(Event, Event)> = net.into_values().map(both).collect();
    net.sort_by_key(|(_, last)| last.sequence);
    Ok(Ok((net, at)))
}

fn change_event(change: OutboxRow) -> Result<Event, Error> {
    let place = || format!("change {}", change.sequence);
    let unusable = |what: &str| Error::new(ErrorKind::Decode, place(), format!("{what} cannot be read"));
    Ok(Event {
        operation: Operation::of_change(&change.operation).ok_or_else(|| unusable("operation"))?,
        key: serde_json::from_str(&change.key).map_err(|_| unusable("key"))?,
        row: serde_json::from_str(&change.row).map_err(|_| unusable("row"))?,
        before: match &change.before {
            Some(before) => Some(serde_json::from_str(before).map_err(|_| unusable("former values"))?),
            None => None,
        },
        positions: positions(&change.position),
        transaction_end: change.transaction_end,
        captured_us: Some(change.captured_us).filter(|captured| *captured > 0),
        sequence: change.sequence,
        encoded: Encoded::default(),
    })
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
