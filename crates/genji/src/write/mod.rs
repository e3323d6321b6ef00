//! Writing a database directory.
