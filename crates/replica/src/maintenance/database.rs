//! What maintenance needs of a SQL database.
//!
//! Statements that every database understands are written once, in this folder, with parameters `$1, $2, …`. What has to be
//! said otherwise (catalogs, image tables, the spelling of changes) is a method here.

use deltamesh_change::ColumnType;
use deltamesh_view::{Action, Dialect, Program, ViewDefinition};

use super::cell::Cell;
use super::delta::{Filled, Key, Loaded, Net, Stamp};
use super::mirror::Mirror;
use crate::error::Result;
use crate::group::Checkpoint;

/// A connection that reads.
pub(crate) trait Read {
    /// Rows of a query, all of them: for results that are known to be small.
    fn rows(&self, place: &str, sql: &str, parameters: &[Cell]) -> Result<Vec<Vec<Cell>>>;
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Object {
    Table,
    View,
}

/// The one connection that writes.
pub(crate) trait Database: Read + Send + 'static {
    /// How its SQL is spelled.
    const DIALECT: Dialect;
    /// An expression for a text that nobody had before: the name of a life of the change log.
    const FRESH: &str;

    /// Stores the bound number as the published position.
    const STORE_PUBLISHED: &str;

    /// Stores where a source stands, at the latest with the commit.
    fn store_checkpoint(&self, checkpoint: &Checkpoint) -> Result<()>;

    /// Marks the newest change, if one is newer than `before`, as the end of a transaction, at the latest with the commit; gives its
    /// sequence, or `before`.
    fn end_changes(&self, before: u64) -> Result<u64>;

    /// Begins a transaction that no other writer's can overlap.
    fn begin(&self) -> Result<()>;

    fn commit(&self) -> Result<()>;

    /// Ends the transaction, if one is open, without effect.
    fn rollback(&self) -> Result<()>;

    /// Runs a statement that is run again and again; gives the number of rows that it changed.
    fn execute(&self, place: &str, sql: &str, parameters: &[Cell]) -> Result<u64>;

    /// Runs statements of a batch that belong together, in order, except those that would change nothing; or puts them off
    /// until [`Database::settle`]: then the tables that they fill may have rows.
    fn run<'a>(
        &self,
        owner: &str,
        actions: impl IntoIterator<Item = &'a Action>,
        filled: &mut Filled,
    ) -> Result<()> {
        for action in actions {
            if !filled.let_run(action) {
                continue;
            }
            let rows = self.execute(owner, &action.sql, &[])?;
            if let Some(table) = action.fills.as_ref().filter(|_| rows > 0) {
                filled.note(table);
            }
        }
        Ok(())
    }

    /// Runs what was put off; gives the number of changes that it recorded. Due before anything else is asked of the database.
    /// An error's place is the owner of the statement that failed.
    fn settle(&self) -> Result<u64> {
        Ok(0)
    }

    /// Runs statements that are run once, in order.
    fn define(&self, place: &str, statements: &[String]) -> Result<()>;

    /// Adds rows to a table whose quoted name is given; with `once`, those whose key it has are left out.
    fn insert(
        &self,
        table: &str,
        columns: &[(&str, ColumnType)],
        rows: &[Vec<Cell>],
        once: bool,
    ) -> Result<()>;

    /// Name of the table in which a reconcile notes the keys that a snapshot has. Its content never outlives a transaction.
    fn seen_table(mirror: &str) -> String;

    /// The rows of a mirror that have these keys, in the order of the keys.
    fn images(&self, mirror: &Mirror, keys: &[&Key]) -> Result<Vec<Option<Vec<Cell>>>>;

    /// Fills a mirror's tables of images with the rows that really change; what is given is their state afterwards.
    fn load_images(&self, mirror: &Mirror, net: Net) -> Result<Loaded>;

    /// Appends a view's changes to the change log, from those images that are there; gives their number. May be put off with the
    /// statements before it.
    fn record(&self, program: &Program, images: &Filled, stamp: &Stamp) -> Result<u64>;

    /// Adds rows to the change log, numbered behind the last one, with what is the same in all.
    fn append(
        &self,
        columns: &[(&str, ColumnType)],
        rows: &[Vec<Cell>],
        stamped: &[(&str, Cell)],
    ) -> Result<()>;

    /// What a name stands for in the replica.
    fn object(&self, name: &str) -> Result<Option<Object>>;

    /// Names of the indexes that were made on a table, besides that of its key.
    fn indexes(&self, table: &str) -> Result<Vec<String>>;

    /// Columns whose order an index of a view's table serves and that are never NULL; none where there are none.
    fn order(&self, definition: &ViewDefinition) -> Result<Option<Vec<(String, ColumnType)>>>;

    /// A former column's values as those of a column of another type; none where they cannot be kept.
    fn converted(&self, column: &str, from: ColumnType, to: ColumnType) -> Option<String>;

    /// Housekeeping for idle times.
    fn rest(&self) -> Result<()>;
}
