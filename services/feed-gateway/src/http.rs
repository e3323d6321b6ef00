//! The HTTP side: pages, JSON requests, server-sent events, and ordinary gRPC on the same port.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json as JsonBody, Router};
use deltamesh_change::{SourcePosition, Value, from_json};
use deltamesh_module::{MutationKind, message_from_row, named_of};
use deltamesh_nats_grpc::{Code, Services, Status};
use deltamesh_wire::proto::source::v1::MutateRequest;
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

use crate::context::Context;
use crate::error::http_status;
use crate::modules::Applied;
use crate::source::mutation;
use crate::{http_grpc, sse, tail};

const INDEX: &str = include_str!("page/index.html");
const CHAT: &str = include_str!("../../../modules/chat/page/index.html");

/// All routes.
pub(crate) fn routes(context: Arc<Context>, services: Services) -> Router {
    Router::new()
        .route("/", get(|| page(INDEX)))
        .route("/chat", get(chat))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/v1/views", get(views))
        .route("/v1/modules", get(modules))
        .route("/v1/feeds/{view}", get(sse::feed))
        .route("/v1/query", post(query))
        .route("/v1/mutate", post(mutate))
        .route("/v1/call/{service}/{method}", post(crate::call::call))
        .layer(axum::Extension(services.clone()))
        .with_state(context)
        .fallback(move |request: Request| {
            let services = services.clone();
            async move {
                if http_grpc::is_grpc(request.headers()) {
                    return http_grpc::serve(&services, request);
                }
                Failure(Status::new(Code::NotFound, "no such page")).into_response()
            }
        })
}

/// A failed call as an HTTP response: `{"code": …, "message": …}`.
pub(crate) struct Failure(pub(crate) Status);

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(http_status(self.0.code)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, JsonBody(json!({ "code": self.0.code.number(), "message": self.0.message }))).into_response()
    }
}

async fn page(text: &'static str) -> Response {
    let mut response = text.into_response();
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, html);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// The page of the chat module, where a module serves its methods.
async fn chat(State(context): State<Arc<Context>>) -> Response {
    let served = context.applied.current();
    if served.values().any(|module| module.services().contains(&"chat.v1.ChatService")) {
        return page(CHAT).await;
    }
    let reason = "the chat module is not applied: deltamesh module apply modules/chat";
    Failure(Status::new(Code::NotFound, reason)).into_response()
}

async fn ready(State(context): State<Arc<Context>>) -> Response {
    let missing = if !context.client.is_connected() {
        Some("not connected to NATS".to_owned())
    } else {
        context.replica.position().await.err().map(|status| status.message)
    };
    match missing {
        None => "ready\n".into_response(),
        Some(reason) => Failure(Status::unavailable(reason)).into_response(),
    }
}

async fn views(State(context): State<Arc<Context>>) -> Result<JsonBody<Json>, Failure> {
    let mut described = Vec::new();
    for view in context.replica.views().await.map_err(Failure)? {
        let definition = view.definition;
        let rows = match &view.fault {
            None => count(&context, &definition.name).await.map_err(Failure)?,
            Some(_) => Json::Null,
        };
        described.push(json!({
            "view": definition.name,
            "module": view.module,
            "columns": definition.columns,
            "key": definition.key,
            "subject": definition.subject,
            "sql": definition.sql,
            "rows": rows,
            "fault": view.fault,
        }));
    }
    let head = context.hub.head();
    Ok(JsonBody(json!({ "views": described, "head": head, "subscribers": context.hub.subscribers() })))
}

async fn count(context: &Context, view: &str) -> Result<Json, Status> {
    let sql = format!("SELECT count(*) FROM \"{}\"", view.replace('"', "\"\""));
    let mut answer = context.replica.query(&sql, vec![]);
    let rows = answer.next_rows().await?.unwrap_or_default();
    Ok(rows.into_iter().flatten().next().unwrap_or_default())
}

async fn modules(State(context): State<Arc<Context>>) -> JsonBody<Json> {
    let served = context.applied.current();
    JsonBody(json!({ "nid": context.nid, "modules": served.values().map(described).collect::<Vec<_>>() }))
}

fn described(module: &Applied) -> Json {
    let methods = module.definition.methods.iter().map(|method| {
        let (kind, target) = match &method.binding {
            deltamesh_module::MethodBinding::Mutation { relation, .. } => ("mutation", relation.as_str()),
            deltamesh_module::MethodBinding::Feed { view, .. } => ("feed", view.as_str()),
            deltamesh_module::MethodBinding::Query { .. } => ("query", ""),
        };
        json!({
            "service": method.service,
            "method": method.name,
            "input": method.input.full_name(),
            "output": method.output.full_name(),
            "client_streaming": method.client_streaming,
            "server_streaming": method.server_streaming,
            "kind": kind,
            "target": target,
        })
    });
    json!({ "module": module.definition.name, "version": module.version, "methods": methods.collect::<Vec<_>>() })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct QueryBody {
    sql: String,
    #[serde(default)]
    parameters: Vec<Json>,
}

/// Rows that one JSON answer may hold; the gRPC method streams any number.
const QUERY_ROWS: usize = 10_000;

async fn query(
    State(context): State<Arc<Context>>,
    body: JsonBody<QueryBody>,
) -> Result<JsonBody<Json>, Failure> {
    let JsonBody(body) = body;
    let mut answer = tail::query(&context, &body.sql, body.parameters).map_err(Failure)?;
    let mut all = Vec::new();
    while let Some(rows) = answer.next_rows().await.map_err(Failure)? {
        all.extend(rows);
        if all.len() > QUERY_ROWS {
            let reason =
                format!("answer has more than {QUERY_ROWS} rows: add a LIMIT or use FeedService.Query");
            return Err(Failure(Status::new(Code::ResourceExhausted, reason)));
        }
    }
    Ok(JsonBody(json!({ "columns": answer.columns(), "rows": all })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MutateBody {
    #[serde(default)]
    source: Option<String>,
    mutations: Vec<MutationBody>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MutationBody {
    relation: String,
    #[serde(default)]
    kind: KindBody,
    row: Map<String, Json>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum KindBody {
    #[default]
    Upsert,
    Insert,
    Update,
    Delete,
}

async fn mutate(
    State(context): State<Arc<Context>>,
    body: JsonBody<MutateBody>,
) -> Result<JsonBody<Json>, Failure> {
    let JsonBody(body) = body;
    let mut mutations = Vec::with_capacity(body.mutations.len());
    for wanted in body.mutations {
        let kind = match wanted.kind {
            KindBody::Upsert => MutationKind::Upsert,
            KindBody::Insert => MutationKind::Insert,
            KindBody::Update => MutationKind::Update,
            KindBody::Delete => MutationKind::Delete,
        };
        let row = typed_row(&context, &wanted.relation, wanted.row).map_err(Failure)?;
        mutations.push(mutation(&wanted.relation, kind, row));
    }
    let source = body.source.unwrap_or_default();
    let request = MutateRequest { source, mutations, ..MutateRequest::default() };
    let answer = context.sources.mutate(request).await.map_err(Failure)?;
    let position = answer.position.map(|position| SourcePosition::from(position).to_string());
    Ok(JsonBody(json!({ "source": answer.source, "position": position, "rows": answer.rows })))
}

/// The values of a JSON row: by the fields of the relation's message where a module declares it, else by their own form.
fn typed_row(
    context: &Context,
    relation: &str,
    row: Map<String, Json>,
) -> Result<Vec<(String, Value)>, Status> {
    let served = context.applied.current();
    let Some(declared) = served.values().find_map(|module| module.definition.relation(relation)) else {
        return Ok(row.iter().map(|(name, value)| (name.clone(), from_json(value))).collect());
    };
    for name in row.keys() {
        if declared.field(name).is_none() && name != deltamesh_module::RelationDefinition::DOCID {
            return Err(Status::invalid_argument(format!("relation {relation} has no field {name}")));
        }
    }
    let bad = |error: deltamesh_module::ConvertError| Status::invalid_argument(error.to_string());
    let message = message_from_row(&declared.message, &row).map_err(bad)?;
    // Only what was said: an update leaves the rest alone, a delete needs no more than the key.
    let mut values = named_of(&message, |name| row.contains_key(name)).map_err(bad)?;
    if let Some(docid) = row.get(deltamesh_module::RelationDefinition::DOCID) {
        values.push((deltamesh_module::RelationDefinition::DOCID.to_owned(), from_json(docid)));
    }
    Ok(values)
}

/// Names and values of a query string, percent-decoded.
pub(crate) fn query_pairs(query: &str) -> Vec<(String, String)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(value))
        })
        .collect()
}

fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let hex = bytes.get(at + 1..at + 3).filter(|_| byte == b'%');
        let hex = hex
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match hex {
            Some(value) => decoded.push(value),
            None => decoded.push(if byte == b'+' { b' ' } else { byte }),
        }
        at += if hex.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::query_pairs;

    #[test]
    fn query_strings_are_decoded() {
        let pairs = query_pairs("where.a=x%20y+z&where.b=100%&c&=&d=%C3%A9");
        let expected = [("where.a", "x y z"), ("where.b", "100%"), ("c", ""), ("", ""), ("d", "é")];
        assert_eq!(pairs, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}
