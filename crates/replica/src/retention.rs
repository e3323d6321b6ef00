//! How much of the change log is kept for those who resume.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

/// How much of the change log is kept behind the published position. A change goes when one of the bounds is reached; what is
/// not published yet stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Newest changes that are kept; none: any number.
    pub changes: Option<NonZeroU64>,
    /// Time that a change is kept after it was captured at its source; none: forever.
    pub age: Option<Duration>,
}

impl Default for Retention {
    fn default() -> Self {
        Self { changes: NonZeroU64::new(1_000_000), age: None }
    }
}

/// A text that is no retention.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionError(String);

impl fmt::Display for RetentionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "retention is a number of changes, a time like 12h or 7d, both, or forever, not {:?}",
            self.0
        )
    }
}

impl std::error::Error for RetentionError {}

impl Retention {
    /// The moment before which changes are too old, in microseconds since 1970-01-01 UTC.
    pub(crate) fn oldest_us(&self) -> Option<i64> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let oldest = now.saturating_sub(self.age?);
        i64::try_from(oldest.as_micros()).ok()
    }
}

impl FromStr for Retention {
    type Err = RetentionError;

    /// `1000000`, `7d`, `7d,1000000` or `forever`.
    fn from_str(text: &str) -> Result<Self, RetentionError> {
        let mut retention = Self { changes: None, age: None };
        if text == "forever" {
            return Ok(retention);
        }
        let bad = || RetentionError(text.to_owned());
        for part in text.split(',') {
            let unit = UNITS.iter().find_map(|(unit, seconds)| Some((part.strip_suffix(*unit)?, seconds)));
            let (number, is_new) = match unit {
                None => (part, retention.changes.is_none()),
                Some((number, _)) => (number, retention.age.is_none()),
            };
            let number = number.parse::<NonZeroU64>().ok().filter(|_| is_new).ok_or_else(bad)?;
            match unit {
                None => retention.changes = Some(number),
                Some((_, seconds)) => {
                    let seconds = number.get().checked_mul(*seconds).ok_or_else(bad)?;
                    retention.age = Some(Duration::from_secs(seconds));
                }
            }
        }
        Ok(retention)
    }
}

impl fmt::Display for Retention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.changes, self.age) {
            (None, None) => f.write_str("forever"),
            (Some(changes), None) => write!(f, "{changes}"),
            (None, Some(age)) => write!(f, "{}s", age.as_secs()),
            (Some(changes), Some(age)) => write!(f, "{}s,{changes}", age.as_secs()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let check = |text: &str, changes: Option<u64>, seconds: Option<u64>, shown: &str| {
            let retention: Retention = text.parse().unwrap();
            assert_eq!(retention.changes.map(NonZeroU64::get), changes, "{text}");
            assert_eq!(retention.age.map(|age| age.as_secs()), seconds, "{text}");
            assert_eq!(retention.to_string(), shown);
            assert_eq!(shown.parse(), Ok(retention));
        };
        check("1000000", Some(1_000_000), None, "1000000");
        check("7d", None, Some(604_800), "604800s");
        check("12h,500", Some(500), Some(43_200), "43200s,500");
        check("forever", None, None, "forever");
        for bad in ["", "0", "0s", "7w", "1d,2d", "1,2", "-1", "forever,1", "99999999999999999999d"] {
            assert!(bad.parse::<Retention>().is_err(), "{bad}");
        }
    }
}
