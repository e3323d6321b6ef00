//! Tasks of the workspace: `cargo xtask NAME`.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod bench;
mod check;
mod demo;
mod generate;
mod slt;
mod steps;
mod tidy;
mod tools;
mod workspace;

use std::process::ExitCode;

use anyhow::{Result, bail};

use workspace::Workspace;

const USAGE: &str = "\
usage: cargo xtask TASK

  demo [--once]    builds, starts everything, writes a chat, shows every hop (Ctrl-C ends it;
                   --once ends after the conversation)
  test [ARGS]      fetches the tools, builds, runs all tests (ARGS go to cargo test)
  tools            fetches nats-server and, where the system has none, PostgreSQL into .tools
  tidy             checks crate graph, dependencies, names, sizes, generated code
  generate         renews generated code and goldens
  ci               fmt, clippy, tidy, test, and cargo deny where it is installed
  bench [NAME]     runs a benchmark in a release build; without NAME lists them; `bench views --dbsp`
                   builds a rival of 450 crates first
  slt [--postgres] FILE…
                   makes every query of sqllogictest files a view and compares";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    let (task, rest) = match arguments.split_first() {
        Some((task, rest)) => (task.as_str(), rest),
        None => ("help", arguments),
    };
    let workspace = Workspace::find()?;
    match task {
        "demo" => demo::run(&workspace, rest),
        "test" => check::test(&workspace, rest),
        "bench" => bench::run(&workspace, rest),
        "slt" => slt::run(&workspace, rest),
        "help" | "--help" | "-h" => {
            println!("{USAGE}");
            Ok(())
        }
        _ if !rest.is_empty() => bail!("{task} takes no arguments\n{USAGE}"),
        "tools" => tools::fetch_all(&workspace),
        "tidy" => tidy::run(&workspace),
        "generate" => generate::renew(&workspace),
        "ci" => check::ci(&workspace),
        other => bail!("no task {other}\n{USAGE}"),
    }
}
