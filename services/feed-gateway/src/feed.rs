//! The feed stream of the replica: read once, handed to every subscription of the view that a message belongs to.
//!
//! A subscription gets a bounded queue. When it is full, or when the stream itself has a gap, the queue is closed: the
//! subscription empties it and then catches up from the replica, so that nothing is missing and nothing is silent.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use deltamesh_jetstream::{
    Bounds, Client, Consumer, Error, ErrorKind, Hop, Journal as _, StatusBoard, Stored, StreamJournal,
    backoff, now_us,
};
use deltamesh_wire::subject;
use serde_json::{Map, json};
use tokio::sync::{mpsc, watch};
use tracing::{debug, info};

use crate::event::Event;

/// Messages taken from the stream at once.
const BATCH_MESSAGES: usize = 1000;
const BATCH_BYTES: usize = 8 << 20;
/// How often the status of the feed is renewed.
const STATUS_EVERY: Duration = Duration::from_secs(1);
/// Part of the gateway that the faults of this file name.
const PART: &str = "feed";

/// What every subscription attaches to.
#[derive(Debug, Clone)]
pub struct Hub {
    state: Arc<Mutex<State>>,
    /// Feed position of the newest message read; 0 before the stream was first opened.
    head: Arc<AtomicU64>,
    draining: watch::Sender<bool>,
    queue: usize,
}

#[derive(Debug, Default)]
struct State {
    /// By the subject token of the view.
    queues: HashMap<Arc<str>, Vec<mpsc::Sender<Arc<Event>>>>,
    overflows: u64,
}

/// The live end of a subscription. Closed without warning where the queue was full or the stream had a gap.
#[derive(Debug)]
pub struct Queue(mpsc::Receiver<Arc<Event>>);

impl Queue {
    /// The next change; nothing once the queue was closed and is empty.
    pub async fn next(&mut self) -> Option<Arc<Event>> {
        self.0.recv().await
    }

    /// A change that has already arrived.
    pub fn try_next(&mut self) -> Option<Arc<Event>> {
        self.0.try_recv().ok()
    }

    /// Nothing more will arrive.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.0.is_closed()
    }
}

impl Hub {
    /// A hub whose subscriptions queue at most `queue` changes each.
    #[must_use]
    pub fn new(queue: usize) -> Self {
        Self {
            state: Arc::default(),
            head: Arc::default(),
            draining: watch::Sender::default(),
            queue: queue.max(1),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Receives the changes of a view from now on. A read of the replica after this call shows everything that does not
    /// come through the queue.
    #[must_use]
    pub fn attach(&self, view: &str) -> Queue {
        let (sender, receiver) = mpsc::channel(self.queue);
        self.state().queues.entry(Arc::from(subject::token(view))).or_default().push(sender);
        Queue(receiver)
    }

    /// Feed position of the newest message that was handed out; 0 before the stream was first opened.
    #[must_use]
    pub fn head(&self) -> u64 {
        self.head.load(Ordering::Acquire)
    }

    /// Subscriptions end from now on.
    pub fn drain(&self) {
        self.draining.send_replace(true);
    }

    /// Becomes true once the gateway drains.
    #[must_use]
    pub fn draining(&self) -> watch::Receiver<bool> {
        self.draining.subscribe()
    }

    /// Live subscriptions of all views.
    #[must_use]
    pub fn subscribers(&self) -> usize {
        let mut state = self.state();
        state.queues.retain(|_, queues| {
            queues.retain(|queue| !queue.is_closed());
            !queues.is_empty()
        });
        state.queues.values().map(Vec::len).sum()
    }

    /// Hands a change to its view's subscriptions. One that is full is cut off.
    fn publish(&self, view: &str, event: Event) {
        let mut state = self.state();
        let State { queues, overflows } = &mut *state;
        let Some(queues) = queues.get_mut(view) else { return };
        let event = Arc::new(event);
        queues.retain(|queue| match queue.try_send(Arc::clone(&event)) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                *overflows += 1;
                false
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        });
    }

    /// Cuts every subscription off: each catches up from the replica.
    fn cut_all(&self) {
        self.state().queues.clear();
    }
}

/// Reads the feed stream of a replica into the hub, for as long as the process lives.
pub async fn run(client: Client, replica: String, hub: Hub, board: StatusBoard) {
    let stream = subject::feed_stream(&replica);
    let mut reader = Reader { client, stream, hub, board, rate: Rate::new(), lag: 0 };
    let mut attempt = 0;
    loop {
        let error = match reader.open().await {
            Ok(mut consumer) => {
                attempt = 0;
                reader.read(&mut consumer).await
            }
            Err(error) => error,
        };
        if error.kind() == ErrorKind::NotFound {
            // The view-builder makes the stream with its first view.
            debug!(stream = reader.stream, "no feed stream yet");
        } else {
            reader.board.raise(PART, &reader.stream, error.chain());
        }
        tokio::time::sleep(backoff(attempt)).await;
        attempt += 1;
    }
}

struct Reader {
    client: Client,
    stream: String,
    hub: Hub,
    board: StatusBoard,
    rate: Rate,
    lag: u64,
}

impl Reader {
    /// Starts at the end of the stream. Whatever a subscription missed until here it reads from the replica.
    async fn open(&mut self) -> Result<Consumer, Error> {
        let bounds = StreamJournal::open(&self.client, &self.stream).await?.bounds().await?;
        let consumer = Consumer::open(&self.client, &self.stream, bounds.last + 1).await?;
        self.hub.cut_all();
        self.hub.head.store(bounds.last, Ordering::Release);
        self.board.clear(PART);
        info!(stream = self.stream, from = bounds.last + 1, "reading the feed");
        Ok(consumer)
    }

    async fn read(&mut self, consumer: &mut Consumer) -> Error {
        let mut status = tokio::time::interval(STATUS_EVERY);
        loop {
            tokio::select! {
                batch = consumer.next_batch(BATCH_MESSAGES, BATCH_BYTES) => match batch {
                    Ok(batch) => self.publish(&batch),
                    Err(error) if error.kind() == ErrorKind::Unavailable => {
                        self.board.raise(PART, &self.stream, error.chain());
                    }
                    Err(error) => return error,
                },
                _ = status.tick() => {
                    if let Ok(bounds) = consumer.bounds().await {
                        self.report(consumer.next_sequence(), bounds);
                    }
                }
            }
        }
    }

    fn publish(&mut self, batch: &[Stored]) {
        for stored in batch {
            match Event::decode(stored) {
                Ok((view, event)) => {
                    self.rate.count(event.captured_us);
                    self.hub.publish(&view, event);
                }
                Err(error) => {
                    // Subscribers get the change from the replica instead, which has it as a row.
                    self.board.raise(
                        "feed message",
                        format!("{}:{}", self.stream, stored.sequence),
                        error.to_string(),
                    );
                    self.hub.cut_all();
                }
            }
        }
        if let Some(last) = batch.last() {
            self.hub.head.store(last.sequence, Ordering::Release);
        }
    }

    fn report(&mut self, next: u64, bounds: Bounds) {
        self.board.clear(PART);
        self.lag = (bounds.last + 1).saturating_sub(next);
        let mut more = Map::new();
        more.insert("subscribers".to_owned(), json!(self.hub.subscribers()));
        more.insert("overflows".to_owned(), json!(self.hub.state().overflows));
        more.insert("latency_ms".to_owned(), json!(self.rate.latency_ms()));
        self.board.set_hop(Hop {
            hop: "feed".to_owned(),
            subject: self.stream.clone(),
            position: (next.saturating_sub(1)).to_string(),
            lag: self.lag,
            rate: self.rate.per_second(),
            more,
        });
    }
}

/// Messages per second and their age, between two reports.
struct Rate {
    since: Instant,
    count: u32,
    latest_us: Option<u64>,
}

impl Rate {
    fn new() -> Self {
        Self { since: Instant::now(), count: 0, latest_us: None }
    }

    fn count(&mut self, captured_us: Option<i64>) {
        self.count += 1;
        let captured = captured_us.and_then(|captured| u64::try_from(captured).ok());
        self.latest_us = captured.map(|captured| now_us().saturating_sub(captured)).or(self.latest_us);
    }

    fn per_second(&mut self) -> f64 {
        let elapsed = self.since.elapsed().as_secs_f64();
        let rate = if elapsed > 0.0 { f64::from(self.count) / elapsed } else { 0.0 };
        *self = Self { latest_us: self.latest_us, ..Self::new() };
        rate
    }

    /// From capture to here, of the newest message.
    fn latency_ms(&self) -> Option<f64> {
        self.latest_us.and_then(|micros| u32::try_from(micros).ok()).map(|micros| f64::from(micros) / 1000.0)
    }
}
