//! Runs maintenance programs inside a SQL replica.
