//! Opening a replica's file: lock, settings, the replica's own tables.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, OptionalExtension as _};

use super::{functions, wal};
use crate::error::{At, Error, ErrorKind, Result};

/// Version of the replica's own tables, kept in `PRAGMA user_version`.
const FORMAT: i64 = 1;

/// Prepared statements kept at once; every mirror has about five and every view some ten.
const STATEMENTS: usize = 1024;

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS __deltamesh_meta(name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS __deltamesh_checkpoint(
    source TEXT PRIMARY KEY, incarnation TEXT NOT NULL, ordinal INTEGER NOT NULL,
    engine_sequence INTEGER NOT NULL, engine_log INTEGER NOT NULL, engine_offset INTEGER NOT NULL,
    stream_sequence INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS __deltamesh_schema(
    id INTEGER PRIMARY KEY, source TEXT NOT NULL, relation TEXT NOT NULL, dsid INTEGER NOT NULL,
    schema TEXT, diff TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS __deltamesh_views(
    name TEXT PRIMARY KEY, position INTEGER NOT NULL, module TEXT NOT NULL, sql TEXT NOT NULL,
    definition TEXT NOT NULL, program TEXT NOT NULL, fault TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS __deltamesh_changes(
    seq INTEGER PRIMARY KEY, view TEXT NOT NULL, op TEXT NOT NULL, key TEXT NOT NULL, row TEXT,
    before TEXT, subject TEXT, position TEXT, dsid INTEGER, tx_end INTEGER, captured_us INTEGER);
CREATE TABLE IF NOT EXISTS __deltamesh_migrations(
    id INTEGER PRIMARY KEY, module TEXT NOT NULL, number INTEGER NOT NULL, name TEXT NOT NULL, sql TEXT NOT NULL,
    applied_us INTEGER NOT NULL, took_us INTEGER NOT NULL);
CREATE VIEW IF NOT EXISTS __deltamesh_outbox AS
    SELECT * FROM __deltamesh_changes
    WHERE seq > (SELECT value FROM __deltamesh_meta WHERE name = 'published');
INSERT INTO __deltamesh_meta VALUES ('published', 0) ON CONFLICT DO NOTHING;
INSERT INTO __deltamesh_meta VALUES ('incarnation', lower(hex(randomblob(8)))) ON CONFLICT DO NOTHING;
";

/// The exclusive right to write a replica, held as long as the value lives.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock file beside the replica.
    pub(crate) fn take(path: &Path) -> Result<Self> {
        let path = beside(path, "lock");
        let place = || format!("lock {}", path.display());
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|error| Error::io(place(), error))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => {
                Err(Error::new(ErrorKind::Locked, place(), "another view-builder writes this replica"))
            }
            Err(TryLockError::Error(error)) => Err(Error::io(place(), error)),
        }
    }
}

/// A file beside the replica: its name with a suffix.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}

/// Opens the writing connection and makes the replica's own tables.
pub(crate) fn open_writer(path: &Path) -> Result<Connection> {
    let place = || format!("open {}", path.display());
    let connection = Connection::open(path).at(place)?;
    check_format(&connection, path)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // page_size counts only for a new file, and must come before anything is written to it. `synchronous = NORMAL`:
    // a commit survives the process, not a power cut, which leaves an earlier commit whole (ADR 12). Checkpoints of the WAL
    // are made deliberately (wal.rs). The cache is small because a commit walks all of it whenever a page was split, and
    // pages that it does not hold come out of the system's cache. Legacy renaming leaves the text of other SQL views alone; views are built anew instead.
    connection
        .execute_batch(
            "PRAGMA page_size = 2048;
             PRAGMA journal_mode = WAL;
             PRAGMA synchronous = NORMAL;
             PRAGMA temp_store = MEMORY;
             PRAGMA cache_size = -16384;
             PRAGMA wal_autocheckpoint = 0;
             PRAGMA legacy_alter_table = ON;
             PRAGMA busy_timeout = 5000;",
        )
        .at(place)?;
    wal::limit_kept(&connection).at(place)?;
    let mode: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0)).at(place)?;
    if mode != "wal" {
        return Err(Error::new(ErrorKind::Io, place(), "file system does not support WAL"));
    }
    functions::register(&connection)?;
    let transaction = connection.unchecked_transaction().at(place)?;
    transaction.execute_batch(TABLES).at(place)?;
    transaction.pragma_update(None, "user_version", FORMAT).at(place)?;
    transaction.commit().at(place)?;
    Ok(connection)
}

/// Attaches the file in which a reconcile notes the keys that it has seen. Its content never outlives a transaction.
pub(crate) fn attach_spool(connection: &Connection, path: &Path) -> Result<()> {
    let spool = beside(path, "spool");
    let place = || format!("attach {}", spool.display());
    match std::fs::remove_file(&spool) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(Error::io(place(), error)),
        _ => {}
    }
    connection.execute("ATTACH ?1 AS spool", [spool.to_string_lossy()]).at(place)?;
    connection.execute_batch("PRAGMA spool.journal_mode = MEMORY; PRAGMA spool.synchronous = OFF;").at(place)
}

/// Opens a connection that can only read.
pub(crate) fn open_reader(path: &Path) -> Result<Connection> {
    let place = || format!("open {} to read", path.display());
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).at(place)?;
    connection
        .execute_batch(
            "PRAGMA query_only = ON;
             PRAGMA temp_store = MEMORY;
             PRAGMA cache_size = -16384;
             PRAGMA busy_timeout = 5000;",
        )
        .at(place)?;
    check_format(&connection, path)?;
    functions::register(&connection)?;
    Ok(connection)
}

/// Refuses a database that something else made: it would be mixed up with mirrors and views.
fn check_format(connection: &Connection, path: &Path) -> Result<()> {
    let place = || format!("open {}", path.display());
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).at(place)?;
    if version == FORMAT {
        return Ok(());
    }
    let first: Option<String> = connection
        .query_row("SELECT name FROM sqlite_schema WHERE name NOT LIKE '__deltamesh_%' LIMIT 1", [], |row| {
            row.get(0)
        })
        .optional()
        .at(place)?;
    match first {
        None if version == 0 => Ok(()),
        None => Err(Error::new(ErrorKind::Version, place(), format!("replica format {version} is unknown"))),
        Some(_) => Err(Error::new(ErrorKind::Version, place(), "file is not a replica")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_and_lock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.db");
        let lock = Lock::take(&path).unwrap();
        assert_eq!(Lock::take(&path).unwrap_err().kind(), ErrorKind::Locked);
        let connection = open_writer(&path).unwrap();
        let pragma = |name: &str| -> i64 {
            connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0)).unwrap()
        };
        assert_eq!((pragma("page_size"), pragma("synchronous"), pragma("wal_autocheckpoint")), (2048, 1, 0));
        let reader = open_reader(&path).unwrap();
        assert!(reader.execute("DELETE FROM __deltamesh_meta", []).is_err());
        drop(lock);
        Lock::take(&path).unwrap();
    }

    #[test]
    fn a_foreign_database_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("other.db");
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE t(a)").unwrap();
        assert_eq!(open_writer(&path).unwrap_err().kind(), ErrorKind::Version);
        std::fs::write(&path, [7_u8; 8192]).unwrap();
        assert_eq!(open_writer(&path).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}
