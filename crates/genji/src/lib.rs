//! The on-disk format of a Genji 0.15 database: read, tail and write; and of its successor Chai 0.18: read and tail.
//!
//! Genji stores documents in Pebble, an LSM tree: every change is first a record of a log file (`chunk`, [`batch`]),
//! later an entry of a sorted table. Keys start with a namespace ([`key`]); the rows of namespace 1 say what the others
//! hold ([`catalog`]).
//!
//! Reading follows one path: a `View` opens the live tables and logs, [`Snapshot`] makes the rows at one exact position of
//! them, and [`Tail`] the transactions behind it, from the records that the `Follower` proves to be complete.
//! [`StoredTable`] and [`History`] show a directory to a reader who wants it as it is stored.

pub mod batch;
pub mod catalog;
mod chai;
mod chunk;
mod directory;
mod engine;
mod error;
mod fault;
mod follower;
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod fuzz;
mod history;
pub mod key;
mod log;
mod manifest;
mod object;
mod options;
mod overlay;
mod relation;
mod scan;
mod snapshot;
mod spill;
pub mod sql;
mod stored;
mod table;
mod tail;
mod transaction;
pub mod value;
mod varint;
mod view;
mod write;

pub use engine::Engine;
pub use error::{Error, ErrorKind};
pub use fault::Fault;
pub use history::{
    History, Image, LoggedChange, LoggedSchema, LoggedTransaction, RowOperation, SchemaOperation,
    TransactionKind,
};
pub use object::ObjectChange;
pub use options::ReadOptions;
pub use relation::{DOCID, EXTRA};
pub use snapshot::{Rows, Snapshot};
pub use stored::{StoredRow, StoredRows, StoredTable};
pub use tail::Tail;
pub use transaction::GenjiTransaction;
pub use write::{Database, Document, Executed, HostOptions, Session, Submitted, WriteTransaction};
