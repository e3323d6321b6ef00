//! Feeds as server-sent events: `GET /v1/feeds/{view}`.
//!
//! Events are `snapshot_begin`, `row`, `snapshot_end`, `insert`, `update`, `delete` and `progress`; their `id` is the cursor, which
//! browsers hand back as `Last-Event-ID` when they reconnect.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use deltamesh_change::{Column, ColumnType};
use deltamesh_module::Filter;
use deltamesh_nats_grpc::{Code, Status};
use futures::stream;
use serde_json::{Map, Value as Json, json};

use crate::context::Context;
use crate::cursor::Cursor;
use crate::event::Event;
use crate::generic::column_path;
use crate::http::{Failure, query_pairs};
use crate::subscription::{Item, Mode, Subscription, Wanted};

/// A comment that keeps proxies from closing an idle stream.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How soon a browser reconnects, in milliseconds.
const RETRY: &str = "retry: 1000\n\n";

/// Serves one stream.
pub(crate) async fn feed(
    State(context): State<Arc<Context>>,
    Path(view): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    match open(&context, &view, query.as_deref().unwrap_or_default(), &headers).await {
        Ok(subscription) => respond(subscription),
        Err(status) => Failure(status).into_response(),
    }
}

async fn open(
    context: &Context,
    view: &str,
    query: &str,
    headers: &HeaderMap,
) -> Result<Subscription, Status> {
    let view = context.replica.view(view).await?;
    let mut wanted = Wanted { view: view.definition.name.clone(), ..Wanted::default() };
    let mut cursor = None;
    for (name, value) in query_pairs(query) {
        match name.split_once('.') {
            _ if name == "cursor" => cursor = Some(value),
            _ if name == "mode" => wanted.mode = mode(&value)?,
            Some(("where", column)) => {
                let path = column_path(&view.definition.columns, column)?;
                wanted.filters.push(condition(&view.definition.columns, path, value)?);
            }
            _ => return Err(Status::invalid_argument(format!("parameter {name} is unknown"))),
        }
    }
    // A browser that reconnects repeats the address, so its header is the newer of the two.
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let cursor = last.or(cursor).filter(|text| !text.is_empty());
    let cursor = cursor.map(|text| Cursor::decode(&text)).transpose();
    wanted.cursor = cursor.map_err(|error| Status::invalid_argument(error.to_string()))?;
    Ok(Subscription::start(&context.hub, &context.replica, wanted))
}

fn mode(text: &str) -> Result<Mode, Status> {
    match text {
        "snapshot_and_changes" => Ok(Mode::SnapshotAndChanges),
        "changes_only" => Ok(Mode::ChangesOnly),
        "snapshot_only" => Ok(Mode::SnapshotOnly),
        _ => Err(Status::invalid_argument("mode is snapshot_and_changes, changes_only or snapshot_only")),
    }
}

/// A condition whose value is text, read by the type of its column.
fn condition(columns: &[Column], path: Vec<String>, text: String) -> Result<Filter, Status> {
    let column = path.first().filter(|_| path.len() == 1);
    let column = column.and_then(|name| columns.iter().find(|column| &column.name == name));
    let value = match column.map(|column| column.column_type) {
        Some(ColumnType::Int) => text.parse::<i64>().ok().map(|number| match number.unsigned_abs() {
            0..=9_007_199_254_740_992 => Json::from(number),
            _ => Json::String(text),
        }),
        Some(ColumnType::Float) => text.parse::<f64>().ok().map(Json::from),
        Some(ColumnType::Bool) => match text.as_str() {
            "true" | "1" => Some(Json::Bool(true)),
            "false" | "0" => Some(Json::Bool(false)),
            _ => None,
        },
        _ => Some(Json::String(text)),
    };
    let value = value.ok_or_else(|| {
        Status::new(
            Code::InvalidArgument,
            format!("condition on {} has a value of another type", path.join(".")),
        )
    })?;
    Ok(Filter { path, value })
}

fn respond(subscription: Subscription) -> Response {
    let head = stream::iter([Ok::<_, Infallible>(Bytes::from_static(RETRY.as_bytes()))]);
    let events = stream::unfold(Some(subscription), |subscription| async move {
        let mut subscription = subscription?;
        let bytes = match tokio::time::timeout(HEARTBEAT, subscription.next()).await {
            Err(_) => Bytes::from_static(b": still here\n\n"),
            Ok(Ok(Some(item))) => encode(&item, subscription.cursor()),
            Ok(Ok(None)) => return None,
            Ok(Err(status)) => return Some((Ok(failure(&status)), None)),
        };
        Some((Ok(bytes), Some(subscription)))
    });
    let mut response = Response::new(Body::from_stream(stream::StreamExt::chain(head, events)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

fn encode(item: &Item, cursor: &Cursor) -> Bytes {
    match item {
        Item::SnapshotBegin { reason } => {
            event("snapshot_begin", None, &json!({ "reason": reason }).to_string())
        }
        Item::SnapshotEnd => event("snapshot_end", Some(cursor), "{}"),
        Item::Progress => event("progress", Some(cursor), "{}"),
        Item::Row(row) => event("row", None, &data(row)),
        Item::Change(change) => {
            let name: Arc<str> = Arc::from("sse");
            let made = change.encoded.form(&name, || Ok::<_, Infallible>(data(change).into_bytes()));
            let text = match &made {
                Ok(frame) => String::from_utf8_lossy(&frame.payload()).into_owned(),
                Err(never) => match *never {},
            };
            event(change.operation.name(), Some(cursor), &text)
        }
    }
}

/// JSON in one line: its strings escape line breaks.
fn data(event: &Event) -> String {
    let mut data = Map::new();
    data.insert("key".to_owned(), Json::Array(event.key.clone()));
    data.insert("row".to_owned(), Json::Object(event.row.clone()));
    if let Some(before) = &event.before {
        data.insert("before".to_owned(), Json::Object(before.clone()));
    }
    if let Some(captured) = event.captured_us {
        data.insert("captured_us".to_owned(), Json::from(captured));
    }
    Json::Object(data).to_string()
}

fn event(name: &str, cursor: Option<&Cursor>, data: &str) -> Bytes {
    let id = cursor.map(|cursor| format!("id: {}\n", cursor.encode())).unwrap_or_default();
    Bytes::from(format!("event: {name}\n{id}data: {data}\n\n"))
}

/// The stream ends with its reason; a browser reconnects behind the last cursor.
fn failure(status: &Status) -> Bytes {
    event("failure", None, &json!({ "code": status.code.number(), "message": status.message }).to_string())
}
