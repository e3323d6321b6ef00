//! This crate as a process that speaks as `genjihost` does, so that it can be killed: statements on its standard input, one a
//! line, `.query` before those whose rows are wanted; then `ok` or `err: kind: reason`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, bail};
use deltamesh_change::{Value, to_json};
use deltamesh_genji::sql::Parameters;
use deltamesh_genji::{Database, HostOptions, Session};

/// Names the directory that [`writer_process`] hosts, and makes it one.
const DIRECTORY: &str = "DELTAMESH_TEST_HOST";
/// Bytes of its memtable.
const MEMTABLE: &str = "DELTAMESH_TEST_HOST_MEMTABLE";

/// Not a test of its own: the process that [`OurHost::start`] starts.
#[test]
fn writer_process() {
    let Some(dir) = std::env::var_os(DIRECTORY) else { return };
    let memtable_bytes = deltamesh_testkit::number(MEMTABLE, 16_000).unwrap() as usize;
    let options = HostOptions { memtable_bytes, retained_log_bytes: 50_000, ..HostOptions::default() };
    let database = Database::open(Path::new(&dir), &options).unwrap();
    let mut session = Session::new(&database);
    println!("\nready");
    for line in std::io::stdin().lines().map_while(Result::ok) {
        let (wants_rows, sql) = match line.strip_prefix(".query ") {
            Some(sql) => (true, sql),
            None => (false, line.as_str()),
        };
        let mut answer = String::new();
        match session.execute(sql, Parameters::Positional(&[])) {
            Ok(executed) => {
                for row in executed.documents.into_iter().filter(|_| wants_rows) {
                    answer += &format!("{}\n", to_json(&Value::Document(row)));
                }
                answer += "ok";
            }
            Err(error) => answer = format!("err: {:?}: {error}", error.kind()),
        }
        println!("{answer}");
    }
    drop(session);
    database.close().unwrap();
}

/// This crate as a process. Dropping it kills it.
pub(crate) struct OurHost {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl OurHost {
    /// Opens the directory with a memtable of so many bytes.
    pub(crate) fn start(dir: &Path, memtable_bytes: usize) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--exact", "process::writer_process", "--nocapture"])
            .env(DIRECTORY, dir)
            .env(MEMTABLE, memtable_bytes.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let answers = BufReader::new(child.stdout.take().context("no stdout")?);
        let mut host = Self { child, answers };
        while host.line()? != "ready" {}
        Ok(host)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Gives it a line whose answer [`Self::receive`] takes.
    pub(crate) fn send(&mut self, line: &str) -> std::io::Result<()> {
        self.child.stdin.as_mut().map_or(Ok(()), |stdin| writeln!(stdin, "{line}"))
    }

    /// The rows of the answer, or the reason of a refusal. The outer error is the end of the process.
    pub(crate) fn receive(&mut self) -> Result<Result<Vec<String>, String>> {
        let mut rows = Vec::new();
        loop {
            let line = self.line()?;
            if line == "ok" {
                return Ok(Ok(rows));
            }
            if let Some(reason) = line.strip_prefix("err: ") {
                return Ok(Err(reason.to_owned()));
            }
            rows.push(line);
        }
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            bail!("the writer ended");
        }
        Ok(line.trim_end().to_owned())
    }

    /// Closes the database as a host that stops does.
    pub(crate) fn close(mut self) -> Result<()> {
        drop(self.child.stdin.take());
        let status = self.child.wait()?;
        anyhow::ensure!(status.success(), "the writer ended with {status}");
        Ok(())
    }

    /// Kills it with SIGKILL, if it is not gone yet.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for OurHost {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
