//! The on-disk format of a Genji 0.15 database: read, tail and write.
//!
//! Genji stores documents in Pebble, an LSM tree: every change is first a record of a log file (`chunk`, [`batch`]),
//! later an entry of a sorted table. Keys start with a namespace ([`key`]); the rows of namespace 1 say what the others
//! hold ([`catalog`]).

pub mod batch;
pub mod catalog;
mod chunk;
mod directory;
mod error;
mod fault;
mod follower;
pub mod key;
mod log;
mod manifest;
mod relation;
mod table;
pub mod value;
mod varint;
mod write;

pub use error::{Error, ErrorKind};
pub use fault::Fault;
pub use relation::{DOCID, EXTRA};
