//! One program that is started again whenever it ends.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{self, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

/// Pause before the first restart; doubles with each that follows soon.
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_LAST: Duration = Duration::from_secs(5);
/// A program that lived this long begins with the first pause again.
const HEALTHY_AFTER: Duration = Duration::from_secs(10);
/// How long a program may take to drain.
const DRAIN_WITHIN: Duration = Duration::from_secs(10);

/// What is started, and when it is drained.
#[derive(Debug, Clone)]
pub(super) struct Program {
    /// For logs: service and what it serves.
    pub(super) name: String,
    pub(super) stage: Stage,
    pub(super) path: PathBuf,
    pub(super) arguments: Vec<OsString>,
}

/// The order of draining.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    Ingest,
    ViewBuilder,
    Gateway,
    Nats,
}

/// A program that is kept running.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) name: String,
    pub(super) stage: Stage,
    state: Arc<State>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct State {
    /// 0 while it does not run.
    pid: AtomicU32,
    restarts: AtomicU32,
}

impl Child {
    /// Starts the program, and again whenever it ends.
    pub(super) fn keep(program: Program) -> Result<Self> {
        let state = Arc::new(State::default());
        let (stop, stopping) = watch::channel(false);
        let first = spawn(&program)?;
        let (name, stage) = (program.name.clone(), program.stage);
        let task = tokio::spawn(run(program, first, Arc::clone(&state), stopping));
        Ok(Self { name, stage, state, stop, task })
    }

    /// Process id; none between an end and the next start.
    pub(super) fn pid(&self) -> Option<u32> {
        Some(self.state.pid.load(Ordering::Relaxed)).filter(|pid| *pid != 0)
    }

    pub(super) fn restarts(&self) -> u32 {
        self.state.restarts.load(Ordering::Relaxed)
    }

    /// Sends SIGTERM and waits for the end; SIGKILL where it takes too long.
    pub(super) async fn drain(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.task.await {
            warn!(program = self.name, %error, "supervision failed");
        }
    }
}

async fn run(
    program: Program,
    first: process::Child,
    state: Arc<State>,
    mut stopping: watch::Receiver<bool>,
) {
    let mut running = Some(first);
    let mut pause = BACKOFF_FIRST;
    loop {
        let started = Instant::now();
        if let Some(mut child) = running.take() {
            state.pid.store(child.id().unwrap_or(0), Ordering::Relaxed);
            tokio::select! {
                ended = child.wait() => match ended {
                    Ok(status) => warn!(program = program.name, %status, "ended; starting it again"),
                    Err(error) => warn!(program = program.name, %error, "cannot be waited for"),
                },
                _ = stopping.changed() => return terminate(&program, child).await,
            }
            state.pid.store(0, Ordering::Relaxed);
        }
        if started.elapsed() >= HEALTHY_AFTER {
            pause = BACKOFF_FIRST;
        }
        tokio::select! {
            () = sleep(pause) => {}
            _ = stopping.changed() => return,
        }
        pause = (pause * 2).min(BACKOFF_LAST);
        state.restarts.fetch_add(1, Ordering::Relaxed);
        match spawn(&program) {
            Ok(child) => running = Some(child),
            Err(error) => warn!(program = program.name, error = format!("{error:#}"), "cannot be started"),
        }
    }
}

/// In a process group of its own, so that Ctrl-C reaches `up` only, and bound to the life of `up`.
fn spawn(program: &Program) -> Result<process::Child> {
    let deltamesh = std::env::current_exe().context("find this program")?;
    let child = Command::new(deltamesh)
        .arg("supervised")
        .arg(std::process::id().to_string())
        .arg(&program.path)
        .args(&program.arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .process_group(0)
        .spawn();
    child.with_context(|| format!("start {}", program.path.display()))
}

async fn terminate(program: &Program, mut child: process::Child) {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid
        && let Err(error) = kill_process(pid, Signal::TERM)
    {
        warn!(program = program.name, %error, "cannot be signalled");
    }
    match timeout(DRAIN_WITHIN, child.wait()).await {
        Ok(Ok(status)) if status.success() => info!(program = program.name, "drained"),
        Ok(Ok(status)) => warn!(program = program.name, %status, "ended without draining"),
        Ok(Err(error)) => warn!(program = program.name, %error, "cannot be waited for"),
        Err(_) => {
            warn!(program = program.name, "did not drain in time; killing it");
            if let Err(error) = child.kill().await {
                warn!(program = program.name, %error, "cannot be killed");
            }
        }
    }
}
