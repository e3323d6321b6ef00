//! Tests, and everything that must hold before a change goes in.

use anyhow::Result;

use crate::steps::{Steps, follow, run};
use crate::workspace::Workspace;
use crate::{tidy, tools};

/// Counts over the result lines of all test binaries.
#[derive(Default, Debug, PartialEq, Eq)]
struct Totals {
    binaries: u32,
    passed: u32,
    failed: u32,
    ignored: u32,
}

/// Fetches the tools, builds, runs all tests. `arguments` go to `cargo test`.
pub(crate) fn test(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    let mut steps = Steps::new(3);
    steps.next("tools: nats-server, PostgreSQL");
    tools::fetch_all(workspace)?;
    steps.next("build: programs and tests");
    // The tests of the command start the services' programs beside it.
    run(&mut workspace.cargo(&["build", "--workspace", "--bins"]))?;
    run(&mut workspace.cargo(&["test", "--workspace", "--no-run", "--quiet"]))?;
    steps.next("test: all packages");
    let mut totals = Totals::default();
    let mut command = workspace.cargo(&["test", "--workspace", "--no-fail-fast"]);
    let outcome = follow(command.args(arguments), |line| totals.add(line));
    println!(
        "==> {} passed, {} failed, {} ignored in {} test binaries ({} s in all)",
        totals.passed,
        totals.failed,
        totals.ignored,
        totals.binaries,
        steps.seconds()
    );
    outcome
}

/// Formatting, lints, house rules, tests, licences.
pub(crate) fn ci(workspace: &Workspace) -> Result<()> {
    let mut steps = Steps::new(5);
    steps.next("cargo fmt --check");
    run(&mut workspace.cargo(&["fmt", "--all", "--check"]))?;
    run(&mut workspace.cargo(&["fmt", "--manifest-path", "benches/dbsp/Cargo.toml", "--check"]))?;
    steps.next("cargo clippy");
    run(&mut workspace.cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ]))?;
    steps.next("tidy");
    tidy::run(workspace)?;
    steps.next("test");
    test(workspace, &[])?;
    steps.next("cargo deny");
    if workspace.cargo(&["deny", "--version"]).output().is_ok_and(|out| out.status.success()) {
        run(&mut workspace.cargo(&["deny", "check"]))?;
    } else {
        println!("cargo-deny is not installed: licences and sources NOT checked (cargo install cargo-deny)");
    }
    println!("==> all checks passed ({} s)", steps.seconds());
    Ok(())
}

impl Totals {
    /// Adds a line such as `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
    fn add(&mut self, line: &str) {
        let Some(counts) = line.strip_prefix("test result: ") else { return };
        self.binaries += 1;
        for count in counts.split(['.', ';']) {
            let mut words = count.split_whitespace();
            let (Some(Ok(number)), Some(what)) = (words.next().map(str::parse::<u32>), words.next()) else {
                continue;
            };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Totals;

    #[test]
    fn totals_add_up() {
        let mut totals = Totals::default();
        totals.add("test a ... ok");
        totals.add(
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.06s",
        );
        totals.add("test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out");
        assert_eq!(totals, Totals { binaries: 2, passed: 4, failed: 2, ignored: 1 });
    }
}
