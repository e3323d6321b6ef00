//! Counters of a server, and of each of its methods.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::status::Status;

/// Counters of one method; they survive a replacement of its service.
#[derive(Debug, Default)]
pub struct MethodStats {
    calls: AtomicU64,
    errors: AtomicU64,
    nanoseconds: AtomicU64,
    last_error: Mutex<Option<Status>>,
}

impl MethodStats {
    /// Calls that have ended.
    pub fn calls(&self) -> u64 {
        self.calls.load(Relaxed)
    }

    /// Those of them that failed.
    pub fn errors(&self) -> u64 {
        self.errors.load(Relaxed)
    }

    /// Time from the opening of a call to its outcome, summed.
    pub fn processing_time(&self) -> Duration {
        Duration::from_nanos(self.nanoseconds.load(Relaxed))
    }

    /// The latest failure.
    pub fn last_error(&self) -> Option<Status> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn record(&self, failure: Option<&Status>, took: Duration) {
        self.calls.fetch_add(1, Relaxed);
        self.nanoseconds.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
        if let Some(status) = failure {
            self.errors.fetch_add(1, Relaxed);
            *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(status.clone());
        }
    }
}

/// Counters of a server, to which its readers and calls add.
#[derive(Debug, Default)]
pub(crate) struct ServerStats {
    pub open: AtomicUsize,
    pub opened: AtomicU64,
    pub rejected: AtomicU64,
    pub ignored: AtomicU64,
    pub undecodable: AtomicU64,
    pub cancelled: AtomicU64,
    pub dead_clients: AtomicU64,
    pub paced: AtomicU64,
    pub probes: AtomicU64,
    pub unposted: AtomicU64,
}

/// Counters of a server at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Calls open now.
    pub open: usize,
    /// Calls opened.
    pub opened: u64,
    /// Calls answered `RESOURCE_EXHAUSTED` because of a limit.
    pub rejected: u64,
    /// Messages of no open call: late ones of finished calls, mostly.
    pub ignored: u64,
    /// Messages that are no envelope.
    pub undecodable: u64,
    /// Calls cancelled by their client.
    pub cancelled: u64,
    /// Calls ended because nobody subscribes to their inbox.
    pub dead_clients: u64,
    /// Messages that waited for the pace of their inbox.
    pub paced: u64,
    /// Probes sent.
    pub probes: u64,
    /// Answers dropped because the connection takes nothing.
    pub unposted: u64,
}

impl ServerStats {
    pub(crate) fn read(&self) -> Counters {
        Counters {
            open: self.open.load(Relaxed),
            opened: self.opened.load(Relaxed),
            rejected: self.rejected.load(Relaxed),
            ignored: self.ignored.load(Relaxed),
            undecodable: self.undecodable.load(Relaxed),
            cancelled: self.cancelled.load(Relaxed),
            dead_clients: self.dead_clients.load(Relaxed),
            paced: self.paced.load(Relaxed),
            probes: self.probes.load(Relaxed),
            unposted: self.unposted.load(Relaxed),
        }
    }
}

/// Adds one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}
