//! Generated code: the tests of the packages that hold it compile it again and compare.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::steps::run;
use crate::tidy;
use crate::workspace::{Package, Workspace};

/// Variable that makes the tests write what they would compare.
pub(crate) const UPDATE: &str = "UPDATE_EXPECT";

/// Renews generated code and the golden of the crate graph.
pub(crate) fn renew(workspace: &Workspace) -> Result<()> {
    let graph = workspace.graph()?;
    for package in generated(&graph.members) {
        println!("generating {package}");
        run(workspace.cargo(&test(package)).env(UPDATE, "1"))?;
    }
    tidy::write_golden(workspace, &graph)
}

/// Fails when generated code is not what the generator makes.
pub(crate) fn check(workspace: &Workspace, members: &BTreeMap<String, Package>) -> Result<()> {
    for package in generated(members) {
        run(workspace.cargo(&test(package)).env_remove(UPDATE))?;
    }
    Ok(())
}

/// Packages with a folder `src/generated`.
fn generated(members: &BTreeMap<String, Package>) -> Vec<&str> {
    let with = members.iter().filter(|(_, package)| package.dir.join("src/generated").is_dir());
    with.map(|(name, _)| name.as_str()).collect()
}

fn test(package: &str) -> [&str; 7] {
    ["test", "--quiet", "--package", package, "--test", "it", "generated"]
}
