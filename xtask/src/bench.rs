//! `cargo xtask bench NAME`: a `[[bench]]` target of any package, with the programs that those of services start.

use std::env;
use std::path::Path;

use anyhow::{Result, bail};

use crate::steps;
use crate::tools;
use crate::workspace::Workspace;

/// Runs the benchmark `NAME` (further arguments go to it), or lists what there is.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    let graph = workspace.graph()?;
    let benches: Vec<(&str, &str)> = graph
        .members
        .iter()
        .flat_map(|(package, found)| {
            found.benches.iter().map(move |bench| (package.as_str(), bench.as_str()))
        })
        .collect();
    let Some((name, rest)) = arguments.split_first() else {
        for (package, bench) in benches {
            println!("{bench} ({package})");
        }
        return Ok(());
    };
    let Some((package, bench)) = benches.iter().find(|(_, bench)| bench == name) else {
        let known: Vec<&str> = benches.iter().map(|(_, bench)| *bench).collect();
        bail!("no benchmark {name}; there is: {}", known.join(", "));
    };
    let is_library = graph
        .members
        .get(*package)
        .is_some_and(|found| found.dir.parent().is_some_and(|parent| parent.ends_with("crates")));
    if !is_library {
        tools::fetch(workspace)?;
        steps::run(&mut workspace.cargo(&["build", "--release", "--workspace", "--bins"]))?;
    }
    let rest = with_dbsp(workspace, &graph.target, rest)?;
    steps::run(workspace.cargo(&["bench", "--package", package, "--bench", bench, "--"]).args(rest))
}

/// The arguments with the path of `benches/dbsp`'s program where `--dbsp` has none; builds it then, which takes half an hour
/// the first time: it is a workspace of its own, so that nothing else compiles the 450 crates that it needs.
fn with_dbsp(workspace: &Workspace, target: &Path, arguments: &[String]) -> Result<Vec<String>> {
    let mut given = arguments.to_vec();
    let is_option = |argument: Option<&String>| argument.is_none_or(|argument| argument.starts_with('-'));
    let Some(index) = given.iter().position(|argument| argument == "--dbsp") else { return Ok(given) };
    if is_option(given.get(index + 1)) {
        let target = target.join("dbsp");
        let manifest = workspace.root().join("benches/dbsp/Cargo.toml");
        let mut build = workspace.cargo(&["build", "--release", "--locked", "--manifest-path"]);
        steps::run(build.arg(manifest).arg("--target-dir").arg(&target))?;
        let program = target.join("release").join(format!("deltamesh-bench-dbsp{}", env::consts::EXE_SUFFIX));
        given[index] = format!("--dbsp={}", program.display());
    }
    Ok(given)
}
