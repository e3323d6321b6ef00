//! The rival of the load: the same rows upserted into one SQLite table, with the replica's settings.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use deltamesh_change::Value;
use rusqlite::{Connection, ToSql};

use crate::mesh::message;

const SETTINGS: &str = "
PRAGMA page_size = 2048;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA wal_autocheckpoint = 10000;
CREATE TABLE IF NOT EXISTS message (message_id INTEGER PRIMARY KEY, chat_id INTEGER, user_id INTEGER, size INTEGER, body TEXT);
";

const UPSERT: &str = "INSERT INTO message VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (message_id) DO UPDATE SET
  chat_id = excluded.chat_id, user_id = excluded.user_id, size = excluded.size, body = excluded.body";

/// Upserts messages `first .. first + rows` in transactions of `per_transaction` rows.
pub(crate) fn run(path: &Path, first: i64, rows: i64, per_transaction: i64) -> Result<Duration> {
    let mut connection = Connection::open(path)?;
    connection.execute_batch(SETTINGS)?;
    let started = Instant::now();
    let mut next = first;
    while next < first + rows {
        let transaction = connection.transaction()?;
        {
            let mut upsert = transaction.prepare_cached(UPSERT)?;
            for id in next..(next + per_transaction).min(first + rows) {
                let row = message(id);
                let cells: Vec<&dyn ToSql> = row.iter().map(|(_, value)| cell(value)).collect();
                upsert.execute(cells.as_slice())?;
            }
        }
        transaction.commit()?;
        next += per_transaction;
    }
    Ok(started.elapsed())
}

fn cell(value: &Value) -> &dyn ToSql {
    match value {
        Value::Int(value) => value,
        Value::Text(value) => value,
        _ => &rusqlite::types::Null,
    }
}
