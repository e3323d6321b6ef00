//! What a blocking thread reads for a subscription: the changes behind its cursor, or all rows.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::time::Duration;

use deltamesh_change::ColumnType;
use deltamesh_module::Filter;
use deltamesh_nats_grpc::Status;
use deltamesh_replica::{Error, ErrorKind, Limits, OutboxRow, Reader, SnapshotRow};
use serde_json::Value as Json;
use tokio::sync::mpsc;

use super::{FeedPosition, Logged, Part, ReadFrom};
use crate::cursor::Cursor;
use crate::event::{Encoded, Event, Operation, positions};

/// A taker that lets a page wait longer is cut off: its read holds back the cleaning up behind the writer.
const PAGE_WITHIN: Duration = Duration::from_secs(30);
const SNAPSHOT_WITHIN: Duration = Duration::from_secs(600);
/// A subscriber that missed more changes than this gets a fresh snapshot.
const CATCH_UP: usize = 100_000;
const CATCH_UP_PAGE: usize = 5_000;

/// Where a blocking read puts what it found.
pub(super) struct Taker {
    pub(super) parts: mpsc::Sender<Result<Part, Status>>,
    pub(super) handle: tokio::runtime::Handle,
}

impl Taker {
    /// Waits for room. Breaks where the subscriber has gone or is too slow.
    fn put(&self, part: Part) -> ControlFlow<()> {
        let sent = self.handle.block_on(self.parts.send_timeout(Ok(part), PAGE_WITHIN));
        if sent.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }
}

pub(super) fn position(reader: &mut Reader) -> Result<FeedPosition, Error> {
    let incarnation = reader.incarnation()?;
    let checkpoints = reader.checkpoints()?.into_iter();
    let positions =
        checkpoints.map(|checkpoint| (checkpoint.source, checkpoint.position.to_string())).collect();
    // Read last: what it covers includes the checkpoints.
    Ok(FeedPosition { incarnation, last: reader.last_sequence()?, positions })
}

/// Reads the changes behind the cursor, else all rows, else only where the feeds stand.
pub(super) fn read(reader: &mut Reader, from: &ReadFrom, taker: &Taker) -> Result<(), Error> {
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

/// Why a cursor says nothing about what this replica did since.
fn unfit(cursor: &Cursor, at: &FeedPosition) -> Option<&'static str> {
    if at.incarnation != cursor.incarnation {
        return Some("cursor is of another replica");
    }
    (cursor.sequence > at.last).then_some("cursor is ahead of the replica")
}

/// Why changes behind a cursor may be missing. Looked at when they were read: what was trimmed meanwhile shows here.
fn trimmed(reader: &mut Reader, cursor: &Cursor) -> Result<Option<&'static str>, Error> {
    Ok((cursor.sequence + 1 < reader.retained_from()?).then_some("cursor is past retention"))
}

/// Up to `limit` changes of a view behind a cursor; or why the cursor cannot be resumed.
pub(super) fn log(
    reader: &mut Reader,
    view: &str,
    cursor: &Cursor,
    limit: usize,
) -> Result<Result<Logged, String>, Error> {
    let at = position(reader)?;
    if let Some(reason) = unfit(cursor, &at) {
        return Ok(Err(reason.to_owned()));
    }
    if !reader.views()?.iter().any(|known| known.definition.name == view) {
        return Err(Error::new(ErrorKind::NotFound, format!("view {view}"), "does not exist"));
    }
    let page = reader.changes_after(cursor.sequence, Some(view), limit)?;
    if let Some(reason) = trimmed(reader, cursor)? {
        return Ok(Err(reason.to_owned()));
    }
    let complete = page.len() < limit;
    let changes = page.into_iter().take_while(|change| change.sequence <= at.last).map(change_event);
    Ok(Ok(Logged { changes: changes.collect::<Result<_, _>>()?, end: complete.then_some(at) }))
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
    if let Some(reason) = unfit(cursor, &at) {
        return refused(reason);
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
    if let Some(reason) = trimmed(reader, cursor)? {
        return refused(reason);
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
