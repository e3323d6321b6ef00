//! Requests and replies over plain NATS, with the error headers of NATS micro services.

use std::time::Duration;

use bytes::Bytes;
use deltamesh_nats_grpc::Code;
use deltamesh_wire::header;
use futures::StreamExt as _;

use crate::{Client, Error, ErrorKind, Headers};

/// The answer of a service that refused or failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ServiceError {
    /// Kind of failure.
    pub code: Code,
    /// Reason, for the caller.
    pub message: String,
}

impl ServiceError {
    /// A refusal with that reason.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// Requests that arrive on a subject.
pub struct Requests {
    client: Client,
    subscriber: async_nats::Subscriber,
}

/// A request that waits for its reply.
pub struct Request {
    client: Client,
    /// Subject that it came on.
    pub subject: String,
    /// Headers.
    pub headers: Headers,
    /// Content.
    pub payload: Bytes,
    reply: Option<async_nats::Subject>,
}

impl Requests {
    /// Receives the requests on `subject`, which may have wildcards; each goes to one of the members of `queue`, or
    /// without a queue to every receiver. Survives reconnects.
    ///
    /// # Errors
    /// The connection is closed.
    pub async fn subscribe(client: &Client, subject: &str, queue: Option<&str>) -> Result<Self, Error> {
        let nats = client.nats();
        let subscriber = match queue {
            Some(queue) => nats.queue_subscribe(subject.to_owned(), queue.to_owned()).await,
            None => nats.subscribe(subject.to_owned()).await,
        };
        let subscriber =
            subscriber.map_err(|error| Error::from_nats(format!("subscribe to {subject}"), error))?;
        Ok(Self { client: client.clone(), subscriber })
    }

    /// Waits for the next request; nothing after the connection was closed. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Request> {
        let message = self.subscriber.next().await?;
        Some(Request {
            client: self.client.clone(),
            subject: message.subject.to_string(),
            headers: message.headers.as_ref().map(Headers::from_nats).unwrap_or_default(),
            payload: message.payload,
            reply: message.reply,
        })
    }

    /// Takes no more requests; those that have arrived are still returned by [`Self::next`].
    ///
    /// # Errors
    /// The connection is closed.
    pub async fn drain(&mut self) -> Result<(), Error> {
        self.subscriber.drain().await.map_err(|error| Error::from_nats("drain requests", error))
    }
}

impl Request {
    /// Answers; may be called several times where the contract of the subject says so.
    ///
    /// # Errors
    /// The connection is closed, or the answer is too large.
    pub async fn reply(&self, payload: impl Into<Bytes>) -> Result<(), Error> {
        self.reply_with(&Headers::new(), payload).await
    }

    /// Answers with headers.
    ///
    /// # Errors
    /// As [`Self::reply`].
    pub async fn reply_with(&self, headers: &Headers, payload: impl Into<Bytes>) -> Result<(), Error> {
        let Some(reply) = self.reply.clone() else { return Ok(()) };
        let sent = self.client.nats().publish_with_headers(reply, headers.to_nats()?, payload.into()).await;
        sent.map_err(|error| Error::from_nats(format!("reply on {}", self.subject), error))
    }

    /// Answers with a failure.
    ///
    /// # Errors
    /// As [`Self::reply`].
    pub async fn fail(&self, error: &ServiceError) -> Result<(), Error> {
        let text = error.message.split_whitespace().collect::<Vec<_>>().join(" ");
        let headers = Headers::new()
            .with(header::SERVICE_ERROR, text)
            .with(header::SERVICE_ERROR_CODE, error.code.number().to_string());
        self.reply_with(&headers, Bytes::new()).await
    }

    /// Answers with what `result` holds.
    ///
    /// # Errors
    /// As [`Self::reply`].
    pub async fn finish(&self, result: Result<impl Into<Bytes>, ServiceError>) -> Result<(), Error> {
        match result {
            Ok(payload) => self.reply(payload).await,
            Err(error) => self.fail(&error).await,
        }
    }
}

/// The replies to one request, until the caller has enough.
pub struct Replies {
    subscriber: async_nats::Subscriber,
}

impl Replies {
    /// The next reply, or nothing after `wait`.
    ///
    /// # Errors
    /// The service failed, or there is none ([`Code::Unavailable`]).
    pub async fn next(&mut self, wait: Duration) -> Result<Option<Bytes>, ServiceError> {
        let Ok(Some(message)) = tokio::time::timeout(wait, self.subscriber.next()).await else {
            return Ok(None);
        };
        answer(message).map(Some)
    }
}

fn answer(message: async_nats::Message) -> Result<Bytes, ServiceError> {
    if message.status == Some(async_nats::StatusCode::NO_RESPONDERS) {
        return Err(ServiceError::new(Code::Unavailable, "no service answers on this subject"));
    }
    let headers = message.headers.as_ref().map(Headers::from_nats).unwrap_or_default();
    match headers.get(header::SERVICE_ERROR_CODE) {
        Some(code) => Err(ServiceError::new(
            failure(code),
            headers.get(header::SERVICE_ERROR).unwrap_or("request failed"),
        )),
        None => Ok(message.payload),
    }
}

/// The code that a header names; a failure that calls itself a success is none that is known.
fn failure(header: &str) -> Code {
    match header.parse().map_or(Code::Unknown, |number: i32| Code::from(number)) {
        Code::Ok => Code::Unknown,
        code => code,
    }
}

impl Client {
    /// Sends a request and waits for the one reply.
    ///
    /// # Errors
    /// The service's own, [`Code::Unavailable`] where none answers, [`Code::DeadlineExceeded`] after `wait`.
    pub async fn request(
        &self,
        subject: &str,
        payload: impl Into<Bytes>,
        wait: Duration,
    ) -> Result<Bytes, ServiceError> {
        let mut replies = self.request_many(subject, payload).await.map_err(|error| {
            let code =
                if error.kind() == ErrorKind::Invalid { Code::InvalidArgument } else { Code::Unavailable };
            ServiceError::new(code, error.chain())
        })?;
        let late = || ServiceError::new(Code::DeadlineExceeded, format!("no answer on {subject} in time"));
        replies.next(wait).await?.ok_or_else(late)
    }

    /// Sends a request that several services answer, or one with several replies.
    ///
    /// # Errors
    /// The connection is closed, or the request is too large.
    pub async fn request_many(&self, subject: &str, payload: impl Into<Bytes>) -> Result<Replies, Error> {
        let action = || format!("request {subject}");
        let inbox = self.nats().new_inbox();
        let subscriber = self.nats().subscribe(inbox.clone()).await;
        let subscriber = subscriber.map_err(|error| Error::from_nats(action(), error))?;
        let sent = self.nats().publish_with_reply(subject.to_owned(), inbox, payload.into()).await;
        sent.map_err(|error| Error::from_nats(action(), error))?;
        Ok(Replies { subscriber })
    }
}
