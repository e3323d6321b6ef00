use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use deltamesh_ingest_genji::{Mode, Source};
use deltamesh_testkit::NatsServer;

/// The program in a process of its own; dropping it kills it.
pub(crate) struct Program {
    child: Child,
}

impl Program {
    pub(crate) fn start(nats: &NatsServer, dir: &Path, mode: Mode) -> Self {
        Self::start_at(&nats.url(), dir, mode)
    }

    /// With the server at that address.
    pub(crate) fn start_at(url: &str, dir: &Path, mode: Mode) -> Self {
        Self::start_with(url, dir, mode, &[])
    }

    /// With further arguments.
    pub(crate) fn start_with(url: &str, dir: &Path, mode: Mode, arguments: &[&str]) -> Self {
        Self::start_program(Path::new(env!("CARGO_BIN_EXE_ingest-genji")), url, dir, mode, arguments)
    }

    /// Another build of it.
    pub(crate) fn start_program(
        program: &Path,
        url: &str,
        dir: &Path,
        mode: Mode,
        arguments: &[&str],
    ) -> Self {
        let source = Source { name: "app".into(), path: dir.to_owned(), mode };
        let child = Command::new(program)
            .args(["--source", &source.to_string(), "--nats", url])
            .args(arguments)
            .stderr(if std::env::var_os("DELTAMESH_SHOW_LOGS").is_some() {
                Stdio::inherit()
            } else {
                Stdio::null()
            })
            .spawn()
            .expect("program");
        Self { child }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }

    /// SIGTERM, and how it ends.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.child.wait().expect("wait")
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Sends a signal by its name without SIG.
pub(crate) fn signal(pid: u32, name: &str) {
    Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().expect("signal");
}

fn program(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ingest-genji"))
        .args(arguments)
        .env_remove("DELTAMESH_NATS")
        .output()
        .expect("program")
}

#[test]
fn bad_configuration_is_one_sentence_and_64() {
    for arguments in [&[][..], &["--source", "App=genji:x"], &["--source", "app=s3:x"], &["--what"]] {
        let output = program(arguments);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr).lines().count(), 1, "{arguments:?}");
    }
}

#[test]
fn the_configuration_is_printed() {
    let output = program(&["--source", "app=genji:/data?mode=host", "--print-config"]);
    let config: serde_json::Value = serde_json::from_slice(&output.stdout).expect("json");
    assert_eq!(config["source"]["mode"], "host");
    assert!(program(&["--version"]).status.success());
}

/// One answer of an HTTP server.
fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("connect");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("ask");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answer");
    answer
}

#[test]
fn metrics_are_served_where_asked() {
    let (nats, dir) = (NatsServer::start().expect("nats-server"), tempfile::tempdir().expect("dir"));
    let source = Source { name: "app".into(), path: dir.path().join("db"), mode: Mode::Host };
    let mut child = Command::new(env!("CARGO_BIN_EXE_ingest-genji"))
        .args(["--source", &source.to_string(), "--nats", &nats.url(), "--monitor", "127.0.0.1:0"])
        .env("DELTAMESH_LOG_FORMAT", "json")
        .stderr(Stdio::piped())
        .spawn()
        .expect("program");
    let mut lines = BufReader::new(child.stderr.take().expect("stderr")).lines();
    let program = Program { child };
    let address = lines.find_map(|line| {
        let line: serde_json::Value = serde_json::from_str(&line.ok()?).ok()?;
        Some(line["fields"]["address"].as_str().or(line["address"].as_str())?.to_owned())
    });
    let address = address.expect("logs the address");
    // Its own thread: a full pipe would stop the program.
    std::thread::spawn(move || lines.for_each(drop));
    assert!(get(&address, "/healthz").ends_with("ok\n"));
    let begin = std::time::Instant::now();
    let hop = "deltamesh_hop_lag_changes{service=\"ingest-genji\",name=\"app\",hop=";
    let mut metrics = get(&address, "/metrics");
    while !metrics.contains(hop) && begin.elapsed() < crate::LONG {
        std::thread::sleep(std::time::Duration::from_millis(50));
        metrics = get(&address, "/metrics");
    }
    assert!(metrics.contains("content-type: application/openmetrics-text; version=1.0.0"), "{metrics}");
    assert!(metrics.contains(hop) && metrics.ends_with("# EOF\n"), "{metrics}");
    drop(program);
}
