//! `cargo xtask demo`: from a cold clone to a live chat.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};

use crate::steps::{self, Steps};
use crate::tools;
use crate::workspace::Workspace;

/// The programs that the demo starts.
const PROGRAMS: [&str; 4] =
    ["deltamesh-cli", "deltamesh-ingest-genji", "deltamesh-view-builder", "deltamesh-feed-gateway"];

/// Builds what the demo needs and becomes it, so that Ctrl-C goes to the demo itself.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    let mut progress = Steps::new(3);
    progress.next("tools: nats-server");
    tools::fetch(workspace)?;
    progress.next("build: the first time this compiles all dependencies, some minutes on two cores");
    let mut build = workspace.cargo(&["build", "--bins"]);
    for program in PROGRAMS {
        build.args(["--package", program]);
    }
    steps::run(&mut build)?;
    progress.next("start");
    let here = std::env::current_exe()?;
    let program = here.parent().context("xtask has no folder")?.join("deltamesh");
    let mut demo = Command::new(&program);
    demo.arg("demo").args(arguments).current_dir(workspace.root());
    Err(demo.exec()).with_context(|| format!("start {}", program.display()))
}
