//! One inbox subscription for all calls of a client.

use std::collections::HashMap;
use std::future::pending;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use async_nats::connection::State;
use async_nats::{Message, StatusCode, Subject, Subscriber};
use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::ClientOptions;
use crate::envelope::{self, ResponseKind};
use crate::error::Error;
use crate::metadata::Metadata;
use crate::queue::{Bounds, Budget, Queue};
use crate::status::{Code, Status};

#[derive(Debug)]
pub(super) struct Mux {
    nats: async_nats::Client,
    pub nid: String,
    bounds: Bounds,
    budget: Arc<Budget>,
    inbox: String,
    next: AtomicU64,
    slots: Mutex<HashMap<u64, Arc<Slot>>>,
    reader: Mutex<Option<AbortHandle>>,
}

/// One open call.
#[derive(Debug)]
pub(super) struct Slot {
    number: u64,
    subject: Subject,
    inbox: Subject,
    /// Whether the end matters after a single response: trailer metadata comes with it.
    pub waits_for_end: bool,
    pub responses: Queue,
    pub header: Mutex<Metadata>,
    pub trailer: Mutex<Metadata>,
}

impl Mux {
    pub(super) async fn start(nats: async_nats::Client, options: ClientOptions) -> Result<Arc<Self>, Error> {
        let inbox = nats.new_inbox();
        let subscriber =
            nats.subscribe(format!("{inbox}.*")).await.map_err(Error::nats("subscribe to responses"))?;
        let mux = Arc::new(Self {
            nats,
            nid: options.nid.unwrap_or_else(|| nuid::next().to_string()),
            bounds: Bounds { messages: options.max_queued_messages, bytes: options.max_queued_bytes },
            budget: Arc::new(Budget::new(options.max_queued_bytes_of_all_calls)),
            inbox,
            next: AtomicU64::new(1),
            slots: Mutex::default(),
            reader: Mutex::default(),
        });
        let reader = tokio::spawn(read(Arc::downgrade(&mux), subscriber, options.losses)).abort_handle();
        *mux.reader.lock().unwrap_or_else(PoisonError::into_inner) = Some(reader);
        Ok(mux)
    }

    pub(super) fn open(&self, subject: String, waits_for_end: bool) -> Arc<Slot> {
        let number = self.next.fetch_add(1, Relaxed);
        let slot = Arc::new(Slot {
            number,
            subject: subject.into(),
            inbox: format!("{}.{number}", self.inbox).into(),
            waits_for_end,
            responses: Queue::new(self.bounds, &self.budget),
            header: Mutex::default(),
            trailer: Mutex::default(),
        });
        self.slots().insert(number, Arc::clone(&slot));
        slot
    }

    /// Publishes an envelope of a call.
    pub(super) async fn send(&self, slot: &Slot, envelope: Bytes) -> Result<(), Status> {
        let (length, limit) = (envelope.len(), self.nats.max_payload());
        if length > limit {
            let text = format!("request of {length} bytes exceeds the transport's limit");
            return Err(Status::new(Code::ResourceExhausted, text));
        }
        let sent = self.nats.publish_with_reply(slot.subject.clone(), slot.inbox.clone(), envelope).await;
        sent.map_err(|error| Status::unavailable(format!("publish request: {error}")))
    }

    /// Publishes an envelope of a call from a place that cannot wait.
    pub(super) fn post(&self, slot: &Slot, envelope: Bytes) {
        let nats = self.nats.clone();
        let (subject, inbox) = (slot.subject.clone(), slot.inbox.clone());
        let mut publish = Box::pin(async move { nats.publish_with_reply(subject, inbox, envelope).await });
        match publish.as_mut().now_or_never() {
            Some(Ok(())) => {}
            Some(Err(error)) => tracing::debug!(%error, "end of call not published"),
            None => {
                // Outside a runtime nothing can wait for the connection; the server will probe us.
                if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                    runtime.spawn(publish);
                }
            }
        }
    }

    /// Forgets a call. False: it had ended, or been forgotten.
    pub(super) fn close(&self, slot: &Slot) -> bool {
        self.slots().remove(&slot.number).is_some()
    }

    pub(super) fn is_open(&self, slot: &Slot) -> bool {
        self.slots().contains_key(&slot.number)
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<u64, Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn on_message(&self, message: Message) {
        let number = message.subject.rsplit('.').next().and_then(|token| token.parse().ok());
        let slot = number.and_then(|number| self.slots().get(&number).cloned());
        // Without a slot it is the late end of a finished call.
        let Some(slot) = slot else { return };
        if message.status == Some(StatusCode::NO_RESPONDERS) {
            return self.fail(&slot, Status::unavailable("nobody serves this method"));
        }
        match envelope::decode_response(message.payload) {
            Ok(None) => {}
            Ok(Some(ResponseKind::Begin(begin))) => {
                *slot.header.lock().unwrap_or_else(PoisonError::into_inner) =
                    Metadata::from_wire(begin.header);
            }
            Ok(Some(ResponseKind::Data(data))) => {
                if slot.responses.push(data.data).is_err() {
                    let status = Status::new(Code::DataLoss, "responses come faster than they are read");
                    self.post(&slot, envelope::cancel(&status));
                    self.fail(&slot, status);
                }
            }
            Ok(Some(ResponseKind::End(end))) => {
                self.close(&slot);
                *slot.trailer.lock().unwrap_or_else(PoisonError::into_inner) =
                    Metadata::from_wire(end.trailer);
                slot.responses.finish(end.status.map_or(Ok(()), |status| Err(Status::from_wire(status))));
            }
            Err(error) => {
                let status = Status::internal(format!("decode response envelope: {error}"));
                self.post(&slot, envelope::cancel(&status));
                self.fail(&slot, status);
            }
        }
    }

    /// Why messages were lost; `connects` is how often the connection had been made.
    fn loss(&self, connects: &mut u64) -> Status {
        let now = self.nats.statistics().connects.load(Relaxed);
        let reconnected = std::mem::replace(connects, now) != now;
        if reconnected || self.nats.connection_state() != State::Connected {
            return Status::unavailable("the connection to NATS was lost");
        }
        Status::new(Code::DataLoss, "messages came faster than they were read")
    }

    fn fail_all(&self, status: &Status) {
        let open: Vec<_> = self.slots().drain().map(|(_number, slot)| slot).collect();
        for slot in open {
            self.post(&slot, envelope::cancel(status));
            slot.responses.fail(status.clone());
        }
    }

    fn fail(&self, slot: &Slot, status: Status) {
        self.close(slot);
        slot.responses.fail(status);
    }
}

impl Drop for Mux {
    fn drop(&mut self) {
        if let Some(reader) = self.reader.lock().unwrap_or_else(PoisonError::into_inner).take() {
            reader.abort();
        }
    }
}

/// Waits for a loss; forever where nobody tells of one.
async fn lost(losses: &mut Option<watch::Receiver<u64>>) {
    let changed = match losses {
        Some(losses) => losses.changed().await.is_ok(),
        None => false,
    };
    if !changed {
        pending().await
    }
}

async fn read(mux: Weak<Mux>, mut subscriber: Subscriber, mut losses: Option<watch::Receiver<u64>>) {
    if let Some(losses) = &mut losses {
        losses.mark_unchanged();
    }
    let mut connects = 0;
    if let Some(mux) = mux.upgrade() {
        mux.loss(&mut connects);
    }
    loop {
        // The loss first: what follows it would follow a hole.
        let message = tokio::select! {
            biased;
            () = lost(&mut losses) => None,
            message = subscriber.next() => match message {
                Some(message) => Some(message),
                None => break,
            },
        };
        let Some(mux) = mux.upgrade() else { return };
        match message {
            Some(message) => mux.on_message(message),
            None => mux.fail_all(&mux.loss(&mut connects)),
        }
    }
    let Some(mux) = mux.upgrade() else { return };
    mux.fail_all(&Status::unavailable("connection closed"));
}
