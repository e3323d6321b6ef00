//! `deltamesh supervised PARENT PROGRAM…`: becomes a program that does not outlive its parent.
//!
//! The death signal is set here and survives the exec, so that a service or server needs to know nothing of it.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, getppid};

use crate::options::Supervised;

/// Only returns when it fails.
pub(crate) fn run(supervised: &Supervised) -> Result<ExitCode> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .context("set parent death signal")?;
    // The parent may have died before the signal was set.
    if getppid().map(Pid::as_raw_pid) != Some(supervised.parent) {
        bail!("the parent process {} is gone", supervised.parent);
    }
    let (program, arguments) = supervised.program.split_first().context("no program named")?;
    Err(Command::new(program).args(arguments).exec()).with_context(|| format!("start {}", program.display()))
}
