//! The system under test: an application's database, and `deltamesh up` beside it.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use deltamesh_change::Value;
use deltamesh_genji::{Database, HostOptions};

/// Chats that messages are spread over.
const CHATS: i64 = 500;
/// Users that write them.
const USERS: i64 = 1000;

const TABLES: [&str; 3] = [
    "CREATE TABLE chat (chat_id INTEGER PRIMARY KEY, title TEXT)",
    "CREATE TABLE person (user_id INTEGER PRIMARY KEY, login TEXT)",
    "CREATE TABLE message (message_id INTEGER PRIMARY KEY, chat_id INTEGER, user_id INTEGER, size INTEGER, body TEXT)",
];

const VIEWS: &str = "
CREATE MATERIALIZED VIEW long_message WITH (subject = 'chat_id') AS
  SELECT message_id, chat_id, body FROM message WHERE size >= 0;
CREATE MATERIALIZED VIEW chat_total AS
  SELECT chat_id, count(*) AS messages, sum(size) AS bytes FROM message GROUP BY chat_id;
CREATE MATERIALIZED VIEW chat_feed WITH (subject = 'chat_id') AS
  SELECT m.message_id, m.chat_id, p.login AS sender, m.body FROM message m JOIN person p ON p.user_id = m.user_id;
";

/// The application and the services.
pub(crate) struct Mesh {
    pub(crate) database: Database,
    pub(crate) nats: String,
    up: Child,
    dir: tempfile::TempDir,
}

impl Mesh {
    /// Creates the database, starts everything and creates the views.
    pub(crate) fn start() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let database = Database::open(&dir.path().join("db"), &HostOptions::default())?;
        for table in TABLES {
            database.execute(table, &[])?;
        }
        fill(&database, "chat", ["chat_id", "title"], CHATS)?;
        fill(&database, "person", ["user_id", "login"], USERS)?;
        let (up, nats) = start_up(dir.path())?;
        let mesh = Self { database, nats, up, dir };
        mesh.command(&["view", "create", VIEWS])?;
        Ok(mesh)
    }

    /// The replica's file.
    pub(crate) fn replica(&self) -> PathBuf {
        self.dir.path().join("mesh/replica.db")
    }

    /// A place for a rival's files on the same disk.
    pub(crate) fn scratch(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Commits messages `first .. first + count` as one transaction.
    pub(crate) fn commit(&self, first: i64, count: i64) -> Result<()> {
        let mut transaction = self.database.begin();
        for id in first..first + count {
            transaction.insert("message", &message(id))?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// Runs a subcommand to its end.
    pub(crate) fn command(&self, arguments: &[&str]) -> Result<()> {
        let status = deltamesh(self.dir.path()).args(arguments).stdout(Stdio::null()).status()?;
        ensure!(status.success(), "deltamesh {} failed", arguments.first().unwrap_or(&""));
        Ok(())
    }

    /// Every view equals its SQL; then everything is drained.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.command(&["verify"])?;
        println!("verify: every view equals its SQL");
        let pid = rustix::process::Pid::from_child(&self.up);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let status = self.up.wait()?;
        ensure!(status.success(), "deltamesh up ended with {status}");
        Ok(())
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.up);
        if matches!(self.up.try_wait(), Ok(None)) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            let _ = self.up.wait();
        }
    }
}

/// The row of message `id`; about 100 bytes.
pub(crate) fn message(id: i64) -> Vec<(String, Value)> {
    let body = format!("message {id} {}", "lorem ipsum dolor sit amet ".repeat(2));
    vec![
        ("message_id".to_owned(), Value::Int(id)),
        ("chat_id".to_owned(), Value::Int(id * 7919 % CHATS)),
        ("user_id".to_owned(), Value::Int(id * 104_729 % USERS)),
        ("size".to_owned(), Value::Int(i64::try_from(body.len()).unwrap_or(0))),
        ("body".to_owned(), Value::Text(body)),
    ]
}

fn fill(database: &Database, table: &str, fields: [&str; 2], count: i64) -> Result<()> {
    let mut transaction = database.begin();
    for id in 0..count {
        let name = Value::Text(format!("{table} {id}"));
        transaction.insert(table, &[(fields[0].to_owned(), Value::Int(id)), (fields[1].to_owned(), name)])?;
    }
    transaction.commit()?;
    Ok(())
}

fn deltamesh(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_deltamesh"));
    command.arg("--dir").arg(dir.join("mesh"));
    command
}

fn start_up(dir: &Path) -> Result<(Child, String)> {
    let log = std::fs::File::create(dir.join("up.log"))?;
    let mut up = deltamesh(dir)
        .args(["up", "--http", "127.0.0.1:0", "--source"])
        .arg(format!("app=genji:{}", dir.join("db").display()))
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .context("start deltamesh up")?;
    let mut line = String::new();
    BufReader::new(up.stdout.take().context("stdout of deltamesh up")?).read_line(&mut line)?;
    let ready: serde_json::Value =
        serde_json::from_str(&line).context("deltamesh up did not become ready")?;
    Ok((up, ready["nats"].as_str().context("address of nats-server")?.to_owned()))
}
