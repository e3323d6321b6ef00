//! Names of the files in a database directory.
//!
//! `CURRENT` names the manifest; logs, tables and manifests share one counter. `LOCK` is never touched by a reader: in the
//! process that is itself the host, closing any descriptor of it would drop the host's lock.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::{Error, ErrorKind, chai};

/// Path of a log.
pub(crate) fn log_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:06}.log"))
}

/// Path of a table.
pub(crate) fn table_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:06}.sst"))
}

/// Path of a manifest.
pub(crate) fn manifest_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("MANIFEST-{number:06}"))
}

/// A change of a directory may carry the time of one that was made so long before it: file systems count in ticks.
const TICK: Duration = Duration::from_millis(100);

/// The numbers of the logs and manifests that a directory holds, ascending.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Listing {
    pub(crate) logs: Vec<u64>,
    pub(crate) manifests: Vec<u64>,
}

/// Lists a directory.
pub(crate) fn list(dir: &Path) -> Result<Listing, Error> {
    let failed = |error| Error::io("list database directory", dir, error);
    let mut listing = Listing::default();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let Some(name) = name.to_str() else { continue };
        if let Some(number) = name.strip_suffix(".log").and_then(|number| number.parse().ok()) {
            listing.logs.push(number);
        } else if let Some(number) = name.strip_prefix("MANIFEST-").and_then(|number| number.parse().ok()) {
            listing.manifests.push(number);
        }
    }
    listing.logs.sort_unstable();
    listing.manifests.sort_unstable();
    Ok(listing)
}

/// When a directory was changed last; none where another change might not show in it, or nothing can be told.
///
/// Whoever lists the directory after this call need not list it again while the time stays the same.
pub(crate) fn changed(dir: &Path) -> Option<SystemTime> {
    let changed = fs::metadata(dir).ok()?.modified().ok()?;
    let age = SystemTime::now().duration_since(changed).ok()?;
    (age > TICK).then_some(changed)
}

/// The number of the manifest that a marker or `CURRENT` names.
pub(crate) fn current_manifest(dir: &Path) -> Result<u64, Error> {
    if let Some(number) = chai::files::manifest(dir) {
        return Ok(number);
    }
    let path = dir.join("CURRENT");
    let text =
        fs::read_to_string(&path).map_err(|error| Error::io("read current manifest name", &path, error))?;
    text.trim_end()
        .strip_prefix("MANIFEST-")
        .and_then(|number| number.parse().ok())
        .ok_or_else(|| Error::new(ErrorKind::Corrupt, "file names no manifest").in_file(&path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_shows_in_the_time() {
        let dir = tempfile::tempdir().unwrap();
        let settled = || {
            (0..1000)
                .find_map(|_| {
                    std::thread::sleep(TICK / 10);
                    changed(dir.path())
                })
                .unwrap()
        };
        assert_eq!(changed(dir.path()), None, "another change could carry the same time");
        let before = settled();
        assert_eq!(changed(dir.path()), Some(before));
        fs::write(dir.path().join("000002.log"), "").unwrap();
        assert_ne!(changed(dir.path()), Some(before));
        assert_ne!(settled(), before);
        assert_eq!(changed(&dir.path().join("none")), None);
    }

    #[test]
    fn names_are_found_in_order() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["000010.log", "000002.log", "MANIFEST-000001", "OPTIONS-000003", "000004.sst", "LOCK"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        fs::write(dir.path().join("CURRENT"), "MANIFEST-000001\n").unwrap();
        assert_eq!(list(dir.path()).unwrap(), Listing { logs: vec![2, 10], manifests: vec![1] });
        assert_eq!(current_manifest(dir.path()).unwrap(), 1);
        fs::write(dir.path().join("CURRENT"), "nothing").unwrap();
        assert_eq!(current_manifest(dir.path()).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}
