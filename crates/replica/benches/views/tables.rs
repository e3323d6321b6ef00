//! A SQLite file of the replica's settings with the chat's relations and views, for those who write them by themselves;
//! `benches/dbsp` does so from this file.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use rusqlite::{Connection, Transaction, params};

use crate::chat::{Change, Message, VIEWS};

/// The replica's settings; the WAL goes into the file inside a commit, every 40 MB.
const SETTINGS: &str = "
PRAGMA page_size = 2048;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
PRAGMA temp_store = MEMORY;
PRAGMA cache_size = -16384;
PRAGMA wal_autocheckpoint = 20000;
";

const BASE_TABLES: &str = "
CREATE TABLE msg(id INTEGER PRIMARY KEY, chat INTEGER, usr INTEGER, body TEXT, sent INTEGER, del INTEGER);
CREATE TABLE usr(id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE chat(id INTEGER PRIMARY KEY, topic TEXT);
";

/// A file of the replica's settings.
pub(crate) fn open(path: &Path) -> Result<Connection> {
    let connection = Connection::open(path)?;
    connection.set_prepared_statement_cache_capacity(256);
    connection.execute_batch(SETTINGS)?;
    Ok(connection)
}

/// Such a file with the three base tables.
pub(crate) fn base_tables(path: &Path) -> Result<Connection> {
    let connection = open(path)?;
    connection.execute_batch(BASE_TABLES)?;
    Ok(connection)
}

/// A copy of a file as a killed process leaves it.
pub(crate) fn copy(path: &Path) -> Result<PathBuf> {
    let killed = path.with_extension("killed");
    for suffix in ["", "-wal"] {
        let of = |path: &Path| format!("{}{suffix}", path.display());
        std::fs::copy(of(path), of(&killed))?;
    }
    Ok(killed)
}

/// Copies what the load left in the WAL, so that no batch pays for it.
pub(crate) fn empty_wal(connection: &Connection) -> Result<()> {
    Ok(connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?)
}

/// What subscribers are to be told.
pub(crate) const OUTBOX: &str = "CREATE TABLE outbox(seq INTEGER PRIMARY KEY, view, op, key, row)";

/// A table for each view.
pub(crate) const VIEW_TABLES: &str = "
CREATE TABLE visible(id INTEGER PRIMARY KEY, chat INTEGER, usr INTEGER, body TEXT, sent INTEGER);
CREATE TABLE chats(chat INTEGER PRIMARY KEY, n, last, users);
CREATE TABLE feed(id INTEGER PRIMARY KEY, body TEXT, sent INTEGER, name TEXT, topic TEXT);
";

const UPSERT: &str = "INSERT INTO msg VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (id) DO UPDATE SET
    chat = excluded.chat, usr = excluded.usr, body = excluded.body, sent = excluded.sent, del = excluded.del";
const USER: &str = "INSERT INTO usr VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET name = excluded.name";
const CHAT: &str = "INSERT INTO chat VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET topic = excluded.topic";

/// Upserts into the base tables and nothing else.
pub(crate) fn upsert(transaction: &Transaction<'_>, changes: &[Change]) -> Result<()> {
    for change in changes {
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
    Ok(())
}

/// Compares the tables of the views with their SQL over the base tables.
pub(crate) fn check(connection: &Connection) -> Result<()> {
    for (name, sql) in VIEWS {
        let table = format!("SELECT * FROM {name}");
        for (left, right) in [(sql, &*table), (&*table, sql)] {
            let differences = format!("SELECT count(*) FROM ({left} EXCEPT {right})");
            let differences: i64 = connection.query_row(&differences, [], |row| row.get(0))?;
            ensure!(differences == 0, "view {name} differs from its SQL");
        }
    }
    Ok(())
}
