//! Where a replica is.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};
use crate::postgres::{PostgresPlace, PostgresReplica};
use crate::replica::Replica;
use crate::retention::Retention;
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
    /// Reads `sqlite:PATH` or `postgres://user:password@host/database?schema=name&reader=user:password`.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`]: neither, an empty path, or a URL that cannot be read.
    pub fn parse(text: &str) -> Result<Self> {
        if ["postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme)) {
            return Ok(Self(Kind::Postgres(PostgresPlace::parse(text)?)));
        }
        let path = text.strip_prefix("sqlite:").map(|path| path.strip_prefix("//").unwrap_or(path));
        match path {
            Some(path) if !path.is_empty() => Ok(Self(Kind::File(PathBuf::from(path)))),
            Some(_) => Err(Error::new(ErrorKind::Denied, "replica", "path is empty")),
            None => Err(Error::new(ErrorKind::Denied, "replica", "is neither sqlite:PATH nor postgres://…")),
        }
    }

    /// The same with an absolute path.
    ///
    /// # Errors
    /// There is no current folder.
    pub fn absolute(self) -> Result<Self> {
        match self.0 {
            Kind::File(path) => match std::path::absolute(&path) {
                Ok(path) => Ok(Self(Kind::File(path))),
                Err(error) => Err(Error::io(format!("find {}", path.display()), error)),
            },
            postgres => Ok(Self(postgres)),
        }
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
            Kind::File(path) => write!(f, "sqlite:{}", path.display()),
            Kind::Postgres(place) => write!(f, "{place}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_and_shown_without_secrets() {
        let check = |text: &str, expected: &str| {
            let shown =
                Location::parse(text).map_or_else(|error| error.to_string(), |place| place.to_string());
            assert_eq!(shown, expected, "{text}");
        };
        check("sqlite:a/b.db", "sqlite:a/b.db");
        check("sqlite:///a/b=c.db", "sqlite:/a/b=c.db");
        check("sqlite:", "replica: path is empty");
        check("a.db", "replica: is neither sqlite:PATH nor postgres://…");
        check("postgres://u:secret@h:6432/d?schema=shop&sslmode=disable", "postgres://h:6432/d?schema=shop");
        check("postgres://u@h/d?reader=r:secret", "postgres://h:5432/d?schema=deltamesh");
        check("postgresql://u@h/d", "postgres://h:5432/d?schema=deltamesh");
        check("postgres://h/d?schema=a-b", "replica: schema is made of small letters, digits and _");
        check("postgres://h/d?schema=pg_x", "replica: schema is made of small letters, digits and _");
    }
}
