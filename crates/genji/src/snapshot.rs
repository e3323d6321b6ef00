//! The rows of a database at one exact position.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use deltamesh_change::{EnginePosition, RelationSchema, Row};

use crate::batch::Operation;
use crate::catalog::{CatalogState, Space};
use crate::engine::Engine;
use crate::fault::{Fault, Faults};
use crate::follower::{Expected, Follower};
use crate::object::ObjectChange;
use crate::overlay::Overlay;
use crate::relation::Relation;
use crate::scan::{Found, Order, Scan};
use crate::spill::{self, Pending};
use crate::tail::Tail;
use crate::view::{LiveTable, View};
use crate::{Error, ErrorKind, ReadOptions, key};

/// Rows between two looks at the logs while a snapshot is read.
const ROWS_PER_LOOK: usize = 512;

/// A consistent state of a directory, while an engine may be writing it.
///
/// Rows come from the tables, which stay open, and from the logs, which were read into memory (a few memtables: what the
/// engine had not flushed). While rows are read, the logs behind the position are read ahead for the tail.
#[derive(Debug)]
pub struct Snapshot {
    tables: Vec<LiveTable>,
    overlay: Overlay,
    catalog: CatalogState,
    position: EnginePosition,
    pending: Pending,
    follower: Mutex<Follower>,
    faults: Mutex<Faults>,
}

impl Snapshot {
    /// Reads the state of a directory. Its host may be alive or gone.
    ///
    /// # Errors
    /// [`ErrorKind::Io`], [`ErrorKind::Corrupt`] with file and offset, [`ErrorKind::Gap`] when the directory changes too
    /// fast to be read, [`ErrorKind::Unsupported`].
    pub fn open(dir: &Path, options: &ReadOptions) -> Result<Self, Error> {
        let (engine, dir) = Engine::locate(dir);
        let View { version, tables, mut follower } = View::open(engine, &dir, None, options)?;
        let mut overlay = Overlay::new(engine);
        let mut end = match follower.expected() {
            Expected::AtMost(sequence) | Expected::Exactly(sequence) => {
                EnginePosition { sequence, log: version.min_log, offset: 0 }
            }
        };
        let mut quiet = None;
        let mut process_start = version.opened_at + 1;
        while let Some(record) = follower.pop() {
            if quiet.is_none() {
                quiet =
                    Some(EnginePosition { sequence: record.sequence, log: record.log, offset: record.start });
            }
            if record.new_process {
                process_start = record.sequence;
            }
            overlay.apply(&record).map_err(|error| follower.unusable(&record, error))?;
            end = EnginePosition { sequence: record.next_sequence, log: record.log, offset: record.end };
            if !overlay.spilling {
                quiet = Some(end);
            }
        }
        if engine.undoes_spills() {
            process_start = 0;
        } else if follower.host_was_replaced()? {
            process_start = u64::MAX;
        }
        let mut pending = Pending::default();
        let mut position = end;
        if let Some(first) = spill::take_open(&tables, &mut overlay, process_start, end, &mut pending)? {
            // A position inside the tables cannot be read again: it names no log.
            let before = EnginePosition { sequence: first, log: 0, offset: 0 };
            position = quiet.filter(|quiet| quiet.sequence <= first).unwrap_or(before);
        }
        let mut faults = Faults::default();
        let catalog = read_catalog(&tables, &overlay, &mut faults)?;
        let (follower, faults) = (Mutex::new(follower), Mutex::new(faults));
        Ok(Self { tables, overlay, catalog, position, pending, follower, faults })
    }

    /// The position that the rows are the state of.
    #[must_use]
    pub fn position(&self) -> EnginePosition {
        self.position
    }

    /// The relations by name, with schema sequence id 0.
    #[must_use]
    pub fn relations(&self) -> Vec<Arc<RelationSchema>> {
        self.catalog.relations()
    }

    /// The definitions and the values of sequences, but for the engine's own.
    ///
    /// # Errors
    /// As [`Self::open`] for unreadable tables.
    pub fn objects(&self) -> Result<Vec<ObjectChange>, Error> {
        let mut found = Vec::new();
        for namespace in [key::CATALOG, key::SEQUENCE] {
            let mut scan = self.scan(namespace, false)?;
            while let Some(Found { key, value, .. }) = scan.next()? {
                found.extend(
                    ObjectChange::of(self.engine(), &Operation::Set { key: &key, value: &value })
                        .ok()
                        .flatten(),
                );
            }
        }
        Ok(found)
    }

    /// The rows of a relation, in no particular order. If a key occurs twice, the later row counts.
    ///
    /// Memory: see [`crate::Rows`].
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for an unknown relation; as [`Self::open`] for unreadable tables.
    pub fn rows(&self, relation: &str) -> Result<Rows<'_>, Error> {
        let relation = self.catalog.relation(relation);
        let relation = relation.ok_or_else(|| Error::new(ErrorKind::NotFound, "relation does not exist"))?;
        let space = self.catalog.space(relation.namespace).cloned().unwrap_or_default();
        let scan = self.scan(relation.namespace, !space.is_shared() && relation.has_fixed_keys())?;
        let relation = relation.clone();
        Ok(Rows { snapshot: self, relation, space, scan, until_look: ROWS_PER_LOOK, failed: false })
    }

    /// Takes what the engine has written meanwhile, before it recycles the logs: for a taker that has no room for a row.
    /// What goes wrong is said by the tail.
    pub fn read_ahead(&self) {
        let _seen_again = lock(&self.follower).fill();
    }

    /// How long it takes to read what is left of the tables, as fast as what was read in `elapsed`. It is less where there are
    /// indexes, which are not read; unknown as long as nothing was read.
    #[must_use]
    pub fn time_left(&self, elapsed: Duration) -> Option<Duration> {
        let taken: u64 = self.tables.iter().map(LiveTable::taken).sum();
        let all: u64 = self.tables.iter().map(LiveTable::size).sum();
        let factor = all.saturating_sub(taken) as f64 / taken as f64;
        Duration::try_from_secs_f64(elapsed.as_secs_f64() * factor).ok()
    }

    /// The visible rows of a namespace. `is_certain`: none of its keys holds a text or blob. Where not, all of them are read
    /// here once, and what the engine writes meanwhile too.
    pub(crate) fn scan(&self, namespace: i64, is_certain: bool) -> Result<Scan<'_>, Error> {
        let meanwhile = || self.read_ahead();
        let order = if is_certain { Order::Certain } else { Order::Unknown(&meanwhile) };
        Scan::with_order(&self.tables, &self.overlay, self.engine().prefix(namespace), order)
    }

    /// Whose directory it is.
    pub(crate) fn engine(&self) -> Engine {
        self.overlay.engine()
    }

    /// What could not be decoded since the last call.
    pub fn faults(&self) -> Vec<Fault> {
        lock(&self.faults).take()
    }

    /// The changes behind the position.
    #[must_use]
    pub fn into_tail(self) -> Tail {
        let follower = self.follower.into_inner().unwrap_or_else(PoisonError::into_inner);
        let faults = self.faults.into_inner().unwrap_or_else(PoisonError::into_inner);
        Tail::new(follower, self.catalog, self.pending, faults)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The catalog that tables and logs hold.
pub(crate) fn read_catalog(
    tables: &[LiveTable],
    overlay: &Overlay,
    faults: &mut Faults,
) -> Result<CatalogState, Error> {
    let mut catalog = CatalogState::new(overlay.engine());
    let mut scan = Scan::new(tables, overlay, overlay.engine().prefix(key::CATALOG))?;
    while let Some(found) = scan.next()? {
        catalog.set(&found.key, &found.value, faults);
    }
    Ok(catalog)
}

/// The rows of one relation of a [`Snapshot`].
///
/// They are merged from the tables block by block. Only where texts or blobs in keys stand on both sides of 128 bytes, which
/// Genji's order cannot tell apart, keys are kept in memory: at most about 64 MiB, by reading the tables in several passes.
pub struct Rows<'a> {
    snapshot: &'a Snapshot,
    relation: Arc<Relation>,
    space: Arc<Space>,
    scan: Scan<'a>,
    until_look: usize,
    failed: bool,
}

impl Iterator for Rows<'_> {
    type Item = Result<Row, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.failed {
            self.read_ahead();
            match self.scan.next() {
                Ok(Some(found)) => {
                    match self.relation.decode(&found.key, &found.value) {
                        Ok(row) => return Some(Ok(row)),
                        // Of another table, or an index: real Genji does not show it in this one.
                        Err(_) if self.space.has_other(&self.relation, &found.key, &found.value) => {}
                        Err(error) => {
                            let relation = &self.relation.schema.relation;
                            lock(&self.snapshot.faults).add(relation, Some(found.key.len()), error);
                        }
                    }
                }
                Ok(None) => return None,
                Err(error) => {
                    self.failed = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

impl Rows<'_> {
    /// Takes what the engine wrote meanwhile, before it recycles the logs.
    fn read_ahead(&mut self) {
        self.until_look -= 1;
        if self.until_look == 0 {
            self.until_look = ROWS_PER_LOOK;
            self.snapshot.read_ahead();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Database, HostOptions};

    #[test]
    fn the_time_left_shrinks() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Database::open(dir.path(), &HostOptions::default()).unwrap();
        let database = open();
        database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, pad TEXT)", &[]).unwrap();
        // Texts that do not compress to nothing.
        let pad = |id: u32| {
            (0..60)
                .map(|at| format!("{:08x}", (id * 61 + at).wrapping_mul(2_654_435_761)))
                .collect::<String>()
        };
        for first in (0..2000).step_by(100) {
            let mut transaction = database.begin();
            for id in first..first + 100 {
                let values = [i64::from(id).into(), pad(id).into()];
                transaction.execute("INSERT INTO t VALUES (?, ?)", &values).unwrap();
            }
            transaction.commit().unwrap();
        }
        database.close().unwrap();
        // Opening writes what stands in the logs into tables, of which alone the time left tells.
        open().close().unwrap();
        let snapshot = Snapshot::open(dir.path(), &ReadOptions::default()).unwrap();
        let seconds_left = || snapshot.time_left(Duration::from_secs(10)).unwrap().as_secs();
        let mut rows = snapshot.rows("t").unwrap();
        assert_eq!(rows.by_ref().take(1000).filter(Result::is_ok).count(), 1000);
        let half = seconds_left();
        assert!((4..20).contains(&half), "{half}");
        assert_eq!(rows.filter(Result::is_ok).count(), 1000);
        let none = seconds_left();
        assert!(none < 3, "{none}");
    }
}
