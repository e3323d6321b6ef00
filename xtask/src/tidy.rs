//! The rules of the house that a compiler does not know (`ARCHITECTURE.md`, "Invariants").

mod dependencies;
mod files;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::generate;
use crate::workspace::{Graph, Workspace};

/// Checks everything and says every violation, not just the first.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let graph = workspace.graph()?;
    let mut violations = dependencies::check(&graph);
    violations.extend(golden(workspace, &graph)?);
    violations.extend(files::check(workspace.root())?);
    for violation in &violations {
        println!("tidy: {violation}");
    }
    generate::check(workspace, &graph.members).context("generated code: run `cargo xtask generate`")?;
    if !violations.is_empty() {
        bail!("{} violations of the house rules", violations.len());
    }
    println!("tidy: crate graph, dependencies, names, sizes and generated code are as they should be");
    Ok(())
}

/// Writes the crate graph as it is.
pub(crate) fn write_golden(workspace: &Workspace, graph: &Graph) -> Result<()> {
    let path = golden_path(workspace);
    fs::write(&path, dependencies::drawn(graph)).with_context(|| format!("write {}", path.display()))
}

fn golden(workspace: &Workspace, graph: &Graph) -> Result<Option<String>> {
    let path = golden_path(workspace);
    let golden = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    if golden == dependencies::drawn(graph) {
        return Ok(None);
    }
    let text = "docs/crate-graph.txt differs from the manifests: run `cargo xtask generate` and look at the difference";
    Ok(Some(text.to_owned()))
}

fn golden_path(workspace: &Workspace) -> PathBuf {
    workspace.root().join("docs/crate-graph.txt")
}
