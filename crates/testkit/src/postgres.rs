//! A PostgreSQL server of its own.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use tempfile::TempDir;

use crate::{free_port, postgres_bin};

const START_WITHIN: Duration = Duration::from_secs(30);
/// Another program may take the port between choosing and listening.
const ATTEMPTS: usize = 5;
/// PostgreSQL refuses to run as root; nobody owns its files then.
const NOBODY: u32 = 65_534;

/// Ends the server with this process, however that ends: then the pipe to it closes. Who says `keep` before wants the files.
const GUARDED: &str = r#"dir=$1; shift; "$@" & server=$!; read -r word; kill -QUIT $server; wait $server
test "$word" = keep || rm -rf -- "$dir""#;

/// Settings for tests: nothing outlives a crash of the machine.
const QUICK: [&str; 3] = ["fsync=off", "full_page_writes=off", "shared_buffers=32MB"];

/// A real PostgreSQL server on a loopback port, its files in a temporary directory, without fsync unless asked for. It ends, and
/// the directory goes, with this value or with the process.
#[derive(Debug)]
pub struct PostgresServer {
    dir: TempDir,
    bin: PathBuf,
    port: u16,
    settings: Vec<String>,
    child: Child,
    schemas: AtomicU32,
}

impl PostgresServer {
    /// Starts a server and waits until it answers.
    ///
    /// # Errors
    /// There is no PostgreSQL, or it does not answer; the text holds the end of its log.
    pub fn start() -> Result<Self> {
        Self::start_with(&QUICK)
    }

    /// The same with settings (`name=value`) in place of those for tests, which keep little in memory and flush nothing.
    ///
    /// # Errors
    /// As [`PostgresServer::start`].
    pub fn start_with(settings: &[&str]) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("deltamesh-postgres-").tempdir()?;
        let bin = reachable(postgres_bin()?, dir.path())?;
        let data = dir.path().join("data");
        fs::create_dir(&data)?;
        if is_root()? {
            chown(dir.path(), Some(NOBODY), Some(NOBODY))?;
            chown(&data, Some(NOBODY), Some(NOBODY))?;
        }
        let mut initdb = program(&bin, "initdb")?;
        initdb.args([
            "--no-sync",
            "--auth=trust",
            "--username=deltamesh",
            "--encoding=UTF8",
            "--locale=C",
            "-D",
        ]);
        let made = initdb.arg(&data).output().context("start initdb")?;
        if !made.status.success() {
            bail!("initdb: {}", String::from_utf8_lossy(&made.stderr));
        }
        let settings: Vec<String> = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let mut last = anyhow!("no attempt made");
        for _ in 0..ATTEMPTS {
            let port = free_port()?;
            match spawn(&bin, dir.path(), port, &settings) {
                Ok(child) => return Ok(Self { dir, bin, port, settings, child, schemas: AtomicU32::new(0) }),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// `postgres://deltamesh@127.0.0.1:PORT/postgres`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://deltamesh@127.0.0.1:{}/postgres", self.port)
    }

    /// URL of a replica in a schema that nobody has.
    #[must_use]
    pub fn fresh_schema(&self) -> String {
        format!("{}?schema=t{}", self.url(), self.schemas.fetch_add(1, Ordering::Relaxed))
    }

    /// Runs SQL by psql; gives what it prints.
    ///
    /// # Errors
    /// There is no psql, or the statement fails.
    pub fn psql(&self, sql: &str) -> Result<String> {
        let mut psql = program(&self.bin, "psql")?;
        psql.args(["--no-psqlrc", "--tuples-only", "--no-align", "-v", "ON_ERROR_STOP=1"]);
        let done = psql.arg(self.url()).arg("-c").arg(sql).output().context("start psql")?;
        if !done.status.success() {
            bail!("psql: {}", String::from_utf8_lossy(&done.stderr));
        }
        Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned())
    }

    /// Ends the server as a crash does, without writing what it holds in memory, and waits for its end.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut pipe) = self.child.stdin.take() {
            pipe.write_all(b"keep\n")?;
        }
        self.child.wait()?;
        Ok(())
    }

    /// Starts the server again on the same port and files (kills it first if it runs), and waits until it answers.
    ///
    /// # Errors
    /// As [`PostgresServer::start`].
    pub fn restart(&mut self) -> Result<()> {
        self.kill()?;
        self.child = spawn(&self.bin, self.dir.path(), self.port, &self.settings)?;
        Ok(())
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.kill().ok();
    }
}

fn is_root() -> Result<bool> {
    Ok(fs::metadata("/proc/self")?.uid() == 0)
}

/// The programs where that other user may run them: in a copy, if the way to them is root's alone.
fn reachable(bin: PathBuf, dir: &Path) -> Result<PathBuf> {
    let mut is_open = true;
    for folder in bin.ancestors() {
        is_open &= fs::metadata(folder)?.mode() & 0o001 != 0;
    }
    if is_open || !is_root()? {
        return Ok(bin);
    }
    let tree = bin.ancestors().find(|folder| folder.ends_with("postgres")).unwrap_or(&bin);
    let copy = dir.join("server");
    let copied = Command::new("cp").arg("-a").args([tree, &copy]).status().context("start cp")?;
    if !copied.success() {
        bail!("cannot copy {} to {}", tree.display(), copy.display());
    }
    Ok(copy.join(bin.strip_prefix(tree)?))
}

/// A program of PostgreSQL, as another user where this one is root.
fn program(bin: &Path, name: &str) -> Result<Command> {
    let mut command = Command::new(bin.join(name));
    if is_root()? {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.current_dir("/").stdin(Stdio::null());
    Ok(command)
}

fn spawn(bin: &Path, dir: &Path, port: u16, settings: &[String]) -> Result<Child> {
    let log = dir.join("postgres.log");
    let out = File::options().create(true).append(true).open(&log)?;
    let mut server = program(Path::new("/bin"), "sh")?;
    server
        .args(["-c", GUARDED, "sh"])
        .arg(dir)
        .arg(bin.join("postgres"))
        .arg("-D")
        .arg(dir.join("data"))
        .args(["-h", "127.0.0.1", "-p"])
        .arg(port.to_string());
    // No sockets in folders that others share.
    for setting in ["unix_socket_directories="].into_iter().chain(settings.iter().map(String::as_str)) {
        server.args(["-c", setting]);
    }
    let mut child = server
        .stdin(Stdio::piped())
        .stdout(out.try_clone()?)
        .stderr(out)
        .spawn()
        .context("start postgres")?;
    let deadline = Instant::now() + START_WITHIN;
    while Instant::now() < deadline && child.try_wait()?.is_none() {
        let mut ready = program(bin, "pg_isready")?;
        let ready = ready.args(["-q", "-h", "127.0.0.1", "-p"]).arg(port.to_string()).status()?;
        if ready.success() && child.try_wait()?.is_none() {
            return Ok(child);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    if let Some(mut pipe) = child.stdin.take() {
        pipe.write_all(b"keep\n").ok();
    }
    child.wait().ok();
    let log = fs::read_to_string(&log).unwrap_or_default();
    let end: Vec<&str> = log.lines().rev().take(10).collect();
    bail!(
        "postgres on port {port} does not answer; its log ends:\n{}",
        end.into_iter().rev().collect::<Vec<_>>().join("\n")
    )
}
