//! The seam between the view-builder and a SQL database.

use deltamesh_view::{Explain, ViewDefinition};

use crate::error::Result;
use crate::group::{Applied, Checkpoint, Group, OutboxRow, Relation};

/// A view as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewState {
    /// What it is.
    pub definition: ViewDefinition,
    /// Module that it belongs to; empty for a view that was created by itself.
    pub module: String,
    /// Why it is not maintained at present.
    pub fault: Option<String>,
    /// How far it is, while it is being filled: readers do not see it yet.
    pub filling: Option<Progress>,
    /// What is to take its place, while that is being filled: readers see the view as it is.
    pub replacement: Option<Replacement>,
    /// Its own SQL over the mirrors, or over what it was filled with so far; missing while it is faulted.
    pub oracle: Option<String>,
}

impl ViewState {
    /// How far it is filled, or what is to take its place.
    #[must_use]
    pub fn progress(&self) -> Option<Progress> {
        self.filling.or_else(|| self.replacement.as_ref()?.filling)
    }
}

/// What is to take the place of a view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replacement {
    /// How far it is filled, or what it waits for.
    pub filling: Option<Progress>,
    /// Why it is not filled at present.
    pub fault: Option<String>,
}

/// How far a view is filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Rows of the relation that it is filled by that it has taken.
    pub rows: u64,
    /// Rows that there are, about.
    pub total: u64,
    /// Rows per second since the process began or went on with it.
    pub per_second: u64,
}

impl Progress {
    /// Time that is left at this rate; none before there is one.
    #[must_use]
    pub fn seconds_left(&self) -> Option<u64> {
        self.total.saturating_sub(self.rows).checked_div(self.per_second)
    }
}

/// A migration of a module: SQL over what the replica holds, applied once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    /// File within the module.
    pub path: String,
    /// Its text.
    pub sql: String,
}

/// What a migration has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    /// File within the module.
    pub path: String,
    /// Materialised views that changed.
    pub views: Vec<String>,
}

/// What [`Replica::fill`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filling {
    /// Whether there is more to fill.
    pub goes_on: bool,
    /// Views that are complete, or faulted.
    pub settled: Vec<String>,
}

/// A replica's only writer. Every call is one SQL transaction: after an error nothing has happened.
///
/// Calls block; [`crate::Writer`] runs them on a thread of their own.
pub trait Replica: Send + 'static {
    /// Names one life of the replica's change log; a cursor of another one is not valid.
    ///
    /// # Errors
    /// The replica cannot be read.
    fn incarnation(&self) -> Result<String>;

    /// How far each source has been applied.
    fn checkpoints(&self) -> Vec<Checkpoint>;

    /// The mirrored relations.
    fn relations(&self) -> Vec<Relation>;

    /// Applies consecutive groups, of any sources, in one transaction: mirrors, views, change log, checkpoints. Groups that
    /// are applied already are skipped. A view that cannot be maintained is faulted, the rest goes on.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Gap`]: transactions are missing in front of a group; only a snapshot group continues.
    /// [`crate::ErrorKind::Decode`]: a group contradicts the schemas; the same. [`crate::ErrorKind::Full`]: no room.
    fn apply(&mut self, batch: &[Group]) -> Result<Applied>;

    /// Runs `CREATE` and `DROP MATERIALIZED VIEW` statements, all or none; gives the names of the views that changed.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Plan`], [`crate::ErrorKind::Conflict`], [`crate::ErrorKind::NotFound`].
    fn execute(&mut self, sql: &str) -> Result<Vec<String>>;

    /// Makes the views of a module those of its SQL, all or none; gives the names of the views that changed. The feed of a
    /// replaced view gets the difference.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Plan`], [`crate::ErrorKind::Conflict`].
    fn set_module(&mut self, module: &str, sql: &str) -> Result<Vec<String>>;

    /// Applies the first of a module's migrations, given in their order, that is not applied yet, and records it; nothing where
    /// all are applied.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Conflict`]: one was applied with another text. Else what a statement of it fails with; the place is
    /// its file, and the reason begins with line and column.
    fn migrate(&mut self, module: &str, migrations: &[Migration]) -> Result<Option<Migrated>>;

    /// Views and indexes that migrations have made and that cannot be there at present: name and reason.
    fn missing(&self) -> Vec<(String, String)>;

    /// The views, in order of creation.
    fn views(&self) -> Vec<ViewState>;

    /// How a view is maintained, or would be: takes a name or a `CREATE` statement. [`crate::Reader::count`] counts what an
    /// estimate of its cost needs.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Plan`], [`crate::ErrorKind::NotFound`].
    fn explain(&self, view_or_sql: &str) -> Result<Explain>;

    /// Tries to build the faulted views, and what is missing of migrations, again; gives the names of those that are maintained now.
    ///
    /// # Errors
    /// The replica fails as such; what is wrong with a view is in its state.
    fn repair(&mut self) -> Result<Vec<String>>;

    /// From now on a new view over a relation of that many rows is filled by [`Replica::fill`]; before, as a whole when it is
    /// created.
    fn fill_beside(&mut self, from: u64);

    /// Does a little of the filling of views beside the flow: to be called between batches while it goes on.
    ///
    /// # Errors
    /// The replica fails as such; a view that cannot be filled is faulted.
    fn fill(&mut self) -> Result<Filling>;

    /// The oldest view changes that are not published, in order.
    ///
    /// # Errors
    /// The replica cannot be read.
    fn unpublished(&self, limit: usize) -> Result<Vec<OutboxRow>>;

    /// Every change up to here is published.
    fn published(&self) -> u64;

    /// Sequence of the newest change.
    fn last_sequence(&self) -> u64;

    /// Notes that every change up to `sequence` is in the feed stream. Stored now and then, and in idle times: after a crash
    /// the stream itself says how far it is.
    fn mark_published(&mut self, sequence: u64);

    /// Gives the unpublished changes the numbers behind `sequence`, drops the published ones and begins a new incarnation:
    /// for a feed stream that holds messages which this replica does not know.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Conflict`] where `sequence` is below what this replica has published.
    fn continue_after(&mut self, sequence: u64) -> Result<()>;

    /// Housekeeping for idle times: stores the published position, trims the change log, keeps the WAL small. Says whether
    /// there is more to trim.
    ///
    /// # Errors
    /// The replica cannot be written.
    fn rest(&mut self) -> Result<bool>;
}
