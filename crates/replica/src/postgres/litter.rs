//! What a batch leaves behind in its tables.
//!
//! Rows that are deleted stay in a table until it is vacuumed, and a statement reads past them: after a bulk load a batch of
//! one row would read all of it, a dozen times. The server's own vacuum comes once a minute. So this writer vacuums the tables
//! of the batches itself, each time that it has left a number of rows there.

use std::collections::BTreeSet;

use super::link::Link;
use crate::maintenance::mirror::quote;

/// Rows that are left at least.
const LEAST: usize = 2_000;
/// How many times the rows of the last batch.
const TIMES: usize = 4;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Litter {
    /// Quoted names of the tables.
    tables: BTreeSet<String>,
    /// Rows that were put there, before this batch and in it.
    rows: usize,
    batch: usize,
}

impl Litter {
    /// Notes tables that a batch fills.
    pub(super) fn note<'a>(&mut self, tables: impl IntoIterator<Item = &'a String>) {
        for table in tables {
            if !self.tables.contains(table) {
                self.tables.insert(table.clone());
            }
        }
    }

    /// Forgets the tables, some of which may have been dropped; the next batch notes those that it fills.
    pub(super) fn forget(&mut self) {
        self.tables.clear();
    }

    /// Notes rows of the batch.
    pub(super) fn add(&mut self, rows: usize) {
        self.batch = self.batch.saturating_add(rows);
    }

    /// Vacuums the tables behind a batch where it is due; outside of a transaction. The batch is there whatever becomes of it.
    pub(super) fn clear_away(&mut self, link: &Link) {
        let batch = std::mem::take(&mut self.batch);
        self.rows = self.rows.saturating_add(batch);
        if self.tables.is_empty() || self.rows < LEAST || self.rows < batch.saturating_mul(TIMES) {
            return;
        }
        let schema = quote(&link.place.schema);
        let tables = std::mem::take(self).tables;
        let tables = tables.iter().map(|table| format!("{schema}.{table}")).collect::<Vec<_>>();
        if let Err(error) = link.batch("vacuum", format!("VACUUM {}", tables.join(", "))) {
            tracing::warn!(reason = error.reason(), "cannot vacuum the tables of the batches");
        }
    }
}
