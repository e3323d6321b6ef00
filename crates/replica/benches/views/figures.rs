//! Figures as they are printed.

use std::time::Duration;

/// What the batches of one size took.
#[derive(Debug, Clone, Default)]
pub(crate) struct Figures {
    changes: usize,
    times: Vec<Duration>,
}

impl Figures {
    pub(crate) fn add(&mut self, changes: usize, time: Duration) {
        self.changes += changes;
        self.times.push(time);
    }

    /// Changes a second.
    pub(crate) fn rate(&self) -> f64 {
        self.changes as f64 / self.times.iter().sum::<Duration>().as_secs_f64()
    }

    /// Milliseconds that this share (0 to 1) of the batches did not exceed.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let mut times = self.times.clone();
        times.sort_unstable();
        let index = (times.len().saturating_sub(1) as f64 * share).round() as usize;
        times.get(index).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
    }
}

/// Median of some rates.
pub(crate) fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or(f64::NAN)
}
