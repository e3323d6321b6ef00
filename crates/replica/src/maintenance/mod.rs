//! A replica's writer: one SQL transaction applies groups to mirrors, views, change log and checkpoints.
//!
//! [`database::Database`] is what it needs of the database; everything else is here once. The life of a change: `apply.rs` nets
//! the rows of the groups, `delta.rs` finds before images and runs the programs, `changes.rs` closes the transaction's changes.

#![allow(
    private_bounds,
    reason = "a replica is chosen by opening it; what it asks of the database is inside"
)]

mod apply;
pub(crate) mod cell;
pub(crate) mod changes;
mod compare;
pub(crate) mod database;
pub(crate) mod delta;
mod difference;
pub(crate) mod fed;
pub(crate) mod fill;
mod indexes;
mod migration;
pub(crate) mod mirror;
mod owned;
mod recompute;
mod replace;
pub(crate) mod rows;
mod schema;
pub(crate) mod state;
mod views;

use std::cell::Cell as Flag;
use std::collections::HashSet;

use deltamesh_view::{Explain, parse_statements};

use crate::error::{Error, ErrorKind, Result};
use crate::group::{Applied, Checkpoint, Fault, Group, OutboxRow, Relation};
use crate::replica::{Filling, Migrated, Migration, Replica, ViewState};
use crate::retention::Retention;
use database::Database;
use delta::Failure;
use fill::Slices;
use owned::Standing;
use recompute::Recompute;
use state::State;

/// The writer of a replica in some database.
#[derive(Debug)]
pub struct Maintainer<D> {
    pub(crate) database: D,
    pub(crate) state: State,
    /// The state does not match the database: a transaction failed and the state could not be read again yet.
    stale: bool,
    /// Views that failed during the current call and are not tried again in it.
    refused: HashSet<String>,
    /// Whether the objects of migrations are there.
    standing: Flag<Standing>,
    retention: Retention,
    recompute: Recompute,
    slices: Slices,
    /// Every change up to here is in the feed stream; stored with the next transaction.
    published: u64,
    retained_from: u64,
}

impl<D: Database> Maintainer<D> {
    /// Computes views again at every batch, where that is possible, instead of choosing by the numbers of rows: for tests, which
    /// compare both ways with the view's SQL.
    pub fn always_recompute(&mut self) {
        self.recompute = Recompute::ALWAYS;
    }

    /// Reads what the database holds; its own tables are there.
    pub(crate) fn load(database: D, retention: Retention) -> Result<Self> {
        let slices = Slices::default();
        let (state, outdated) = State::load(&database, slices)?;
        let mut replica = Self {
            published: state.published,
            retained_from: changes::retained_from(&database)?,
            database,
            state,
            stale: false,
            refused: HashSet::new(),
            standing: Flag::default(),
            retention,
            recompute: Recompute::default(),
            slices,
        };
        if !outdated.is_empty() {
            replica.with_faults(|replica| replica.rebuild_faulted(&outdated))?;
        }
        Ok(replica)
    }

    /// Runs `work` in one transaction. After a failure nothing has happened, in the file and in memory.
    fn transact<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> std::result::Result<T, Failure>,
    ) -> std::result::Result<T, Failure> {
        if self.stale {
            self.reload()?;
        }
        let before = self.state.last_sequence;
        self.database.begin()?;
        self.standing.set(Standing::Whole);
        let result = work(self).and_then(|value| {
            self.replace_complete()?;
            self.settle_indexes()?;
            self.settle_owned()?;
            self.finish_changes(before)?;
            self.database.commit()?;
            Ok(value)
        });
        if let Err(Failure::View(_, error) | Failure::Other(error)) = &result {
            self.stale = true;
            let retryable = error.kind().is_retryable();
            let reloaded = self.database.rollback().and_then(|()| self.reload());
            // Where the connection is lost, the next transaction reads the state again.
            if !retryable {
                reloaded?;
            }
        }
        result
    }

    fn reload(&mut self) -> Result<()> {
        let (state, outdated) = State::load(&self.database, self.slices)?;
        debug_assert!(outdated.is_empty(), "a program changed while it ran");
        self.state = state;
        self.retained_from = changes::retained_from(&self.database)?;
        self.stale = false;
        Ok(())
    }

    /// Runs `work` in one transaction; a view that fails in it is faulted and the work is done again without the view.
    fn with_faults<T>(
        &mut self,
        work: impl Fn(&mut Self) -> std::result::Result<T, Failure>,
    ) -> Result<(T, Vec<Fault>)> {
        self.refused.clear();
        let mut faults = Vec::new();
        loop {
            match self.transact(&work) {
                Ok(value) => {
                    self.refused.clear();
                    return Ok((value, faults));
                }
                Err(Failure::View(view, error)) if self.refused.insert(view.clone()) => {
                    let reason = error.reason().to_owned();
                    let shown = self.state.shown(&view);
                    self.transact(|replica| Ok(replica.set_fault(&view, &reason)?)).map_err(plain)?;
                    faults.push(Fault { view: shown.unwrap_or(view), reason });
                }
                Err(failure) => return Err(plain(failure)),
            }
        }
    }
}

/// A failure outside of applying: the view's error is the caller's.
fn plain(failure: Failure) -> Error {
    match failure {
        Failure::View(_, error) | Failure::Other(error) => error,
    }
}

impl<D: Database> Replica for Maintainer<D> {
    fn incarnation(&self) -> Result<String> {
        state::incarnation(&self.database)
    }

    fn checkpoints(&self) -> Vec<Checkpoint> {
        self.state.checkpoints.values().cloned().collect()
    }

    fn relations(&self) -> Vec<Relation> {
        let mirrors = self.state.mirrors.values();
        mirrors
            .map(|mirror| Relation { source: mirror.source.clone(), schema: mirror.schema.clone() })
            .collect()
    }

    fn apply(&mut self, batch: &[Group]) -> Result<Applied> {
        let (mut applied, faults) = self.with_faults(|replica| replica.apply_groups(batch))?;
        applied.faults = faults;
        Ok(applied)
    }

    fn execute(&mut self, sql: &str) -> Result<Vec<String>> {
        self.transact(|replica| replica.run_statements(sql)).map_err(plain)
    }

    fn set_module(&mut self, module: &str, sql: &str) -> Result<Vec<String>> {
        self.transact(|replica| replica.replace_module(module, sql)).map_err(plain)
    }

    fn migrate(&mut self, module: &str, migrations: &[Migration]) -> Result<Option<Migrated>> {
        self.transact(|replica| replica.apply_migration(module, migrations)).map_err(plain)
    }

    fn missing(&self) -> Vec<(String, String)> {
        self.state.owned.faults().map(|(name, reason)| (name.to_owned(), reason.to_owned())).collect()
    }

    fn views(&self) -> Vec<ViewState> {
        let views = self.state.views.iter().filter(|view| !view.is_next());
        let view = |view: &state::View| ViewState {
            definition: view.definition.clone(),
            module: view.module.clone(),
            fault: view.fault.clone(),
            filling: self.state.filling(view),
            replacement: self.state.replacement(view),
            oracle: view.program.as_ref().map(|program| program.oracle.clone()),
        };
        views.map(view).collect()
    }

    fn explain(&self, view_or_sql: &str) -> Result<Explain> {
        if let Some(view) = self.state.view(view_or_sql.trim()) {
            return match (&view.program, &view.fault) {
                (Some(program), _) => Ok(program.explain.clone()),
                (None, fault) => {
                    let reason = fault.clone().unwrap_or_default();
                    Err(Error::new(ErrorKind::Plan, format!("view {}", view.name), reason))
                }
            };
        }
        if parse_statements(view_or_sql).is_err() && !view_or_sql.trim().contains(char::is_whitespace) {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("view {}", view_or_sql.trim()),
                "does not exist",
            ));
        }
        state::plan_text(view_or_sql, &self.state.catalog(&[], &[]), D::DIALECT)
            .map(|program| program.explain)
    }

    fn repair(&mut self) -> Result<Vec<String>> {
        let is_missing = self.state.owned.faults().next().is_some();
        if !is_missing && self.state.views.iter().all(|view| view.fault.is_none()) {
            return Ok(Vec::new());
        }
        let mended = self.with_faults(|replica| {
            replica.standing.set(Standing::Due);
            replica.rebuild_faulted(&[])
        });
        mended.map(|(mended, _)| mended)
    }

    fn fill_beside(&mut self, from: u64) {
        self.slices.from = from;
    }

    fn fill(&mut self) -> Result<Filling> {
        let is_fed = |state: &State| state.views.iter().any(|view| view.fed.is_some());
        let is_compared = |state: &State| state.to_compare(D::DIALECT).is_some();
        let (complete, faults) = if is_fed(&self.state) {
            self.with_faults(Self::feed_slice)?
        } else if is_compared(&self.state) {
            self.with_faults(Self::compare_slice)?
        } else {
            return Ok(Filling::default());
        };
        let settled = faults.into_iter().map(|fault| fault.view).chain(complete).collect();
        Ok(Filling { goes_on: is_fed(&self.state) || is_compared(&self.state), settled })
    }

    fn unpublished(&self, limit: usize) -> Result<Vec<OutboxRow>> {
        changes::changes_after(&self.database, self.published, None, limit)
    }

    fn published(&self) -> u64 {
        self.published
    }

    fn last_sequence(&self) -> u64 {
        self.state.last_sequence
    }

    fn mark_published(&mut self, sequence: u64) {
        self.published = self.published.max(sequence.min(self.state.last_sequence));
    }

    fn continue_after(&mut self, sequence: u64) -> Result<()> {
        self.transact(|replica| Ok(replica.renumber(sequence)?)).map_err(plain)
    }

    fn rest(&mut self) -> Result<bool> {
        let trimmed = self.retained_from;
        if self.published != self.state.published || self.is_beyond_retention()? {
            self.transact(|_| Ok(())).map_err(plain)?;
        }
        self.database.rest()?;
        Ok(self.retained_from != trimmed)
    }
}
