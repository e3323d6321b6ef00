//! Metadata of a call, and the keys that this crate itself understands.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::generated::nrpc;

/// Request key with which a caller takes header and trailer metadata; any value.
///
/// Common Go clients crash on metadata that they did not prepare for, so nobody else gets any.
pub const ACCEPT_METADATA: &str = "nats-grpc-accept-metadata";
/// Request key of the most messages per second that the client wants.
pub(crate) const MAX_RATE: &str = "nats-grpc-max-rate";
/// Request key of the deadline: at most 8 digits and a unit of `H M S m u n`.
pub(crate) const TIMEOUT: &str = "grpc-timeout";

/// Keys in lower case, each with its values in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata(BTreeMap<String, Vec<String>>);

impl Metadata {
    /// Nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a value behind those that the key has.
    pub fn insert(&mut self, key: &str, value: impl Into<String>) {
        self.0.entry(key.to_ascii_lowercase()).or_default().push(value.into());
    }

    /// [`Metadata::insert`] while building.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.insert(key, value);
        self
    }

    /// First value of a key; `key` is in lower case.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|values| values.first()).map(String::as_str)
    }

    /// Key and value pairs, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().flat_map(|(key, values)| values.iter().map(|value| (key.as_str(), value.as_str())))
    }

    /// Whether it holds no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes the deadline out. Other `grpc-` keys mean nothing here and are dropped with it.
    pub(crate) fn take_timeout(&mut self) -> Option<Duration> {
        if self.0.is_empty() {
            return None;
        }
        let timeout = self.get(TIMEOUT).and_then(parse_timeout);
        self.0.retain(|key, _values| !key.starts_with("grpc-"));
        timeout
    }

    pub(crate) fn from_wire(metadata: Option<nrpc::Metadata>) -> Self {
        let mut keys = BTreeMap::<String, Vec<String>>::new();
        for (mut key, strings) in metadata.map(|metadata| metadata.md).unwrap_or_default() {
            key.make_ascii_lowercase();
            keys.entry(key).or_default().extend(strings.values);
        }
        Self(keys)
    }

    /// Absent if empty.
    pub(crate) fn into_wire(self) -> Option<nrpc::Metadata> {
        if self.0.is_empty() {
            return None;
        }
        let md = self.0.into_iter().map(|(key, values)| (key, nrpc::Strings { values })).collect();
        Some(nrpc::Metadata { md })
    }
}

/// A `grpc-timeout` value; anything else is `None`.
fn parse_timeout(text: &str) -> Option<Duration> {
    let unit = *text.as_bytes().last()?;
    let digits = text.get(..text.len() - 1)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    match unit {
        b'H' => Some(Duration::from_secs(number * 3600)),
        b'M' => Some(Duration::from_secs(number * 60)),
        b'S' => Some(Duration::from_secs(number)),
        b'm' => Some(Duration::from_millis(number)),
        b'u' => Some(Duration::from_micros(number)),
        b'n' => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

/// The finest unit that keeps to 8 digits.
pub(crate) fn format_timeout(timeout: Duration) -> String {
    let micros = timeout.as_micros();
    let millis = timeout.as_millis();
    if micros < 100_000_000 {
        format!("{micros}u")
    } else if millis < 100_000_000 {
        format!("{millis}m")
    } else {
        format!("{}S", timeout.as_secs().min(99_999_999))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Metadata, format_timeout, parse_timeout};

    #[test]
    fn timeouts_follow_the_grpc_syntax() {
        assert_eq!(parse_timeout("1500m"), Some(Duration::from_millis(1500)));
        assert_eq!(parse_timeout("2H"), Some(Duration::from_secs(7200)));
        for bad in ["", "m", "5", "123456789S", "-5S", "5 S", "5é", "é"] {
            assert_eq!(parse_timeout(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_written_timeout_is_read_back() {
        for timeout in [Duration::from_micros(1), Duration::from_secs(99), Duration::from_secs(86_400)] {
            assert_eq!(parse_timeout(&format_timeout(timeout)), Some(timeout));
        }
    }

    #[test]
    fn grpc_keys_are_not_handed_on() {
        let mut metadata =
            Metadata::new().with("GRPC-Timeout", "1S").with("grpc-encoding", "gzip").with("X-Trace", "a");
        assert_eq!(metadata.take_timeout(), Some(Duration::from_secs(1)));
        assert_eq!(metadata, Metadata::new().with("x-trace", "a"));
    }
}
