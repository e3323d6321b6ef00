//! Positions of sequences, and the rows that keep them (format description §8).

use std::collections::BTreeMap;

use deltamesh_change::Value;

use crate::catalog::SequenceDefinition;
use crate::{Error, ErrorKind, key, value};

/// The sequence that Genji numbers its namespaces with.
pub(crate) const STORE: &str = "__genji_store_seq";

/// The sequence that gives docids; 64 are reserved with one write.
pub(crate) fn docid_definition(name: String) -> SequenceDefinition {
    SequenceDefinition {
        name,
        increment: None,
        min: None,
        max: None,
        start: None,
        cache: Some(64),
        cycle: false,
    }
}

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

    /// Takes the next value, and says what to store if the reservation is used up.
    pub(crate) fn next(&mut self, definition: &SequenceDefinition) -> Result<(i64, Option<i64>), Error> {
        let (step, (min, max)) = (definition.step(), definition.bounds());
        let used_up = || {
            let reason = format!("sequence {} has reached its end", definition.name);
            Error::new(ErrorKind::Constraint, reason)
        };
        let (next, is_first) = match self.current {
            None => (definition.first(), true),
            Some(current) => match current.checked_add(step).filter(|next| (min..=max).contains(next)) {
                Some(next) => (next, false),
                None if definition.cycle => (if step > 0 { min } else { max }, true),
                None => return Err(used_up()),
            },
        };
        self.current = Some(next);
        let is_reserved = |lease: i64| if step > 0 { next <= lease } else { next >= lease };
        if !is_first && self.lease.is_some_and(is_reserved) {
            return Ok((next, None));
        }
        // Without a cache Genji stores one value too few; the value itself is right for both.
        let ahead = definition.cache.unwrap_or(1).max(1) - 1;
        let lease =
            if step > 0 { next.saturating_add(ahead).min(max) } else { next.saturating_sub(ahead).max(min) };
        self.lease = Some(lease);
        Ok((next, Some(lease)))
    }

    /// Goes to where an undone transaction came; what it had reserved is not stored.
    pub(crate) fn pass(&mut self, undone: Self) {
        if undone != *self {
            *self = Self { current: undone.current, lease: None };
        }
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
    use crate::catalog::Definition;

    #[test]
    fn docids_are_reserved_in_batches() {
        let definition = docid_definition("t_seq".to_owned());
        let mut position = Position::stored(None);
        assert_eq!(position.next(&definition).unwrap(), (1, Some(64)));
        for expected in 2..=64 {
            assert_eq!(position.next(&definition).unwrap(), (expected, None));
        }
        assert_eq!(position.to_release(), None);
        assert_eq!(position.next(&definition).unwrap(), (65, Some(128)));
        assert_eq!(position.to_release(), Some(65));
        // After a kill the reserved values are skipped.
        assert_eq!(Position::stored(Some(128)).next(&definition).unwrap(), (129, Some(192)));
    }

    fn check(sql: &str, count: usize, expected: &str) {
        let Ok(Definition::Sequence(definition)) = Definition::parse(sql) else { panic!("{sql}") };
        let mut position = Position::stored(None);
        let values: Vec<String> = (0..count)
            .map(|_| match position.next(&definition) {
                Ok((next, Some(lease))) => format!("{next}/{lease}"),
                Ok((next, None)) => next.to_string(),
                Err(error) => error.to_string(),
            })
            .collect();
        assert_eq!(values.join(" "), expected, "{sql}");
    }

    #[test]
    fn sequences_keep_their_bounds() {
        check("CREATE SEQUENCE s MAXVALUE 3 CACHE 2", 4, "1/2 2 3/3 sequence s has reached its end");
        check("CREATE SEQUENCE s MAXVALUE 3 CACHE 2 CYCLE", 5, "1/2 2 3/3 1/2 2");
        check(
            "CREATE SEQUENCE s INCREMENT BY -2 MINVALUE -5 START WITH 0 CACHE 0",
            4,
            "0/0 -2/-2 -4/-4 sequence s has reached its end",
        );
    }

    #[test]
    fn rows_as_genji_writes_them() {
        assert_eq!(row_key("t1_seq"), b"\x46\xda\x06t1_seq");
        assert_eq!(row_value("t1_seq", Some(64)), b"\xda\x06t1_seq\x84");
        assert_eq!(decode_row(&row_value("s", None)).unwrap(), ("s".to_owned(), None));
    }
}
