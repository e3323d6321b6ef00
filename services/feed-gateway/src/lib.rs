//! Serves view feeds and module methods to applications.
