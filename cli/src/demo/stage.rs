//! A `deltamesh up` of the demo's own, in a folder that starts empty.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use deltamesh_jetstream::Client;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::mesh;
use crate::output::line;
use crate::place::{self, Running, Served};

/// The children of `up` drain one after the other.
const STOP_WITHIN: Duration = Duration::from_secs(60);
const LOG: &str = "up.log";
/// Lines of the log that are shown where it does not start.
const LOG_LINES: usize = 20;

pub(super) struct Stage {
    up: Child,
    folder: PathBuf,
    pub(super) started: Instant,
    pub(super) running: Running,
    pub(super) client: Client,
}

impl Stage {
    /// Starts `up` with a hosted source and the module, and waits until it is ready.
    pub(super) async fn set(folder: &Path, module: &Path) -> Result<Self> {
        let started = Instant::now();
        if place::running(folder).is_ok() {
            bail!("the demo runs already in {}", folder.display());
        }
        if folder.exists() {
            fs::remove_dir_all(folder).with_context(|| format!("empty {}", folder.display()))?;
        }
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        let log = File::create(folder.join(LOG)).context("create the log of the demo")?;
        let source = format!("app=genji:{}?mode=host", folder.join("db").display());
        let deltamesh = std::env::current_exe().context("find this program")?;
        let mut up = Command::new(&deltamesh)
            .arg("supervised")
            .arg(std::process::id().to_string())
            .arg(&deltamesh)
            .args([OsStr::new("up"), OsStr::new("--dir"), folder.as_os_str()])
            .args(["--source", &source, "--http", "127.0.0.1:0", "--module"])
            .arg(module)
            .env_remove("DELTAMESH_NATS")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .process_group(0)
            .spawn()
            .context("start deltamesh up")?;
        let ready = up.stdout.take().context("up has no stdout")?;
        let mut line = String::new();
        BufReader::new(ready).read_line(&mut line).await?;
        if line.is_empty() {
            let status = up.wait().await?;
            bail!("deltamesh up ended ({status}); its log ends:\n{}", tail(&folder.join(LOG)));
        }
        let running = place::running(folder)?;
        let client = mesh::reach(&running.nats).await?;
        Ok(Self { up, folder: folder.to_path_buf(), started, running, client })
    }

    /// Commands that work while the demo runs.
    pub(super) fn suggest(&self) -> Result<()> {
        let Running { nats, first: Served { http, replica, .. }, .. } = &self.running;
        let address = http.trim_start_matches("http://");
        let file = replica.trim_start_matches("sqlite:");
        let here = std::env::current_dir().unwrap_or_default();
        let short = |path: &Path| path.strip_prefix(&here).unwrap_or(path).display().to_string();
        let deltamesh = short(&std::env::current_exe().unwrap_or_default());
        let hello =
            r#"{"chatMessageId":"hello","chatId":"general","userId":"anna","body":"Hello from curl"}"#;
        let suggestions = [
            ("the chat in your browser", format!("{http}/chat")),
            ("write a message", format!("curl -d '{hello}' {http}/v1/call/chat.v1.ChatService/PostMessage")),
            ("follow a room by SSE", format!("curl -N '{http}/v1/feeds/chat_feed?where.chat_id=general'")),
            ("follow it with any NATS client", format!("nats sub -s {nats} 'feed.chat_feed.general.>'")),
            (
                "follow it by gRPC",
                format!(
                    r#"grpcurl -plaintext -d '{{"chat_id":"general"}}' {address} chat.v1.ChatService/WatchChat"#
                ),
            ),
            (
                "read the replica",
                format!("sqlite3 {} 'SELECT sender, body FROM chat_feed'", short(file.as_ref())),
            ),
            (
                "ask deltamesh",
                format!("{deltamesh} --dir {} status   (or: tail chat_counts, verify)", short(&self.folder)),
            ),
        ];
        line("What to try next, in another terminal:")?;
        for (what, command) in suggestions {
            line(&format!("  # {what}\n  {command}"))?;
        }
        Ok(())
    }

    /// Stops `up`, which drains its children.
    pub(super) async fn clear(&mut self) -> Result<()> {
        let pid = self.up.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            kill_process(pid, Signal::TERM).context("stop deltamesh up")?;
        }
        match timeout(STOP_WITHIN, self.up.wait()).await {
            Ok(status) if status.as_ref().is_ok_and(std::process::ExitStatus::success) => Ok(()),
            Ok(status) => {
                bail!("deltamesh up ended with {}; see {}", status?, self.folder.join(LOG).display())
            }
            Err(_) => {
                self.up.kill().await.ok();
                bail!("deltamesh up did not stop; see {}", self.folder.join(LOG).display())
            }
        }
    }
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}
