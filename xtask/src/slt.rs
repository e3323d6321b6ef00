//! `cargo xtask slt FILE…`: every query of sqllogictest files as a view, kept while the rows under it move.

use anyhow::{Context, Result, bail};

use crate::steps;
use crate::workspace::Workspace;

/// Runs the files, whose paths are from where the task was started: in a SQLite replica, or behind `--postgres` in one of those.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    let (test, files) = match arguments.split_first() {
        Some((option, files)) if option == "--postgres" => ("slt::files_on_postgres", files),
        _ => ("slt::files", arguments),
    };
    if files.is_empty() {
        bail!("slt takes files of sqllogictest");
    }
    let absolute = |file: &String| {
        let path = std::path::absolute(file).with_context(|| format!("find {file}"))?;
        if !path.is_file() {
            bail!("no file {}", path.display());
        }
        Ok(path.display().to_string())
    };
    let files = files.iter().map(absolute).collect::<Result<Vec<_>>>()?;
    let mut command = workspace.cargo(&["test", "--package", "deltamesh-replica", "--test", "it", test]);
    steps::run(command.args(["--", "--exact", "--nocapture"]).env("DELTAMESH_SLT", files.join(":")))
}
