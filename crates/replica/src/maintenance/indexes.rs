//! Indexes on the tables that views read: shared by views, and there only when maintenance reads by them (ADR 16).
//!
//! Many relations never change, and an index that only their changes are looked up by costs a page for each row of the relation
//! that it is on. So such an index is *awaited*: it is made with the first change of a relation that it is for.

use std::collections::{BTreeSet, HashSet};

use deltamesh_view::Index;

use super::Maintainer;
use super::database::Database;
use super::mirror::durable;
use super::state::State;
use crate::error::Result;

impl State {
    /// Indexes of maintained views.
    fn indexes(&self) -> impl Iterator<Item = &Index> {
        let maintained = self.views.iter().filter(|view| view.program.is_some());
        maintained.flat_map(|view| &view.definition.indexes)
    }

    /// Finds the indexes whose relations have not changed so far.
    pub(super) fn await_indexes<D: Database>(&mut self, database: &D) -> Result<()> {
        let later = self.indexes().filter(|index| !index.is_made_at_once());
        let tables: BTreeSet<&str> = later.map(|index| index.table.as_str()).collect();
        let mut present = HashSet::new();
        for table in tables {
            present.extend(database.indexes(table)?);
        }
        let is_there = |index: &&Index| index.is_made_at_once() || present.contains(&index.name);
        let there: Vec<&Index> = self.indexes().filter(is_there).collect();
        let is_served = |index: &&Index| there.iter().any(|known| known.serves(index));
        self.awaited = self.indexes().filter(|index| !is_served(index)).cloned().collect();
        Ok(())
    }

    /// Makes the awaited indexes that the changes of these mirrors are looked up by; gives them.
    pub(super) fn make_awaited<D: Database>(&self, database: &D, mirrors: &[&str]) -> Result<Vec<Index>> {
        let is_due = |index: &&Index| index.changes_of.iter().any(|of| mirrors.contains(&of.as_str()));
        let due = Index::serving(self.awaited.iter().filter(is_due));
        for index in &due {
            let started = std::time::Instant::now();
            database.define(&index.name, &[index.create(D::DIALECT)])?;
            let seconds = started.elapsed().as_secs();
            tracing::info!(index = %index.name, seconds, "index is made for the first change");
        }
        Ok(due.into_iter().cloned().collect())
    }
}

impl<D: Database> Maintainer<D> {
    /// Takes note of indexes that were made for the first change.
    pub(super) fn note_made(&mut self, made: Vec<Index>) {
        self.state.awaited.retain(|index| !made.iter().any(|known| known.serves(index)));
        self.state.unsettled.extend(made);
    }

    /// Where views came, changed or went: gives the tables that they read the indexes that are needed now, and no more.
    pub(super) fn settle_indexes(&mut self) -> Result<()> {
        if self.state.unsettled.is_empty() {
            return Ok(());
        }
        let changed = std::mem::take(&mut self.state.unsettled);
        let tables: BTreeSet<&str> = changed.iter().map(|index| index.table.as_str()).collect();
        let mut present = HashSet::new();
        for table in &tables {
            present.extend(self.database.indexes(table)?);
        }
        let wanted = self.state.indexes().filter(|index| tables.contains(index.table.as_str()));
        let is_needed = |index: &&Index| index.is_made_at_once() || present.contains(&index.name);
        let kept = Index::serving(wanted.filter(is_needed));
        let is_kept = |index: &Index| kept.iter().any(|known| known.name == index.name);
        let known = self.state.indexes().chain(&changed).filter(|index| present.contains(&index.name));
        let gone: BTreeSet<&str> =
            known.filter(|index| !is_kept(index)).map(|index| index.name.as_str()).collect();
        for name in gone {
            self.database.define(name, &[format!("DROP INDEX {}", durable(D::DIALECT, name))])?;
        }
        for index in kept.into_iter().filter(|index| !present.contains(&index.name)) {
            self.database.define(&index.name, &[index.create(D::DIALECT)])?;
        }
        self.state.await_indexes(&self.database)
    }

    /// Drops the indexes of a table that views asked for: a renamed table would keep their names.
    pub(super) fn drop_indexes(&self, table: &str) -> Result<()> {
        let indexes = self.database.indexes(table)?;
        let drops = indexes.iter().map(|name| format!("DROP INDEX {}", durable(D::DIALECT, name)));
        self.database.define(table, &drops.collect::<Vec<_>>())
    }
}
