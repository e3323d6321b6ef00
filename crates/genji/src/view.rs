//! A consistent view of a directory, while an engine may be writing it.
//!
//! The manifest says which tables are live and from which log on the rest stands. All of them are opened; a file that is
//! gone by then means that the manifest has moved on, and the next attempt reads it again. Open tables stay readable and
//! never change; the logs are read into memory at once, before the engine recycles them.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::chai::{SortedEntries, SortedTable};
use crate::engine::Engine;
use crate::follower::Follower;
use crate::manifest::{TableMeta, Version};
use crate::table::{Entries, Entry, RangeDelete, Table};
use crate::{Error, ErrorKind, ReadOptions, directory};

const ATTEMPTS: usize = 32;

/// A live table.
#[derive(Debug)]
pub(crate) struct LiveTable {
    pub(crate) level: u32,
    pub(crate) meta: TableMeta,
    file: TableFile,
    /// Bytes that were read only to find the order of the keys.
    aside: AtomicU64,
}

/// A table in the form of its engine.
#[derive(Debug)]
enum TableFile {
    Genji(Table),
    Chai(SortedTable),
}

/// The entries of a live table.
pub(crate) enum TableEntries<'a> {
    Genji(Entries<'a>),
    Chai(SortedEntries<'a>),
}

impl LiveTable {
    /// Opens the file of a table.
    pub(crate) fn open(
        engine: Engine,
        dir: &Path,
        level: u32,
        number: u64,
        meta: &TableMeta,
    ) -> Result<Self, Error> {
        let file = match engine {
            Engine::Genji => TableFile::Genji(Table::open(dir, number)?),
            Engine::Chai => TableFile::Chai(SortedTable::open(dir, number)?),
        };
        Ok(Self { level, meta: meta.clone(), file, aside: AtomicU64::new(0) })
    }

    /// The entries whose keys start with `prefix` (a whole namespace), and perhaps others near them.
    pub(crate) fn entries(&self, prefix: Vec<u8>) -> Result<TableEntries<'_>, Error> {
        Ok(match &self.file {
            TableFile::Genji(table) => TableEntries::Genji(table.entries(prefix)?),
            TableFile::Chai(table) => TableEntries::Chai(table.entries(prefix)?),
        })
    }

    /// The range deletes of the table.
    pub(crate) fn range_deletes(&self) -> Result<Vec<RangeDelete>, Error> {
        match &self.file {
            TableFile::Genji(table) => table.range_deletes(),
            TableFile::Chai(table) => table.range_deletes(),
        }
    }
}

impl LiveTable {
    /// Size of the table's file in bytes.
    pub(crate) fn size(&self) -> u64 {
        match &self.file {
            TableFile::Genji(table) => table.size(),
            TableFile::Chai(table) => table.size(),
        }
    }

    /// Bytes of its blocks that were read so far, but for those put aside.
    pub(crate) fn taken(&self) -> u64 {
        let taken = match &self.file {
            TableFile::Genji(table) => table.taken(),
            TableFile::Chai(table) => table.taken(),
        };
        taken.saturating_sub(self.aside.load(Ordering::Relaxed))
    }

    /// Takes so many of the bytes that were read for none: they will be read once more.
    pub(crate) fn put_aside(&self, bytes: u64) {
        self.aside.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl TableEntries<'_> {
    /// The next entry.
    pub(crate) fn next(&mut self) -> Result<Option<Entry<'_>>, Error> {
        match self {
            Self::Genji(entries) => entries.next(),
            Self::Chai(entries) => entries.next(),
        }
    }
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
    pub(crate) fn open(
        engine: Engine,
        dir: &Path,
        log: Option<u64>,
        options: &ReadOptions,
    ) -> Result<Self, Error> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            // The engine recycles the older logs under the reader: one try must do.
            match Self::attempt(engine, dir, log.filter(|_| attempt == 1), options) {
                Err(error) if attempt < ATTEMPTS && is_worth_another_look(&error) => {}
                result => return result,
            }
        }
    }

    fn attempt(engine: Engine, dir: &Path, log: Option<u64>, options: &ReadOptions) -> Result<Self, Error> {
        let version = Version::read(dir)?;
        let most = (version.last_sequence + 1).max(engine.first_sequence());
        if engine == Engine::Chai
            && let Some(follower) = whole_history(dir, most, &version)?
        {
            return Ok(Self::new(version, Vec::new(), follower, options));
        }
        let first_log = log.map_or(version.min_log, |log| log.min(version.min_log));
        let mut follower = Follower::open(dir, existing(engine, dir, first_log)?, most)?;
        let mut tables = Vec::with_capacity(version.tables.len());
        for (&(level, number), meta) in &version.tables {
            tables.push(LiveTable::open(engine, dir, level, number, meta)?);
        }
        // The second look tells a damaged record from one that is being written.
        follower.fill()?;
        follower.fill()?;
        Ok(Self::new(version, tables, follower, options))
    }

    fn new(version: Version, tables: Vec<LiveTable>, mut follower: Follower, options: &ReadOptions) -> Self {
        follower.limit(options.read_ahead);
        Self { version, tables, follower }
    }
}

/// The first log from that number on. Chai's manifest may name one that was never made.
fn existing(engine: Engine, dir: &Path, log: u64) -> Result<u64, Error> {
    if engine == Engine::Genji {
        return Ok(log);
    }
    Ok(directory::list(dir)?.logs.into_iter().find(|&number| number >= log).unwrap_or(log))
}

/// The logs, where they begin with the first transaction or there is no table: then no table is needed.
fn whole_history(dir: &Path, most: u64, version: &Version) -> Result<Option<Follower>, Error> {
    let Some(lowest) = directory::list(dir)?.logs.first().copied() else { return Ok(None) };
    let mut follower = Follower::open(dir, lowest, most)?;
    for _ in 0..2 {
        match follower.fill() {
            // Of the logs that wait to be recycled some may be gone already.
            Err(error) if error.kind() == ErrorKind::Gap => return Ok(None),
            filled => filled?,
        }
    }
    let is_whole = version.tables.is_empty() || reaches_back(Engine::Chai, &follower);
    Ok(is_whole.then_some(follower))
}

/// Whether the logs begin with the first transaction of the database.
pub(crate) fn reaches_back(engine: Engine, follower: &Follower) -> bool {
    follower.front().is_some_and(|record| record.sequence == engine.first_sequence())
}

fn is_worth_another_look(error: &Error) -> bool {
    error.is_missing_file() || matches!(error.kind(), ErrorKind::Gap | ErrorKind::Corrupt)
}
