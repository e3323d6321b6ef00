//! Message headers as an ordered list of names and values.

use async_nats::HeaderMap;

use crate::{Error, ErrorKind};

/// Headers of a message. Names are compared without case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// No headers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a header, keeping those that are there.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.push((name.into(), value.into()));
        self
    }

    /// Value of the first header of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Size on the wire, in bytes.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.0.iter().map(|(name, value)| name.len() + value.len() + 4).sum()
    }

    /// Whether every header here is also there, with the same value.
    pub(crate) fn is_subset_of(&self, other: &Self) -> bool {
        self.iter().all(|(name, value)| other.get(name) == Some(value))
    }

    pub(crate) fn to_nats(&self) -> Result<HeaderMap, Error> {
        let mut map = HeaderMap::new();
        for (name, value) in self.iter() {
            let invalid = |source| Error::with(ErrorKind::Invalid, format!("set header {name}"), source);
            let header: async_nats::HeaderName = name.parse().map_err(|_| invalid("name is not allowed"))?;
            let value: async_nats::HeaderValue =
                value.parse().map_err(|_| invalid("value holds a line break"))?;
            map.append(header, value);
        }
        Ok(map)
    }

    pub(crate) fn from_nats(map: &HeaderMap) -> Self {
        let mut headers = Self::new();
        for (name, values) in map.iter() {
            for value in values {
                headers.0.push((name.to_string(), value.as_str().to_owned()));
            }
        }
        headers
    }
}
