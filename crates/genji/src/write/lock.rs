//! The lock that keeps two hosts out of one directory (format description §1).

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{FlockOperation, fcntl_lock};

/// Directories that this process holds, by device and inode of their `LOCK`.
///
/// A POSIX lock does not exclude its own process, and closing any descriptor of the file releases it, so a second
/// open must not even touch the file.
static HELD: Mutex<BTreeSet<(u64, u64)>> = Mutex::new(BTreeSet::new());

/// Held for as long as the value lives.
pub(crate) struct DirectoryLock {
    identity: (u64, u64),
    file: Option<File>,
}

impl DirectoryLock {
    /// Takes the lock; `None` if someone else, in this process or another, holds it.
    pub(crate) fn acquire(directory: &Path) -> io::Result<Option<Self>> {
        let path = directory.join("LOCK");
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(metadata) = std::fs::metadata(&path)
            && held.contains(&(metadata.dev(), metadata.ino()))
        {
            return Ok(None);
        }
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
        match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(error) if error == rustix::io::Errno::ACCESS || error == rustix::io::Errno::AGAIN => {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        }
        let metadata = file.metadata()?;
        let identity = (metadata.dev(), metadata.ino());
        held.insert(identity);
        Ok(Some(Self { identity, file: Some(file) }))
    }
}

impl Drop for DirectoryLock {
    fn drop(&mut self) {
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        // Closed first: closing it after another thread took the lock would release that one's.
        drop(self.file.take());
        held.remove(&self.identity);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let lock = DirectoryLock::acquire(folder.path()).unwrap();
        assert!(lock.is_some());
        assert!(DirectoryLock::acquire(folder.path()).unwrap().is_none());
        drop(lock);
        assert!(DirectoryLock::acquire(folder.path()).unwrap().is_some());
    }
}
