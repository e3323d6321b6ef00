//! The deltamesh command.

fn main() {}
