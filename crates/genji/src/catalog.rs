//! The catalog: what tables, indexes and sequences a database has, and how their definitions read.
//!
//! Genji keeps one row per table, index and sequence in `__genji_catalog`; its `sql` field, a normalised CREATE statement,
//! is the schema.

mod definition;
mod display;
mod entry;
mod parse;
mod path;
pub(crate) mod scan;
mod state;

pub use definition::{
    ConstraintKind, DocumentDefinition, FieldDefinition, FieldType, IndexDefinition, SequenceDefinition,
    TableConstraint, TableDefinition,
};
pub use entry::{CatalogEntry, EntryKind, Owner};
pub use parse::Definition;
pub use path::{Path, PathSegment};
pub(crate) use state::{CatalogState, Space};
