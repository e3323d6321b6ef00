//! Methods over HTTP with JSON: `POST /v1/call/{package.Service}/{Method}` takes the request as JSON and answers a unary method with
//! JSON, a streaming one with a line of JSON for each message.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::Path;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use deltamesh_nats_grpc::{Call, Code, Metadata, Method, ResponsePart, Services, Status};
use futures::stream::{self, StreamExt as _};
use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor, SerializeOptions};
use serde_json::{Deserializer, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::http::Failure;

/// Answers that may wait for a slow caller.
const ANSWERS_AHEAD: usize = 64;

/// Serves one call.
pub(crate) async fn call(
    Extension(services): Extension<Services>,
    Path((service, method)): Path<(String, String)>,
    body: Bytes,
) -> Response {
    let path: Arc<str> = format!("/{service}/{method}").into();
    let Some(method) = services.current().method(&path).cloned() else {
        let reason = format!("method {path} is unknown");
        return Failure(Status::new(Code::Unimplemented, reason)).into_response();
    };
    let requests = match requests(&method.descriptor.input(), &body) {
        Ok(requests) => stream::iter(requests.into_iter().map(Ok)).fuse(),
        Err(status) => return Failure(status).into_response(),
    };
    let (call, answers) = Call::over(path, Metadata::new(), None, requests, ANSWERS_AHEAD);
    let handler = Arc::clone(&method.handler);
    let outcome = AbortOnDrop(tokio::spawn(async move { handler.call(call).await }));
    let answers = Answers { answers, outcome, output: method.descriptor.output() };
    if method.server_streaming { lines(answers) } else { single(answers, &method).await }
}

/// One request for each JSON value of the body; none at all reads as an empty message.
fn requests(input: &MessageDescriptor, body: &[u8]) -> Result<Vec<Bytes>, Status> {
    let bad = |error: serde_json::Error| {
        Status::invalid_argument(format!("request is not {} in JSON: {error}", input.full_name()))
    };
    let mut messages = Vec::new();
    let mut values = Deserializer::from_slice(body).into_iter::<Box<serde_json::value::RawValue>>();
    while let Some(value) = values.next().transpose().map_err(bad)? {
        let mut one = Deserializer::from_str(value.get());
        let message = DynamicMessage::deserialize(input.clone(), &mut one).map_err(bad)?;
        messages.push(message.encode_to_vec().into());
    }
    if messages.is_empty() {
        messages.push(Bytes::new());
    }
    Ok(messages)
}

struct AbortOnDrop(JoinHandle<Result<(), Status>>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Answers {
    answers: mpsc::Receiver<ResponsePart>,
    outcome: AbortOnDrop,
    output: MessageDescriptor,
}

impl Answers {
    /// The next answer in JSON; nothing behind the last.
    async fn next(&mut self) -> Result<Option<String>, Status> {
        while let Some(part) = self.answers.recv().await {
            if let ResponsePart::Message(message) = part {
                return self.json(&message.payload()).map(Some);
            }
        }
        (&mut self.outcome.0).await.unwrap_or_else(|_| Err(Status::internal("method failed"))).map(|()| None)
    }

    fn json(&self, message: &Bytes) -> Result<String, Status> {
        let unfit = || Status::internal(format!("answer is not {}", self.output.full_name()));
        let message = DynamicMessage::decode(self.output.clone(), message.as_ref()).map_err(|_| unfit())?;
        let mut json = serde_json::Serializer::new(Vec::new());
        let options = SerializeOptions::new().use_proto_field_name(true).skip_default_fields(false);
        message.serialize_with_options(&mut json, &options).map_err(|_| unfit())?;
        String::from_utf8(json.into_inner()).map_err(|_| unfit())
    }
}

async fn single(mut answers: Answers, method: &Method) -> Response {
    match answers.next().await {
        Ok(Some(json)) => json_response(Body::from(json), "application/json"),
        Ok(None) => {
            Failure(Status::internal(format!("method {} gave no answer", method.path))).into_response()
        }
        Err(status) => Failure(status).into_response(),
    }
}

fn lines(answers: Answers) -> Response {
    let lines = stream::unfold(Some(answers), |answers| async move {
        let mut answers = answers?;
        match answers.next().await {
            Ok(Some(json)) => Some((Ok::<_, Infallible>(json + "\n"), Some(answers))),
            Ok(None) => None,
            Err(status) => {
                let error = json!({ "error": { "code": status.code.number(), "message": status.message } });
                Some((Ok(format!("{error}\n")), None))
            }
        }
    });
    json_response(Body::from_stream(lines), "application/x-ndjson")
}

fn json_response(body: Body, content_type: &'static str) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
