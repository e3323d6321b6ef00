//! Reading the change stream of one source.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use deltamesh_jetstream::{
    Client, Consumer, Error, ErrorKind, Journal as _, StatusBoard, Stored, StreamJournal, backoff,
};
use deltamesh_wire::subject;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use tokio::sync::mpsc;

use crate::sources::Sources;

/// Messages that are applied in one transaction at most.
const BATCH_MESSAGES: usize = 512;
/// Payload bytes that are applied in one transaction at most, unless one message alone is larger.
const BATCH_BYTES: usize = 4 << 20;
/// Attempts to find the stream before its absence is a fault: about two seconds.
const PATIENT_ATTEMPTS: usize = 7;
/// How often the end of the stream is looked up, for the lag.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What arrived from a source.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) source: String,
    pub(crate) messages: Vec<Stored>,
    /// The messages do not continue those before: the first one may be in the middle of a group.
    pub(crate) restarted: bool,
}

/// What arrives from all sources; dropping it ends the reading. Each source has one batch ready at most.
pub(crate) fn arrivals(
    client: &Client,
    sources: &Sources,
    board: &StatusBoard,
) -> BoxStream<'static, Arrival> {
    let receivers = sources.iter().map(|(name, source)| {
        let (sender, receiver) = mpsc::channel(1);
        let (client, board, last) = (client.clone(), board.clone(), source.stream_last.clone());
        tokio::spawn(consume(client, name.clone(), source.next, sender, board, last));
        let receive = |mut receiver: mpsc::Receiver<Arrival>| async move {
            receiver.recv().await.map(|arrival| (arrival, receiver))
        };
        stream::unfold(receiver, receive).boxed()
    });
    stream::select_all(receivers).boxed()
}

/// Reads a source's change stream from `next` on and hands on what arrives, until the pipeline goes away. While the
/// pipeline is busy the next messages gather here and form its next transaction.
async fn consume(
    client: Client,
    source: String,
    mut next: u64,
    arrivals: mpsc::Sender<Arrival>,
    board: StatusBoard,
    stream_last: Arc<AtomicU64>,
) {
    let stream = subject::changes_stream(&source);
    let part = format!("consume {source}");
    let mut restarted = false;
    let mut attempt = 0;
    loop {
        let error = match Consumer::open(&client, &stream, next).await {
            Ok(consumer) => {
                board.clear(&part);
                attempt = 0;
                let read = read(consumer, &source, &mut next, &mut restarted, &arrivals, &stream_last);
                match read.await {
                    Some(error) => error,
                    None => return,
                }
            }
            Err(error) => error,
        };
        match error.kind() {
            // What is missing shows as a gap in the ordinals, which asks for a reconcile.
            ErrorKind::Trimmed | ErrorKind::Lost => {
                if let Ok(first) = first_sequence(&client, &stream).await {
                    tracing::warn!(source, from = next, to = first, "change stream does not continue");
                    // The very first message of a stream begins a group.
                    (next, restarted) = (first, first > 1);
                }
            }
            // A source that starts together with this service makes its stream in a moment.
            ErrorKind::NotFound if attempt < PATIENT_ATTEMPTS => {}
            _ => board.raise(&part, &stream, error.chain()),
        }
        tokio::time::sleep(backoff(attempt)).await;
        attempt += 1;
        if arrivals.is_closed() {
            return;
        }
    }
}

/// Reads until an error, or until the pipeline has gone.
async fn read(
    mut consumer: Consumer,
    source: &str,
    next: &mut u64,
    restarted: &mut bool,
    arrivals: &mpsc::Sender<Arrival>,
    stream_last: &AtomicU64,
) -> Option<Error> {
    let mut looked: Option<Instant> = None;
    loop {
        // Room first: what arrives meanwhile joins the batch.
        let permit = arrivals.reserve().await.ok()?;
        let messages = match consumer.next_batch(BATCH_MESSAGES, BATCH_BYTES).await {
            Ok(messages) => messages,
            Err(error) => return Some(error),
        };
        *next = consumer.next_sequence();
        permit.send(Arrival { source: source.to_owned(), messages, restarted: *restarted });
        *restarted = false;
        if looked.is_none_or(|looked| looked.elapsed() >= LOOK_EVERY) {
            looked = Some(Instant::now());
            if let Ok(bounds) = consumer.bounds().await {
                stream_last.store(bounds.last, Ordering::Relaxed);
            }
        }
    }
}

async fn first_sequence(client: &Client, stream: &str) -> Result<u64, Error> {
    Ok(StreamJournal::open(client, stream).await?.bounds().await?.first.max(1))
}
