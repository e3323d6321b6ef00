//! A consistent view of a directory, while an engine may be writing it.
//!
//! The manifest says which tables are live and from which log on the rest stands. All of them are opened; a file that is
//! gone by then means that the manifest has moved on, and the next attempt reads it again. Open tables stay readable and
//! never change; the logs are read into memory at once, before the engine recycles them.

use std::path::Path;

use crate::follower::Follower;
use crate::manifest::{TableMeta, Version};
use crate::table::Table;
use crate::{Error, ErrorKind, ReadOptions};

const ATTEMPTS: usize = 32;

/// A live table.
#[derive(Debug)]
pub(crate) struct LiveTable {
    pub(crate) level: u32,
    pub(crate) meta: TableMeta,
    pub(crate) table: Table,
}

/// The tables of one version, and the logs behind it, read to their present end.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) version: Version,
    pub(crate) tables: Vec<LiveTable>,
    pub(crate) follower: Follower,
}

impl View {
    /// Opens what is live, with the logs from `log` on if those are still there.
    pub(crate) fn open(dir: &Path, log: Option<u64>, options: &ReadOptions) -> Result<Self, Error> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            // The engine recycles the older logs under the reader: one try must do.
            match Self::attempt(dir, log.filter(|_| attempt == 1), options) {
                Err(error) if attempt < ATTEMPTS && is_worth_another_look(&error) => {}
                result => return result,
            }
        }
    }

    fn attempt(dir: &Path, log: Option<u64>, options: &ReadOptions) -> Result<Self, Error> {
        let version = Version::read(dir)?;
        let first_log = log.map_or(version.min_log, |log| log.min(version.min_log));
        let mut follower = Follower::open(dir, first_log, version.last_sequence + 1)?;
        let mut tables = Vec::with_capacity(version.tables.len());
        for (&(level, number), meta) in &version.tables {
            tables.push(LiveTable { level, meta: meta.clone(), table: Table::open(dir, number)? });
        }
        // The second look tells a damaged record from one that is being written.
        follower.fill()?;
        follower.fill()?;
        follower.limit(options.read_ahead);
        Ok(Self { version, tables, follower })
    }
}

fn is_worth_another_look(error: &Error) -> bool {
    error.is_missing_file() || matches!(error.kind(), ErrorKind::Gap | ErrorKind::Corrupt)
}
