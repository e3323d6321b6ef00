//! Room for calls: in all, and for each client that names its node id; and such a client's total pace.

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::link::Link;
use crate::pace::{Pacer, Rate};
use crate::status::{Code, Status};

/// The clients with open calls, by node id.
#[derive(Debug, Default)]
pub(crate) struct Peers(Mutex<HashMap<Arc<str>, Peer>>);

#[derive(Debug)]
struct Peer {
    calls: usize,
    pacer: Arc<Mutex<Pacer>>,
}

/// One open call's place, given back when dropped.
#[derive(Debug)]
pub(crate) struct Admission {
    link: Arc<Link>,
    peer: Option<Arc<str>>,
    /// Shared by all streams of the client.
    pub pacer: Option<Arc<Mutex<Pacer>>>,
}

impl Admission {
    /// A place for one more call of `peer`.
    pub(crate) fn take(link: &Arc<Link>, peer: Option<&Arc<str>>) -> Result<Self, Status> {
        let exhausted = |text| Err(Status::new(Code::ResourceExhausted, text));
        if link.stats.open.fetch_add(1, Relaxed) >= link.options.max_calls {
            link.stats.open.fetch_sub(1, Relaxed);
            return exhausted("too many calls are open");
        }
        let mut admission = Self { link: Arc::clone(link), peer: None, pacer: None };
        if let Some(name) = peer {
            match link.peers.enter(name, link.options.max_calls_per_peer, link.options.rate_per_peer) {
                Some(pacer) => admission.pacer = Some(pacer),
                None => return exhausted("too many calls of this client are open"),
            }
            admission.peer = Some(Arc::clone(name));
        }
        Ok(admission)
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.link.stats.open.fetch_sub(1, Relaxed);
        if let Some(peer) = &self.peer {
            self.link.peers.leave(peer);
        }
    }
}

impl Peers {
    /// Counts a call of the client in; `None` if it has too many.
    fn enter(&self, name: &Arc<str>, limit: usize, rate: Rate) -> Option<Arc<Mutex<Pacer>>> {
        let mut peers = self.lock();
        let peer = peers.entry(Arc::clone(name)).or_insert_with(|| Peer {
            calls: 0,
            pacer: Arc::new(Mutex::new(Pacer::bucket(rate, Instant::now()))),
        });
        if peer.calls >= limit {
            return None;
        }
        peer.calls += 1;
        Some(Arc::clone(&peer.pacer))
    }

    fn leave(&self, name: &Arc<str>) {
        let mut peers = self.lock();
        if let Some(peer) = peers.get_mut(name) {
            peer.calls -= 1;
            if peer.calls == 0 {
                peers.remove(name);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Peer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
