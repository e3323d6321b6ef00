//! Positions of sequences, and the rows that keep them (format description §8).

use std::collections::BTreeMap;

use deltamesh_change::Value;

use crate::{Error, ErrorKind, key, value};

/// The sequence that Genji numbers its namespaces with.
pub(crate) const STORE: &str = "__genji_store_seq";
/// How many docids are reserved with one write.
const DOCID_CACHE: i64 = 64;

/// Where a sequence stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Position {
    /// Last value given out.
    current: Option<i64>,
    /// Last value that the stored row reserves.
    lease: Option<i64>,
}

/// Positions by name of the sequence.
pub(crate) type Positions = BTreeMap<String, Position>;

impl Position {
    /// The position of a sequence whose row has been read: everything it reserved counts as given out.
    pub(crate) fn stored(value: Option<i64>) -> Self {
        Self { current: value, lease: value }
    }

    /// The last value given out.
    pub(crate) fn last(self) -> Option<i64> {
        self.current
    }

    /// Takes the next docid, and says what to store if the reservation is used up.
    pub(crate) fn next_docid(&mut self) -> Result<(i64, Option<i64>), Error> {
        let used_up = || Error::new(ErrorKind::Unsupported, "docids are used up");
        let next = self.current.unwrap_or(0).checked_add(1).ok_or_else(used_up)?;
        self.current = Some(next);
        if self.lease.is_some_and(|lease| next <= lease) {
            return Ok((next, None));
        }
        let lease = next.saturating_add(DOCID_CACHE - 1);
        self.lease = Some(lease);
        Ok((next, Some(lease)))
    }

    /// The exact value to store when the database is closed, if the stored one is not exact.
    pub(crate) fn to_release(self) -> Option<i64> {
        if self.current == self.lease { None } else { self.current }
    }
}

/// Key of a sequence's row.
pub(crate) fn row_key(name: &str) -> Vec<u8> {
    let mut out = key::prefix(key::SEQUENCE);
    value::put_text(&mut out, name);
    out
}

/// Value of a sequence's row.
pub(crate) fn row_value(name: &str, stored: Option<i64>) -> Vec<u8> {
    let mut out = Vec::new();
    value::put_text(&mut out, name);
    match stored {
        Some(stored) => value::put_int(&mut out, stored),
        None => out.push(value::NULL),
    }
    out
}

/// Name and stored value of a sequence's row.
pub(crate) fn decode_row(mut bytes: &[u8]) -> Result<(String, Option<i64>), Error> {
    match (value::decode(&mut bytes)?, value::decode(&mut bytes)?) {
        (Value::Text(name), Value::Int(stored)) => Ok((name, Some(stored))),
        (Value::Text(name), Value::Null) => Ok((name, None)),
        _ => Err(Error::decode("sequence row has other fields")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docids_are_reserved_in_batches() {
        let mut position = Position::stored(None);
        assert_eq!(position.next_docid().unwrap(), (1, Some(64)));
        for expected in 2..=64 {
            assert_eq!(position.next_docid().unwrap(), (expected, None));
        }
        assert_eq!(position.to_release(), None);
        assert_eq!(position.next_docid().unwrap(), (65, Some(128)));
        assert_eq!(position.to_release(), Some(65));
        // After a kill the reserved values are skipped.
        assert_eq!(Position::stored(Some(128)).next_docid().unwrap(), (129, Some(192)));
    }

    #[test]
    fn rows_as_genji_writes_them() {
        assert_eq!(row_key("t1_seq"), b"\x46\xda\x06t1_seq");
        assert_eq!(row_value("t1_seq", Some(64)), b"\xda\x06t1_seq\x84");
        assert_eq!(decode_row(&row_value("s", None)).unwrap(), ("s".to_owned(), None));
    }
}
