//! The methods that exist for every view and source: `deltamesh.feed.v1.FeedService`, `deltamesh.source.v1.SourceService`.

use std::sync::Arc;

use bytes::Bytes;
use deltamesh_module::Filter;
use deltamesh_nats_grpc::{Call, Code, Handler, Service, Status};
use deltamesh_wire::DESCRIPTOR_SET;
use deltamesh_wire::proto::feed::v1::{
    FeedMessage, Operation as WireOperation, Progress, QueryRequest, QueryResponse, RowDelta, SnapshotBegin,
    SnapshotEnd, SubscribeRequest, feed_message::Message as Kind, subscribe_request,
};
use deltamesh_wire::proto::source::v1::MutateRequest;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use prost::Message;
use prost_reflect::{DescriptorPool, MethodDescriptor};
use prost_types::{ListValue, Struct, Value, value};
use serde_json::{Number, Value as Json};

use crate::context::Context;
use crate::cursor::Cursor;
use crate::event::{Event, Operation, Row};
use crate::subscription::{Item, Mode, Subscription, Wanted};
use crate::tail;

/// The generic services.
pub(crate) fn services(context: &Arc<Context>) -> Result<Vec<Service>, prost_reflect::DescriptorError> {
    let pool = DescriptorPool::decode(DESCRIPTOR_SET)?;
    let services = pool.services().map(|service| Service::new(service, |method| handler(context, method)));
    Ok(services.collect())
}

fn handler(context: &Arc<Context>, method: &MethodDescriptor) -> Option<Arc<dyn Handler>> {
    let method = match method.name() {
        "Subscribe" => Method::Subscribe,
        "Query" => Method::Query,
        "Mutate" => Method::Mutate,
        _ => return None,
    };
    Some(Arc::new(Generic { context: Arc::clone(context), method }))
}

#[derive(Clone, Copy)]
enum Method {
    Subscribe,
    Query,
    Mutate,
}

struct Generic {
    context: Arc<Context>,
    method: Method,
}

impl Handler for Generic {
    fn call(&self, call: Call) -> BoxFuture<'static, Result<(), Status>> {
        let context = Arc::clone(&self.context);
        match self.method {
            Method::Subscribe => subscribe(context, call).boxed(),
            Method::Query => query(context, call).boxed(),
            Method::Mutate => mutate(context, call).boxed(),
        }
    }
}

async fn request<T: Message + Default>(call: &mut Call) -> Result<T, Status> {
    let bytes: Bytes = call.requests.single().await?;
    T::decode(bytes).map_err(|error| Status::invalid_argument(format!("request cannot be decoded: {error}")))
}

async fn mutate(context: Arc<Context>, mut call: Call) -> Result<(), Status> {
    let request: MutateRequest = request(&mut call).await?;
    let answer = context.sources.mutate(request).await?;
    call.responses.send(&answer.encode_to_vec()).await
}

async fn query(context: Arc<Context>, mut call: Call) -> Result<(), Status> {
    let request: QueryRequest = request(&mut call).await?;
    let parameters = request.parameters.iter().map(to_json).collect();
    let mut answer = tail::query(&context, &request.sql, parameters)?;
    let mut first = true;
    while let Some(rows) = answer.next_rows().await? {
        let columns = if first { answer.columns().to_vec() } else { vec![] };
        first = false;
        let response = QueryResponse { columns, rows: rows.iter().map(|row| list(row)).collect() };
        call.responses.send(&response.encode_to_vec()).await?;
    }
    Ok(())
}

async fn subscribe(context: Arc<Context>, mut call: Call) -> Result<(), Status> {
    let request: SubscribeRequest = request(&mut call).await?;
    let view = context.replica.view(&request.view).await?;
    let mut filters = Vec::with_capacity(request.r#where.len());
    for (name, value) in &request.r#where {
        let path = column_path(&view.definition.columns, name)?;
        filters.push(Filter { path, value: to_json(value) });
    }
    let cursor = Some(request.cursor.as_str()).filter(|text| !text.is_empty());
    let cursor = cursor.map(Cursor::decode).transpose();
    let mode = match request.mode() {
        subscribe_request::Mode::SnapshotAndChanges => Mode::SnapshotAndChanges,
        subscribe_request::Mode::ChangesOnly => Mode::ChangesOnly,
        subscribe_request::Mode::SnapshotOnly => Mode::SnapshotOnly,
    };
    let wanted = Wanted {
        view: view.definition.name,
        filters,
        mode,
        cursor: cursor.map_err(|error| Status::invalid_argument(error.to_string()))?,
    };
    let mut subscription = Subscription::start(&context.hub, &context.replica, wanted);
    while let Some(item) = subscription.next().await? {
        let message = FeedMessage { message: Some(message(&item, subscription.cursor())) };
        call.responses.send(&message.encode_to_vec()).await?;
    }
    Ok(())
}

/// The path of a condition: a column, or a column and the names within its document, separated by dots.
pub(crate) fn column_path(columns: &[deltamesh_change::Column], name: &str) -> Result<Vec<String>, Status> {
    if columns.iter().any(|column| column.name == name) {
        return Ok(vec![name.to_owned()]);
    }
    let path: Vec<String> = name.split('.').map(str::to_owned).collect();
    let known = path.first().is_some_and(|first| columns.iter().any(|column| &column.name == first));
    if known && path.len() > 1 {
        Ok(path)
    } else {
        Err(Status::new(Code::InvalidArgument, format!("view has no column {name}")))
    }
}

fn message(item: &Item, cursor: &Cursor) -> Kind {
    match item {
        Item::SnapshotBegin { reason } => Kind::SnapshotBegin(SnapshotBegin { reason: reason.clone() }),
        Item::SnapshotEnd => Kind::SnapshotEnd(SnapshotEnd { cursor: cursor.encode() }),
        Item::Progress => Kind::Progress(Progress { cursor: cursor.encode() }),
        Item::Row(event) => Kind::Delta(delta(event, String::new())),
        Item::Change(event) => Kind::Delta(delta(event, cursor.encode())),
    }
}

fn delta(event: &Event, cursor: String) -> RowDelta {
    let operation = match event.operation {
        Operation::Read => WireOperation::Read,
        Operation::Insert => WireOperation::Insert,
        Operation::Update => WireOperation::Update,
        Operation::Delete => WireOperation::Delete,
    };
    RowDelta {
        operation: operation.into(),
        key: Some(list(&event.key)),
        row: Some(structure(&event.row)),
        before: event.before.as_ref().map(structure),
        cursor,
        transaction_end: event.transaction_end,
    }
}

fn list(values: &[Json]) -> ListValue {
    ListValue { values: values.iter().map(from_json).collect() }
}

fn structure(row: &Row) -> Struct {
    Struct { fields: row.iter().map(|(name, value)| (name.clone(), from_json(value))).collect() }
}

/// Canonical JSON has no integer that a double cannot hold.
fn from_json(json: &Json) -> Value {
    let kind = match json {
        Json::Null => value::Kind::NullValue(0),
        Json::Bool(value) => value::Kind::BoolValue(*value),
        Json::Number(number) => value::Kind::NumberValue(number.as_f64().unwrap_or(f64::NAN)),
        Json::String(text) => value::Kind::StringValue(text.clone()),
        Json::Array(values) => value::Kind::ListValue(list(values)),
        Json::Object(row) => value::Kind::StructValue(structure(row)),
    };
    Value { kind: Some(kind) }
}

/// A number without fraction is an integer.
fn to_json(value: &Value) -> Json {
    match &value.kind {
        None | Some(value::Kind::NullValue(_)) => Json::Null,
        Some(value::Kind::BoolValue(value)) => Json::Bool(*value),
        Some(value::Kind::NumberValue(number)) => number_json(*number),
        Some(value::Kind::StringValue(text)) => Json::String(text.clone()),
        Some(value::Kind::ListValue(list)) => Json::Array(list.values.iter().map(to_json).collect()),
        Some(value::Kind::StructValue(row)) => {
            Json::Object(row.fields.iter().map(|(name, value)| (name.clone(), to_json(value))).collect())
        }
    }
}

fn number_json(number: f64) -> Json {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() <= EXACT {
        #[allow(clippy::cast_possible_truncation)] // Exact in this range.
        return Json::from(number as i64);
    }
    Number::from_f64(number).map_or(Json::Null, Json::Number)
}
