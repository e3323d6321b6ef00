//! What serves a call: a [`Handler`] gets a [`Call`] and returns its outcome, whatever the transport.
//!
//! The NATS server calls handlers itself. Another transport (gRPC over HTTP/2) mounts the same handlers with
//! [`Call::over`]. Dropping a handler's future cancels the call.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::call::CallState;
use crate::envelope::Frame;
use crate::metadata::Metadata;
use crate::status::{Code, Status};

/// Serves the calls of one method, of any of the four kinds.
pub trait Handler: Send + Sync + 'static {
    /// Serves one call. The future is dropped when the call is cancelled.
    ///
    /// A method with a single response sends exactly one; what it sends before failing is not delivered.
    fn call(&self, call: Call) -> BoxFuture<'static, Result<(), Status>>;
}

impl<F, R> Handler for F
where
    F: Fn(Call) -> R + Send + Sync + 'static,
    R: Future<Output = Result<(), Status>> + Send + 'static,
{
    fn call(&self, call: Call) -> BoxFuture<'static, Result<(), Status>> {
        Box::pin(self(call))
    }
}

/// A handler from a function of one request to one response.
pub fn unary<F, R>(answer: F) -> impl Handler
where
    F: Fn(Bytes, Metadata) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Bytes, Status>> + Send + 'static,
{
    let answer = Arc::new(answer);
    move |mut call: Call| {
        let answer = Arc::clone(&answer);
        async move {
            let request = call.requests.single().await?;
            let response = answer(request, call.metadata).await?;
            call.responses.send(&response).await
        }
    }
}

/// One call, as its handler sees it.
#[derive(Debug)]
pub struct Call {
    /// `/package.Service/Method`.
    pub path: Arc<str>,
    /// The caller's metadata, without `grpc-` keys.
    pub metadata: Metadata,
    /// The caller's own node id, where it gave one.
    pub peer: Option<Arc<str>>,
    /// When the caller gives up; the server then ends the call by itself.
    pub deadline: Option<Instant>,
    /// What the caller sends.
    pub requests: Requests,
    /// What goes back to the caller.
    pub responses: Responses,
}

impl Call {
    /// A call of another transport: `requests` are the caller's messages, and what the handler answers comes
    /// out of the receiver, at most `capacity` parts ahead of its reader.
    pub fn over(
        path: Arc<str>,
        metadata: Metadata,
        deadline: Option<Instant>,
        requests: impl Stream<Item = Result<Bytes, Status>> + Send + 'static,
        capacity: usize,
    ) -> (Self, mpsc::Receiver<ResponsePart>) {
        let (sender, receiver) = mpsc::channel(capacity.max(1));
        let requests = Requests(Source::Stream(requests.boxed()));
        let responses = Responses(Sink::Channel(sender));
        (Self { path, metadata, peer: None, deadline, requests, responses }, receiver)
    }

    pub(crate) fn over_nats(
        state: &Arc<CallState>,
        metadata: Metadata,
        peer: Option<Arc<str>>,
        deadline: Option<Instant>,
    ) -> Self {
        let requests = Requests(Source::Nats(Arc::clone(state)));
        let responses = Responses(Sink::Nats(Arc::clone(state)));
        Self { path: Arc::clone(&state.method.path), metadata, peer, deadline, requests, responses }
    }
}

/// A part of a response on a transport other than NATS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResponsePart {
    /// Header metadata, before the first message.
    Header(Metadata),
    /// One message.
    Message(Frame),
    /// Trailer metadata, to be sent with the outcome.
    Trailer(Metadata),
}

/// The caller's messages, in order.
pub struct Requests(Source);

enum Source {
    Nats(Arc<CallState>),
    Stream(BoxStream<'static, Result<Bytes, Status>>),
}

impl std::fmt::Debug for Requests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Requests")
    }
}

impl Requests {
    /// The next message; `None` after the caller's half-close.
    ///
    /// # Errors
    /// The call has ended.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await.transpose()
    }

    /// The one message of a call that has one.
    ///
    /// # Errors
    /// There is none, or the call has ended.
    pub async fn single(&mut self) -> Result<Bytes, Status> {
        self.next().await?.ok_or_else(|| Status::invalid_argument("request message missing"))
    }
}

impl Stream for Requests {
    type Item = Result<Bytes, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match &mut self.0 {
            Source::Nats(state) => state.requests.poll_next(context).map(Result::transpose),
            Source::Stream(stream) => stream.poll_next_unpin(context),
        }
    }
}

/// The way back to the caller.
#[derive(Debug)]
pub struct Responses(Sink);

#[derive(Debug)]
enum Sink {
    Nats(Arc<CallState>),
    Channel(mpsc::Sender<ResponsePart>),
}

impl Responses {
    /// Sends one serialised message, waiting where the transport or the pacing of the inbox asks for it.
    ///
    /// # Errors
    /// [`Code::ResourceExhausted`]: the message does not fit the transport; the call fails with this status
    /// whatever the handler returns. Otherwise the call has ended.
    pub async fn send(&mut self, message: &[u8]) -> Result<(), Status> {
        self.send_frame(Frame::new(message)).await
    }

    /// [`Responses::send`] of a message encoded once for many calls.
    ///
    /// # Errors
    /// As for [`Responses::send`].
    pub async fn send_frame(&mut self, frame: Frame) -> Result<(), Status> {
        match &self.0 {
            Sink::Nats(state) => state.respond(frame).await,
            Sink::Channel(sender) => Self::part(sender, ResponsePart::Message(frame)).await,
        }
    }

    /// Header metadata, for callers that take it ([`crate::ACCEPT_METADATA`]); before the first message.
    ///
    /// # Errors
    /// A message has been sent, or the call has ended.
    pub async fn send_header(&mut self, header: Metadata) -> Result<(), Status> {
        match &self.0 {
            Sink::Nats(state) => state.set_header(header),
            Sink::Channel(sender) => Self::part(sender, ResponsePart::Header(header)).await,
        }
    }

    /// Trailer metadata, sent with the outcome to callers that take it; the last one counts.
    ///
    /// # Errors
    /// The call has ended.
    pub async fn set_trailer(&mut self, trailer: Metadata) -> Result<(), Status> {
        match &self.0 {
            Sink::Nats(state) => state.set_trailer(trailer),
            Sink::Channel(sender) => Self::part(sender, ResponsePart::Trailer(trailer)).await,
        }
    }

    /// Resolves when the call has ended without its handler: for work that a handler has handed to other tasks.
    pub async fn closed(&self) {
        match &self.0 {
            Sink::Nats(state) => state.closed().await,
            Sink::Channel(sender) => sender.closed().await,
        }
    }

    async fn part(sender: &mpsc::Sender<ResponsePart>, part: ResponsePart) -> Result<(), Status> {
        sender.send(part).await.map_err(|_closed| Status::new(Code::Cancelled, "call ended by its caller"))
    }
}
