//! Transactions that the engine wrote in parts.
//!
//! A transaction of 10 MiB and more is written before it commits, part by part, each with the former values of the keys
//! that it touched in the rollback segment. The batch that deletes the segment ends it, by commit or rollback alike.

use std::collections::HashMap;

use deltamesh_change::EnginePosition;

use crate::batch::{Batch, BatchWriter, Operation};
use crate::engine::{Cleared, Engine};
use crate::overlay::Overlay;
use crate::scan::Scan;
use crate::view::LiveTable;
use crate::{Error, key};

mod spool;

pub(crate) use spool::Spool;

/// What a batch means for the transaction that it belongs to: the most that one of its operations means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// Only temporary trees of a sort or union.
    Temporary,
    /// A whole transaction, or one more part of a spilled one.
    Plain,
    /// A part of a spilled transaction that goes on.
    Spilled,
    /// The last part of a spilled transaction.
    Last,
}

/// What kind of part a batch is.
pub(crate) fn part(engine: Engine, batch: &Batch<'_>) -> Result<Part, Error> {
    let mut part = Part::Temporary;
    for operation in &batch.operations {
        let of_operation = match *operation {
            Operation::RangeDelete { start, end } => match engine.cleared(start, end)? {
                Cleared::Nothing => Part::Temporary,
                Cleared::Segment => Part::Last,
                Cleared::Space(_) => Part::Plain,
            },
            Operation::Set { key, .. } if engine.namespace_of(key) == Some(key::ROLLBACK) => Part::Spilled,
            Operation::Set { key, .. } | Operation::Delete { key } => match engine.namespace_of(key) {
                Some(key::FIRST_TRANSIENT..) => Part::Temporary,
                _ => Part::Plain,
            },
        };
        part = part.max(of_operation);
    }
    Ok(part)
}

/// The parts of a spilled transaction that were read so far.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    pub(crate) records: Spool,
    /// The operations among them that change the catalog, as batches.
    pub(crate) catalog: Vec<Vec<u8>>,
    position: EnginePosition,
}

impl Pending {
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Position behind the last part.
    pub(crate) fn position(&self) -> EnginePosition {
        self.position
    }

    /// Adds a part. After an error it is not among them.
    pub(crate) fn push(
        &mut self,
        engine: Engine,
        record: Vec<u8>,
        position: EnginePosition,
    ) -> Result<(), Error> {
        let of_catalog = catalog_operations(engine, &Batch::decode(&record)?);
        self.records.push(record)?;
        self.catalog.extend(of_catalog);
        self.position = position;
        Ok(())
    }
}

/// The operations of a batch that change the catalog, if there are any.
fn catalog_operations(engine: Engine, batch: &Batch<'_>) -> Option<Vec<u8>> {
    let mut writer = BatchWriter::new();
    for operation in &batch.operations {
        match *operation {
            Operation::Set { key, value } if engine.namespace_of(key) == Some(key::CATALOG) => {
                writer.set(key, value);
            }
            Operation::Delete { key } if engine.namespace_of(key) == Some(key::CATALOG) => writer.delete(key),
            _ => {}
        }
    }
    (!writer.is_empty()).then(|| writer.finish(batch.sequence))
}

/// A key that an open transaction touched.
struct BeforeImage {
    sequence: u64,
    value: Option<Vec<u8>>,
}

/// A transaction that is open in the engine at the position of a snapshot.
pub(crate) struct OpenTransaction {
    /// Sequence number in its first part.
    pub(crate) first: u64,
    /// Its effect so far, as one batch.
    pub(crate) record: Vec<u8>,
}

/// Finds an open spilled transaction, takes its effect out of `overlay`, and returns it.
///
/// Keys of the rollback segment below `process_start` were orphaned by a host that died: Genji does not roll them back,
/// so what they belong to is committed. Segment keys that do not decode occur in real databases and are passed over.
pub(crate) fn take_open(
    tables: &[LiveTable],
    overlay: &mut Overlay,
    process_start: u64,
) -> Result<Option<OpenTransaction>, Error> {
    let engine = overlay.engine();
    let before = before_images(tables, overlay, process_start)?;
    let Some(first) = before.values().map(|image| image.sequence).min() else { return Ok(None) };
    let mut prefixes: Vec<Vec<u8>> =
        before.keys().filter_map(|key| engine.namespace_of(key)).map(|it| engine.prefix(it)).collect();
    prefixes.sort_unstable();
    prefixes.dedup();
    let mut written = Vec::new();
    for prefix in prefixes {
        let mut scan = Scan::new(tables, overlay, prefix)?;
        while let Some(found) = scan.next()? {
            if before.contains_key(&found.key) {
                written.push(found);
            }
        }
    }
    written.sort_by_key(|found| found.sequence);
    let mut batch = BatchWriter::new();
    let kept: std::collections::HashSet<&[u8]> = written.iter().map(|found| found.key.as_slice()).collect();
    before.keys().filter(|key| !kept.contains(key.as_slice())).for_each(|key| batch.delete(key));
    written.iter().for_each(|found| batch.set(&found.key, &found.value));
    let record = batch.finish(first);
    for (key, image) in before {
        overlay.restore(key, image.value);
    }
    Ok(Some(OpenTransaction { first, record }))
}

fn before_images(
    tables: &[LiveTable],
    overlay: &Overlay,
    process_start: u64,
) -> Result<HashMap<Vec<u8>, BeforeImage>, Error> {
    let engine = overlay.engine();
    let mut cleared = overlay.cleared;
    for table in tables {
        for range in table.range_deletes()? {
            // Chai's are cut into pieces, which the scan knows.
            if engine == Engine::Genji {
                engine.cleared(&range.start, &range.end)?;
                cleared = cleared.max(range.sequence);
            }
        }
    }
    let mut images = HashMap::new();
    let mut scan = Scan::new(tables, overlay, engine.prefix(key::ROLLBACK))?;
    while let Some(found) = scan.next()? {
        if found.sequence <= cleared || found.sequence < process_start {
            continue;
        }
        if let Some(original) = engine.original(&found.key) {
            let value = Some(found.value).filter(|value| *value != [0]);
            images.insert(original, BeforeImage { sequence: found.sequence, value });
        }
    }
    Ok(images)
}
