//! Programs run on SQLite, with SQLite's own evaluation of the view as the oracle.

mod database;
mod errors;
mod oracle;
mod programs;
