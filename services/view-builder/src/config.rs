//! Options of the program, and what they must be.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use clap::Parser;
use deltamesh_replica::{Location, Retention};
use deltamesh_wire::subject;

/// Maintains materialised views in a replica and publishes their changes to the stream FEED_<REPLICA>.
#[derive(Debug, Clone, Parser)]
#[command(name = "view-builder", version)]
pub struct Options {
    /// Replica: `[NAME=]sqlite:PATH` or `[NAME=]postgres://HOST/DATABASE?schema=NAME`; the name defaults to `main`.
    #[arg(long, value_name = "[NAME=]URL")]
    pub replica: ReplicaOption,
    /// Source to apply; may be given several times.
    #[arg(long, value_name = "NAME", required = true, value_parser = source_name)]
    pub source: Vec<String>,
    /// Servers, comma-separated.
    #[arg(long, env = "DELTAMESH_NATS", default_value = "nats://127.0.0.1:4222", value_name = "URL")]
    pub nats: String,
    /// Module whose views this replica keeps; may be given several times. Without it: those of every module.
    #[arg(long, value_name = "NAME")]
    pub module: Vec<String>,
    /// View changes that are kept in the replica for subscribers that resume: a number of them, a time (`12h`, `7d`), both
    /// (whichever is reached first), or `forever`.
    #[arg(long, default_value = "1000000", value_name = "CHANGES,TIME")]
    pub retain: Retention,
    /// Rows of a relation from which on a new view over it is filled in slices, beside the flow of changes.
    #[arg(long, default_value_t = 50_000, value_name = "ROWS")]
    pub fill_beside: u64,
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
    /// Where it is.
    pub location: Location,
}

/// Why a text names no replica.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplicaError {
    /// What stands there is not a place.
    #[error("a replica is [NAME=]sqlite:PATH or [NAME=]postgres://…: {0}")]
    Form(String),
    /// The name has other characters.
    #[error("replica name {0:?} must be lower-case letters, digits and _, at most 32")]
    Name(String),
}

impl FromStr for ReplicaOption {
    type Err = ReplicaError;

    fn from_str(text: &str) -> Result<Self, ReplicaError> {
        let is_location = |text: &str| {
            ["sqlite:", "postgres:", "postgresql:"].iter().any(|scheme| text.starts_with(scheme))
        };
        let (name, location) = match text.split_once('=') {
            Some((name, location)) if !is_location(text) => (name, location),
            _ => ("main", text),
        };
        if !subject::is_valid_name(name) {
            return Err(ReplicaError::Name(name.to_owned()));
        }
        let location =
            Location::parse(location).map_err(|error| ReplicaError::Form(error.reason().to_owned()))?;
        Ok(Self { name: name.to_owned(), location })
    }
}

impl fmt::Display for ReplicaOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.location)
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
            "replica": { "name": self.replica.name, "url": self.replica.location.to_string() },
            "modules": self.module,
            "retain": self.retain.to_string(),
            "fill_beside": self.fill_beside,
            "sources": self.source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas() {
        let replica = |name: &str, path: &str| ReplicaOption { name: name.into(), location: path.into() };
        assert_eq!("sqlite:a/b.db".parse(), Ok(replica("main", "a/b.db")));
        assert_eq!("sqlite:///a/b=c.db".parse(), Ok(replica("main", "/a/b=c.db")));
        assert_eq!("eu=sqlite:/a.db".parse(), Ok(replica("eu", "/a.db")));
        let check = |text: &str, expected: &str| {
            assert_eq!(text.parse::<ReplicaOption>().unwrap_err().to_string(), expected);
        };
        let form = "a replica is [NAME=]sqlite:PATH or [NAME=]postgres://…: ";
        check("a.db", &format!("{form}is neither sqlite:PATH nor postgres://…"));
        check("EU=sqlite:a", "replica name \"EU\" must be lower-case letters, digits and _, at most 32");
        check("sqlite:", &format!("{form}path is empty"));
        let postgres: ReplicaOption = "eu=postgres://u:p@h/d?schema=s".parse().unwrap();
        assert_eq!(postgres.to_string(), "eu=postgres://h:5432/d?schema=s");
    }
}
