//! Moving the write-ahead log into the file, when it disturbs least.

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::database::Sqlite;
use crate::error::{At, Error, Result};

/// Above this size the writer itself resets the WAL: constant writing never lets a passive checkpoint do so.
const LARGE_WAL_BYTES: u64 = 256 << 20;

/// A second connection that copies the WAL into the file beside the writer, without blocking anybody.
#[derive(Debug)]
pub struct Checkpointer {
    path: PathBuf,
    connection: Connection,
}

impl Checkpointer {
    /// Opens the connection; the replica exists.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let connection = Connection::open(&path).at(|| format!("open {}", path.display()))?;
        connection.execute_batch("PRAGMA wal_autocheckpoint = 0; PRAGMA busy_timeout = 0;").at(|| "open")?;
        Ok(Self { path, connection })
    }

    /// Copies what can be copied now.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn run(&mut self) -> Result<()> {
        let place = || format!("checkpoint {}", self.path.display());
        self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).at(place)
    }
}

/// Bytes of a replica's WAL file; 0 where there is none.
pub(crate) fn wal_bytes(path: &Path) -> Result<u64> {
    match std::fs::metadata(PathBuf::from(format!("{}-wal", path.display()))) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(Error::io(format!("look at WAL of {}", path.display()), error)),
    }
}

impl Sqlite {
    /// Empties a WAL that has become large. Waits for readers only briefly: the next call tries again.
    pub(super) fn reset_wal(&self) -> Result<()> {
        if wal_bytes(&self.path)? < LARGE_WAL_BYTES {
            return Ok(());
        }
        let place = || format!("checkpoint {}", self.path.display());
        self.connection.execute_batch("PRAGMA busy_timeout = 200").at(place)?;
        let checkpoint =
            self.connection.query_row("PRAGMA main.wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
        self.connection.execute_batch("PRAGMA busy_timeout = 5000").at(place)?;
        if checkpoint.at(place)? != 0 {
            tracing::debug!("readers keep the WAL from being reset");
        }
        Ok(())
    }
}
