//! Everybody who watches: the change log, the feed, and a client in each room.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use deltamesh_change::EnginePosition;
use deltamesh_jetstream::{Client, Consumer, Stored};
use deltamesh_wire::proto::change::v1::Changes;
use deltamesh_wire::{header, subject};
use prost::Message as _;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::chat::{Call, Chat, decode, rooms};
use crate::output::line;
use crate::place::Running;

/// How long a hop may take before the demo gives up.
const SEEN_WITHIN: Duration = Duration::from_secs(10);
/// Other views change with the same message, a moment later.
const LINGER: Duration = Duration::from_millis(40);
const SETTLE: Duration = Duration::from_millis(300);

/// Where watchers tell what they see.
type Sightings = mpsc::Sender<Result<Seen>>;
/// What a message of a stream shows, if anything.
type Read = fn(&str, &Stored) -> Result<Option<What>>;

/// Something that was seen at a hop.
struct Seen {
    at: Instant,
    what: What,
}

enum What {
    /// A transaction in the change log.
    Log { text: String, engine: String, captured_us: u64 },
    /// A change of a view, on its subject.
    Feed { delta: String, text: String },
    /// What the members of a room got.
    Client { id: String, text: String },
}

/// What the watchers have seen.
pub(super) struct Hops {
    sightings: mpsc::Receiver<Result<Seen>>,
}

impl Hops {
    /// Watches from now on.
    pub(super) async fn watch(client: &Client, running: &Running, chat: &Chat) -> Result<Self> {
        let (sender, sightings) = mpsc::channel(1_024);
        let source = running.sources.first().context("no source")?;
        watch_stream(client, subject::changes_stream(source), log, sender.clone()).await?;
        watch_stream(client, subject::feed_stream(&running.first.replica_name), feed, sender.clone()).await?;
        for room in rooms() {
            watch_room(chat, room, sender.clone()).await?;
        }
        let mut hops = Self { sightings };
        // What was written before may still be on its way.
        while let Ok(Some(seen)) = timeout(SETTLE, hops.sightings.recv()).await {
            seen?;
        }
        Ok(hops)
    }

    /// Shows what became of a call, hop by hop, and returns when the members of the room have it.
    pub(super) async fn show(&mut self, call: &Call) -> Result<()> {
        let mut lines = vec![(call.answered, "answer", format!("position {}", call.position))];
        let mut wait = SEEN_WITHIN;
        loop {
            let seen = match timeout(wait, self.sightings.recv()).await {
                Ok(Some(seen)) => seen?,
                Ok(None) => bail!("nobody watches any more"),
                Err(_) if wait == LINGER => break,
                Err(_) => bail!("message {} did not arrive within {} s", call.id, SEEN_WITHIN.as_secs()),
            };
            let after = seen.at.saturating_duration_since(call.at);
            match seen.what {
                What::Log { text, engine, captured_us } => {
                    let captured = Duration::from_micros(captured_us.saturating_sub(call.at_us));
                    lines.push((captured, "commit", engine));
                    lines.push((after, "log", text));
                }
                What::Feed { delta, text } => {
                    lines.push((after, "view", delta));
                    lines.push((after, "feed", text));
                }
                What::Client { id, text } => {
                    if id == call.id {
                        wait = LINGER;
                        lines.push((after, "client", text));
                    }
                }
            }
        }
        // A stable sort: a view's change stays in front of its message.
        lines.sort_by_key(|(after, ..)| *after);
        for (after, hop, text) in lines {
            line(&format!("  {:7.2} ms  {hop:6}  {text}", after.as_secs_f64() * 1e3))?;
        }
        line("")
    }

    /// Shows whatever happens from now on.
    pub(super) async fn follow(&mut self) -> Result<()> {
        while let Some(seen) = self.sightings.recv().await {
            match seen?.what {
                What::Log { text, engine, .. } => line(&format!("  commit  {engine}\n  log     {text}"))?,
                What::Feed { delta, text } => line(&format!("  view    {delta}\n  feed    {text}"))?,
                What::Client { text, .. } => line(&format!("  client  {text}\n"))?,
            }
        }
        Ok(())
    }
}

/// Reads a stream from its end on.
async fn watch_stream(client: &Client, name: String, read: Read, sightings: Sightings) -> Result<()> {
    let end = Consumer::open(client, &name, 1).await?.bounds().await?.last;
    let mut stream = Consumer::open(client, &name, end + 1).await?;
    tokio::spawn(async move {
        loop {
            let batch = stream.next_batch(64, 1 << 20).await;
            let at = Instant::now();
            let seen = batch.map_err(anyhow::Error::from).and_then(|batch| {
                batch.iter().filter_map(|message| read(&name, message).transpose()).collect()
            });
            if !tell(&sightings, at, seen).await {
                return;
            }
        }
    });
    Ok(())
}

/// Follows a room as one of its members.
async fn watch_room(chat: &Chat, room: &'static str, sightings: Sightings) -> Result<()> {
    let (method, mut stream) = chat.watch(room).await?;
    tokio::spawn(async move {
        loop {
            let next = stream.next().await;
            let at = Instant::now();
            let seen = match next {
                Ok(Some(event)) => {
                    decode(&method, event).map(|event| member(room, &event).into_iter().collect())
                }
                Ok(None) => return,
                Err(status) => Err(anyhow!("WatchChat: {}", status.message)),
            };
            if !tell(&sightings, at, seen).await {
                return;
            }
        }
    });
    Ok(())
}

/// Whether somebody still listens, and the watcher still watches.
async fn tell(sightings: &Sightings, at: Instant, seen: Result<Vec<What>>) -> bool {
    match seen {
        Ok(seen) => {
            for what in seen {
                if sightings.send(Ok(Seen { at, what })).await.is_err() {
                    return false;
                }
            }
            true
        }
        Err(error) => {
            sightings.send(Err(error)).await.ok();
            false
        }
    }
}

fn log(stream: &str, message: &Stored) -> Result<Option<What>> {
    let changes = Changes::decode(message.payload.clone()).context("read a change message")?;
    let rows: usize = changes.transactions.iter().map(|transaction| transaction.rows.len()).sum();
    if rows == 0 {
        return Ok(None);
    }
    let position = changes.position.unwrap_or_default();
    let engine = EnginePosition {
        sequence: position.engine_sequence,
        log: position.engine_log,
        offset: position.engine_offset,
    };
    Ok(Some(What::Log {
        text: format!(
            "{stream} {} on {}: {rows} row of {}",
            message.sequence, message.subject, changes.relation
        ),
        engine: format!(
            "transaction {} in the database's log {:06}, up to byte {}",
            position.ordinal, engine.log, engine.offset
        ),
        captured_us: u64::try_from(changes.captured_us).unwrap_or_default(),
    }))
}

fn feed(stream: &str, message: &Stored) -> Result<Option<What>> {
    let text = |name: &str| message.headers.get(name).unwrap_or_default();
    let row: Value = serde_json::from_slice(&message.payload).context("read a feed message")?;
    let view = message.subject.split('.').nth(1).unwrap_or_default();
    let before = match text(header::BEFORE) {
        "" => String::new(),
        before => format!(" (before: {before})"),
    };
    Ok(Some(What::Feed {
        delta: format!("{view}: {} {} {row}{before}", text(header::OPERATION), text(header::KEY)),
        text: format!("{stream} {} on {}", message.sequence, message.subject),
    }))
}

/// A message that a member of the room got, snapshot aside.
fn member(room: &str, event: &Value) -> Option<What> {
    let operation = event["operation"].as_str().filter(|operation| *operation == "insert")?;
    let row = &event["row"];
    let text =
        format!("WatchChat of {room}: {operation} from {}", row["sender"].as_str().unwrap_or_default());
    Some(What::Client { id: row["chatMessageId"].as_str().unwrap_or_default().to_owned(), text })
}
