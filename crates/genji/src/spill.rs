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

/// Size that a record of an open transaction's effect has at least, if more follows.
const RECORD_BYTES: usize = 1 << 20;

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
    /// Whether it has a value now.
    is_written: bool,
}

/// The keys that an open transaction touched, as they were before it: in memory.
type BeforeImages = HashMap<Vec<u8>, BeforeImage>;

/// Finds an open spilled transaction, takes its effect out of `overlay`, and adds it to `pending`, which lies at `end`.
/// Returns the sequence number in its first part.
///
/// Keys of the rollback segment below `process_start` were orphaned by a host that died: Genji does not roll them back,
/// so what they belong to is committed. Segment keys that do not decode occur in real databases and are passed over.
pub(crate) fn take_open(
    tables: &[LiveTable],
    overlay: &mut Overlay,
    process_start: u64,
    end: EnginePosition,
    pending: &mut Pending,
) -> Result<Option<u64>, Error> {
    let mut before = before_images(tables, overlay, process_start)?;
    let Some(first) = before.values().map(|image| image.sequence).min() else { return Ok(None) };
    keep_effect(tables, overlay, &mut before, Effect { first, end, pending, batch: BatchWriter::new() })?;
    for (key, image) in before {
        overlay.restore(key, image.value);
    }
    Ok(Some(first))
}

/// The effect of an open transaction, as records.
struct Effect<'a> {
    first: u64,
    end: EnginePosition,
    pending: &'a mut Pending,
    batch: BatchWriter,
}

impl Effect<'_> {
    /// Adds the batch to what is pending when it is large enough, or in any case.
    fn flush(&mut self, engine: Engine, at: usize) -> Result<(), Error> {
        if self.batch.is_empty() || self.batch.size() < at {
            return Ok(());
        }
        self.pending.push(engine, std::mem::take(&mut self.batch).finish(self.first), self.end)
    }
}

/// Keeps what the transaction has done so far, in the order that a reader needs: the ends of keys while their tables are
/// known, then definitions, then rows.
fn keep_effect(
    tables: &[LiveTable],
    overlay: &Overlay,
    before: &mut BeforeImages,
    mut effect: Effect<'_>,
) -> Result<(), Error> {
    let engine = overlay.engine();
    let mut namespaces: Vec<i64> = before.keys().filter_map(|key| engine.namespace_of(key)).collect();
    namespaces.sort_unstable();
    namespaces.dedup();
    let mut definitions = Vec::new();
    for &namespace in &namespaces {
        let mut scan = Scan::new(tables, overlay, engine.prefix(namespace))?;
        while let Some(found) = scan.next()? {
            let Some(image) = before.get_mut(&found.key) else { continue };
            image.is_written = true;
            if namespace == key::CATALOG {
                definitions.push(found);
            }
        }
    }
    for (key, _) in before.iter().filter(|(_, image)| !image.is_written) {
        effect.batch.delete(key);
        effect.flush(engine, RECORD_BYTES)?;
    }
    definitions.sort_by_key(|found| found.sequence);
    definitions.iter().for_each(|found| effect.batch.set(&found.key, &found.value));
    for namespace in namespaces.into_iter().filter(|&namespace| namespace != key::CATALOG) {
        let mut scan = Scan::new(tables, overlay, engine.prefix(namespace))?;
        while let Some(found) = scan.next()? {
            if before.contains_key(&found.key) {
                effect.batch.set(&found.key, &found.value);
                effect.flush(engine, RECORD_BYTES)?;
            }
        }
    }
    effect.flush(engine, 0)
}

fn before_images(tables: &[LiveTable], overlay: &Overlay, process_start: u64) -> Result<BeforeImages, Error> {
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
            images.insert(original, BeforeImage { sequence: found.sequence, value, is_written: false });
        }
    }
    Ok(images)
}
