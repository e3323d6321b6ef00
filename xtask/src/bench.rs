//! `cargo xtask bench NAME`: a `[[bench]]` target of any package, with the programs that those of services start.

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
    steps::run(workspace.cargo(&["bench", "--package", package, "--bench", bench, "--"]).args(rest))
}
