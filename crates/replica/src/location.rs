//! Where a replica is.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::maintenance::Retention;
use crate::postgres::{PostgresPlace, PostgresReplica};
use crate::replica::Replica;
use crate::sqlite::SqliteReplica;

/// A file, or a schema of a PostgreSQL database. Shown without user and password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location(pub(crate) Kind);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    File(PathBuf),
    Postgres(PostgresPlace),
}

impl Location {
    /// Reads the path of a SQLite file, or `postgres://user:password@host/database?schema=name`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Denied`]: a URL of PostgreSQL that cannot be read.
    pub fn parse(text: &str) -> Result<Self> {
        let is_url = text.starts_with("postgres://") || text.starts_with("postgresql://");
        Ok(Self(if is_url {
            Kind::Postgres(PostgresPlace::parse(text)?)
        } else {
            Kind::File(PathBuf::from(text))
        }))
    }

    /// The file, where it is one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match &self.0 {
            Kind::File(path) => Some(path),
            Kind::Postgres(_) => None,
        }
    }

    /// Opens the replica to write it, and creates it where it is missing. Blocks.
    ///
    /// # Errors
    /// As [`SqliteReplica::open`] and [`PostgresReplica::open`].
    pub fn open(&self, retention: Retention) -> Result<Box<dyn Replica>> {
        Ok(match &self.0 {
            Kind::File(path) => Box::new(SqliteReplica::open(path, retention)?),
            Kind::Postgres(place) => Box::new(PostgresReplica::at(place.clone(), retention)?),
        })
    }
}

impl<P: AsRef<Path> + ?Sized> From<&P> for Location {
    fn from(path: &P) -> Self {
        Self(Kind::File(path.as_ref().to_owned()))
    }
}

impl From<PathBuf> for Location {
    fn from(path: PathBuf) -> Self {
        Self(Kind::File(path))
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::File(path) => write!(f, "{}", path.display()),
            Kind::Postgres(place) => write!(f, "{place}"),
        }
    }
}
