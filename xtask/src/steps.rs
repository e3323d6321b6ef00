//! Steps of a task: what it does, how long it took, what failed.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// Numbers the steps of a task on stdout.
pub(crate) struct Steps {
    total: usize,
    done: usize,
    started: Instant,
}

impl Steps {
    pub(crate) fn new(total: usize) -> Self {
        Self { total, done: 0, started: Instant::now() }
    }

    /// Says what comes next.
    pub(crate) fn next(&mut self, what: &str) {
        self.done += 1;
        let seconds = self.started.elapsed().as_secs();
        println!("==> [{}/{}] {what} ({seconds} s so far)", self.done, self.total);
    }

    /// Seconds since the first step.
    pub(crate) fn seconds(&self) -> u64 {
        self.started.elapsed().as_secs()
    }
}

/// Runs `command` with this terminal and fails with its name when it fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let text = shown(command);
    let status = command.status().with_context(|| format!("start `{text}`"))?;
    if !status.success() {
        bail!("`{text}` failed ({status})");
    }
    Ok(())
}

/// Runs `command`, shows each line of its stdout as it comes and gives it to `line`.
pub(crate) fn follow(command: &mut Command, mut line: impl FnMut(&str)) -> Result<()> {
    let text = shown(command);
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("start `{text}`"))?;
    let out = child.stdout.take().context("child has no stdout")?;
    for read in BufReader::new(out).lines() {
        let read = read?;
        println!("{read}");
        line(&read);
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("`{text}` failed ({status})");
    }
    Ok(())
}

/// The command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program()).file_name().unwrap_or_default();
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}
