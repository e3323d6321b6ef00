//! Ordinary gRPC (HTTP/2) over the same handlers as nats-grpc: framing, metadata, deadline, trailers.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method as HttpMethod, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use deltamesh_nats_grpc::{Call, Code, Metadata, ResponsePart, Services, Status};
use futures::stream::{self, Stream, StreamExt as _};
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Largest request message; gRPC's own default.
const MAX_MESSAGE: usize = 4 * 1024 * 1024;
/// Answers that may wait for a slow caller; beyond that its handler waits too.
const ANSWERS_AHEAD: usize = 64;
/// Compressed flag and length in front of each message.
const PREFIX: usize = 5;

/// Whether a request is a gRPC call.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|value| {
        value.starts_with("application/grpc") && !value.starts_with("application/grpc-web")
    })
}

/// Serves one call.
pub(crate) fn serve(services: &Services, request: Request) -> Response {
    if request.method() != HttpMethod::POST {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let path: Arc<str> = request.uri().path().into();
    let Some(method) = services.current().method(&path).cloned() else {
        return failed(&Status::new(Code::Unimplemented, format!("method {path} is unknown")));
    };
    let (parts, body) = request.into_parts();
    let deadline = read_timeout(&parts.headers).map(|timeout| Instant::now() + timeout);
    let metadata = metadata(&parts.headers);
    let requests = messages(body.into_data_stream()).fuse();
    let (call, answers) = Call::over(path, metadata, deadline, requests, ANSWERS_AHEAD);
    let outcome = tokio::spawn(async move {
        match deadline {
            None => method.handler.call(call).await,
            Some(deadline) => tokio::time::timeout_at(deadline, method.handler.call(call))
                .await
                .unwrap_or_else(|_| Err(Status::new(Code::DeadlineExceeded, "deadline exceeded"))),
        }
    });
    let answer = Answer { answers, outcome: AbortOnDrop(outcome), trailer: Metadata::new(), ended: false };
    let body = Body::new(StreamBody::new(stream::unfold(answer, Answer::next)));
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// The handler of a call that its caller has left.
struct AbortOnDrop(JoinHandle<Result<(), Status>>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The body of a response: messages, then trailers.
struct Answer {
    answers: mpsc::Receiver<ResponsePart>,
    outcome: AbortOnDrop,
    trailer: Metadata,
    ended: bool,
}

impl Answer {
    async fn next(mut self) -> Option<(Result<Frame<Bytes>, std::convert::Infallible>, Self)> {
        if self.ended {
            return None;
        }
        while let Some(part) = self.answers.recv().await {
            match part {
                ResponsePart::Message(message) => {
                    let frame = Frame::data(framed(&message.payload()));
                    return Some((Ok(frame), self));
                }
                ResponsePart::Trailer(trailer) => self.trailer = trailer,
                // The response has begun: what comes as header goes out with the trailers.
                ResponsePart::Header(header) => {
                    for (key, value) in header.iter() {
                        self.trailer.insert(key, value);
                    }
                }
            }
        }
        let outcome = (&mut self.outcome.0).await;
        let outcome = outcome.unwrap_or_else(|_| Err(Status::internal("method failed")));
        self.ended = true;
        let mut trailers = trailers(outcome.as_ref().err());
        for (key, value) in self.trailer.iter() {
            if let (Ok(key), Ok(value)) = (HeaderName::try_from(key), HeaderValue::try_from(value)) {
                trailers.append(key, value);
            }
        }
        Some((Ok(Frame::trailers(trailers)), self))
    }
}

fn framed(message: &Bytes) -> Bytes {
    let mut bytes = BytesMut::with_capacity(PREFIX + message.len());
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    bytes.put_slice(message);
    bytes.freeze()
}

fn trailers(error: Option<&Status>) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    let code = error.map_or(Code::Ok, |status| status.code);
    trailers.insert("grpc-status", HeaderValue::from(code.number()));
    if let Some(status) = error
        && let Ok(message) = HeaderValue::try_from(percent_encoded(&status.message))
    {
        trailers.insert("grpc-message", message);
    }
    trailers
}

/// A call that fails before it begins: the trailers are the headers.
fn failed(status: &Status) -> Response {
    let mut response = Response::new(Body::empty());
    *response.headers_mut() = trailers(Some(status));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// `grpc-message` carries anything outside printable ASCII, and `%`, percent-encoded.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if (0x20..0x7f).contains(&byte) && byte != b'%' {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

fn metadata(headers: &HeaderMap) -> Metadata {
    let mut metadata = Metadata::new();
    for (key, value) in headers {
        let key = key.as_str();
        let reserved =
            key.starts_with("grpc-") || matches!(key, "te" | "content-type" | "user-agent" | "host");
        if let (false, Ok(value)) = (reserved, value.to_str()) {
            metadata.insert(key, value);
        }
    }
    metadata
}

/// `grpc-timeout`: at most eight digits and a unit.
fn read_timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// The messages of a request body.
fn messages(body: BodyDataStream) -> impl Stream<Item = Result<Bytes, Status>> + Send + 'static {
    stream::unfold(Some((body, BytesMut::new())), |state| async move {
        let (mut body, mut buffer) = state?;
        loop {
            match take_message(&mut buffer) {
                Ok(Some(message)) => return Some((Ok(message), Some((body, buffer)))),
                Ok(None) => {}
                Err(status) => return Some((Err(status), None)),
            }
            match body.next().await {
                Some(Ok(bytes)) => buffer.extend_from_slice(&bytes),
                Some(Err(_)) => {
                    return Some((Err(Status::new(Code::Cancelled, "call ended by its caller")), None));
                }
                None if buffer.is_empty() => return None,
                None => return Some((Err(Status::invalid_argument("request ends within a message")), None)),
            }
        }
    })
}

fn take_message(buffer: &mut BytesMut) -> Result<Option<Bytes>, Status> {
    let Some((&compressed, rest)) = buffer.split_first() else { return Ok(None) };
    if compressed != 0 {
        return Err(Status::new(Code::Unimplemented, "compressed messages are not accepted"));
    }
    let Some(length) = rest.first_chunk::<4>() else { return Ok(None) };
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if length > MAX_MESSAGE {
        return Err(Status::new(
            Code::ResourceExhausted,
            format!("request is larger than {MAX_MESSAGE} bytes"),
        ));
    }
    if buffer.len() < PREFIX + length {
        return Ok(None);
    }
    buffer.advance(PREFIX);
    Ok(Some(buffer.split_to(length).freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_out_of_the_body() {
        let mut buffer = BytesMut::new();
        for piece in [&framed(&Bytes::from_static(b"ab"))[..], &framed(&Bytes::new())[..3]] {
            buffer.extend_from_slice(piece);
        }
        assert_eq!(take_message(&mut buffer), Ok(Some(Bytes::from_static(b"ab"))));
        assert_eq!(take_message(&mut buffer), Ok(None));
        buffer.extend_from_slice(&[0, 0]);
        assert_eq!(take_message(&mut buffer), Ok(Some(Bytes::new())));
        buffer.extend_from_slice(&[1]);
        assert_eq!(take_message(&mut buffer).map_err(|status| status.code), Err(Code::Unimplemented));
        let mut large = BytesMut::from(&[0, 255, 0, 0, 0][..]);
        assert_eq!(take_message(&mut large).map_err(|status| status.code), Err(Code::ResourceExhausted));
    }

    #[test]
    fn timeouts_and_messages_are_read_as_grpc_writes_them() {
        let timeout = |text: &'static str| {
            read_timeout(&HeaderMap::from_iter([(
                HeaderName::from_static("grpc-timeout"),
                HeaderValue::from_static(text),
            )]))
        };
        assert_eq!(timeout("250m"), Some(Duration::from_millis(250)));
        assert_eq!((timeout("1"), timeout("x"), timeout("123456789S")), (None, None, None));
        assert_eq!(percent_encoded("a % é"), "a %25 %C3%A9");
    }
}
