//! What a database has besides rows: definitions and the values of sequences, as another directory has to have them too.

use crate::Error;
use crate::batch::Operation;
use crate::catalog::CatalogEntry;
use crate::engine::Engine;
use crate::key;
use crate::write::decode_sequence;

/// Names of the engine's own objects begin so.
const RESERVED: &str = "__genji_";

/// A change of a definition or of a sequence's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObjectChange {
    /// A table, index or sequence is defined so now; without the namespace, which is the directory's own.
    Define(CatalogEntry),
    /// There is no such object any more.
    Drop(String),
    /// A sequence has given out, or reserved, all values up to this one; none so far where it is absent.
    Value {
        /// Name of the sequence.
        sequence: String,
        /// The last value.
        last: Option<i64>,
    },
}

impl ObjectChange {
    /// What an operation changes besides rows; nothing where that is the engine's own.
    pub(crate) fn of(engine: Engine, operation: &Operation<'_>) -> Result<Option<Self>, Error> {
        // Another directory is made of Genji's alone.
        if engine == Engine::Chai {
            return Ok(None);
        }
        let (key, value) = match *operation {
            Operation::Set { key, value } => (key, Some(value)),
            Operation::Delete { key } => (key, None),
            Operation::RangeDelete { .. } => return Ok(None),
        };
        let change = match (engine.namespace_of(key), value) {
            (Some(key::CATALOG), Some(value)) => {
                Self::Define(CatalogEntry { namespace: None, ..CatalogEntry::decode(value)? })
            }
            (Some(key::CATALOG), None) => Self::Drop(CatalogEntry::name_of_key(key)?),
            (Some(key::SEQUENCE), Some(value)) => {
                let (sequence, last) = decode_sequence(value)?;
                Self::Value { sequence, last }
            }
            _ => return Ok(None),
        };
        Ok(Some(change).filter(|change| !change.name().starts_with(RESERVED)))
    }

    /// Name of the object.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Define(entry) => &entry.name,
            Self::Drop(name) => name,
            Self::Value { sequence, .. } => sequence,
        }
    }
}

/// The changes that operations make together, in order. What cannot be read is a fault of the relation, which its rows
/// report.
pub(crate) fn objects<'a>(
    engine: Engine,
    operations: impl Iterator<Item = &'a Operation<'a>>,
) -> Vec<ObjectChange> {
    operations.filter_map(|operation| ObjectChange::of(engine, operation).ok().flatten()).collect()
}
