//! Figures as they are printed.

use std::time::Duration;

/// Median of rates.
pub(crate) fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Latencies of one run.
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    /// Takes the measured values in any order.
    pub(crate) fn new(mut values: Vec<Duration>) -> Self {
        values.sort();
        Self(values)
    }

    /// Milliseconds that `share` (0 to 1) of the values do not exceed.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let index = ((self.0.len().saturating_sub(1)) as f64 * share).round() as usize;
        self.0.get(index).map_or(f64::NAN, |value| value.as_secs_f64() * 1000.0)
    }

    /// One line: count, p50, p99, largest.
    pub(crate) fn line(&self) -> String {
        let (p50, p99, worst) = (self.quantile(0.5), self.quantile(0.99), self.quantile(1.0));
        format!("{:>7} commits   p50 {p50:7.2} ms   p99 {p99:7.2} ms   worst {worst:7.2} ms", self.0.len())
    }
}

/// Rows per second.
pub(crate) fn rate(rows: i64, elapsed: Duration) -> f64 {
    #[allow(clippy::cast_precision_loss)]
    let rows = rows as f64;
    rows / elapsed.as_secs_f64()
}
