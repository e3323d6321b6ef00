//! What the threads of a host say of themselves, for the status board.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Written by the threads, read by the loop.
#[derive(Debug, Default)]
pub(crate) struct Gauges {
    has_session: AtomicBool,
    waiting: AtomicUsize,
    is_hindered: AtomicBool,
}

impl Gauges {
    /// Whether a session is open, and how many requests wait for its end.
    pub(crate) fn set_session(&self, is_open: bool, waiting: usize) {
        self.has_session.store(is_open, Ordering::Relaxed);
        self.waiting.store(waiting, Ordering::Relaxed);
    }

    pub(crate) fn session(&self) -> (bool, usize) {
        (self.has_session.load(Ordering::Relaxed), self.waiting.load(Ordering::Relaxed))
    }

    /// Whether tables cannot be merged downwards.
    pub(crate) fn set_hindered(&self, is_hindered: bool) {
        self.is_hindered.store(is_hindered, Ordering::Relaxed);
    }

    pub(crate) fn is_hindered(&self) -> bool {
        self.is_hindered.load(Ordering::Relaxed)
    }
}
