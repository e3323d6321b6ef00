//! How to read a directory.

/// Options of [`crate::Snapshot::open`] and [`crate::Tail::resume`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadOptions {
    /// Bytes of log records to keep ahead of who takes them, about. A taker that is slower than the engine for longer than
    /// this lasts gets a gap.
    pub read_ahead: usize,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { read_ahead: 64 * 1024 * 1024 }
    }
}
