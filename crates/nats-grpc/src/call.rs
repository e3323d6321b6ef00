//! One open call of the NATS server: its queue, its way back, and its one end.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_nats::Subject;
use bytes::Bytes;
use futures::FutureExt;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::admission::Admission;
use crate::envelope::{self, Frame};
use crate::handler::Call;
use crate::link::Link;
use crate::metadata::Metadata;
use crate::options::UnaryEnd;
use crate::pace::Pacer;
use crate::queue::{Bounds, Queue};
use crate::router::Method;
use crate::stats::count;
use crate::status::{Code, Status};

/// Shared by the reader, the handler and the task that runs it. Whoever ends the call first, ends it.
#[derive(Debug)]
pub(crate) struct CallState {
    pub inbox: Subject,
    pub method: Arc<Method>,
    pub requests: Queue,
    pub opened: Instant,
    link: Arc<Link>,
    takes_metadata: bool,
    ended: AtomicBool,
    closed: Notify,
    /// The pace of all streams of the client.
    peer_pacer: Option<Arc<Mutex<Pacer>>>,
    output: Mutex<Output>,
}

/// What of the answer is not on the wire yet.
#[derive(Debug)]
struct Output {
    pacer: Pacer,
    /// Whether empty messages are padded for this client.
    pads: bool,
    header: Metadata,
    trailer: Metadata,
    /// A message has been sent, or is waiting in `single`.
    answered: bool,
    /// The response of a method that has one: it waits for the outcome.
    single: Option<Frame>,
    /// Fails the call whatever its handler returns.
    fault: Option<Status>,
    admission: Option<Admission>,
}

impl CallState {
    /// `named`: the client gave its node id.
    pub(crate) fn new(
        link: &Arc<Link>,
        inbox: &Subject,
        method: &Arc<Method>,
        named: bool,
        takes_metadata: bool,
        max_rate: Option<u32>,
        admission: Admission,
    ) -> Self {
        let options = &link.options;
        let opened = Instant::now();
        let pacer = match (method.server_streaming, named) {
            (false, _) => Pacer::Free,
            (true, true) => Pacer::bucket(options.rate.at_most(max_rate), opened),
            (true, false) => Pacer::single(options.unnamed_gap, opened),
        };
        let peer_pacer = admission.pacer.clone().filter(|_pacer| method.server_streaming);
        let output = Output {
            pacer,
            pads: method.server_streaming && !named && options.pad_empty_for_unnamed,
            header: Metadata::new(),
            trailer: Metadata::new(),
            answered: false,
            single: None,
            fault: None,
            admission: Some(admission),
        };
        Self {
            // A copy: the received subject is a slice of a whole read buffer.
            inbox: Subject::from(inbox.as_str()),
            method: Arc::clone(method),
            requests: Queue::new(
                Bounds { messages: options.max_queued_messages, bytes: options.max_queued_bytes },
                &link.budget,
            ),
            opened,
            link: Arc::clone(link),
            takes_metadata: takes_metadata || options.always_send_metadata,
            ended: AtomicBool::new(false),
            closed: Notify::new(),
            peer_pacer,
            output: Mutex::new(output),
        }
    }

    /// Runs the handler and sends its outcome.
    pub(crate) async fn run(self: Arc<Self>, call: Call) {
        let deadline = call.deadline;
        // The handler's own code runs inside, up to its first await too.
        let handler = AssertUnwindSafe(async { self.method.handler.call(call).await }).catch_unwind();
        let served = match deadline {
            None => handler.await,
            Some(at) => match tokio::time::timeout_at(at, handler).await {
                Ok(served) => served,
                Err(_elapsed) => Ok(Err(Status::deadline_exceeded())),
            },
        };
        let outcome = served.unwrap_or_else(|_panic| {
            tracing::error!(method = %self.method.path, "handler panicked");
            Err(Status::internal("handler failed"))
        });
        self.complete(outcome).await;
    }

    /// Sends one message, or keeps it until the outcome where the method has a single response.
    pub(crate) async fn respond(&self, frame: Frame) -> Result<(), Status> {
        self.check_open()?;
        let frame = self.fitting(frame)?;
        if !self.method.server_streaming {
            let mut output = self.output();
            if output.answered {
                return Err(Status::internal("method has a single response"));
            }
            output.answered = true;
            output.single = Some(frame);
            return Ok(());
        }
        if let Some(begin) = self.begin() {
            self.pace().await;
            self.link.publish(&self.inbox, begin).await?;
        }
        self.pace().await;
        self.check_open()?;
        self.link.publish(&self.inbox, frame.envelope()).await
    }

    pub(crate) fn set_header(&self, header: Metadata) -> Result<(), Status> {
        self.check_open()?;
        let mut output = self.output();
        if output.answered {
            return Err(Status::internal("header comes after a message"));
        }
        output.header = header;
        Ok(())
    }

    pub(crate) fn set_trailer(&self, trailer: Metadata) -> Result<(), Status> {
        self.check_open()?;
        self.output().trailer = trailer;
        Ok(())
    }

    /// Ends the call from outside its handler with a status for the client. False: it had ended.
    pub(crate) fn fail(&self, status: &Status) -> bool {
        let first = self.end(Some(status)).is_some();
        if first {
            self.link.post(&self.inbox, None, envelope::end(Some(status), Metadata::new()));
        }
        first
    }

    /// Ends the call without an answer: its client has gone. False: it had ended.
    pub(crate) fn abandon(&self) -> bool {
        self.end(Some(&Status::cancelled())).is_some()
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Whether it has ended and its outcome is on its way.
    pub(crate) fn has_left(&self) -> bool {
        self.output().admission.is_none()
    }

    /// Resolves once the call has ended.
    pub(crate) async fn closed(&self) {
        let mut notified = std::pin::pin!(self.closed.notified());
        notified.as_mut().enable();
        if !self.has_ended() {
            notified.await;
        }
    }

    /// The handler's outcome, on the wire.
    async fn complete(&self, outcome: Result<(), Status>) {
        let (outcome, single, trailer) = self.verdict(outcome);
        let Some(_place) = self.end(outcome.as_ref().err()) else { return };
        if let Err(status) = self.deliver(outcome.as_ref().err(), single, trailer).await {
            tracing::debug!(method = %self.method.path, %status, "outcome not delivered");
        }
    }

    /// What the handler returned, corrected by what it sent.
    fn verdict(&self, outcome: Result<(), Status>) -> (Result<(), Status>, Option<Frame>, Metadata) {
        let mut output = self.output();
        let trailer = if self.takes_metadata { std::mem::take(&mut output.trailer) } else { Metadata::new() };
        let single = output.single.take();
        let outcome = output.fault.take().map_or(outcome, Err);
        let outcome = match outcome {
            Ok(()) if !self.method.server_streaming && single.is_none() => {
                Err(Status::internal("handler sent no response"))
            }
            other => other,
        };
        (outcome, single, trailer)
    }

    async fn deliver(
        &self,
        failure: Option<&Status>,
        single: Option<Frame>,
        trailer: Metadata,
    ) -> Result<(), Status> {
        if let Some(begin) = self.begin() {
            self.pace().await;
            self.link.publish(&self.inbox, begin).await?;
        }
        if let (None, Some(frame)) = (failure, single) {
            self.link.publish(&self.inbox, frame.envelope()).await?;
        }
        if failure.is_none() && self.method.is_unary() {
            match self.link.options.unary_end {
                UnaryEnd::Now => {}
                UnaryEnd::Delayed(delay) => tokio::time::sleep(delay).await,
                UnaryEnd::Never => return Ok(()),
            }
        }
        self.pace().await;
        let mut end = envelope::end(failure, trailer);
        if end.len() > self.link.client.max_payload() {
            end = envelope::end(Some(&oversized("status", end.len())), Metadata::new());
        }
        self.link.publish(&self.inbox, end).await
    }

    /// Marks the end. The first to do so gets the call's place, to be given back when all is on its way.
    fn end(&self, failure: Option<&Status>) -> Option<Place<'_>> {
        if self.ended.swap(true, Ordering::AcqRel) {
            return None;
        }
        self.method.stats.record(failure, self.opened.elapsed());
        self.requests.fail(Status::cancelled());
        self.closed.notify_waiters();
        Some(Place(self))
    }

    /// The Begin envelope, once, if there is a header that the client takes.
    fn begin(&self) -> Option<Bytes> {
        let mut output = self.output();
        output.answered = true;
        if output.header.is_empty() {
            return None;
        }
        let header = std::mem::take(&mut output.header);
        drop(output);
        self.takes_metadata.then(|| envelope::begin(header, &self.link.nid))
    }

    /// Waits for the pace of the inbox, and of its client.
    async fn pace(&self) {
        let mut waited = wait_for(|now| self.output().pacer.take(now)).await;
        if let Some(pacer) = &self.peer_pacer {
            waited |= wait_for(|now| pacer.lock().unwrap_or_else(PoisonError::into_inner).take(now)).await;
        }
        if waited {
            count(&self.link.stats.paced);
        }
    }

    /// The frame as this client takes it, checked against the server's limit.
    fn fitting(&self, frame: Frame) -> Result<Frame, Status> {
        let mut output = self.output();
        if output.pads && frame.is_empty() {
            return Ok(Frame::new(&self.method.padding));
        }
        let (length, limit) = (frame.envelope().len(), self.link.client.max_payload());
        if length > limit {
            let status = oversized("response", length);
            output.fault.get_or_insert(status.clone());
            return Err(status);
        }
        Ok(frame)
    }

    fn check_open(&self) -> Result<(), Status> {
        if self.has_ended() { Err(Status::cancelled()) } else { Ok(()) }
    }

    fn output(&self) -> MutexGuard<'_, Output> {
        self.output.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An ended call's place among the open ones.
struct Place<'a>(&'a CallState);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.output().admission = None;
    }
}

/// Asks until the answer is yes; true if it was not so at once.
async fn wait_for(mut take: impl FnMut(Instant) -> Result<(), Instant>) -> bool {
    let mut waited = false;
    while let Err(again) = take(Instant::now()) {
        waited = true;
        tokio::time::sleep_until(again).await;
    }
    waited
}

fn oversized(what: &str, length: usize) -> Status {
    Status::new(Code::ResourceExhausted, format!("{what} of {length} bytes exceeds the transport's limit"))
}
