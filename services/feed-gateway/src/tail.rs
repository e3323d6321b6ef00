//! A view's changes through the query methods: `DECLARE … CURSOR FOR TAIL`, `FETCH`, `CLOSE`.
//!
//! The gateway keeps nothing between requests. A cursor is a text that says all there is to it, so that any gateway of the
//! replica goes on behind it; its name lives as long as the request that declares it. A FETCH reads the replica's change log:
//! every change, in order.

mod statement;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use deltamesh_module::Filter;
use deltamesh_nats_grpc::{Code, Status};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use tokio::time::{Instant, sleep, sleep_until};

use crate::context::Context;
use crate::cursor::{Cursor, CursorError};
use crate::event::{Event, Operation};
use crate::generic::column_path;
use crate::narrow::{accepts, narrow};
use crate::replica::{Answer, Logged, Pages, Part, ReadFrom};
use crate::subscription::{drained, draining, too_slow};
use statement::{Named, Start, Statement, Tail};

/// Columns of a FETCH.
const COLUMNS: [&str; 8] = ["op", "key", "row", "before", "position", "transaction_end", "reason", "cursor"];
/// Changes that are read at once.
const PAGE: usize = 1000;
/// The feed's queue was cut: it is attached again after this.
const ATTACH_AGAIN: Duration = Duration::from_millis(50);

/// Answers a query: the statements of a cursor here, everything else by the replica.
pub(crate) fn query(context: &Arc<Context>, sql: &str, parameters: Vec<Json>) -> Result<Answer, Status> {
    let Some(statements) = statement::parse(sql, &parameters)? else {
        return Ok(context.replica.query_json(sql, parameters));
    };
    let (pages, answer) = Answer::channel();
    let session = Session { context: Arc::clone(context), pages, named: BTreeMap::new(), fetched: false };
    tokio::spawn(session.run(statements));
    Ok(answer)
}

/// A cursor with what it follows. Its text is also a [`Cursor`]: a subscription resumes behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Following {
    /// Without incarnation: a snapshot comes first.
    #[serde(flatten)]
    cursor: Cursor,
    #[serde(rename = "v")]
    view: String,
    /// Paths and values of the conditions.
    #[serde(rename = "w", default, skip_serializing_if = "Vec::is_empty")]
    conditions: Vec<(Vec<String>, Json)>,
}

impl Following {
    fn encode(&self) -> String {
        // A map of texts has a JSON form.
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    fn decode(text: &str) -> Result<Self, CursorError> {
        let bytes = URL_SAFE_NO_PAD.decode(text.trim()).map_err(|_| CursorError)?;
        serde_json::from_slice(&bytes).map_err(|_| CursorError)
    }

    fn filters(&self) -> Vec<Filter> {
        let filter =
            |(path, value): &(Vec<String>, Json)| Filter { path: path.clone(), value: value.clone() };
        self.conditions.iter().map(filter).collect()
    }

    /// Moves behind a change.
    fn pass(&mut self, event: &Event) {
        self.cursor.sequence = event.sequence;
        self.cursor.positions.extend(event.positions.iter().cloned());
    }

    /// The row that a FETCH gives for a change.
    fn change(&self, event: &Event) -> Vec<Json> {
        let positions = event.positions.iter().map(|(source, position)| format!("{source}={position}"));
        vec![
            event.operation.name().into(),
            event.key.clone().into(),
            event.row.clone().into(),
            event.before.clone().map_or(Json::Null, Json::Object),
            positions.collect::<Vec<_>>().join(",").into(),
            event.transaction_end.into(),
            Json::Null,
            if event.operation == Operation::Read { Json::Null } else { self.encode().into() },
        ]
    }

    /// A row without a change; `snapshot_begin` has no cursor: behind it nothing can be resumed.
    fn mark(&self, operation: &str, reason: &str) -> Vec<Json> {
        let cursor = if operation == "snapshot_begin" { Json::Null } else { self.encode().into() };
        let reason = if reason.is_empty() { Json::Null } else { reason.into() };
        [vec![operation.into()], vec![Json::Null; 5], vec![reason, cursor]].concat()
    }
}

/// Why nothing more is answered.
enum Ended {
    Failed(Status),
    /// The caller has gone.
    Left,
}

impl From<Status> for Ended {
    fn from(status: Status) -> Self {
        Self::Failed(status)
    }
}

/// The statements of one request.
struct Session {
    context: Arc<Context>,
    pages: Pages,
    named: BTreeMap<String, Following>,
    fetched: bool,
}

impl Session {
    async fn run(mut self, statements: Vec<Statement>) {
        match self.statements(statements).await {
            Err(Ended::Failed(status)) => self.pages.fail(status).await,
            Ok(()) | Err(Ended::Left) => {}
        }
    }

    async fn statements(&mut self, statements: Vec<Statement>) -> Result<(), Ended> {
        for statement in statements {
            match statement {
                Statement::Declare { name, tail } => {
                    let following = self.declare(tail).await?;
                    self.named.insert(name, following);
                }
                Statement::Fetch { from, count, wait } => {
                    let mut following = self.following(&from)?;
                    self.fetch(&mut following, count, wait).await?;
                    self.fetched = true;
                    if let Named::Name(name) = from {
                        self.named.insert(name, following);
                    }
                }
                Statement::Close(cursor) => {
                    self.following(&cursor)?;
                    if let Named::Name(name) = cursor {
                        self.named.remove(&name);
                    }
                }
            }
        }
        if self.fetched {
            return Ok(());
        }
        let row =
            |(name, following): (&String, &Following)| vec![name.clone().into(), following.encode().into()];
        let rows = self.named.iter().map(row).collect();
        self.give(&["name", "cursor"], rows).await
    }

    fn following(&self, cursor: &Named) -> Result<Following, Status> {
        match cursor {
            Named::Text(text) => {
                Following::decode(text).map_err(|error| Status::invalid_argument(error.to_string()))
            }
            Named::Name(name) => self.named.get(name).cloned().ok_or_else(|| {
                let reason =
                    format!("cursor {name} is not declared in this request: FETCH takes its text too");
                Status::invalid_argument(reason)
            }),
        }
    }

    async fn declare(&self, tail: Tail) -> Result<Following, Status> {
        let replica = &self.context.replica;
        let view = replica.view(&tail.view).await?.definition;
        let mut conditions = Vec::with_capacity(tail.conditions.len());
        for (name, value) in tail.conditions {
            conditions.push((column_path(&view.columns, &name)?, value));
        }
        let cursor = match tail.start {
            Start::Rows => Cursor::default(),
            Start::Now => replica.position().await?.into(),
            Start::Cursor(text) => {
                Cursor::decode(&text).map_err(|error| Status::invalid_argument(error.to_string()))?
            }
            Start::Position(sequence) => {
                let incarnation = replica.position().await?.incarnation;
                let cursor = Cursor { incarnation, sequence, positions: BTreeMap::new() };
                let logged = replica.log(&view.name, cursor.clone(), 1).await?;
                logged.map_err(|reason| {
                    Status::new(Code::OutOfRange, format!("feed position {sequence}: {reason}"))
                })?;
                cursor
            }
        };
        Ok(Following { cursor, view: view.name, conditions })
    }

    async fn give(&self, columns: &[&str], rows: Vec<Vec<Json>>) -> Result<(), Ended> {
        self.pages.give(columns, rows).await.map_err(|_| Ended::Left)
    }

    /// Gives up to `count` changes; where there is none, waits for the first.
    async fn fetch(&self, following: &mut Following, count: usize, wait: Duration) -> Result<(), Ended> {
        if following.cursor.incarnation.is_empty() {
            return self.snapshot(following, "").await;
        }
        let (hub, deadline) = (&self.context.hub, Instant::now() + wait);
        let mut draining_now = hub.draining();
        let mut queue = hub.attach(&following.view);
        loop {
            match self.logged(following, count).await? {
                Err(reason) => return self.snapshot(following, &reason).await,
                Ok(0) => {}
                Ok(_) => return Ok(()),
            }
            if Instant::now() >= deadline {
                return self.give(&COLUMNS, vec![following.mark("progress", "")]).await;
            }
            tokio::select! {
                event = queue.next() => {
                    if event.is_none() {
                        sleep(ATTACH_AGAIN).await;
                        queue = hub.attach(&following.view);
                    }
                    while queue.try_next().is_some() {}
                }
                () = sleep_until(deadline) => {}
                () = self.pages.left() => return Err(Ended::Left),
                () = drained(&mut draining_now) => return Err(draining().into()),
            }
        }
    }

    /// Gives what the change log has behind the cursor, up to `count` changes. Gives their number; or why the cursor cannot be
    /// resumed.
    async fn logged(&self, following: &mut Following, count: usize) -> Result<Result<usize, String>, Ended> {
        let filters = following.filters();
        let mut given = 0;
        while given < count {
            let limit = PAGE.min(count - given);
            let logged = self.context.replica.log(&following.view, following.cursor.clone(), limit).await?;
            let Logged { changes, end } = match logged {
                Ok(logged) => logged,
                Err(reason) => return Ok(Err(reason)),
            };
            let mut rows = Vec::with_capacity(changes.len());
            for event in changes.into_iter().map(Arc::new) {
                following.pass(&event);
                rows.extend(narrow(&filters, &event).map(|event| following.change(&event)));
            }
            given += rows.len();
            if !rows.is_empty() {
                self.give(&COLUMNS, rows).await?;
            }
            if let Some(end) = end {
                following.cursor = end.into();
                break;
            }
        }
        Ok(Ok(given))
    }

    /// Gives all rows: they are of one moment and come together, however many changes were asked for.
    async fn snapshot(&self, following: &mut Following, reason: &str) -> Result<(), Ended> {
        let filters = following.filters();
        let from =
            ReadFrom { view: following.view.clone(), filters: filters.clone(), cursor: None, rows: true };
        let mut parts = self.context.replica.read(from);
        while let Some(part) = parts.recv().await {
            let rows = match part? {
                Part::SnapshotBegin { .. } => vec![following.mark("snapshot_begin", reason)],
                Part::Rows(rows) => {
                    let accepted = rows.iter().filter(|event| accepts(&filters, &event.row));
                    accepted.map(|event| following.change(event)).collect()
                }
                Part::Net(_) => vec![],
                Part::End(at) => {
                    following.cursor = at.into();
                    return self.give(&COLUMNS, vec![following.mark("snapshot_end", "")]).await;
                }
            };
            self.give(&COLUMNS, rows).await?;
        }
        Err(too_slow().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_one_of_the_feed_too() {
        let cursor = Cursor {
            incarnation: "abc".into(),
            sequence: 12,
            positions: BTreeMap::from([("app".to_owned(), "x/7/42.2.310".to_owned())]),
        };
        let following = Following {
            cursor: cursor.clone(),
            view: "v".into(),
            conditions: vec![(vec!["a".into(), "b".into()], 1.into())],
        };
        assert_eq!(Following::decode(&following.encode()), Ok(following.clone()));
        assert_eq!(Cursor::decode(&following.encode()), Ok(cursor.clone()));
        assert_eq!(Following::decode(&cursor.encode()), Err(CursorError));
    }
}
