//! What stands on stderr: progress of a long reading, faults, and why it ended.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::io::{Stderr, Write};
use std::time::{Duration, Instant};

use super::Failure;

/// Readings that take no longer say nothing.
const SILENT: Duration = Duration::from_secs(2);
/// Items between two looks at the clock.
const LOOK: u64 = 1024;

/// Counts what is read, and tells about it.
pub(super) struct Progress {
    out: Stderr,
    started: Instant,
    told: Instant,
    count: u64,
    what: &'static str,
    /// Faults by place and reason, not told yet.
    found: BTreeMap<(String, String), u64>,
    faults: u64,
}

impl Progress {
    pub(super) fn new(out: Stderr) -> Self {
        let now = Instant::now();
        Self { out, started: now, told: now, count: 0, what: "", found: BTreeMap::new(), faults: 0 }
    }

    /// One more row or transaction was read, and how long the others take, where that is known.
    pub(super) fn read(&mut self, what: &'static str, left: impl FnOnce() -> Option<Duration>) {
        if self.what != what {
            (self.what, self.count) = (what, 0);
            self.started = Instant::now();
            self.told = self.started;
        }
        self.count += 1;
        if self.count.is_multiple_of(LOOK) && self.told.elapsed() >= SILENT {
            self.told = Instant::now();
            self.tell(left());
        }
    }

    fn tell(&mut self, left: Option<Duration>) {
        let seconds = self.started.elapsed().as_secs_f64();
        let rate = (self.count as f64 / seconds) as u64;
        let left = left.map(|left| format!(", about {} s left", left.as_secs())).unwrap_or_default();
        self.say(&format!("{} {} in {seconds:.1} s, {rate}/s{left}", self.count, self.what));
    }

    /// A definition that cannot be read.
    pub(super) fn fault(&mut self, place: &str, reason: &str) {
        self.faults += 1;
        *self.found.entry((place.to_owned(), reason.to_owned())).or_default() += 1;
    }

    /// A row that cannot be read.
    pub(super) fn row_fault(&mut self, table: &str, error: &deltamesh_genji::Error) {
        self.fault(table, &error.to_string());
    }

    /// How many faults were found.
    pub(super) fn faults(&self) -> u64 {
        self.faults
    }

    /// Everything of one kind was read: says how much, if that took long, and which faults there were.
    pub(super) fn end(&mut self) {
        if self.count > 0 && self.started.elapsed() >= SILENT {
            self.tell(None);
        }
        for ((place, reason), count) in std::mem::take(&mut self.found) {
            match count {
                1 => self.say(&format!("fault: {place}: {reason}")),
                _ => self.say(&format!("fault: {place}: {reason} ({count} times)")),
            }
        }
    }

    /// Why the reading ended early, with all causes.
    pub(super) fn failure(&mut self, failure: &Failure) {
        let mut text = failure.to_string();
        let mut cause = match failure {
            Failure::Read(error) => error.source(),
            Failure::Write(error) => Some(error as &dyn std::error::Error),
        };
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        self.say(&text);
    }

    /// A closed stderr leaves nobody to tell.
    fn say(&mut self, line: &str) {
        let _nobody = writeln!(self.out, "{line}");
    }
}
