//! Hosting a database: what is written here, the real Genji opens, and the other way round.
//!
//! A write follows one path. [`WriteTransaction::insert`] validates a document against the table's definition (`row`),
//! turns it into the operations of a batch (`transaction`) and commits the batch as one record of the log (`log`), durable
//! before the call returns. The record is applied to the memtable (`memtable`); a full memtable becomes sorted tables of
//! level 0 (`flush`, `table`, in Genji's own key order, `order`), which the manifest names (`edit`), and the log begins
//! anew (`recover`, which also brings a directory back after any kind of end). Reads go through `store`: memtable, then
//! tables (`lookup`). Definitions are rows too (`ddl`, `schema`), and what they change in every row
//! is written a row at a time (`backfill`). What another directory has decided already is taken over
//! as it is (`replay`).

mod aggregate;
mod backfill;
mod background;
pub(crate) mod cast;
mod change;
mod compact;
mod database;
mod ddl;
mod edit;
mod execute;
mod filter;
mod flush;
mod lock;
mod log;
mod lookup;
mod memtable;
mod merge;
mod order;
mod plan;
mod recover;
mod replay;
mod row;
mod rows;
mod schema;
mod select;
mod sequence;
mod session;
mod spill;
mod store;
mod sync;
mod table;
mod tail;
mod transaction;
mod validate;
mod version;

pub use database::{Database, HostOptions, Submitted};
pub use execute::Executed;
pub use row::Document;
pub(crate) use sequence::decode_row as decode_sequence;
pub use session::Session;
pub use transaction::WriteTransaction;
