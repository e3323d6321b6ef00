//! Runs maintenance programs inside a SQL replica.
//!
//! A replica holds a mirror of each base relation, a table for each view, how far each source has been applied, and the
//! log of view changes. [`Replica::apply`] takes groups of source transactions and moves all of these in one SQL
//! transaction; what it appends to the change log is published from there ([`Replica::unpublished`]). [`Reader`]s see a
//! consistent state beside the writer. SQL is executed nowhere else in the workspace.
//!
//! [`SqliteReplica`] keeps it in a file, [`PostgresReplica`] in a schema. What they do is in `maintenance/`, once for both.

mod decode;
mod error;
mod group;
mod location;
mod maintenance;
mod postgres;
mod reader;
mod replica;
mod retention;
mod spool;
mod sqlite;
mod writer;

pub use decode::Assembler;
pub use error::{Error, ErrorKind, Result};
pub use group::{Applied, Checkpoint, Fault, Group, Items, OutboxRow, Relation, Verified};
pub use location::Location;
pub use postgres::PostgresReplica;
pub use reader::{Interrupt, Limits, Reader, SnapshotRow, TakePage};
pub use replica::{Filling, Migrated, Migration, Progress, Replacement, Replica, ViewState};
pub use retention::{Retention, RetentionError};
pub use spool::Spool;
pub use sqlite::SqliteReplica;
pub use writer::Writer;
