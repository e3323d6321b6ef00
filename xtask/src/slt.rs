//! `cargo xtask slt FILE…`: every query of sqllogictest files as a view, kept while the rows under it move.

use anyhow::{Context, Result, bail};

use crate::steps;
use crate::workspace::Workspace;

/// Runs the files, whose paths are from where the task was started.
pub(crate) fn run(workspace: &Workspace, files: &[String]) -> Result<()> {
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
    let mut command =
        workspace.cargo(&["test", "--package", "deltamesh-replica", "--test", "it", "slt::files"]);
    steps::run(command.args(["--", "--nocapture"]).env("DELTAMESH_SLT", files.join(":")))
}
