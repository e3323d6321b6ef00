//! Options of the program, and what they must be.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Parser;
use deltamesh_wire::subject;

/// Maintains materialised views in a replica and publishes their changes to the stream FEED_<REPLICA>.
#[derive(Debug, Clone, Parser)]
#[command(name = "view-builder", version)]
pub struct Options {
    /// Replica: `[NAME=]sqlite:PATH`; the name defaults to `main`.
    #[arg(long, value_name = "[NAME=]sqlite:PATH")]
    pub replica: ReplicaOption,
    /// Source to apply; may be given several times.
    #[arg(long, value_name = "NAME", required = true, value_parser = source_name)]
    pub source: Vec<String>,
    /// Servers, comma-separated.
    #[arg(long, env = "DELTAMESH_NATS", default_value = "nats://127.0.0.1:4222", value_name = "URL")]
    pub nats: String,
    /// View changes that are kept in the replica for subscribers that resume.
    #[arg(long, default_value_t = 1_000_000, value_name = "CHANGES")]
    pub retain: u64,
    /// Address of `/metrics` (OpenMetrics, for Prometheus) and `/healthz`; port 0 takes a free one. Not served by default.
    #[arg(long, env = "DELTAMESH_MONITOR", value_name = "ADDR")]
    pub monitor: Option<SocketAddr>,
    /// Print the configuration as JSON and exit.
    #[arg(long)]
    pub print_config: bool,
}

/// A replica under its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaOption {
    /// Name: `[a-z0-9_]+`, at most 32 bytes.
    pub name: String,
    /// File of the SQLite database.
    pub path: PathBuf,
}

/// Why a text names no replica.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplicaError {
    /// Neither `sqlite:` nor `postgres:` stands where it should.
    #[error("a replica is [NAME=]sqlite:PATH, not {0:?}")]
    Form(String),
    /// The name has other characters.
    #[error("replica name {0:?} must be lower-case letters, digits and _, at most 32")]
    Name(String),
    /// The path is empty.
    #[error("replica {0} has an empty path")]
    Path(String),
    /// A Postgres replica.
    #[error("replica {0} is a Postgres replica, which this version cannot write: use sqlite:PATH")]
    Postgres(String),
}

impl FromStr for ReplicaOption {
    type Err = ReplicaError;

    fn from_str(text: &str) -> Result<Self, ReplicaError> {
        let is_location = |text: &str| {
            ["sqlite:", "postgres:", "postgresql:"].iter().any(|scheme| text.starts_with(scheme))
        };
        let (name, location) = if is_location(text) {
            ("main", text)
        } else {
            text.split_once('=').ok_or_else(|| ReplicaError::Form(text.to_owned()))?
        };
        if !subject::is_valid_name(name) {
            return Err(ReplicaError::Name(name.to_owned()));
        }
        if location.starts_with("postgres") && is_location(location) {
            return Err(ReplicaError::Postgres(name.to_owned()));
        }
        let path = location.strip_prefix("sqlite:").ok_or_else(|| ReplicaError::Form(text.to_owned()))?;
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() {
            return Err(ReplicaError::Path(name.to_owned()));
        }
        Ok(Self { name: name.to_owned(), path: path.into() })
    }
}

impl fmt::Display for ReplicaOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=sqlite:{}", self.name, self.path.display())
    }
}

fn source_name(text: &str) -> Result<String, String> {
    if subject::is_valid_name(text) {
        return Ok(text.to_owned());
    }
    Err(format!("source name {text:?} must be lower-case letters, digits and _, at most 32"))
}

impl Options {
    /// The configuration in force, as JSON, for `--print-config`.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "nats": self.nats,
            "monitor": self.monitor,
            "replica": { "name": self.replica.name, "path": self.replica.path },
            "retain": self.retain,
            "sources": self.source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas() {
        let replica = |name: &str, path: &str| ReplicaOption { name: name.into(), path: path.into() };
        assert_eq!("sqlite:a/b.db".parse(), Ok(replica("main", "a/b.db")));
        assert_eq!("sqlite:///a/b=c.db".parse(), Ok(replica("main", "/a/b=c.db")));
        assert_eq!("eu=sqlite:/a.db".parse(), Ok(replica("eu", "/a.db")));
        let check = |text: &str, expected: &str| {
            assert_eq!(text.parse::<ReplicaOption>().unwrap_err().to_string(), expected);
        };
        check("a.db", "a replica is [NAME=]sqlite:PATH, not \"a.db\"");
        check("EU=sqlite:a", "replica name \"EU\" must be lower-case letters, digits and _, at most 32");
        check("sqlite:", "replica main has an empty path");
        check(
            "postgres://h/d",
            "replica main is a Postgres replica, which this version cannot write: use sqlite:PATH",
        );
    }
}
