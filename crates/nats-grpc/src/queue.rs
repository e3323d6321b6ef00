//! Messages of one call that its handler has not read yet: in order, bounded, written without waiting.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::task::AtomicWaker;

use crate::status::Status;

/// Limits of one queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub messages: usize,
    pub bytes: usize,
}

/// The queue's writer never waits; an overflow is the writer's to answer.
#[derive(Debug)]
pub(crate) struct Queue {
    bounds: Bounds,
    inner: Mutex<Inner>,
    reader: AtomicWaker,
}

#[derive(Debug, Default)]
struct Inner {
    messages: VecDeque<Bytes>,
    bytes: usize,
    end: Option<Result<(), Status>>,
}

/// The queue is full; the message was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl Queue {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self { bounds, inner: Mutex::default(), reader: AtomicWaker::new() }
    }

    /// Adds a message; one that comes after the end is dropped.
    pub(crate) fn push(&self, message: Bytes) -> Result<(), Full> {
        let mut inner = self.lock();
        if inner.end.is_some() {
            return Ok(());
        }
        if inner.messages.len() >= self.bounds.messages || inner.bytes + message.len() > self.bounds.bytes {
            return Err(Full);
        }
        inner.bytes += message.len();
        // A message is a slice of a whole read buffer: one that has to wait must not hold the rest.
        let message = if inner.messages.is_empty() { message } else { Bytes::copy_from_slice(&message) };
        inner.messages.push_back(message);
        drop(inner);
        self.reader.wake();
        Ok(())
    }

    /// No more messages. The reader gets what is there, then the end. Only the first end counts.
    pub(crate) fn finish(&self, end: Result<(), Status>) {
        self.lock().end.get_or_insert(end);
        self.reader.wake();
    }

    /// Drops what is there; the reader gets the failure at once.
    pub(crate) fn fail(&self, status: Status) {
        *self.lock() = Inner { end: Some(Err(status)), ..Inner::default() };
        self.reader.wake();
    }

    /// The next message; `Ok(None)` after the last, and after a failure.
    pub(crate) fn poll_next(&self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Status>> {
        if let Some(next) = self.take() {
            return Poll::Ready(next);
        }
        self.reader.register(context.waker());
        self.take().map_or(Poll::Pending, Poll::Ready)
    }

    fn take(&self) -> Option<Result<Option<Bytes>, Status>> {
        let mut inner = self.lock();
        if let Some(message) = inner.messages.pop_front() {
            inner.bytes -= message.len();
            return Some(Ok(Some(message)));
        }
        let end = inner.end.as_mut()?;
        // A failure is told once.
        Some(std::mem::replace(end, Ok(())).map(|()| None))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use bytes::Bytes;

    use super::{Bounds, Full, Queue};
    use crate::status::Status;

    fn next(queue: &Queue) -> Poll<Result<Option<Bytes>, Status>> {
        queue.poll_next(&mut Context::from_waker(Waker::noop()))
    }

    fn message(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn messages_keep_their_order_and_end() {
        let queue = Queue::new(Bounds { messages: 4, bytes: 100 });
        assert_eq!(next(&queue), Poll::Pending);
        queue.push(message("a")).unwrap();
        queue.push(message("b")).unwrap();
        queue.finish(Ok(()));
        queue.push(message("late")).unwrap();
        assert_eq!(next(&queue), Poll::Ready(Ok(Some(message("a")))));
        assert_eq!(next(&queue), Poll::Ready(Ok(Some(message("b")))));
        assert_eq!(next(&queue), Poll::Ready(Ok(None)));
        assert_eq!(next(&queue), Poll::Ready(Ok(None)));
    }

    #[test]
    fn both_bounds_hold_and_reading_makes_room() {
        let queue = Queue::new(Bounds { messages: 2, bytes: 5 });
        queue.push(message("abc")).unwrap();
        assert_eq!(queue.push(message("def")), Err(Full));
        queue.push(message("de")).unwrap();
        assert_eq!(queue.push(message("")), Err(Full));
        assert!(next(&queue).is_ready());
        queue.push(message("abc")).unwrap();
    }

    #[test]
    fn a_failure_overtakes_what_is_queued() {
        let queue = Queue::new(Bounds { messages: 2, bytes: 5 });
        queue.push(message("a")).unwrap();
        queue.fail(Status::cancelled());
        assert_eq!(next(&queue), Poll::Ready(Err(Status::cancelled())));
        assert_eq!(next(&queue), Poll::Ready(Ok(None)));
    }
}
