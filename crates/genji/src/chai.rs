//! What Chai 0.18 stores in another way than Genji 0.15, whose successor it is.
//!
//! Its files are in `DIR/pebble`, and marker files stand for `CURRENT`. The row `(1, 300, 'q')` of
//! `CREATE TABLE t (id INTEGER PRIMARY KEY, n BIGINT, s TEXT)` has the key `3A 31` (namespace 10, integer 1) and the value
//! `31 51012C 620171`: the columns in order. There are no documents, no undeclared columns and no tables without primary
//! key; a key may have descending components, and a table or index that is dropped loses its keys by a range delete.

mod block;
pub(crate) mod entry;
pub(crate) mod files;
pub(crate) mod key;
pub(crate) mod order;
mod sorted;
mod table;
mod timestamp;
pub(crate) mod value;

pub(crate) use sorted::{SortedEntries, SortedTable};
pub(crate) use table::{Kind, Table};

#[cfg(test)]
mod tests;
