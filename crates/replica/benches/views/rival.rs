//! Who takes the batches: the replica, and what it is measured against.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use deltamesh_replica::{Limits, Location, Reader, Replica, Retention};
use rusqlite::Connection;

use crate::chat::VIEWS;
use crate::log::Batch;
use crate::tables::{base_tables, copy, empty_wal, upsert};

/// Somebody who commits batches.
pub(crate) trait Rival {
    /// Name in the table.
    fn name(&self) -> &'static str;

    /// Commits one batch.
    fn apply(&mut self, batch: &Batch) -> Result<()>;

    /// How long committing one batch took.
    fn timed(&mut self, batch: &Batch) -> Result<Duration> {
        let started = Instant::now();
        self.apply(batch)?;
        Ok(started.elapsed())
    }

    /// Makes the views over what has been loaded.
    fn create_views(&mut self) -> Result<()> {
        Ok(())
    }

    /// What is done once a second.
    fn rest(&mut self) -> Result<()> {
        Ok(())
    }

    /// Compares the views with their SQL.
    fn check(&mut self) -> Result<()> {
        Ok(())
    }

    /// How long it takes from opening the files, as a killed process leaves them, until the batch is committed.
    fn restart(&mut self, _batch: &Batch) -> Result<Option<Duration>> {
        Ok(None)
    }

    /// The most memory that a process of its own has had, in bytes.
    fn memory(&mut self) -> Result<Option<u64>> {
        Ok(None)
    }
}

/// The replica with generated programs.
pub(crate) struct Generated {
    replica: Box<dyn Replica>,
    location: Location,
    fill_beside: u64,
}

impl Generated {
    /// Views over relations of at least that many rows are filled beside the flow.
    pub(crate) fn open(location: Location, fill_beside: Option<u64>) -> Result<Self> {
        let replica = location.open(Retention::default())?;
        Ok(Self { replica, location, fill_beside: fill_beside.unwrap_or(u64::MAX) })
    }

    fn publish(&mut self) {
        let last = self.replica.last_sequence();
        self.replica.mark_published(last);
    }
}

impl Rival for Generated {
    fn name(&self) -> &'static str {
        "deltamesh"
    }

    fn apply(&mut self, batch: &Batch) -> Result<()> {
        let applied = self.replica.apply(std::slice::from_ref(&batch.group))?;
        ensure!(applied.faults.is_empty(), "{:?}", applied.faults);
        self.publish();
        Ok(())
    }

    fn create_views(&mut self) -> Result<()> {
        self.replica.fill_beside(self.fill_beside);
        for (name, sql) in VIEWS {
            self.replica.execute(&format!("CREATE MATERIALIZED VIEW {name} AS {sql}"))?;
            self.publish();
        }
        let mut rested = Instant::now();
        while self.replica.fill()?.goes_on {
            self.publish();
            if rested.elapsed() >= Duration::from_secs(1) {
                self.replica.rest()?;
                rested = Instant::now();
            }
        }
        Ok(())
    }

    fn rest(&mut self) -> Result<()> {
        self.replica.rest()?;
        Ok(())
    }

    fn restart(&mut self, batch: &Batch) -> Result<Option<Duration>> {
        let location = match self.location.file() {
            Some(path) => Location::from(copy(path)?),
            // A server goes on; the new writer takes the replica over.
            None => self.location.clone(),
        };
        let started = Instant::now();
        let mut replica = location.open(Retention::default())?;
        replica.apply(std::slice::from_ref(&batch.group))?;
        Ok(Some(started.elapsed()))
    }

    fn check(&mut self) -> Result<()> {
        let limits = Limits { time: Duration::from_secs(600) };
        for verified in Reader::open(self.location.clone())?.verify(&self.replica.views(), limits)? {
            ensure!((verified.missing, verified.extra) == (0, 0), "{verified:?}");
        }
        Ok(())
    }
}

/// Upserts into the base tables and nothing else.
pub(crate) struct Raw(Connection);

impl Raw {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        Ok(Self(base_tables(path)?))
    }
}

impl Rival for Raw {
    fn name(&self) -> &'static str {
        "raw upserts"
    }

    fn create_views(&mut self) -> Result<()> {
        empty_wal(&self.0)
    }

    fn apply(&mut self, batch: &Batch) -> Result<()> {
        let transaction = self.0.transaction()?;
        upsert(&transaction, &batch.changes)?;
        transaction.commit()?;
        Ok(())
    }
}
