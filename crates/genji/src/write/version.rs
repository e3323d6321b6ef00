//! The manifest of a running host: whoever writes tables, flush or compaction, records them here.

use std::path::{Path, PathBuf};

use super::edit::{ManifestWriter, VersionEdit};
use crate::directory::manifest_path;
use crate::{Error, ErrorKind};

/// Appends edits one after the other, and gives out file numbers.
pub(crate) struct VersionLog {
    path: PathBuf,
    manifest: ManifestWriter,
    next_file: u64,
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
        Self { path, manifest, next_file, last_sequence, failed: false }
    }

    /// A file number that was never used.
    pub(crate) fn take_number(&mut self) -> u64 {
        self.next_file += 1;
        self.next_file - 1
    }

    /// Appends an edit durably, with the counters.
    pub(crate) fn append(&mut self, edit: VersionEdit) -> Result<(), Error> {
        if self.failed {
            return Err(Error::new(ErrorKind::Closed, "manifest could not be written").in_file(&self.path));
        }
        self.last_sequence = self.last_sequence.max(edit.last_sequence.unwrap_or_default());
        let edit =
            VersionEdit { next_file: Some(self.next_file), last_sequence: Some(self.last_sequence), ..edit };
        self.manifest.append(&edit).map_err(|error| {
            self.failed = true;
            Error::io("write manifest", &self.path, error)
        })
    }
}
