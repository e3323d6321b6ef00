//! SQL text to maintenance program, per dialect.
//!
//! [`parse_statements`] reads `CREATE MATERIALIZED VIEW` and `DROP MATERIALIZED VIEW`; [`plan`] turns a view into a
//! [`Program`]: plain SQL statements that a replica runs to keep the view's table equal to the view's own `SELECT`. The
//! crate runs nothing itself.
//!
//! # Batch protocol (SQLite)
//! For each base table `T` of a view (a mirror `<source>__<relation>`, or an upstream view) there are two TEMP tables,
//! [`old_table`]`(T)` and [`new_table`]`(T)`, holding the before and after images of the rows that the batch changes:
//! netted per key, rows with identical images left out. For a mirror the replica creates and fills them. **They must
//! declare the same column types as the mirror**, or comparisons would differ by column affinity. For a view its own
//! program creates them ([`Program::connect`]) and fills them in its `Finish` steps; they may have additional hidden
//! columns.
//!
//! A batch, in one transaction:
//! 1. The tables of images of all changed mirrors are filled. Then, for each changed mirror `T`, one after the other: every
//!    program's [`Phase::Before`]`(T)` steps, then the mirror is updated, then every program's [`Phase::After`]`(T)` steps.
//! 2. For each view `V` that a changed base touches, in creation order: `V`'s [`Phase::Finish`] steps; every other
//!    program's `Before(V)` steps; [`Program::apply`] of `V` (writes the table) and [`Program::record`] of `V` (appends to
//!    `__deltamesh_changes`); then every other program's `After(V)` steps. A view is changed when `old__V` or `new__V` has
//!    a row; the programs over an unchanged one need not be touched.
//! 3. [`Program::clear`] of every touched view (empties its TEMP tables), after the last view.
//!
//! Steps of one phase run in the order given. Steps of an untouched base may be skipped; so may `Before` steps of a base
//! without before images, `After` steps of one without after images, and all of an untouched view. An [`Action`] is left
//! out where it does not [apply](Action::applies) to the tables of the batch that have rows.
//!
//! # What the connection provides
//! - Three scalar functions, deterministic, of one argument: `deltamesh_token(value)` → the subject token of the value's
//!   text (NULL → `%`), `deltamesh_base64(blob)` → text, and `deltamesh_json(value)` → the canonical JSON *text* of the
//!   value by its own kind (`deltamesh_change::to_json`), used where SQLite's own rendering is not exact (doubles, `Any`).
//! - `__deltamesh_changes(seq INTEGER PRIMARY KEY …, view, op, key, row, before, subject, position, dsid, tx_end,
//!   captured_us)`. `seq` is left to SQLite, so the table must keep its last row or be AUTOINCREMENT.
//! - [`Program::record`] statements bind `:position`, `:dsid`, `:captured_us`; no other statement has parameters.
//! - Foreign keys, recursive triggers and `case_sensitive_like` at SQLite's defaults.

mod block;
mod catalog;
mod compose;
mod cost;
mod definition;
mod dialect;
mod error;
mod explain;
mod facts;
mod functions;
mod kinds;
mod program;
mod query;
mod resolve;
mod slices;
mod sql;
mod statement;
mod strategy;
mod typing;

pub use catalog::{Catalog, mirror_table};
pub use cost::{Counts, Lookup, Spread};
pub use definition::{
    BaseRelation, HiddenColumn, Index, Indexes, Order, Retain, Stored, ViewDefinition, ViewOptions,
};
pub use dialect::Dialect;
pub use error::{Error, ErrorKind, Location};
pub use explain::{Estimated, Explain, Operator, Statements, Tier};
pub use program::{Action, Phase, Program, Step, image_tables, new_table, old_table, plan};
pub use slices::{SliceColumn, Slices};
pub use statement::{
    CreateView, DropView, MigrationAction, MigrationStep, OwnIndex, OwnKind, Statement, parse_migration,
    parse_statements,
};
