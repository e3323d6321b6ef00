//! The NATS server that `up` brings along.

use std::ffi::OsString;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::child::{Child, Program, Stage};
use super::fleet::Fleet;
use super::port;
use crate::place::{Held, Ports};

const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Atomic batches need 2.12.
const OLDEST: (u32, u32) = (2, 12);
/// Recovery of a large store takes its time.
const START_WITHIN: Duration = Duration::from_secs(60);
const GREETING_WITHIN: Duration = Duration::from_secs(1);
const ATTEMPTS: usize = 3;
/// Another program has taken the port.
const GIVE_UP_AFTER_RESTARTS: u32 = 2;

/// Starts the server on its kept port, or on a free one, and returns its URL when it answers.
pub(super) async fn start(held: &Held, ports: &mut Ports, fleet: &mut Fleet) -> Result<String> {
    let path = find()?;
    let dir = held.dir().join("nats");
    fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    let name = format!("deltamesh-{}", std::process::id());
    for _ in 0..ATTEMPTS {
        let port = port::choose(ADDRESS, ports.nats, &[])?;
        let config = configure(&dir, &name, port)?;
        fleet.add(Program {
            name: "nats-server".to_owned(),
            stage: Stage::Nats,
            path: path.clone(),
            arguments: vec![OsString::from("--config"), config.into()],
        })?;
        if answers(fleet.last(), port, &name).await {
            ports.nats = Some(port);
            return Ok(format!("nats://{ADDRESS}:{port}"));
        }
        fleet.drop_last().await;
        ports.nats = None;
    }
    bail!("nats-server does not start; see {}", dir.join("nats-server.log").display())
}

/// What the change log needs: every message is on disk before it is acknowledged.
fn configure(dir: &Path, name: &str, port: u16) -> Result<PathBuf> {
    let quoted = |path: &Path| serde_json::Value::from(path.to_string_lossy()).to_string();
    let text = format!(
        "# Written by `deltamesh up`.\n\
         server_name: {name}\n\
         listen: \"{ADDRESS}:{port}\"\n\
         log_file: {}\n\
         logfile_size_limit: 16MB\n\
         logfile_max_num: 2\n\
         jetstream {{\n  store_dir: {}\n  sync_interval: always\n}}\n",
        quoted(&dir.join("nats-server.log")),
        quoted(&dir.join("store")),
    );
    let path = dir.join("nats.conf");
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}

/// Waits until the server greets with its own name.
async fn answers(child: Option<&Child>, port: u16, name: &str) -> bool {
    let Some(child) = child else { return false };
    let deadline = Instant::now() + START_WITHIN;
    while Instant::now() < deadline && child.restarts() < GIVE_UP_AFTER_RESTARTS {
        let greeting = timeout(GREETING_WITHIN, greeting(port)).await;
        if matches!(greeting, Ok(Ok(info)) if info.contains(name) && info.contains("\"jetstream\":true")) {
            return true;
        }
        sleep(Duration::from_millis(10)).await;
    }
    false
}

async fn greeting(port: u16) -> std::io::Result<String> {
    let stream = TcpStream::connect((ADDRESS, port)).await?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).await?;
    Ok(line)
}

/// `DELTAMESH_NATS_SERVER`, beside this program, the workspace's tools, `PATH`: the first that is new enough.
fn find() -> Result<PathBuf> {
    let exe = std::env::current_exe().context("find this program")?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let named = std::env::var_os("DELTAMESH_NATS_SERVER").map(PathBuf::from);
    let beside = exe.parent().map(|dir| dir.join("nats-server"));
    let tools = exe.ancestors().skip(1).map(|dir| dir.join(".tools/bin/nats-server"));
    let in_path = std::env::split_paths(&path).map(|dir| dir.join("nats-server"));
    let mut found = named.into_iter().chain(beside).chain(tools).chain(in_path);
    found.find(|path| path.is_file() && is_new_enough(path)).with_context(|| {
        format!(
            "no nats-server {}.{} or newer: fetch one with `cargo xtask tools`, put it into PATH, or name a \
             running server with --nats",
            OLDEST.0, OLDEST.1
        )
    })
}

fn is_new_enough(path: &Path) -> bool {
    let Ok(out) = Command::new(path).arg("--version").output() else { return false };
    version(&String::from_utf8_lossy(&out.stdout)).is_some_and(|version| version >= OLDEST)
}

/// From `nats-server: v2.15.1`.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split_once(": v")?.1.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(version("nats-server: v2.15.1\n"), Some((2, 15)));
        assert!(version("nats-server: v2.9.10") < version("nats-server: v2.12.0"));
        assert_eq!(version("something else"), None);
    }
}
