//! What `up` was asked to start, as programs and their arguments.
//!
//! The services read their own arguments; here a source and a replica are only split from their names. Before anything is
//! started each service is asked whether it understands what it would get (`--print-config`).

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, anyhow, bail};
use deltamesh_wire::subject;
use tokio::process::Command;

use super::child::{Program, Stage};
use super::port;
use super::replicas::{self, Replica};
use crate::options::{Place, Up};
use crate::place::Ports;
use crate::refused;

/// Everything that was asked for, checked as far as one can without the services.
#[derive(Debug)]
pub(super) struct Plan {
    /// Name and full text of each source.
    sources: Vec<(String, String)>,
    /// At least one.
    pub(super) replicas: Vec<Replica>,
    /// How much each keeps of its change log.
    retain: Option<String>,
    /// A server that runs already.
    pub(super) nats: Option<String>,
}

impl Plan {
    pub(super) fn read(place: &Place, up: Up) -> Result<Self> {
        let replicas = replicas::read(place, &up)?;
        let mut sources = Vec::new();
        for text in up.sources {
            let name = source_name(&text)?;
            if sources.iter().any(|(other, _)| *other == name) {
                return Err(refused(format!("--source {text}: the name {name} is taken by another source")));
            }
            sources.push((name, text));
        }
        Ok(Self { sources, replicas, retain: up.retain, nats: place.nats.clone() })
    }

    pub(super) fn source_names(&self) -> Vec<String> {
        self.sources.iter().map(|(name, _)| name.clone()).collect()
    }

    /// Gives each gateway's address a port: the one asked for, the one of the last time, or a free one.
    pub(super) fn take_ports(&mut self, ports: &mut Ports) -> Result<()> {
        let mut taken = Vec::new();
        for Replica { name, http, .. } in &mut self.replicas {
            if http.port() == 0 {
                let kept = ports.gateways.get(name).copied();
                http.set_port(port::choose(http.ip(), kept, &taken)?);
                ports.gateways.insert(name.clone(), http.port());
            } else if !port::becomes_free(http.ip(), http.port()) {
                bail!("--http {http}: the address is in use; name another, or port 0 for a free one");
            }
            taken.push(http.port());
        }
        Ok(())
    }

    /// The services with their arguments, in the order in which changes flow.
    pub(super) fn services(&self, nats: &str) -> Vec<Program> {
        let program = |name: &str, of: &str, stage: Stage, arguments: Vec<&str>| Program {
            name: format!("{name} {of}"),
            stage,
            path: sibling(name),
            arguments: arguments.into_iter().chain(["--nats", nats]).map(OsString::from).collect(),
        };
        let ingests = self
            .sources
            .iter()
            .map(|(name, text)| program("ingest-genji", name, Stage::Ingest, vec!["--source", text]));
        let builders = self.replicas.iter().map(|replica| {
            let url = replica.argument();
            let mut arguments = vec!["--replica", url.as_str()];
            arguments.extend(self.sources.iter().flat_map(|(name, _)| ["--source", name.as_str()]));
            arguments.extend(replica.modules.iter().flat_map(|name| ["--module", name.as_str()]));
            arguments.extend(self.retain.iter().flat_map(|retain| ["--retain", retain.as_str()]));
            program("view-builder", &replica.name, Stage::ViewBuilder, arguments)
        });
        let gateways = self.replicas.iter().map(|replica| {
            let (url, http) = (replica.argument(), replica.http.to_string());
            let arguments = vec!["--replica", url.as_str(), "--http", &http, "--nid", &replica.nid];
            program("feed-gateway", &replica.nid, Stage::Gateway, arguments)
        });
        ingests.chain(builders).chain(gateways).collect()
    }

    /// Asks each service whether it accepts its arguments.
    pub(super) async fn check(&self) -> Result<()> {
        let nats = self.nats.as_deref().unwrap_or("nats://127.0.0.1:4222");
        for program in self.services(nats) {
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

#[cfg(test)]
mod tests {
    use super::source_name;

    #[test]
    fn sources_have_names() {
        assert_eq!(source_name("app=genji:/db?mode=host").unwrap(), "app");
        for bad in ["genji:/db", "App=genji:/db", "app=sqlite:/db", "=genji:/db"] {
            assert!(source_name(bad).unwrap_err().to_string().starts_with("--source"), "{bad}");
        }
    }
}
