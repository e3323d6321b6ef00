//! Holding the lease of a source, and watching whether its holder still renews it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use deltamesh_jetstream::{Error, ErrorKind, Former, Lease, Leases};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, warn};

/// How often the holder renews.
const RENEW: Duration = Duration::from_millis(400);
/// A holder that could not renew for this time takes no requests until it can.
const CURRENT: Duration = Duration::from_millis(2000);
/// A lease that was not renewed for this time may be taken. Longer than [`CURRENT`]: a holder has stopped by then.
const LAPSE: Duration = Duration::from_millis(2500);
/// How often a standby looks.
pub(crate) const LOOK: Duration = Duration::from_millis(200);
/// An observer that could not look for this time has seen nothing.
const BLIND: Duration = Duration::from_millis(1000);
/// How long one renewal may take.
const ANSWER: Duration = Duration::from_millis(1000);

/// What the keeper knows.
#[derive(Debug, Clone, Copy)]
enum Held {
    /// Renewed at that time.
    Since(Instant),
    Lost,
}

/// Renews a lease until it is dropped, released or lost.
pub(crate) struct Keeper {
    leases: Leases,
    source: String,
    lease: Arc<Mutex<Lease>>,
    held: watch::Receiver<Held>,
    now: Arc<Notify>,
    task: tokio::task::JoinHandle<()>,
}

impl Keeper {
    /// Renews a lease that was written at `since` with that revision.
    pub(crate) fn spawn(leases: Leases, source: &str, lease: Lease, revision: u64, since: Instant) -> Self {
        let (sender, held) = watch::channel(Held::Since(since));
        let lease = Arc::new(Mutex::new(lease));
        let now = Arc::new(Notify::new());
        let renewal = Renewal {
            leases: leases.clone(),
            source: source.to_owned(),
            lease: lease.clone(),
            held: sender,
            now: now.clone(),
        };
        let task = tokio::spawn(renewal.run(revision));
        Self { leases, source: source.to_owned(), lease, held, now, task }
    }

    /// Whether no one else can hold the lease at this moment.
    pub(crate) fn is_current(&self) -> bool {
        matches!(*self.held.borrow(), Held::Since(since) if since.elapsed() < CURRENT)
    }

    /// Whether someone else has taken the lease.
    pub(crate) fn is_lost(&self) -> bool {
        matches!(*self.held.borrow(), Held::Lost)
    }

    /// Waits for the next renewal or loss; forever once it is lost.
    pub(crate) async fn changed(&mut self) {
        if self.held.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Renews the lease now: what was read before this call was read while nobody else could publish as the writer.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`]: someone else has taken it. [`ErrorKind::Unavailable`]: it is not known yet.
    pub(crate) async fn confirm(&self) -> Result<(), Error> {
        let asked = Instant::now();
        let error = |kind| Error::new(kind, format!("renew the lease of {}", self.source));
        let mut held = self.held.clone();
        self.now.notify_one();
        let confirmed = async {
            loop {
                match *held.borrow_and_update() {
                    Held::Since(since) if since >= asked => return Ok(()),
                    Held::Lost => return Err(error(ErrorKind::Fenced)),
                    Held::Since(_) => {}
                }
                if held.changed().await.is_err() {
                    return Err(error(ErrorKind::Fenced));
                }
            }
        };
        timeout(ANSWER, confirmed).await.unwrap_or_else(|_late| Err(error(ErrorKind::Unavailable)))
    }

    /// Makes the lease say that its holder is the writer.
    ///
    /// # Errors
    /// As [`Self::confirm`].
    pub(crate) async fn replace_writer(&self, former: Option<Former>) -> Result<(), Error> {
        locked(&self.lease).replace_writer(former);
        self.confirm().await
    }

    /// Gives the lease up, so that a standby need not wait.
    pub(crate) async fn release(self) {
        self.task.abort();
        let Ok(Ok(Some((lease, revision)))) = timeout(ANSWER, self.leases.get(&self.source)).await else {
            return;
        };
        if lease.directory == locked(&self.lease).directory {
            let released = Lease { released: true, ..lease };
            if let Err(error) = self.leases.put(&self.source, &released, revision).await {
                debug!(error = %error.chain(), "lease lapses by itself");
            }
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn locked(lease: &Mutex<Lease>) -> MutexGuard<'_, Lease> {
    lease.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The task behind a [`Keeper`].
struct Renewal {
    leases: Leases,
    source: String,
    lease: Arc<Mutex<Lease>>,
    held: watch::Sender<Held>,
    now: Arc<Notify>,
}

impl Renewal {
    async fn run(self, mut revision: u64) {
        loop {
            tokio::select! {
                () = sleep(RENEW) => {}
                () = self.now.notified() => {}
            }
            let lease = {
                let mut lease = locked(&self.lease);
                lease.renewals += 1;
                lease.clone()
            };
            let asked = Instant::now();
            match timeout(ANSWER, put(&self.leases, &self.source, &lease, revision)).await {
                Ok(Ok(renewed)) => {
                    revision = renewed;
                    self.held.send_replace(Held::Since(asked));
                }
                Ok(Err(error)) if error.kind() == ErrorKind::Fenced => {
                    warn!(source = self.source, "lease is lost");
                    self.held.send_replace(Held::Lost);
                    return;
                }
                Ok(Err(error)) => debug!(error = %error.chain(), "cannot renew the lease"),
                Err(_late) => debug!("lease is not confirmed in time"),
            }
        }
    }
}

/// Writes the lease; takes an own write for done whose answer was lost.
pub(crate) async fn put(leases: &Leases, source: &str, lease: &Lease, revision: u64) -> Result<u64, Error> {
    match leases.put(source, lease, revision).await {
        Err(error) if error.kind() == ErrorKind::Fenced => match leases.get(source).await? {
            Some((found, revision)) if found.directory == lease.directory && !found.released => {
                leases.put(source, lease, revision).await
            }
            _ => Err(error),
        },
        result => result,
    }
}

/// Sees by its own clock whether a lease is renewed.
pub(crate) struct Observer {
    revision: u64,
    changed: Instant,
    looked: Instant,
}

impl Observer {
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self { revision: 0, changed: now, looked: now }
    }

    /// Notes a revision that was read now, and says whether its holder has stopped renewing.
    pub(crate) fn has_lapsed(&mut self, revision: u64) -> bool {
        let now = Instant::now();
        let blind = now - self.looked > BLIND;
        self.looked = now;
        if blind || revision != self.revision {
            self.revision = revision;
            self.changed = now;
        }
        now - self.changed >= LAPSE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lease_lapses_when_it_is_seen_unchanged() {
        let mut observer = Observer::new();
        assert!(!observer.has_lapsed(1));
        for _ in 0..12 {
            sleep(LOOK).await;
            assert!(!observer.has_lapsed(1));
        }
        sleep(LOOK).await;
        assert!(observer.has_lapsed(1));
        assert!(!observer.has_lapsed(2));
        // Nobody could renew while nobody could look.
        sleep(LAPSE).await;
        assert!(!observer.has_lapsed(2));
    }
}
