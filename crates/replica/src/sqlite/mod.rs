//! The replica as a SQLite file.

mod apply;
mod cell;
mod changes;
mod connection;
mod delta;
mod difference;
mod functions;
mod mirror;
mod reader;
mod rows;
mod schema;
mod state;
mod views;
mod wal;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use deltamesh_view::parse_statements;
use rusqlite::Connection;

pub use changes::Retention;
pub use reader::{Interrupt, Limits, Reader, SnapshotRow, TakePage};
pub use wal::Checkpointer;

use crate::error::{At, Error, ErrorKind, Result};
use crate::group::{Applied, Checkpoint, Fault, Group, OutboxRow, Relation};
use crate::replica::{Replica, ViewState};
use connection::Lock;
use delta::Failure;
use state::State;

/// The writer of a SQLite replica. One per file: a lock file beside it says so.
#[derive(Debug)]
pub struct SqliteReplica {
    path: PathBuf,
    connection: Connection,
    state: State,
    /// The state does not match the file: a transaction failed and the state could not be read again yet.
    stale: bool,
    /// Views that failed during the current call and are not tried again in it.
    refused: HashSet<String>,
    retention: Retention,
    /// Every change up to here is in the feed stream; stored with the next transaction.
    published: u64,
    retained_from: u64,
    _lock: Lock,
}

impl SqliteReplica {
    /// Opens the replica, and creates it where it is missing.
    ///
    /// # Errors
    /// [`ErrorKind::Locked`] where another process writes it; [`ErrorKind::Version`] where the file is not a replica.
    pub fn open(path: impl AsRef<Path>, retention: Retention) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let lock = Lock::take(&path)?;
        let connection = connection::open_writer(&path)?;
        connection::attach_spool(&connection, &path)?;
        let (state, outdated) = State::load(&connection)?;
        let mut replica = Self {
            published: state.published,
            retained_from: changes::retained_from(&connection)?,
            path,
            connection,
            state,
            stale: false,
            refused: HashSet::new(),
            retention,
            _lock: lock,
        };
        if !outdated.is_empty() {
            replica.with_faults(|replica| replica.rebuild_faulted(&outdated))?;
        }
        Ok(replica)
    }

    /// File of the replica.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Limits the file to that many pages, as a full disk does; for tests and for operators who share a disk.
    ///
    /// # Errors
    /// SQLite refuses.
    pub fn limit_pages(&mut self, pages: u32) -> Result<()> {
        self.connection.pragma_update(None, "max_page_count", pages).at(|| "limit pages")
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
        let path = self.path.clone();
        let place = || format!("replica {}", path.display());
        self.connection.execute_batch("BEGIN IMMEDIATE").at(place)?;
        let result = work(self).and_then(|value| {
            self.finish_changes(before)?;
            self.connection.execute_batch("COMMIT").at(place)?;
            Ok(value)
        });
        if result.is_err() {
            self.stale = true;
            if !self.connection.is_autocommit() {
                self.connection.execute_batch("ROLLBACK").at(place)?;
            }
            self.reload()?;
        }
        result
    }

    fn reload(&mut self) -> Result<()> {
        let (state, outdated) = State::load(&self.connection)?;
        debug_assert!(outdated.is_empty(), "a program changed while it ran");
        self.state = state;
        self.retained_from = changes::retained_from(&self.connection)?;
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
                    self.transact(|replica| Ok(replica.set_fault(&view, &reason)?)).map_err(plain)?;
                    faults.push(Fault { view, reason });
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

impl Replica for SqliteReplica {
    fn incarnation(&self) -> Result<String> {
        state::incarnation(&self.connection)
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

    fn views(&self) -> Vec<ViewState> {
        let views = self.state.views.iter();
        let view = |view: &state::View| ViewState {
            definition: view.definition.clone(),
            module: view.module.clone(),
            fault: view.fault.clone(),
            oracle: view.program.as_ref().map(|program| program.oracle.clone()),
        };
        views.map(view).collect()
    }

    fn explain(&self, view_or_sql: &str) -> Result<String> {
        if let Some(view) = self.state.view(view_or_sql.trim()) {
            return match (&view.program, &view.fault) {
                (Some(program), _) => Ok(program.explain.to_string()),
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
        state::plan_text(view_or_sql, &self.state.catalog()).map(|program| program.explain.to_string())
    }

    fn repair(&mut self) -> Result<Vec<String>> {
        if self.state.views.iter().all(|view| view.fault.is_none()) {
            return Ok(Vec::new());
        }
        self.with_faults(|replica| replica.rebuild_faulted(&[])).map(|(mended, _)| mended)
    }

    fn unpublished(&self, limit: usize) -> Result<Vec<OutboxRow>> {
        changes::changes_after(&self.connection, self.published, None, limit)
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
        if self.published != self.state.published
            || self
                .state
                .published
                .min(self.state.last_sequence.saturating_sub(self.retention.changes.max(1)))
                >= self.retained_from
        {
            self.transact(|_| Ok(())).map_err(plain)?;
        }
        self.reset_wal()?;
        Ok(self.retained_from != trimmed)
    }
}
