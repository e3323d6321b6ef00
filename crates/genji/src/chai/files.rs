//! Marker files: a directory entry `marker.NAME.ITERATION.VALUE` stands for a small file that is replaced atomically.

use std::fs;
use std::path::{Path, PathBuf};

const MANIFEST: &str = "manifest";
const FORMAT: &str = "format-version";
/// Folder in a database's directory.
const STORE: &str = "pebble";

/// Where the engine's files are, if markers say that a directory is Chai's. `dir` may be the database's or the store's.
pub(crate) fn locate(dir: &Path) -> Option<PathBuf> {
    [dir.join(STORE), dir.to_owned()].into_iter().find(|place| marker(place, FORMAT).is_some())
}

/// The number of the manifest that a marker names, if one does.
pub(crate) fn manifest(dir: &Path) -> Option<u64> {
    marker(dir, MANIFEST)?.strip_prefix("MANIFEST-")?.parse().ok()
}

/// The value of a marker. While it is replaced, the old one is still there: the higher iteration counts.
fn marker(dir: &Path, name: &str) -> Option<String> {
    let entries = fs::read_dir(dir).ok()?;
    let markers = entries.filter_map(|entry| {
        let file = entry.ok()?.file_name();
        let (iteration, value) =
            file.to_str()?.strip_prefix("marker.")?.strip_prefix(name)?.strip_prefix('.')?.split_once('.')?;
        Some((iteration.parse::<u64>().ok()?, value.to_owned()))
    });
    markers.max_by_key(|(iteration, _)| *iteration).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_marker_counts() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(locate(dir.path()), None);
        let store = dir.path().join(STORE);
        fs::create_dir(&store).unwrap();
        for name in [
            "marker.format-version.000011.024",
            "marker.manifest.000009.MANIFEST-000001",
            "marker.manifest.000010.MANIFEST-000006",
            "marker.manifest.x.MANIFEST-000007",
        ] {
            fs::write(store.join(name), "").unwrap();
        }
        assert_eq!(locate(dir.path()), Some(store.clone()));
        assert_eq!(locate(&store), Some(store.clone()));
        assert_eq!(manifest(&store), Some(6));
    }
}
