//! The domain of Deltamesh: what a source changed, in which order, and under which schema.
//!
//! A source commits a [`Transaction`]. It has a [`SourcePosition`] and an ordered list of
//! [`Item`]s: a [`ChangeEvent`] for each changed row, and a [`SchemaChange`] wherever a relation's
//! schema changed between two rows. Everything else in the workspace carries, applies or shows these.
//!
//! No I/O, no clock, no randomness.

mod event;
mod json;
mod position;
mod schema;
mod value;

pub use event::{ChangeEvent, Delta, Item, Operation, Row, SchemaChange, Transaction};
pub use json::{from_json, to_json};
pub use position::{EnginePosition, PositionError, SourcePosition};
pub use schema::{Column, ColumnType, RelationSchema, SchemaError};
pub use value::Value;
