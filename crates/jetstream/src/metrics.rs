//! The status of a service as metrics in the `OpenMetrics` text format, for Prometheus.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::{Hop, Status, StatusBoard};

/// Messages or transactions that a hop knows to be waiting. Labels: `hop`, `subject`.
const HOP_LAG: &str = "deltamesh_hop_lag_changes";
/// Rows or messages per second over the last seconds. Labels: `hop`, `subject`.
const HOP_RATE: &str = "deltamesh_hop_rate_changes_per_second";
/// When the fault that a part has now began, in seconds since 1970-01-01 UTC. Labels: `part`. Absent while the part works.
const FAULT_SINCE: &str = "deltamesh_part_fault_timestamp_seconds";
/// Faults that began since the process was started, of all parts.
const FAULTS: &str = "deltamesh_part_faults";

/// Microseconds in a second.
const MICROS: f64 = 1e6;

impl StatusBoard {
    /// One scrape: what is on the board, as metrics with the labels `service` and `name`.
    ///
    /// # Errors
    /// The text cannot be written.
    pub fn metrics(&self) -> Result<String, fmt::Error> {
        let status = self.status();
        let labels = [("service", status.service), ("name", status.instance)];
        let labels = labels.map(|(label, value)| (label.into(), value.into()));
        let mut registry = Registry::with_labels(labels.into_iter());
        registry.register_collector(Box::new(self.clone()));
        let mut out = String::new();
        text::encode(&mut out, &registry)?;
        Ok(out)
    }
}

impl Collector for StatusBoard {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Status { hops, faults, .. } = self.status();
        let of_hop = |hop: &Hop| vec![("hop", hop.hop.clone()), ("subject", hop.subject.clone())];
        let lags = hops.iter().map(|hop| (of_hop(hop), exact(hop.lag)));
        gauges(&mut encoder, HOP_LAG, "messages or transactions that are known to be waiting", lags)?;
        let rates = hops.iter().map(|hop| (of_hop(hop), hop.rate));
        gauges(&mut encoder, HOP_RATE, "rows or messages per second over the last seconds", rates)?;
        let since =
            faults.iter().map(|fault| (vec![("part", fault.part.clone())], exact(fault.since) / MICROS));
        gauges(&mut encoder, FAULT_SINCE, "when the fault that a part has now began", since)?;
        let help = "faults that began since the process was started";
        let raised = encoder.encode_descriptor(FAULTS, help, None, MetricType::Counter)?;
        ConstCounter::new(self.raised()).encode(raised)
    }
}

fn gauges(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl Iterator<Item = (Vec<(&'static str, String)>, f64)>,
) -> fmt::Result {
    let mut encoder = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in values {
        ConstGauge::new(value).encode(encoder.encode_family(&labels)?)?;
    }
    Ok(())
}

/// Counts and microseconds since 1970 are below 2^53.
#[expect(clippy::cast_precision_loss, reason = "as said")]
fn exact(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use crate::{Hop, StatusBoard};

    #[test]
    fn what_is_on_the_board() {
        let board = StatusBoard::new("ingest-genji", "app");
        board.set_hop(Hop {
            hop: "capture".into(),
            subject: "app".into(),
            lag: 7,
            rate: 1.5,
            ..Hop::default()
        });
        board.raise("relation \"t\"", "/d", "key cannot be decoded");
        board.raise("relation \"t\"", "/d", "key cannot be decoded (2)");
        board.raise("feed", "FEED_MAIN", "server is not available");
        board.clear("feed");
        let text = board.metrics().unwrap();
        let values = text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>();
        let labels = r#"service="ingest-genji",name="app""#;
        assert_eq!(
            values[0],
            format!(r#"deltamesh_hop_lag_changes{{{labels},hop="capture",subject="app"}} 7.0"#)
        );
        assert!(values[1].ends_with(r#"subject="app"} 1.5"#), "{text}");
        assert!(values[2].starts_with("deltamesh_part_fault_timestamp_seconds{"), "{text}");
        assert!(values[2].contains(r#"part="relation \"t\"""#), "{text}");
        assert_eq!(values[3], format!("deltamesh_part_faults_total{{{labels}}} 2"));
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
