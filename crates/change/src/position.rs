//! Where in a source's history something happened.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The position that the source's engine itself can seek to. Opaque to everyone but its own ingest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EnginePosition {
    /// Sequence number after the transaction: for Genji, Pebble's next sequence number.
    pub sequence: u64,
    /// Number of the log file that holds the transaction's end.
    pub log: u64,
    /// Byte offset in that file just behind the transaction.
    pub offset: u64,
}

/// Position of a transaction: incarnation of the source, contiguous ordinal in it, engine position.
///
/// The ordinal starts at 1 for each incarnation and has no holes, so that a consumer finds a lost message by arithmetic.
/// Text form, used in headers and cursors: `incarnation/ordinal/sequence.log.offset`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SourcePosition {
    /// Names one life of the source's history: changes when the history is not a continuation.
    pub incarnation: String,
    /// Ordinal of the transaction within the incarnation, from 1.
    pub ordinal: u64,
    /// Where the engine stands after it.
    pub engine: EnginePosition,
}

/// A text that is not a position.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a source position: expected incarnation/ordinal/sequence.log.offset")]
pub struct PositionError;

impl fmt::Display for SourcePosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let EnginePosition { sequence, log, offset } = self.engine;
        write!(f, "{}/{}/{sequence}.{log}.{offset}", self.incarnation, self.ordinal)
    }
}

impl FromStr for SourcePosition {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.rsplitn(3, '/');
        let engine = parts.next().ok_or(PositionError)?;
        let ordinal = parts.next().ok_or(PositionError)?.parse().map_err(|_| PositionError)?;
        let incarnation = parts.next().ok_or(PositionError)?.to_owned();
        let mut numbers = engine.split('.').map(|number| number.parse::<u64>().map_err(|_| PositionError));
        let mut next = || numbers.next().unwrap_or(Err(PositionError));
        let engine = EnginePosition { sequence: next()?, log: next()?, offset: next()? };
        if numbers.next().is_some() {
            return Err(PositionError);
        }
        Ok(Self { incarnation, ordinal, engine })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips() {
        let position = SourcePosition {
            incarnation: "a/b".into(),
            ordinal: 7,
            engine: EnginePosition { sequence: 42, log: 2, offset: 310 },
        };
        assert_eq!(position.to_string(), "a/b/7/42.2.310");
        assert_eq!("a/b/7/42.2.310".parse(), Ok(position));
        for bad in ["", "x", "a/1", "a/1/2.3", "a/1/2.3.4.5", "a/b/1.2.3"] {
            assert_eq!(bad.parse::<SourcePosition>(), Err(PositionError), "{bad}");
        }
    }
}
