//! What a process takes.

use anyhow::{Context, Result};

/// The most memory that this process has had, in bytes, where the system (Linux) says so.
pub(crate) fn peak() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("read the status of the process")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()).context("no peak memory in it")?;
    Ok(kilobytes.parse::<u64>()? * 1024)
}
