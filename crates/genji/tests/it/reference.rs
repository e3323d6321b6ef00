//! Where the reference programs and fixtures are. They are not part of the project: their tests say so when they are absent.

use std::path::{Path, PathBuf};

/// The root of the workspace.
pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn folder(variable: &str, default: &str) -> PathBuf {
    std::env::var_os(variable).map_or_else(|| workspace().join("../shared").join(default), PathBuf::from)
}

/// The real Genji holding a database open, if it is here.
pub(crate) fn genjihost() -> Option<PathBuf> {
    let program = folder("DELTAMESH_REFERENCE_BIN", "bin").join("genjihost");
    if program.exists() {
        return Some(program);
    }
    println!("skipped: no reference program {}", program.display());
    None
}

/// The folder of all fixture cases, if it is here.
pub(crate) fn fixtures() -> Option<PathBuf> {
    let folder = folder("DELTAMESH_REFERENCE_FIXTURES", "fixtures/genji");
    if folder.exists() {
        return Some(folder);
    }
    println!("skipped: no reference fixtures in {}", folder.display());
    None
}
