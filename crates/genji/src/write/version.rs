//! The manifest of a running host: whoever writes tables, flush or compaction, records them here.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::edit::{ManifestWriter, VersionEdit};
use crate::directory::manifest_path;
use crate::{Error, ErrorKind};

/// Appends edits one after the other, and gives out file numbers.
pub(crate) struct VersionLog {
    path: PathBuf,
    next_file: AtomicU64,
    edits: Mutex<Edits>,
}

struct Edits {
    manifest: ManifestWriter,
    /// At least every sequence number in the tables.
    last_sequence: u64,
    /// Set when an edit may be half written: nothing can follow it.
    failed: bool,
}

impl VersionLog {
    pub(crate) fn new(
        directory: &Path,
        manifest: ManifestWriter,
        next_file: u64,
        last_sequence: u64,
    ) -> Self {
        let path = manifest_path(directory, manifest.number());
        let edits = Mutex::new(Edits { manifest, last_sequence, failed: false });
        Self { path, next_file: AtomicU64::new(next_file), edits }
    }

    /// A file number that was never used.
    pub(crate) fn take_number(&self) -> u64 {
        self.next_file.fetch_add(1, Ordering::Relaxed)
    }

    /// Appends an edit durably, with the counters.
    pub(crate) fn append(&self, edit: VersionEdit) -> Result<(), Error> {
        let mut edits = self.edits.lock().unwrap_or_else(PoisonError::into_inner);
        if edits.failed {
            return Err(Error::new(ErrorKind::Closed, "manifest could not be written").in_file(&self.path));
        }
        edits.last_sequence = edits.last_sequence.max(edit.last_sequence.unwrap_or_default());
        let next_file = self.next_file.load(Ordering::Relaxed);
        let edit =
            VersionEdit { next_file: Some(next_file), last_sequence: Some(edits.last_sequence), ..edit };
        edits.manifest.append(&edit).map_err(|error| {
            edits.failed = true;
            Error::io("write manifest", &self.path, error)
        })
    }
}
