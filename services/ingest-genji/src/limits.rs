//! How long sessions may take, and those who wait for them.

use std::time::Duration;

/// Limits of the sessions of a hosted source. One session is open at a time: Genji has one writer.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Limits {
    /// Roll back a session that had no statement for this time (`500ms`, `10s`, `2m`).
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub session_idle: Duration,
    /// Roll back a session this long after its BEGIN, whatever it does.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    pub session_total: Duration,
    /// Refuse a request that waited this long for the session of another.
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    pub session_wait: Duration,
    /// Requests that may wait for the session of another; more are refused.
    #[arg(long, value_name = "COUNT", default_value_t = 1024)]
    pub session_waiting: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            session_idle: Duration::from_secs(10),
            session_total: Duration::from_secs(60),
            session_wait: Duration::from_secs(5),
            session_waiting: 1024,
        }
    }
}

impl Limits {
    /// For `--print-config`; durations in milliseconds.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        serde_json::json!({
            "session_idle_ms": milliseconds(self.session_idle),
            "session_total_ms": milliseconds(self.session_total),
            "session_wait_ms": milliseconds(self.session_wait),
            "session_waiting": self.session_waiting,
        })
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let milliseconds = match unit {
        "ms" => Some(1),
        "s" => Some(1000),
        "m" => Some(60_000),
        _ => None,
    };
    let number = number.parse::<u64>().ok().filter(|number| *number > 0);
    number
        .zip(milliseconds)
        .and_then(|(number, unit)| number.checked_mul(unit))
        .map(Duration::from_millis)
        .ok_or_else(|| "a duration is a number above 0 with ms, s or m behind it".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for bad in ["", "10", "s", "0s", "1h", "-1s", "99999999999999999999s", "18446744073709551615m"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
