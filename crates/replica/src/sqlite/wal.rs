//! Moving the write-ahead log into the file, when it disturbs least.
//!
//! A commit appends the pages that it changed to the WAL; they have to reach the file sometime, and under constant writing
//! there is no idle time for it. So a thread copies them beside the writer, each time the WAL has become large. What the
//! writer appends meanwhile stays: when only little is left the writer copies that itself, between two transactions, and
//! its next one begins the WAL anew.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use rusqlite::Connection;

use super::database::Sqlite;

use crate::error::{At, Error, Result};

/// A WAL of that size is copied into the file.
const WAL_BYTES: u64 = 32 << 20;
/// Bytes that the file of the WAL keeps when it begins anew.
const KEPT_BYTES: i64 = 8 << 20;
/// Pages that the writer may copy itself.
const FEW_PAGES: i64 = 512;
/// How often the thread copies what came while it copied.
const ROUNDS: usize = 8;
/// At this size the writer waits for readers that keep the WAL from beginning anew.
const LARGE_WAL_BYTES: u64 = 256 << 20;

/// What the thread has to do, and has done.
const IDLE: u8 = 0;
const COPYING: u8 = 1;
const COPIED: u8 = 2;

/// The thread that copies, and when to wake it.
#[derive(Debug)]
pub(super) struct Checkpoints {
    wake: Option<SyncSender<()>>,
    state: Arc<AtomicU8>,
    thread: Option<JoinHandle<()>>,
    /// Size of the WAL at which it is copied next.
    limit: AtomicU64,
}

impl Checkpoints {
    /// Starts the thread with a connection of its own; the file exists.
    pub(super) fn start(path: &Path) -> Result<Self> {
        let place = || format!("open {}", path.display());
        let connection = Connection::open(path).at(place)?;
        connection.execute_batch("PRAGMA wal_autocheckpoint = 0; PRAGMA busy_timeout = 0;").at(place)?;
        let state = Arc::new(AtomicU8::new(IDLE));
        let (wake, woken) = sync_channel(1);
        let thread = {
            let state = state.clone();
            let name = "wal".to_owned();
            std::thread::Builder::new().name(name).spawn(move || copy_when_woken(&connection, &woken, &state))
        };
        let thread = thread.map_err(|error| Error::io("start WAL thread", error))?;
        Ok(Self { wake: Some(wake), state, thread: Some(thread), limit: AtomicU64::new(WAL_BYTES) })
    }

    fn wake(&self) {
        let idle = self.state.compare_exchange(IDLE, COPYING, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if let Some(wake) = self.wake.as_ref().filter(|_| idle) {
            wake.try_send(()).ok();
        }
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        self.wake = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("WAL thread has panicked");
        }
    }
}

fn copy_when_woken(connection: &Connection, woken: &Receiver<()>, state: &AtomicU8) {
    while woken.recv().is_ok() {
        let mut left = i64::MAX;
        for _ in 0..ROUNDS {
            match copy(connection) {
                Ok(now) if now < left => left = now,
                Ok(_) => break,
                Err(error) => {
                    tracing::warn!(%error, "cannot copy the WAL into the file");
                    break;
                }
            }
            if left <= FEW_PAGES {
                break;
            }
        }
        let next = if left <= FEW_PAGES { COPIED } else { IDLE };
        state.store(next, Ordering::Release);
    }
}

/// Copies what can be copied without waiting for anybody; gives the number of pages that are left.
fn copy(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA main.wal_checkpoint(PASSIVE)", [], |row| {
        Ok(row.get::<_, i64>(1)? - row.get::<_, i64>(2)?)
    })
}

/// Bytes of a replica's WAL file; 0 where there is none.
fn wal_bytes(path: &Path) -> Result<u64> {
    match std::fs::metadata(PathBuf::from(format!("{}-wal", path.display()))) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(Error::io(format!("look at WAL of {}", path.display()), error)),
    }
}

/// Makes the file of the WAL small again when it begins anew.
pub(super) fn limit_kept(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_size_limit", KEPT_BYTES)
}

impl Sqlite {
    /// After a commit: has a large WAL copied, and copies the little that is left of it then. What fails here is tried
    /// again when the WAL has grown further; the commit stands.
    pub(super) fn care_for_wal(&self) {
        if let Err(error) = self.copy_wal() {
            tracing::warn!(%error, "cannot copy the WAL into the file");
        }
    }

    fn copy_wal(&self) -> Result<()> {
        let bytes = wal_bytes(&self.path)?;
        if bytes < WAL_BYTES {
            self.checkpoints.limit.store(WAL_BYTES, Ordering::Relaxed);
        }
        if self.checkpoints.state.load(Ordering::Acquire) == COPIED {
            self.checkpoints.limit.store(bytes.max(WAL_BYTES) + WAL_BYTES / 4, Ordering::Relaxed);
            self.checkpoints.state.store(IDLE, Ordering::Release);
            copy(&self.connection).at(|| format!("checkpoint {}", self.path.display()))?;
        } else if bytes >= self.checkpoints.limit.load(Ordering::Relaxed) {
            self.checkpoints.wake();
        }
        Ok(())
    }

    /// In idle times: has the WAL copied, and empties one that has become large. Waits for readers only briefly: the next
    /// call tries again.
    pub(super) fn reset_wal(&self) -> Result<()> {
        if wal_bytes(&self.path)? < LARGE_WAL_BYTES {
            self.checkpoints.wake();
            return self.copy_wal();
        }
        let place = || format!("checkpoint {}", self.path.display());
        self.connection.execute_batch("PRAGMA busy_timeout = 200").at(place)?;
        let checkpoint =
            self.connection.query_row("PRAGMA main.wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
        self.connection.execute_batch("PRAGMA busy_timeout = 5000").at(place)?;
        if checkpoint.at(place)? != 0 {
            tracing::debug!("readers keep the WAL from being reset");
        }
        Ok(())
    }
}
