//! Rates for the status board.

use std::time::Duration;

use tokio::time::Instant;

const WINDOW: Duration = Duration::from_secs(1);

/// Counts events and says how many there were per second.
pub(crate) struct Meter {
    count: u64,
    since: Instant,
    rate: f64,
}

impl Meter {
    pub(crate) fn new() -> Self {
        Self { count: 0, since: Instant::now(), rate: 0.0 }
    }

    pub(crate) fn add(&mut self, count: u64) {
        self.count += count;
    }

    /// Events per second over the last full window.
    pub(crate) fn rate(&mut self) -> f64 {
        let elapsed = self.since.elapsed();
        if elapsed >= WINDOW {
            // Counts stay far below 2^52.
            #[allow(clippy::cast_precision_loss)]
            let count = self.count as f64;
            self.rate = (count / elapsed.as_secs_f64()).round();
            self.count = 0;
            self.since = Instant::now();
        }
        self.rate
    }
}
