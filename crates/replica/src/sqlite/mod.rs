//! The replica as a SQLite file.

mod connection;
mod database;
mod functions;
mod reader;
mod wal;

use std::path::{Path, PathBuf};

pub(crate) use reader::SqliteReader;

use crate::error::{At, Result};
use crate::maintenance::Maintainer;
use crate::retention::Retention;
use connection::Lock;
use database::Sqlite;

/// The writer of a SQLite replica. One per file: a lock file beside it says so.
pub type SqliteReplica = Maintainer<Sqlite>;

impl SqliteReplica {
    /// Opens the replica, and creates it where it is missing.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Locked`] where another process writes it; [`crate::ErrorKind::Version`] where the file is not a
    /// replica.
    pub fn open(path: impl AsRef<Path>, retention: Retention) -> Result<Self> {
        let path: PathBuf = path.as_ref().to_owned();
        let lock = Lock::take(&path)?;
        let connection = connection::open_writer(&path)?;
        connection::attach_spool(&connection, &path)?;
        Self::load(Sqlite::new(path, connection, lock)?, retention)
    }

    /// File of the replica.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.database.path
    }

    /// Limits the file to that many pages, as a full disk does; for tests and for operators who share a disk.
    ///
    /// # Errors
    /// SQLite refuses.
    pub fn limit_pages(&mut self, pages: u32) -> Result<()> {
        self.database.connection.pragma_update(None, "max_page_count", pages).at(|| "limit pages")
    }
}
