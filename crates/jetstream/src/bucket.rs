//! Buckets of current values: modules, their status, replicas.

use async_nats::jetstream::kv;
use bytes::Bytes;
use futures::StreamExt as _;
use tokio::sync::watch;

use crate::reopen::Reopen;
use crate::topology::{BucketName, ensure_bucket};
use crate::{Client, Error, ErrorKind, backoff};

/// How often something is tried where the server has no room for it. In all that takes some seconds.
const ATTEMPTS: usize = 6;

/// A key-value bucket.
#[derive(Clone)]
pub struct Bucket {
    store: kv::Store,
    losses: watch::Receiver<u64>,
}

/// The current value of a key, or that it is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Key.
    pub key: String,
    /// Value; absent where the key was deleted.
    pub value: Option<Bytes>,
    /// Revision within the bucket.
    pub revision: u64,
}

/// What a [`Watch`] has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BucketEvent {
    /// A current value, or a change of one.
    Entry(Entry),
    /// Every value that was there when the watch began has been returned. Comes once.
    Current,
}

/// Tries again where the server has no room: a stream that is being made takes more of it for a moment than it keeps.
#[derive(Default)]
struct Room {
    failed: usize,
}

impl Room {
    /// Waits a little; says whether to try again after this error.
    async fn may_come(&mut self, error: &Error) -> bool {
        if error.kind() != ErrorKind::Full || self.failed >= ATTEMPTS {
            return false;
        }
        self.failed += 1;
        tracing::warn!(error = error.chain(), "cannot write to a bucket, trying again");
        tokio::time::sleep(backoff(self.failed)).await;
        true
    }
}

impl Bucket {
    /// Opens a bucket, and creates it where it is missing.
    ///
    /// # Errors
    /// The server refuses or does not answer.
    pub async fn open(client: &Client, name: BucketName) -> Result<Self, Error> {
        let mut room = Room::default();
        loop {
            match ensure_bucket(client, name).await {
                Err(error) if room.may_come(&error).await => {}
                store => return Ok(Self { store: store?, losses: client.losses() }),
            }
        }
    }

    /// The value of a key.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>, Error> {
        let value = self.store.get(key).await;
        value.map_err(|error| Error::from_nats(format!("read {}/{key}", self.store.name), error))
    }

    /// Sets the value of a key and returns its revision.
    ///
    /// # Errors
    /// The server refuses or does not answer.
    pub async fn put(&self, key: &str, value: impl Into<Bytes>) -> Result<u64, Error> {
        let (value, mut room) = (value.into(), Room::default());
        loop {
            let put = self.store.put(key, value.clone()).await;
            match put.map_err(|error| Error::from_nats(format!("write {}/{key}", self.store.name), error)) {
                Err(error) if room.may_come(&error).await => {}
                revision => return revision,
            }
        }
    }

    /// Removes a key.
    ///
    /// # Errors
    /// The server refuses or does not answer.
    pub async fn delete(&self, key: &str) -> Result<(), Error> {
        let deleted = self.store.delete(key).await;
        deleted.map_err(|error| Error::from_nats(format!("delete {}/{key}", self.store.name), error))
    }

    /// Every key with its current value, in no order.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn entries(&self) -> Result<Vec<Entry>, Error> {
        let mut watch = self.watch();
        let mut entries = vec![];
        loop {
            match watch.next().await? {
                BucketEvent::Entry(entry) if entry.value.is_some() => entries.push(entry),
                BucketEvent::Entry(_) => {}
                BucketEvent::Current => return Ok(entries),
            }
        }
    }

    /// Current values, then changes, from now on.
    #[must_use]
    pub fn watch(&self) -> Watch {
        Watch {
            store: self.store.clone(),
            watch: None,
            reopen: Reopen::new(self.losses.clone()),
            current: Progress::Reading,
            revision: 0,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// Values that were there at the beginning are still to come.
    Reading,
    /// They have been returned, [`BucketEvent::Current`] has not.
    Complete,
    Told,
}

/// Follows a bucket. Survives reconnects.
pub struct Watch {
    store: kv::Store,
    watch: Option<kv::Watch>,
    reopen: Reopen<Opened>,
    current: Progress,
    revision: u64,
}

impl Watch {
    /// Waits for the next event. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The server does not answer; call again, the waiting between attempts is done here.
    pub async fn next(&mut self) -> Result<BucketEvent, Error> {
        loop {
            if self.current == Progress::Complete {
                self.current = Progress::Told;
                return Ok(BucketEvent::Current);
            }
            let Some(watch) = self.watch.as_mut() else {
                self.reopen().await?;
                continue;
            };
            let received = tokio::select! {
                biased;
                received = watch.next() => received,
                () = self.reopen.lost() => None,
            };
            let Some(Ok(entry)) = received else {
                self.watch = None;
                continue;
            };
            self.reopen.succeeded();
            if self.current == Progress::Reading && entry.delta == 0 {
                self.current = Progress::Complete;
            }
            if entry.revision > self.revision {
                self.revision = entry.revision;
                let value = (entry.operation == kv::Operation::Put).then_some(entry.value);
                return Ok(BucketEvent::Entry(Entry { key: entry.key, value, revision: entry.revision }));
            }
        }
    }

    /// Watches from the beginning or, after a loss, from behind the last revision that was returned.
    async fn reopen(&mut self) -> Result<(), Error> {
        let behind = (self.current != Progress::Reading).then_some(self.revision);
        let Opened { watch, is_empty } = self.reopen.open(|| open(self.store.clone(), behind)).await?;
        if self.current == Progress::Reading {
            self.revision = 0;
            if is_empty {
                self.current = Progress::Complete;
            }
        }
        self.watch = Some(watch);
        Ok(())
    }
}

/// A watch that has begun.
struct Opened {
    watch: kv::Watch,
    /// Whether the bucket had no values before.
    is_empty: bool,
}

/// Watches from behind a revision, or from the beginning.
async fn open(store: kv::Store, behind: Option<u64>) -> Result<Opened, Error> {
    let action = || format!("watch bucket {}", store.name);
    let watched = match behind {
        Some(revision) => store.watch_all_from_revision(revision + 1).await,
        None => {
            let info = store.stream.get_info().await;
            let info = info.map_err(|error| Error::from_nats(action(), error))?;
            let watch = store.watch_with_history(">").await;
            let watch = watch.map_err(|error| Error::from_nats(action(), error))?;
            return Ok(Opened { watch, is_empty: info.state.messages == 0 });
        }
    };
    let watch = watched.map_err(|error| Error::from_nats(action(), error))?;
    Ok(Opened { watch, is_empty: false })
}
