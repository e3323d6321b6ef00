//! What `up` was asked to start, as programs and their arguments.
//!
//! The services read their own arguments; here a source and a replica are only split from their names. Before anything is
//! started each service is asked whether it understands what it would get (`--print-config`).

use std::ffi::OsString;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf, absolute};
use std::process::Stdio;

use anyhow::{Context as _, Result, anyhow, bail};
use deltamesh_wire::subject;
use tokio::process::Command;

use super::child::{Program, Stage};
use super::port;
use crate::options::{Place, Up};
use crate::place::Ports;
use crate::refused;

const DEFAULT_REPLICA: &str = "main";

/// Everything that was asked for, checked as far as one can without the services.
#[derive(Debug)]
pub(super) struct Plan {
    /// Name and full text of each source.
    sources: Vec<(String, String)>,
    pub(super) replica_name: String,
    pub(super) replica_url: String,
    /// A server that runs already.
    pub(super) nats: Option<String>,
    http: SocketAddr,
    pub(super) nid: String,
}

impl Plan {
    pub(super) fn read(place: &Place, up: Up) -> Result<Self> {
        let mut sources = Vec::new();
        for text in up.sources {
            let name = source_name(&text)?;
            if sources.iter().any(|(other, _)| *other == name) {
                return Err(refused(format!("--source {text}: the name {name} is taken by another source")));
            }
            sources.push((name, text));
        }
        let (replica_name, replica_url) = replica(place, up.replica.as_deref())?;
        let http = address(&up.http)?;
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if up.nid.is_empty() || !up.nid.bytes().all(is_token) {
            return Err(refused(format!("--nid {}: use letters, digits, _ and -", up.nid)));
        }
        Ok(Self { sources, replica_name, replica_url, nats: place.nats.clone(), http, nid: up.nid })
    }

    pub(super) fn source_names(&self) -> Vec<String> {
        self.sources.iter().map(|(name, _)| name.clone()).collect()
    }

    /// The gateway's address with a port: the one asked for, the one of the last time, or a free one.
    pub(super) fn http(&self, ports: &mut Ports) -> Result<SocketAddr> {
        let mut http = self.http;
        if http.port() == 0 {
            http.set_port(port::choose(http.ip(), ports.http)?);
            ports.http = Some(http.port());
        } else if !port::becomes_free(http.ip(), http.port()) {
            bail!("--http {http}: the address is in use; name another, or port 0 for a free one");
        }
        Ok(http)
    }

    /// The services with their arguments, in the order in which changes flow.
    pub(super) fn services(&self, nats: &str, http: SocketAddr) -> Vec<Program> {
        let replica = format!("{}={}", self.replica_name, self.replica_url);
        let program = |name: &str, of: &str, stage: Stage, arguments: Vec<&str>| Program {
            name: format!("{name} {of}"),
            stage,
            path: sibling(name),
            arguments: arguments.into_iter().chain(["--nats", nats]).map(OsString::from).collect(),
        };
        let mut programs = Vec::new();
        for (name, text) in &self.sources {
            programs.push(program("ingest-genji", name, Stage::Ingest, vec!["--source", text]));
        }
        let mut builder = vec!["--replica", replica.as_str()];
        for (name, _) in &self.sources {
            builder.extend(["--source", name.as_str()]);
        }
        programs.push(program("view-builder", &self.replica_name, Stage::ViewBuilder, builder));
        let http = http.to_string();
        let gateway = vec!["--replica", replica.as_str(), "--http", &http, "--nid", &self.nid];
        programs.push(program("feed-gateway", &self.nid, Stage::Gateway, gateway));
        programs
    }

    /// Asks each service whether it accepts its arguments.
    pub(super) async fn check(&self) -> Result<()> {
        let nats = self.nats.as_deref().unwrap_or("nats://127.0.0.1:4222");
        for program in self.services(nats, self.http) {
            if !program.path.is_file() {
                bail!("{} is missing; `cargo build --bins` makes it", program.path.display());
            }
            let checked = Command::new(&program.path)
                .args(&program.arguments)
                .arg("--print-config")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .output()
                .await
                .with_context(|| format!("start {}", program.path.display()))?;
            if !checked.status.success() {
                let sentence = String::from_utf8_lossy(&checked.stderr).trim().to_owned();
                let usage = checked.status.code() == Some(i32::from(deltamesh_telemetry::EX_USAGE));
                return Err(if usage { refused(sentence) } else { anyhow!("{}: {sentence}", program.name) });
            }
        }
        Ok(())
    }
}

/// A service's program, beside this one.
fn sibling(name: &str) -> PathBuf {
    let here = std::env::current_exe().ok();
    here.as_deref().and_then(Path::parent).map_or_else(|| PathBuf::from(name), |dir| dir.join(name))
}

fn source_name(text: &str) -> Result<String> {
    let Some((name, place)) = text.split_once('=') else {
        return Err(refused(format!("--source {text}: write NAME=genji:PATH")));
    };
    if !subject::is_valid_name(name) {
        return Err(refused(format!("--source {text}: a name has a-z, 0-9 and _, at most 32")));
    }
    if !place.starts_with("genji:") {
        return Err(refused(format!("--source {text}: only genji:PATH is a source")));
    }
    Ok(name.to_owned())
}

/// Name and URL; a relative path of a SQLite file becomes absolute, so that the URL is good anywhere.
fn replica(place: &Place, text: Option<&str>) -> Result<(String, String)> {
    let default = format!("sqlite:{}", place.dir.join("replica.db").display());
    let text = text.unwrap_or(&default);
    let named = text.split_once('=').filter(|(name, _)| !name.contains([':', '/']));
    let (name, url) = named.unwrap_or((DEFAULT_REPLICA, text));
    if !subject::is_valid_name(name) {
        return Err(refused(format!("--replica {text}: a name has a-z, 0-9 and _, at most 32")));
    }
    let url = match url.strip_prefix("sqlite:") {
        Some("") => return Err(refused(format!("--replica {text}: the path is missing"))),
        Some(path) => format!("sqlite:{}", absolute(path).context("find the replica")?.display()),
        None if url.starts_with("postgres://") || url.starts_with("postgresql://") => url.to_owned(),
        None => {
            return Err(refused(format!("--replica {text}: write sqlite:PATH or postgres://HOST/DATABASE")));
        }
    };
    Ok((name.to_owned(), url))
}

fn address(text: &str) -> Result<SocketAddr> {
    let found = text.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
    found.ok_or_else(|| refused(format!("--http {text}: write ADDRESS:PORT")))
}

#[cfg(test)]
mod tests {
    use super::{replica, source_name};
    use crate::options::Place;

    fn place() -> Place {
        Place { nats: None, dir: "/state".into() }
    }

    #[test]
    fn sources_have_names() {
        assert_eq!(source_name("app=genji:/db?mode=host").unwrap(), "app");
        for bad in ["genji:/db", "App=genji:/db", "app=sqlite:/db", "=genji:/db"] {
            assert!(source_name(bad).unwrap_err().to_string().starts_with("--source"), "{bad}");
        }
    }

    #[test]
    fn a_replica_may_have_a_name() {
        let check = |text: Option<&str>, name: &str, url: &str| {
            assert_eq!(replica(&place(), text).unwrap(), (name.to_owned(), url.to_owned()));
        };
        check(None, "main", "sqlite:/state/replica.db");
        check(Some("sqlite:/a=b.db"), "main", "sqlite:/a=b.db");
        check(Some("eu=sqlite:/r.db"), "eu", "sqlite:/r.db");
        check(Some("postgres://h/d?schema=s"), "main", "postgres://h/d?schema=s");
        check(Some("eu=postgres://h/d"), "eu", "postgres://h/d");
        assert!(replica(&place(), Some("sqlite:")).is_err());
        assert!(replica(&place(), Some("mysql://h/d")).is_err());
        assert!(replica(&place(), Some("EU=sqlite:/r.db")).is_err());
    }
}
