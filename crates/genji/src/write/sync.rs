//! Group commit: transactions that wait together share one flush of the log.
//!
//! A transaction is appended while it is the only one; then it lets the next one begin and waits here. The first that waits
//! flushes for all that were appended so far, and whoever is appended meanwhile is flushed by the next.

use std::fs::File;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

#[derive(Default)]
struct Progress {
    /// The log that holds the newest record.
    log: Option<Arc<File>>,
    /// Records appended so far, and how many of them are durable.
    appended: u64,
    durable: u64,
    /// Whether someone is flushing.
    flushing: bool,
    /// Why a flush failed. What the disk holds of the records behind the durable ones is uncertain for good: a second
    /// flush could report success for pages that the system has dropped.
    failure: Option<String>,
}

/// Who waits for which record to be durable.
#[derive(Default)]
pub(crate) struct SyncQueue {
    progress: Mutex<Progress>,
    changed: Condvar,
}

impl SyncQueue {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a record that was appended to that log; returns its number.
    pub(crate) fn appended(&self, log: &Arc<File>) -> u64 {
        let mut progress = self.progress();
        progress.log = Some(log.clone());
        progress.appended += 1;
        progress.appended
    }

    /// Notes that everything appended so far is durable, or that flushing it failed.
    pub(crate) fn finished(&self, result: &io::Result<()>) {
        let mut progress = self.progress();
        match result {
            Ok(()) => progress.durable = progress.appended,
            Err(error) => progress.failure = Some(error.to_string()),
        }
        self.changed.notify_all();
    }

    /// The number of the newest record.
    pub(crate) fn newest(&self) -> u64 {
        self.progress().appended
    }

    /// Why nothing can become durable any more.
    pub(crate) fn failure(&self) -> Option<String> {
        self.progress().failure.clone()
    }

    /// Waits until a record is durable, flushing for all if no one does.
    pub(crate) fn wait(&self, record: u64) -> io::Result<()> {
        let mut progress = self.progress();
        loop {
            if progress.durable >= record {
                return Ok(());
            }
            if let Some(failure) = &progress.failure {
                return Err(io::Error::other(failure.clone()));
            }
            if progress.flushing {
                progress = self.changed.wait(progress).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let (Some(log), target) = (progress.log.clone(), progress.appended) else {
                return Err(io::Error::other("record was never appended"));
            };
            progress.flushing = true;
            drop(progress);
            let result = log.sync_data();
            progress = self.progress();
            progress.flushing = false;
            match &result {
                Ok(()) => progress.durable = progress.durable.max(target),
                Err(error) => progress.failure = Some(error.to_string()),
            }
            self.changed.notify_all();
            result?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_flush_serves_all_before_it() {
        let queue = SyncQueue::default();
        let log = Arc::new(tempfile::tempfile().unwrap());
        let (first, second) = (queue.appended(&log), queue.appended(&log));
        queue.wait(second).unwrap();
        assert_eq!(queue.progress().durable, second);
        queue.wait(first).unwrap();
    }

    #[test]
    fn a_failure_is_for_good() {
        let queue = SyncQueue::default();
        let log = Arc::new(tempfile::tempfile().unwrap());
        let first = queue.appended(&log);
        queue.finished(&Ok(()));
        let second = queue.appended(&log);
        queue.finished(&Err(io::Error::other("disk is full")));
        queue.wait(first).unwrap();
        assert_eq!(queue.wait(second).unwrap_err().to_string(), "disk is full");
        assert!(queue.failure().is_some());
    }
}
