//! Options of the program, and what they must be.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use clap::Parser;
use deltamesh_replica::Location;
use deltamesh_wire::subject;

/// Serves view feeds and module methods: nats-grpc, gRPC, server-sent events, JSON.
#[derive(Debug, Clone, Parser)]
#[command(name = "feed-gateway", version)]
pub struct Options {
    /// Replica to serve: `sqlite:PATH` or `postgres://HOST/DATABASE?schema=NAME`, with its name in front where that is not `main`.
    #[arg(long, value_name = "[NAME=]URL")]
    pub replica: ReplicaUrl,
    /// Servers, comma-separated.
    #[arg(long, env = "DELTAMESH_NATS", default_value = "nats://127.0.0.1:4222", value_name = "URL")]
    pub nats: String,
    /// Address of HTTP and gRPC; port 0 takes a free one.
    #[arg(long, env = "DELTAMESH_HTTP", default_value = "127.0.0.1:8080", value_name = "ADDR")]
    pub http: SocketAddr,
    /// Node id under which methods are reached on NATS; one instance for each.
    #[arg(long, env = "DELTAMESH_NID", default_value = "deltamesh", value_name = "NAME", value_parser = node_id)]
    pub nid: String,
    /// Changes that may wait for a slow subscriber; beyond that it catches up from the replica.
    #[arg(long, env = "DELTAMESH_SUBSCRIBER_QUEUE", default_value = "1024", value_name = "COUNT",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub subscriber_queue: u32,
    /// Address of `/metrics` (OpenMetrics, for Prometheus) and `/healthz`; port 0 takes a free one. Not served by default.
    #[arg(long, env = "DELTAMESH_MONITOR", value_name = "ADDR")]
    pub monitor: Option<SocketAddr>,
    /// Print the configuration as JSON and exit.
    #[arg(long)]
    pub print_config: bool,
}

/// A replica under its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaUrl {
    /// Name: `[a-z0-9_]+`, at most 32 bytes.
    pub name: String,
    /// Where it is.
    pub location: Location,
}

/// Why a text names no replica.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplicaUrlError {
    /// What stands there is not a place.
    #[error("a replica is [NAME=]sqlite:PATH or [NAME=]postgres://…: {0}")]
    Form(String),
    /// The name has other characters.
    #[error("replica name {0:?} must be lower-case letters, digits and _, at most 32")]
    Name(String),
}

impl FromStr for ReplicaUrl {
    type Err = ReplicaUrlError;

    fn from_str(text: &str) -> Result<Self, ReplicaUrlError> {
        let (name, url) = match text.split_once('=') {
            Some((name, url)) if !name.contains(':') => (name, url),
            _ => ("main", text),
        };
        if !subject::is_valid_name(name) {
            return Err(ReplicaUrlError::Name(name.to_owned()));
        }
        let location =
            Location::parse(url).map_err(|error| ReplicaUrlError::Form(error.reason().to_owned()))?;
        Ok(Self { name: name.to_owned(), location })
    }
}

impl fmt::Display for ReplicaUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.location)
    }
}

fn node_id(text: &str) -> Result<String, String> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if text.is_empty() || text.len() > 64 || !text.bytes().all(token) {
        return Err("a node id is letters, digits, _ and -, at most 64".to_owned());
    }
    Ok(text.to_owned())
}

impl Options {
    /// The configuration in force, as JSON, for `--print-config`.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "replica": { "name": self.replica.name, "url": self.replica.location.to_string() },
            "nats": self.nats,
            "monitor": self.monitor,
            "http": self.http.to_string(),
            "nid": self.nid,
            "subscriber_queue": self.subscriber_queue,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas() {
        let replica = |name: &str, path: &str| Ok(ReplicaUrl { name: name.into(), location: path.into() });
        assert_eq!("sqlite:a=b.db".parse(), replica("main", "a=b.db"));
        assert_eq!("east=sqlite:/x/a.db".parse(), replica("east", "/x/a.db"));
        assert!("x=postgres://h/db?schema=s".parse::<ReplicaUrl>().is_ok());
        for bad in ["", "a.db", "sqlite:", "x=postgres://h/db?schema=S", "East=sqlite:a"] {
            assert!(bad.parse::<ReplicaUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn options() {
        let parse = |arguments: &[&str]| {
            Options::try_parse_from([&["feed-gateway", "--replica", "sqlite:a"], arguments].concat())
        };
        assert!(parse(&["--nid", "node-1", "--http", "127.0.0.1:0"]).is_ok());
        assert!(parse(&["--nid", "a.b"]).is_err() && parse(&["--subscriber-queue", "0"]).is_err());
    }
}
