//! Maintains materialised views in a replica.

fn main() {}
