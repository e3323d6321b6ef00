//! The two ends of a call that a client holds.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::stream::Stream;
use tokio::time::{Instant, Sleep, sleep_until};

use super::mux::{Mux, Slot};
use crate::envelope::{self, Frame};
use crate::metadata::Metadata;
use crate::status::{Code, Status};

/// Both ends of an open call. `streams`: the client sends any number of messages.
pub(super) fn ends(
    mux: &Arc<Mux>,
    slot: &Arc<Slot>,
    deadline: Option<Instant>,
    streams: bool,
) -> (RequestSink, ResponseStream) {
    let requests = RequestSink { mux: Arc::clone(mux), slot: Arc::clone(slot), open: streams };
    let responses = ResponseStream {
        mux: Arc::clone(mux),
        slot: Arc::clone(slot),
        deadline: deadline.map(|at| Box::pin(sleep_until(at))),
    };
    (requests, responses)
}

/// Sends the messages of a call. Dropping it half-closes the call.
#[derive(Debug)]
pub struct RequestSink {
    mux: Arc<Mux>,
    slot: Arc<Slot>,
    open: bool,
}

impl RequestSink {
    /// Sends one serialised message. Nothing slows a client down but its own connection.
    ///
    /// # Errors
    /// The message is too large for the transport, or the connection is gone.
    pub async fn send(&mut self, message: &[u8]) -> Result<(), Status> {
        self.mux.send(&self.slot, Frame::new(message).envelope()).await
    }

    /// Says that no more messages follow.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn half_close(mut self) -> Result<(), Status> {
        self.open = false;
        self.mux.send(&self.slot, envelope::half_close()).await
    }
}

impl Drop for RequestSink {
    fn drop(&mut self) {
        if self.open && self.mux.is_open(&self.slot) {
            self.mux.post(&self.slot, envelope::half_close());
        }
    }
}

/// Reads the messages of a call. Dropping it before the end cancels the call.
#[derive(Debug)]
pub struct ResponseStream {
    mux: Arc<Mux>,
    slot: Arc<Slot>,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl ResponseStream {
    /// The next message; `None` after the last of a successful call.
    ///
    /// # Errors
    /// The call's status.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await.transpose()
    }

    /// The one message of a call that has one. Returns with the message, unless metadata was asked for.
    ///
    /// # Errors
    /// The call's status, or `INTERNAL` if it succeeded without a message.
    pub async fn single(&mut self) -> Result<Bytes, Status> {
        let missing = || Status::internal("server sent no response");
        let message = self.next().await?.ok_or_else(missing)?;
        if self.slot.waits_for_end {
            while self.next().await?.is_some() {}
        }
        // The outcome of a call with one response is settled by the response: its end is not awaited.
        self.mux.close(&self.slot);
        Ok(message)
    }

    /// Header metadata, if some has arrived.
    #[must_use]
    pub fn header(&self) -> Metadata {
        self.slot.header.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Trailer metadata, known at the end.
    #[must_use]
    pub fn trailer(&self) -> Metadata {
        self.slot.trailer.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn cancel(&self, status: &Status) {
        if self.mux.close(&self.slot) {
            self.mux.post(&self.slot, envelope::cancel(status));
        }
    }
}

impl Stream for ResponseStream {
    type Item = Result<Bytes, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Poll::Ready(next) = self.slot.responses.poll_next(context) {
            return Poll::Ready(next.transpose());
        }
        let expired =
            self.deadline.as_mut().is_some_and(|deadline| deadline.as_mut().poll(context).is_ready());
        if !expired {
            return Poll::Pending;
        }
        self.deadline = None;
        let status = Status::deadline_exceeded();
        self.cancel(&status);
        self.slot.responses.fail(status.clone());
        Poll::Ready(Some(Err(status)))
    }
}

impl Drop for ResponseStream {
    fn drop(&mut self) {
        self.cancel(&Status::new(Code::Cancelled, "client stopped"));
    }
}
