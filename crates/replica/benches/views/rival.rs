//! Who takes the batches: the replica, and what it is measured against.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use deltamesh_replica::{Limits, Location, Reader, Replica, Retention};
use rusqlite::{Connection, params};

use crate::chat::{Batch, Change, Message, VIEWS};

/// Somebody who commits batches.
pub(crate) trait Rival {
    /// Name in the table.
    fn name(&self) -> &'static str;

    /// Commits one batch.
    fn apply(&mut self, batch: &Batch) -> Result<()>;

    /// Makes the views over what has been loaded.
    fn create_views(&mut self) -> Result<()> {
        Ok(())
    }

    /// What is done once a second.
    fn rest(&mut self) -> Result<()> {
        Ok(())
    }

    /// Compares the views with their SQL.
    fn check(&mut self) -> Result<()> {
        Ok(())
    }

    /// How long it takes from opening the files, as a killed process leaves them, until the batch is committed.
    fn restart(&mut self, _batch: &Batch) -> Result<Option<Duration>> {
        Ok(None)
    }
}

/// The replica with generated programs.
pub(crate) struct Generated {
    replica: Box<dyn Replica>,
    location: Location,
    fill_beside: u64,
}

impl Generated {
    /// Views over relations of at least that many rows are filled beside the flow.
    pub(crate) fn open(location: Location, fill_beside: Option<u64>) -> Result<Self> {
        let replica = location.open(Retention::default())?;
        Ok(Self { replica, location, fill_beside: fill_beside.unwrap_or(u64::MAX) })
    }

    fn publish(&mut self) {
        let last = self.replica.last_sequence();
        self.replica.mark_published(last);
    }
}

impl Rival for Generated {
    fn name(&self) -> &'static str {
        "deltamesh"
    }

    fn apply(&mut self, batch: &Batch) -> Result<()> {
        let applied = self.replica.apply(std::slice::from_ref(&batch.group))?;
        ensure!(applied.faults.is_empty(), "{:?}", applied.faults);
        self.publish();
        Ok(())
    }

    fn create_views(&mut self) -> Result<()> {
        self.replica.fill_beside(self.fill_beside);
        for (name, sql) in VIEWS {
            self.replica.execute(&format!("CREATE MATERIALIZED VIEW {name} AS {sql}"))?;
            self.publish();
        }
        let mut rested = Instant::now();
        while self.replica.fill()?.goes_on {
            self.publish();
            if rested.elapsed() >= Duration::from_secs(1) {
                self.replica.rest()?;
                rested = Instant::now();
            }
        }
        Ok(())
    }

    fn rest(&mut self) -> Result<()> {
        self.replica.rest()?;
        Ok(())
    }

    fn restart(&mut self, batch: &Batch) -> Result<Option<Duration>> {
        let location = match self.location.file() {
            Some(path) => Location::from(copy(path)?),
            // A server goes on; the new writer takes the replica over.
            None => self.location.clone(),
        };
        let started = Instant::now();
        let mut replica = location.open(Retention::default())?;
        replica.apply(std::slice::from_ref(&batch.group))?;
        Ok(Some(started.elapsed()))
    }

    fn check(&mut self) -> Result<()> {
        let limits = Limits { time: Duration::from_secs(600) };
        for verified in Reader::open(self.location.clone())?.verify(&self.replica.views(), limits)? {
            ensure!((verified.missing, verified.extra) == (0, 0), "{verified:?}");
        }
        Ok(())
    }
}

/// A copy of a file as a killed process leaves it.
fn copy(path: &Path) -> Result<PathBuf> {
    let killed = path.with_extension("killed");
    for suffix in ["", "-wal"] {
        let of = |path: &Path| format!("{}{suffix}", path.display());
        std::fs::copy(of(path), of(&killed))?;
    }
    Ok(killed)
}

/// The replica's settings; the WAL goes into the file inside a commit, every 40 MB.
const SETTINGS: &str = "
PRAGMA page_size = 2048;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
PRAGMA temp_store = MEMORY;
PRAGMA cache_size = -16384;
PRAGMA wal_autocheckpoint = 20000;
CREATE TABLE msg(id INTEGER PRIMARY KEY, chat INTEGER, usr INTEGER, body TEXT, sent INTEGER, del INTEGER);
CREATE TABLE usr(id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE chat(id INTEGER PRIMARY KEY, topic TEXT);
";

/// A file of the replica's settings with the three base tables.
pub(crate) fn base_tables(path: &Path) -> Result<Connection> {
    let connection = Connection::open(path)?;
    connection.set_prepared_statement_cache_capacity(256);
    connection.execute_batch(SETTINGS)?;
    Ok(connection)
}

/// Copies what the load left in the WAL, so that no batch pays for it.
pub(crate) fn empty_wal(connection: &Connection) -> Result<()> {
    Ok(connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?)
}

/// Upserts into the base tables and nothing else.
pub(crate) struct Raw(Connection);

impl Raw {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        Ok(Self(base_tables(path)?))
    }
}

const UPSERT: &str = "INSERT INTO msg VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (id) DO UPDATE SET
    chat = excluded.chat, usr = excluded.usr, body = excluded.body, sent = excluded.sent, del = excluded.del";
const USER: &str = "INSERT INTO usr VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET name = excluded.name";
const CHAT: &str = "INSERT INTO chat VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET topic = excluded.topic";

impl Rival for Raw {
    fn name(&self) -> &'static str {
        "raw upserts"
    }

    fn create_views(&mut self) -> Result<()> {
        empty_wal(&self.0)
    }

    fn apply(&mut self, batch: &Batch) -> Result<()> {
        let transaction = self.0.transaction()?;
        for change in &batch.changes {
            match change {
                Change::Message(Message { id, chat, usr, body, sent, del }) => {
                    transaction.prepare_cached(UPSERT)?.execute(params![id, chat, usr, body, sent, del])?
                }
                Change::Delete(id) => {
                    transaction.prepare_cached("DELETE FROM msg WHERE id = ?1")?.execute([id])?
                }
                Change::User(id, name) => transaction.prepare_cached(USER)?.execute(params![id, name])?,
                Change::Chat(id, topic) => transaction.prepare_cached(CHAT)?.execute(params![id, topic])?,
            };
        }
        transaction.commit()?;
        Ok(())
    }
}
