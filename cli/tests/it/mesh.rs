//! A `deltamesh up` in a temporary folder, and the other commands against it.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const READY_WITHIN: Duration = Duration::from_secs(90);

/// The program under test. The services' programs must be beside it.
pub(crate) fn deltamesh() -> PathBuf {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_deltamesh"));
    for service in ["ingest-genji", "view-builder", "feed-gateway"] {
        let path = program.with_file_name(service);
        assert!(path.is_file(), "{} is missing: cargo build --workspace --bins", path.display());
    }
    program
}

/// A command of `deltamesh` that knows where the tests' nats-server is, and that a killed test does not leave behind.
pub(crate) fn command() -> Command {
    let mut command = Command::new(deltamesh());
    command
        .arg("supervised")
        .arg(std::process::id().to_string())
        .arg(deltamesh())
        .env("DELTAMESH_NATS_SERVER", deltamesh_testkit::nats_server().unwrap())
        .env_remove("DELTAMESH_NATS")
        .env_remove("DELTAMESH_DIR")
        .stdin(Stdio::null());
    command
}

/// A running `up`.
pub(crate) struct Mesh {
    /// State of `up`, and everything else that belongs to the test.
    dir: PathBuf,
    arguments: Vec<String>,
    up: Child,
    /// The ready line.
    pub(crate) ready: Value,
    _stdout: BufReader<std::process::ChildStdout>,
}

impl Mesh {
    /// Starts `up --dir DIR/state` with further arguments and waits for the ready line.
    pub(crate) fn start(dir: &Path, arguments: &[&str]) -> Self {
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let (up, stdout, ready) = start(dir, &arguments);
        Self { dir: dir.to_owned(), arguments, up, ready, _stdout: stdout }
    }

    /// Starts it again, in the same folder with the same arguments.
    pub(crate) fn restart(&mut self) {
        (self.up, self._stdout, self.ready) = start(&self.dir, &self.arguments);
    }

    /// Another command against this `up`.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command();
        command.arg("--dir").arg(self.dir.join("state")).args(arguments);
        command
    }

    /// Runs another command.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs another command that must succeed, and returns what it says.
    pub(crate) fn say(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "deltamesh {arguments:?}: {complaint}\n{}", self.log());
        String::from_utf8(output.stdout).unwrap()
    }

    /// Rows of a SELECT on the replica.
    pub(crate) fn rows(&self, select: &str) -> Vec<Value> {
        serde_json::from_str(&self.say(&["sql", "--format", "json", select])).unwrap()
    }

    /// Process id of `up`.
    pub(crate) fn pid(&self) -> u32 {
        self.up.id()
    }

    /// Process id of a child by the name of its program; waits until it runs.
    pub(crate) fn child(&self, program: &str) -> u32 {
        eventually(&format!("{program} runs"), || {
            let pid = self.pid();
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            children.split_whitespace().find_map(|child| {
                let name = fs::read_to_string(format!("/proc/{child}/cmdline")).ok()?;
                let name = name.split('\0').next()?.rsplit('/').next()?.to_owned();
                (name == program).then(|| child.parse().unwrap())
            })
        })
    }

    /// Kills `up` itself with SIGKILL; its children die with it.
    pub(crate) fn kill(&mut self) {
        self.up.kill().unwrap();
        self.up.wait().unwrap();
    }

    /// Asks `up` to drain and waits for its end.
    pub(crate) fn stop(mut self) -> ExitStatus {
        signal(self.pid(), Signal::TERM);
        self.up.wait().unwrap()
    }

    /// The end of what `up` and the services have logged.
    pub(crate) fn log(&self) -> String {
        log(&self.dir)
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        if std::thread::panicking() {
            writeln!(std::io::stderr().lock(), "{}", self.log()).ok();
        }
        self.up.kill().ok();
        self.up.wait().ok();
    }
}

/// Sends a signal to a process.
pub(crate) fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    // It may just have ended by itself.
    kill_process(pid, signal).ok();
}

/// Asks again and again until there is an answer.
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + READY_WITHIN;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "it never came true that {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn start(dir: &Path, arguments: &[String]) -> (Child, BufReader<std::process::ChildStdout>, Value) {
    let stderr = fs::File::options().create(true).append(true).open(dir.join("up.log")).unwrap();
    let mut up = command()
        .args(["up", "--dir"])
        .arg(dir.join("state"))
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(up.stdout.take().unwrap());
    let pid = up.id();
    let (done, overdue) = std::sync::mpsc::channel::<()>();
    let guard = std::thread::spawn(move || {
        if overdue.recv_timeout(READY_WITHIN) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            signal(pid, Signal::KILL);
        }
    });
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    drop(done);
    guard.join().unwrap();
    if line.is_empty() {
        panic!("up is not ready: {}\n{}", up.wait().unwrap(), log(dir));
    }
    (up, stdout, serde_json::from_str(&line).unwrap())
}

fn log(dir: &Path) -> String {
    let mut text = String::new();
    if let Ok(mut file) = fs::File::open(dir.join("up.log")) {
        file.read_to_string(&mut text).ok();
    }
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}
