//! Maintains materialised views in a replica.
