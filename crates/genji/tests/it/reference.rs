//! Where the fixtures of the real engine are. The full set is not part of the project: its tests say so when it is absent.

use std::io::Write as _;
use std::path::PathBuf;

use deltamesh_testkit::workspace_root;

/// The cases that are part of the project.
pub(crate) fn own_fixtures() -> PathBuf {
    workspace_root().join("fixtures/genji")
}

/// The folder of all cases, if it is here: `DELTAMESH_REFERENCE_FIXTURES`, else `../shared/fixtures` beside the workspace.
pub(crate) fn all_fixtures() -> Option<PathBuf> {
    let named = std::env::var_os("DELTAMESH_REFERENCE_FIXTURES").map(PathBuf::from);
    let folder = named.unwrap_or_else(|| workspace_root().join("../shared/fixtures")).join("genji");
    if folder.exists() {
        return Some(folder);
    }
    // Straight to stderr: the test harness would keep back what a passing test prints.
    writeln!(std::io::stderr().lock(), "skipped: no reference fixtures in {}", folder.display()).unwrap();
    None
}
