//! Opening again what a lost connection has closed.

use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::watch;

use crate::Error;
use crate::client::backoff;

/// The next opening of what is read. It is kept here until it is done, so that a caller who drops every future after a moment
/// gets there too.
pub(crate) struct Reopen<T> {
    pending: Option<BoxFuture<'static, Result<T, Error>>>,
    losses: watch::Receiver<u64>,
    attempt: usize,
}

impl<T> Reopen<T> {
    pub(crate) fn new(losses: watch::Receiver<u64>) -> Self {
        Self { pending: None, losses, attempt: 0 }
    }

    /// Goes on with the opening that is under way, or begins `open` after a delay that grows with each attempt.
    pub(crate) async fn open<F>(&mut self, open: impl FnOnce() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let pending = match &mut self.pending {
            Some(pending) => pending,
            None => {
                let delay = if self.attempt > 0 { backoff(self.attempt) } else { Duration::ZERO };
                self.attempt += 1;
                // A loss from here on is found when what was opened is read.
                self.losses.mark_unchanged();
                let opening = open();
                self.pending.insert(Box::pin(async move {
                    tokio::time::sleep(delay).await;
                    opening.await
                }))
            }
        };
        let opened = pending.await;
        self.pending = None;
        opened
    }

    /// Waits until the connection is lost.
    pub(crate) async fn lost(&mut self) {
        // The client sends as long as it is there.
        let _gone = self.losses.changed().await;
    }

    /// What was opened can be read: the next attempt is the first again.
    pub(crate) fn succeeded(&mut self) {
        self.attempt = 0;
    }
}
