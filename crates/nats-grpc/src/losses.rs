//! Whether messages of a connection were lost. They carry no numbers, so no reader of a call sees it by itself.

use std::sync::atomic::Ordering::Relaxed;

use async_nats::Client;
use tokio::sync::watch;

/// What one reader knows of its connection's losses.
#[derive(Debug)]
pub(crate) struct Losses {
    client: Client,
    connects: u64,
    told: Option<watch::Receiver<u64>>,
}

impl Losses {
    /// `told` changes with each loss; without it reconnects are seen, and a subscription that overflowed is not.
    pub(crate) fn new(client: &Client, told: Option<&watch::Receiver<u64>>) -> Self {
        let mut losses = Self { client: client.clone(), connects: 0, told: told.cloned() };
        losses.happened();
        losses
    }

    /// Whether messages may have been lost since this was last asked.
    pub(crate) fn happened(&mut self) -> bool {
        let Some(told) = &mut self.told else {
            let connects = self.client.statistics().connects.load(Relaxed);
            return std::mem::replace(&mut self.connects, connects) != connects;
        };
        let happened = told.has_changed().unwrap_or(false);
        told.mark_unchanged();
        happened
    }
}
