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
        let source = Source { name: "app".into(), path: dir.to_owned(), mode };
        let child = Command::new(env!("CARGO_BIN_EXE_ingest-genji"))
            .args(["--source", &source.to_string(), "--nats", url])
            .stderr(if std::env::var_os("DELTAMESH_SHOW_LOGS").is_some() {
                Stdio::inherit()
            } else {
                Stdio::null()
            })
            .spawn()
            .expect("program");
        Self { child }
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
