//! What changed.

use std::sync::Arc;

use crate::{RelationSchema, SourcePosition, Value};

/// The values of one row, one per column of its [`RelationSchema`].
pub type Row = Vec<Value>;

/// What happened to a row, in Debezium's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// The row is new.
    Insert,
    /// The row existed and has new values.
    Update,
    /// The row has these values now; the source's log cannot tell whether it existed.
    Upsert,
    /// The row is gone.
    Delete,
    /// Every row of the relation is gone.
    Truncate,
    /// The row was read from a snapshot, not from the log.
    Read,
}

/// One changed row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeEvent {
    /// Schema of the relation when the change happened; `before` and `after` have its columns.
    pub schema: Arc<RelationSchema>,
    /// What happened.
    pub operation: Operation,
    /// Values of the key columns, in key order. Empty for [`Operation::Truncate`].
    pub key: Row,
    /// The row before, where the source knows it.
    pub before: Option<Row>,
    /// The row after; absent for delete and truncate.
    pub after: Option<Row>,
}

/// A relation's schema came into force, changed, or went away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SchemaChange {
    /// The relation exists with this schema from here on. Also sent for a relation that was known under another schema.
    Define(Arc<RelationSchema>),
    /// The relation keeps its rows under another name and the given schema.
    Rename {
        /// Name until now.
        from: String,
        /// Schema from here on, with the new name.
        to: Arc<RelationSchema>,
    },
    /// The relation and its rows are gone.
    Drop {
        /// Name of the relation.
        relation: String,
        /// Schema sequence id of the drop.
        dsid: u64,
    },
}

/// One entry of a transaction, in source order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A changed row.
    Row(ChangeEvent),
    /// A changed schema: rows before it have the old one, rows after it the new one.
    Schema(SchemaChange),
}

/// Everything that one source transaction changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// Position after the transaction.
    pub position: SourcePosition,
    /// Changes in source order.
    pub items: Vec<Item>,
    /// Whether this is a reconcile (snapshot against mirror) and not one transaction of the source's own.
    ///
    /// A snapshot transaction carries the complete state of every relation that it defines: a mirror row that it does not
    /// contain no longer exists.
    pub snapshot: bool,
}

/// How one row of a view changed; what a feed carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    /// [`Operation::Insert`], [`Operation::Update`] or [`Operation::Delete`].
    pub operation: Operation,
    /// Values of the view's key.
    pub key: Row,
    /// The row before, for update and delete.
    pub before: Option<Row>,
    /// The row after, for insert and update.
    pub after: Option<Row>,
}
