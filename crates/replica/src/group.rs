//! What a replica applies, and what it answers.

use std::sync::Arc;

use deltamesh_change::{Item, RelationSchema, SourcePosition};

use crate::spool::Spool;

/// A run of consecutive transactions of one source that is applied whole.
#[derive(Debug)]
pub struct Group {
    /// Name of the source.
    pub source: String,
    /// Ordinal of the first transaction.
    pub first_ordinal: u64,
    /// Position after the last transaction.
    pub position: SourcePosition,
    /// When ingest read the last transaction, in microseconds since 1970-01-01 UTC.
    pub captured_us: i64,
    /// Sequence of the group's last message in the change stream.
    pub stream_sequence: u64,
    /// Whether the group is the source's complete state rather than transactions of its own.
    pub snapshot: bool,
    /// Rows and schema changes, in order.
    pub items: Items,
}

/// The items of a group: in memory, or on disk where there are too many.
#[derive(Debug)]
pub enum Items {
    /// Held in memory.
    Memory(Vec<Item>),
    /// Held in a file.
    Spool(Spool),
}

/// How far a replica has applied a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Name of the source.
    pub source: String,
    /// Position after the last applied transaction.
    pub position: SourcePosition,
    /// Sequence in the change stream of the last applied message.
    pub stream_sequence: u64,
}

impl Checkpoint {
    /// Everything in it that is a number, in the order of the columns of its table.
    pub(crate) fn numbers(&self) -> [u64; 5] {
        let engine = &self.position.engine;
        [self.position.ordinal, engine.sequence, engine.log, engine.offset, self.stream_sequence]
    }
}

/// What a transaction did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// Groups that moved a checkpoint.
    pub groups: usize,
    /// Groups that had been applied before.
    pub skipped: usize,
    /// Changed mirror rows, after netting.
    pub rows: u64,
    /// Appended view changes.
    pub changes: u64,
    /// Relations that came into being, changed their schema or went away.
    pub schema_changes: usize,
    /// Views that this transaction has stopped maintaining, with the reason.
    pub faults: Vec<Fault>,
}

/// A view that is not maintained until it can be built again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Name of the view.
    pub view: String,
    /// Why.
    pub reason: String,
}

/// One view change that waits to be published, in the wording of the feed's headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRow {
    /// Feed position.
    pub sequence: u64,
    /// Name of the view.
    pub view: String,
    /// `insert`, `update` or `delete`.
    pub operation: String,
    /// JSON array of the key values.
    pub key: String,
    /// The row after as a JSON object; for a delete the row before.
    pub row: String,
    /// Former values of the columns that an update changed, as a JSON object.
    pub before: Option<String>,
    /// Subject of the message: `feed.<view>.<tokens>`.
    pub subject: String,
    /// `<source>=<position>` that the change follows from; empty for a view that was filled.
    pub position: String,
    /// Schema sequence id; 0 where none applies.
    pub dsid: u64,
    /// Whether the replica's transaction ends with this change.
    pub transaction_end: bool,
    /// When ingest read the change, in microseconds since 1970-01-01 UTC; 0 where none applies.
    pub captured_us: i64,
}

/// A mirrored relation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// Name of the source.
    pub source: String,
    /// Its current schema.
    pub schema: Arc<RelationSchema>,
}

/// What a view's table holds against what its own SQL says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Name of the view.
    pub view: String,
    /// Rows that the SQL gives and the view lacks, duplicates counted.
    pub missing: u64,
    /// Rows that the view has and the SQL does not give, duplicates counted.
    pub extra: u64,
}
