//! Where tests find the workspace, its tools and the reference programs.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// Variable that names the nats-server to use.
const NATS_SERVER: &str = "DELTAMESH_NATS_SERVER";
/// Variable that names the folder of PostgreSQL's programs.
const POSTGRES_BIN: &str = "DELTAMESH_POSTGRES_BIN";
/// Variable that names the folder of the reference programs.
const REFERENCE_BIN: &str = "DELTAMESH_REFERENCE_BIN";

/// Root folder of the workspace.
#[must_use]
pub fn workspace_root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).unwrap_or(manifest).to_path_buf()
}

/// Folder that `cargo xtask tools` fills.
#[must_use]
pub fn tools_dir() -> PathBuf {
    workspace_root().join(".tools/bin")
}

/// The nats-server to test against: `DELTAMESH_NATS_SERVER`, else the workspace's tools, else `PATH`.
///
/// # Errors
/// There is none; the text says what to run.
pub fn nats_server() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os(NATS_SERVER) {
        let path = PathBuf::from(named);
        if !path.is_file() {
            bail!("{NATS_SERVER} names no file: {}", path.display());
        }
        return Ok(path);
    }
    let tool = tools_dir().join("nats-server");
    if tool.is_file() {
        return Ok(tool);
    }
    match in_path("nats-server") {
        Some(path) => Ok(path),
        None => bail!("nats-server not found: run `cargo xtask tools`"),
    }
}

/// The folder of PostgreSQL's programs: `DELTAMESH_POSTGRES_BIN`, else the workspace's tools, else `PATH`, else where Debian puts
/// them, newest first.
///
/// # Errors
/// There is none; the text says what to run.
pub fn postgres_bin() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os(POSTGRES_BIN) {
        return Ok(PathBuf::from(named));
    }
    // What PATH has may be a link to one program of a folder that has them all.
    let real = |folder: PathBuf| Some(folder.join("initdb").canonicalize().ok()?.parent()?.to_owned());
    let has_server = |folder: &PathBuf| folder.join("postgres").is_file() && folder.join("psql").is_file();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut debian: Vec<PathBuf> = debian.map(|version| version.path().join("bin")).collect();
    debian.sort();
    let tools = tools_dir().with_file_name("postgres").join("pgserver/pginstall/bin");
    let folders = std::iter::once(tools).chain(std::env::split_paths(&path)).chain(debian.into_iter().rev());
    match folders.filter_map(real).find(has_server) {
        Some(folder) => Ok(folder),
        None => bail!("PostgreSQL not found: run `cargo xtask tools`"),
    }
}

/// A reference program (the real engine, a stock client), or `None` with a line on stderr that the
/// test is skipped. The folder is `DELTAMESH_REFERENCE_BIN`, else `../shared/bin` beside the workspace.
#[must_use]
pub fn reference(name: &str) -> Option<PathBuf> {
    let folder = match std::env::var_os(REFERENCE_BIN) {
        Some(folder) => PathBuf::from(folder),
        None => workspace_root().join("../shared/bin"),
    };
    let program = folder.join(name);
    if program.is_file() {
        return Some(program);
    }
    // Straight to stderr: the test harness would keep back what a passing test prints.
    writeln!(std::io::stderr().lock(), "skipped: no reference program {name} (set {REFERENCE_BIN})").ok();
    None
}

fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}
