//! Messages of one call that its handler has not read yet: in order, bounded, written without waiting.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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

/// Bytes that the queues of all calls may hold together.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: usize,
    used: AtomicUsize,
}

impl Budget {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, used: AtomicUsize::new(0) }
    }

    fn take(&self, bytes: usize) -> Result<(), Full> {
        let before = self.used.fetch_add(bytes, Relaxed);
        if before.saturating_add(bytes) <= self.limit {
            return Ok(());
        }
        self.give_back(bytes);
        Err(Full)
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Relaxed);
    }
}

/// The queue's writer never waits; an overflow is the writer's to answer.
#[derive(Debug)]
pub(crate) struct Queue {
    bounds: Bounds,
    budget: Arc<Budget>,
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
    pub(crate) fn new(bounds: Bounds, budget: &Arc<Budget>) -> Self {
        Self { bounds, budget: Arc::clone(budget), inner: Mutex::default(), reader: AtomicWaker::new() }
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
        self.budget.take(message.len())?;
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
        let former =
            std::mem::replace(&mut *self.lock(), Inner { end: Some(Err(status)), ..Inner::default() });
        self.budget.give_back(former.bytes);
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
            self.budget.give_back(message.len());
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

impl Drop for Queue {
    fn drop(&mut self) {
        self.budget.give_back(self.lock().bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering::Relaxed;
    use std::task::{Context, Poll, Waker};

    use bytes::Bytes;

    use super::{Bounds, Budget, Full, Queue};
    use crate::status::Status;

    fn queue(messages: usize, bytes: usize) -> Queue {
        Queue::new(Bounds { messages, bytes }, &Arc::new(Budget::new(1000)))
    }

    fn next(queue: &Queue) -> Poll<Result<Option<Bytes>, Status>> {
        queue.poll_next(&mut Context::from_waker(Waker::noop()))
    }

    fn message(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn messages_keep_their_order_and_end() {
        let queue = queue(4, 100);
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
        let queue = queue(2, 5);
        queue.push(message("abc")).unwrap();
        assert_eq!(queue.push(message("def")), Err(Full));
        queue.push(message("de")).unwrap();
        assert_eq!(queue.push(message("")), Err(Full));
        assert!(next(&queue).is_ready());
        queue.push(message("abc")).unwrap();
    }

    #[test]
    fn queues_share_a_budget_and_give_it_back() {
        let budget = Arc::new(Budget::new(5));
        let [first, second] = [(); 2].map(|()| Queue::new(Bounds { messages: 9, bytes: 9 }, &budget));
        first.push(message("abc")).unwrap();
        assert_eq!(second.push(message("def")), Err(Full));
        first.fail(Status::cancelled());
        second.push(message("def")).unwrap();
        second.push(message("g")).unwrap();
        assert!(next(&second).is_ready());
        assert_eq!(budget.used.load(Relaxed), 1);
        drop(second);
        assert_eq!(budget.used.load(Relaxed), 0);
    }

    #[test]
    fn a_failure_overtakes_what_is_queued() {
        let queue = queue(2, 5);
        queue.push(message("a")).unwrap();
        queue.fail(Status::cancelled());
        assert_eq!(next(&queue), Poll::Ready(Err(Status::cancelled())));
        assert_eq!(next(&queue), Poll::Ready(Ok(None)));
    }
}
