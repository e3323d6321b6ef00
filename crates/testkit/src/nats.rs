//! A nats-server with JetStream of its own.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use tempfile::TempDir;

use crate::{free_port, nats_server};

/// A cold server recovers its store before it answers.
const START_WITHIN: Duration = Duration::from_secs(30);
/// Another program may take the port between choosing and listening.
const ATTEMPTS: usize = 5;

/// A real nats-server on a loopback port, with JetStream (`sync_interval: always`) in a temporary
/// directory. Dropping it kills the server and removes the directory.
#[derive(Debug)]
pub struct NatsServer {
    dir: TempDir,
    port: u16,
    child: Child,
}

impl NatsServer {
    /// Starts a server and waits until it answers.
    ///
    /// # Errors
    /// There is no nats-server, or it does not answer; the text holds the end of its log.
    pub fn start() -> Result<Self> {
        let mut last = anyhow!("no attempt made");
        for _ in 0..ATTEMPTS {
            let dir = tempfile::Builder::new().prefix("deltamesh-nats-").tempdir()?;
            let port = free_port()?;
            match spawn(dir.path(), port) {
                Ok(child) => return Ok(Self { dir, port, child }),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// `nats://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Process id of the running, or last, server.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Folder of the store, the configuration and the log.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Kills the server with SIGKILL and waits for its end.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Starts the server again on the same port and store (kills it first if it runs), and waits
    /// until it answers.
    ///
    /// # Errors
    /// As [`NatsServer::start`].
    pub fn restart(&mut self) -> Result<()> {
        self.kill()?;
        self.child = spawn(self.dir.path(), self.port)?;
        Ok(())
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill().ok();
    }
}

/// What streams may set aside does not depend on the disk that the test runs on.
fn spawn(dir: &Path, port: u16) -> Result<Child> {
    let program = nats_server()?;
    let name = format!("testkit_{}_{port}", std::process::id());
    let conf = dir.join("nats.conf");
    let store = dir.join("store");
    let text = format!(
        "server_name: {name}\nlisten: \"127.0.0.1:{port}\"\n\
         jetstream {{ store_dir: \"{}\", sync_interval: always, max_file_store: 64GB }}\n",
        store.display()
    );
    fs::write(&conf, text)?;
    let log = dir.join("nats.log");
    let out = OpenOptions::new().create(true).append(true).open(&log)?;
    let mut child = Command::new(&program)
        .arg("--config")
        .arg(&conf)
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out)
        .spawn()
        .with_context(|| format!("start {}", program.display()))?;
    match wait_until_it_answers(&mut child, port, &name) {
        Ok(()) => Ok(child),
        Err(error) => {
            child.kill().ok();
            child.wait().ok();
            Err(error.context(format!("nats-server on port {port}; its log ends:\n{}", tail(&log))))
        }
    }
}

fn wait_until_it_answers(child: &mut Child, port: u16, name: &str) -> Result<()> {
    let deadline = Instant::now() + START_WITHIN;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            bail!("ended at start: {status}");
        }
        if greeting(port).is_some_and(|info| info.contains(name) && info.contains("\"jetstream\":true")) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    bail!("no answer within {} s", START_WITHIN.as_secs())
}

/// The `INFO` line that a server sends first.
fn greeting(port: u16) -> Option<String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).ok()?;
    Some(line)
}

fn tail(log: &Path) -> String {
    let lines: Vec<String> = match File::open(log) {
        Ok(file) => BufReader::new(file).lines().map_while(Result::ok).collect(),
        Err(_) => Vec::new(),
    };
    lines[lines.len().saturating_sub(10)..].join("\n")
}
