//! Captures the changes of a Genji database, or hosts one.

fn main() {}
