//! The folder of `up`: what runs there, and where it answers.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

/// What the other commands need to know of a running `up`; also the basis of its ready line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Running {
    /// URL of the NATS server.
    pub(crate) nats: String,
    /// Names of the sources.
    pub(crate) sources: Vec<String>,
    /// Process id of `up`.
    pub(crate) pid: u32,
    /// The replica that is meant where none is named.
    #[serde(flatten)]
    pub(crate) first: Served,
    /// The others.
    pub(crate) others: Vec<Served>,
}

/// A replica and its gateway.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Served {
    /// Name of the replica.
    pub(crate) replica_name: String,
    /// URL of the replica.
    pub(crate) replica: String,
    /// URL of the gateway's HTTP address.
    pub(crate) http: String,
    /// Node id of the gateway.
    pub(crate) nid: String,
}

/// Ports that were chosen once and are kept, so that clients find a restarted server again.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Ports {
    /// Port of the NATS server.
    pub(crate) nats: Option<u16>,
    /// Ports of the gateways, by the names of their replicas.
    #[serde(default)]
    pub(crate) gateways: BTreeMap<String, u16>,
}

/// The folder, held by one `up` at a time.
#[derive(Debug)]
pub(crate) struct Held {
    dir: PathBuf,
    /// Locked until this process ends.
    _lock: File,
}

impl Held {
    /// Creates the folder where it is missing and takes it for this process.
    pub(crate) fn take(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        let dir = fs::canonicalize(dir).with_context(|| format!("open {}", dir.display()))?;
        let lock = lock_file(&dir);
        let file = File::options().create(true).append(true).open(&lock);
        let file = file.with_context(|| format!("open {}", lock.display()))?;
        match file.try_lock() {
            Ok(()) => {
                let held = Self { dir, _lock: file };
                held.forget()?;
                Ok(held)
            }
            Err(TryLockError::WouldBlock) => {
                bail!("another `deltamesh up` runs in {}; stop it or name another --dir", dir.display())
            }
            Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("lock {}", lock.display())),
        }
    }

    /// Absolute path.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Lets the other commands know what runs here.
    pub(crate) fn announce(&self, running: &Running) -> Result<()> {
        replace(&running_file(&self.dir), &serde_json::to_vec_pretty(running)?)
    }

    /// Nothing runs here any more, or not yet.
    pub(crate) fn forget(&self) -> Result<()> {
        match fs::remove_file(running_file(&self.dir)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("remove {}", running_file(&self.dir).display()))
            }
            _ => Ok(()),
        }
    }

    /// The ports of the last time; none where they cannot be read.
    pub(crate) fn ports(&self) -> Ports {
        let read = fs::read(self.dir.join("ports.json"));
        read.ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    /// Keeps the ports for the next time.
    pub(crate) fn keep_ports(&self, ports: &Ports) -> Result<()> {
        replace(&self.dir.join("ports.json"), &serde_json::to_vec(ports)?)
    }
}

/// What runs in `dir`.
pub(crate) fn running(dir: &Path) -> Result<Running> {
    let next =
        || format!("start it with `deltamesh up --dir {}`, or name a server with --nats", dir.display());
    let path = running_file(dir);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("nothing runs in {}: {}", dir.display(), next())
        }
        Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
    };
    // What a killed `up` has left behind is still there, but nobody holds the lock.
    if File::open(lock_file(dir)).is_ok_and(|file| file.try_lock_shared().is_ok()) {
        bail!("nothing runs in {} any more: {}", dir.display(), next());
    }
    serde_json::from_slice(&text).with_context(|| format!("read {}", path.display()))
}

fn running_file(dir: &Path) -> PathBuf {
    dir.join("up.json")
}

fn lock_file(dir: &Path) -> PathBuf {
    dir.join("up.lock")
}

/// Readers see the old content or the new.
fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let fresh = path.with_extension("new");
    let written = fs::write(&fresh, content).and_then(|()| fs::rename(&fresh, path));
    written.with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::{Held, Running, Served, running};

    #[test]
    fn a_folder_is_held_once_and_says_what_runs() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path().join("state");
        assert!(running(&dir).unwrap_err().to_string().starts_with("nothing runs in"));
        let held = Held::take(&dir).unwrap();
        assert!(Held::take(&dir).unwrap_err().to_string().starts_with("another `deltamesh up` runs in"));
        let told = Running {
            nats: "nats://127.0.0.1:1".to_owned(),
            sources: vec!["app".to_owned()],
            pid: 1,
            first: Served {
                replica_name: "main".to_owned(),
                replica: "sqlite:r".to_owned(),
                http: "http://127.0.0.1:2".to_owned(),
                nid: "n".to_owned(),
            },
            others: vec![],
        };
        held.announce(&told).unwrap();
        assert_eq!(running(&dir).unwrap().nats, told.nats);
        drop(held);
        assert!(running(&dir).unwrap_err().to_string().contains("any more"));
        Held::take(&dir).unwrap();
        assert!(!dir.join("up.json").exists());
    }
}
