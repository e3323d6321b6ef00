//! How far a snapshot is, for the status board and the log.

use std::time::Duration;

use deltamesh_jetstream::Hop;
use serde_json::json;
use tokio::time::Instant;
use tracing::info;

use crate::meter::Meter;

/// How often the log says how far it is.
const SAY: Duration = Duration::from_secs(5);

/// A snapshot that is being read or published.
pub(crate) struct Progress {
    source: String,
    rows: u64,
    relation: String,
    /// Relations whose rows have begun; those without rows are passed over.
    begun: usize,
    relations: usize,
    rate: Meter,
    /// How long the rows that are left take, where that is known.
    left: Option<Duration>,
    said: Instant,
}

impl Progress {
    pub(crate) fn new(source: &str, relations: usize) -> Self {
        Self {
            source: source.to_owned(),
            rows: 0,
            relation: String::new(),
            begun: 0,
            relations,
            rate: Meter::new(),
            left: None,
            said: Instant::now(),
        }
    }

    pub(crate) fn has_no_relations(&self) -> bool {
        self.relations == 0
    }

    /// Rows of a relation were read; those behind them take as long as `left`, where that is known.
    pub(crate) fn add(&mut self, relation: &str, rows: u64, left: Option<Duration>) {
        if self.relation != relation {
            relation.clone_into(&mut self.relation);
            self.begun += 1;
        }
        self.rows += rows;
        self.rate.add(rows);
        self.left = left;
    }

    /// For the status board. Also writes a line to the log from time to time.
    pub(crate) fn hop(&mut self) -> Hop {
        let rate = self.rate.rate();
        let is_due = self.said.elapsed() >= SAY;
        if is_due {
            self.said = Instant::now();
        }
        let Self { source, rows, relation, begun, relations, .. } = &*self;
        let seconds_left = self.left.map(|left| left.as_secs());
        if is_due {
            info!(source, rows, rate, relation, begun, relations, seconds_left, "snapshot goes on");
        }
        let position = if relation.is_empty() {
            "begins".to_owned()
        } else {
            let left = seconds_left.map(|seconds| format!(", about {seconds} s left")).unwrap_or_default();
            format!("{rows} rows, in relation {relation} ({begun} of {relations}){left}")
        };
        let mut hop = Hop { subject: source.clone(), position, rate, ..Hop::default() };
        hop.more.insert("rows".to_owned(), json!(rows));
        hop
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_where_it_is() {
        let mut progress = Progress::new("app", 3);
        assert_eq!(progress.hop().position, "begins");
        for (relation, rows) in [("t", 500), ("t", 20), ("u", 7)] {
            progress.add(relation, rows, None);
        }
        let hop = progress.hop();
        assert_eq!(hop.position, "527 rows, in relation u (2 of 3)");
        assert_eq!((hop.subject.as_str(), hop.more["rows"].as_u64()), ("app", Some(527)));
        progress.add("u", 3, Some(Duration::from_millis(90_900)));
        assert_eq!(progress.hop().position, "530 rows, in relation u (2 of 3), about 90 s left");
    }
}
