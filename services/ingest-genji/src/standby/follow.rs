//! A standby: follows the change log, and takes over when the writer has gone.

use std::time::Duration;

use deltamesh_jetstream::{
    Consumer, ErrorKind, Former, GroupReader, Hop, Journal as _, Lease, Stored, StreamJournal, decode,
    directory, now_us, publish_writer,
};
use deltamesh_wire::proto::change::v1::Changes;
use deltamesh_wire::subject;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{debug, info, warn};

use super::apply::{Applier, Incoming, Problem};
use super::keeper::{Keeper, LOOK, Observer};
use super::state::{Follows, State};
use super::{Mastership, Node, text};

/// Messages that are read at once.
const MESSAGES: usize = 512;
/// Payload bytes that are read at once.
const BYTES: usize = 4 << 20;
/// How long an answer to a request for a snapshot may take before it is asked for again.
const SNAPSHOT: Duration = Duration::from_secs(20);

/// A directory on its way behind the change log.
pub(super) struct Follower<'a> {
    node: &'a Node,
    state: State,
    follows: Follows,
    applier: Option<Applier>,
    reader: GroupReader,
    consumer: Consumer,
    /// First sequence and capture time of a snapshot that has begun.
    snapshot: Option<(u64, i64)>,
    captured_us: i64,
    asked: Option<Instant>,
}

impl<'a> Follower<'a> {
    /// Opens the directory and the change log at the state's position.
    pub(super) async fn open(node: &'a Node, state: State) -> Result<Self, String> {
        let mut follows = state.follows.clone().unwrap_or_default();
        let stream = subject::changes_stream(&node.source.name);
        let consumer = match Consumer::open(&node.client, &stream, follows.sequence + 1).await {
            Err(error) if matches!(error.kind(), ErrorKind::Trimmed | ErrorKind::Lost) => {
                follows.awaits_snapshot = true;
                let journal = StreamJournal::open(&node.client, &stream).await.map_err(text)?;
                let first = journal.bounds().await.map_err(text)?.first;
                Consumer::open(&node.client, &stream, first).await.map_err(text)?
            }
            consumer => consumer.map_err(text)?,
        };
        let (dir, schemas) = (node.source.path.clone(), follows.schemas.clone());
        let applier = blocking(move || Applier::open(&dir, schemas)).await??;
        let mut reader = GroupReader::new(follows.position.clone());
        if follows.awaits_snapshot {
            reader.await_snapshot();
        }
        info!(source = node.source.name, sequence = follows.sequence, "follows the change log");
        Ok(Self {
            node,
            state,
            follows,
            applier: Some(applier),
            reader,
            consumer,
            snapshot: None,
            captured_us: 0,
            asked: None,
        })
    }

    /// Follows until this node is the writer.
    pub(super) async fn run(mut self) -> Result<Mastership, String> {
        let mut observer = Observer::new();
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                batch = self.consumer.next_batch(MESSAGES, BYTES) => match batch {
                    Ok(batch) => self.apply(batch).await?,
                    Err(error) if error.kind() == ErrorKind::Unavailable => {}
                    Err(error) => return Err(error.chain()),
                },
                _ = look.tick() => {
                    if let Some((lease, revision)) = self.lapsed(&mut observer).await
                        && let Some(mastership) = self.take_over(lease, revision).await?
                    {
                        return Ok(mastership);
                    }
                    self.ask_snapshot();
                }
            }
        }
    }

    /// The lease, where nobody renews it and this directory could continue.
    async fn lapsed(&mut self, observer: &mut Observer) -> Option<(Lease, u64)> {
        let lease = match self.node.leases.get(&self.node.source.name).await {
            Ok(lease) => lease?,
            Err(error) => {
                debug!(error = %error.chain(), "cannot read the lease");
                return None;
            }
        };
        let more = [("awaits_snapshot".to_owned(), self.follows.awaits_snapshot.into())];
        self.node.board.set_hop(Hop {
            hop: "standby".to_owned(),
            subject: self.node.source.name.clone(),
            position: self.follows.position.as_ref().map(ToString::to_string).unwrap_or_default(),
            lag: 0,
            more: more.into_iter().collect(),
            ..Hop::default()
        });
        let has_lapsed = observer.has_lapsed(lease.1) || lease.0.released;
        (has_lapsed && self.follows.position.is_some() && !self.follows.awaits_snapshot).then_some(lease)
    }

    /// Asks the writer for a snapshot where only that continues.
    fn ask_snapshot(&mut self) {
        if !self.follows.awaits_snapshot || self.asked.is_some_and(|asked| asked.elapsed() < SNAPSHOT) {
            return;
        }
        self.asked = Some(Instant::now());
        let client = self.node.client.clone();
        let subject = subject::source_request(&self.node.source.name, "reconcile");
        tokio::spawn(async move {
            if let Err(error) = client.request(&subject, "", SNAPSHOT).await {
                debug!(%error, "no snapshot yet");
            }
        });
    }

    /// Applies messages, and notes how far the directory is.
    async fn apply(&mut self, batch: Vec<Stored>) -> Result<(), String> {
        let mut messages = vec![];
        for stored in batch {
            let changes = decode(&stored).map_err(text)?;
            self.captured_us = self.captured_us.max(changes.captured_us);
            if changes.snapshot {
                self.write(std::mem::take(&mut messages)).await?;
                self.on_snapshot(&stored, &changes).await?;
                continue;
            }
            self.snapshot = None;
            match self.reader.push(&stored) {
                Ok(Some(group)) => {
                    match group.messages {
                        Some(of_group) => messages.extend(of_group),
                        None => {
                            self.write(std::mem::take(&mut messages)).await?;
                            self.write_large(group.first_sequence, group.last_sequence).await?;
                        }
                    }
                    self.follows.position = Some(group.position);
                    self.follows.directory = directory(&stored).map(str::to_owned);
                    self.follows.sequence = group.last_sequence;
                }
                Ok(None) => {}
                Err(error) if error.kind() == ErrorKind::Hole => {
                    warn!(error = %error.chain(), "only a snapshot continues");
                    self.write(std::mem::take(&mut messages)).await?;
                    self.follows.awaits_snapshot = true;
                }
                Err(error) => return Err(error.chain()),
            }
        }
        self.write(messages).await?;
        self.note()
    }

    /// Notes where the directory is. Before a crash it may be further.
    fn note(&mut self) -> Result<(), String> {
        if let Some(applier) = &self.applier {
            self.follows.schemas = applier.schemas();
        }
        self.state.follows = Some(self.follows.clone());
        self.state.save(&self.node.source.path)
    }

    async fn write(&mut self, messages: Vec<Changes>) -> Result<(), String> {
        if messages.is_empty() {
            return Ok(());
        }
        let applied = self.on_directory(move |applier| applier.apply(messages)).await?;
        self.fits(applied).map(drop)
    }

    /// Applies a group that is not kept in memory: the stream has it.
    async fn write_large(&mut self, first: u64, last: u64) -> Result<(), String> {
        let mut again = read_again(self.node, first).await?;
        let mut wanted = None;
        while again.next_sequence() <= last {
            let messages = next_of_group(&mut again, last).await?;
            let messages = messages.iter().map(decode).collect::<Result<_, _>>().map_err(text)?;
            let applied = self.on_directory(move |applier| applier.apply_part(wanted, messages)).await?;
            match self.fits(applied)? {
                Some(further) => wanted = further,
                None => return Ok(()),
            }
        }
        let applied = self.on_directory(move |applier| applier.finish(wanted)).await?;
        self.fits(applied).map(drop)
    }

    /// What was applied; nothing where only a snapshot makes the directory fit the log.
    fn fits<T>(&mut self, applied: Result<T, Problem>) -> Result<Option<T>, String> {
        match applied {
            Ok(applied) => Ok(Some(applied)),
            Err(Problem::Misfit(reason)) => {
                warn!(source = self.node.source.name, reason, "only a snapshot continues");
                self.follows.awaits_snapshot = true;
                self.reader.await_snapshot();
                Ok(None)
            }
            Err(Problem::Failed(reason)) => Err(reason),
        }
    }

    /// Notes the beginning of a snapshot; applies it when its end is there. The stream keeps it meanwhile.
    async fn on_snapshot(&mut self, stored: &Stored, changes: &Changes) -> Result<(), String> {
        let first = match self.snapshot {
            Some((first, captured_us)) if captured_us == changes.captured_us => first,
            _ => stored.sequence,
        };
        self.snapshot = Some((first, changes.captured_us));
        if !changes.end {
            return Ok(());
        }
        self.snapshot = None;
        let begins_here = changes.first_ordinal > 0;
        let mut again = read_again(self.node, first).await?;
        let mut incoming = Some(Incoming::default());
        while again.next_sequence() <= stored.sequence && begins_here {
            for stored in next_of_group(&mut again, stored.sequence).await? {
                let changes = decode(&stored).map_err(text)?;
                let mut taken = incoming.take().ok_or("snapshot is not open")?;
                let applied = self.on_directory(move |applier| {
                    applier.apply_snapshot(&mut taken, changes)?;
                    Ok(taken)
                });
                let applied = applied.await?;
                incoming = self.fits(applied)?;
                if incoming.is_none() {
                    return Ok(());
                }
            }
        }
        if let Some(incoming) = incoming {
            let applied = self.on_directory(move |applier| applier.finish_snapshot(incoming)).await?;
            if self.fits(applied)?.is_none() {
                return Ok(());
            }
        }
        let position = changes.position.clone().map(Into::into);
        self.reader = GroupReader::new(position.clone());
        self.follows.position = position;
        self.follows.directory = directory(stored).map(str::to_owned);
        self.follows.sequence = stored.sequence;
        self.follows.awaits_snapshot = false;
        info!(source = self.node.source.name, sequence = stored.sequence, "snapshot is applied");
        self.note()
    }

    async fn on_directory<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Applier) -> Result<T, Problem> + Send + 'static,
    ) -> Result<Result<T, Problem>, String> {
        let mut applier = self.applier.take().ok_or("directory is closed")?;
        let (applier, result) = blocking(move || {
            let result = work(&mut applier);
            (applier, result)
        })
        .await?;
        self.applier = Some(applier);
        Ok(result)
    }

    /// Takes the lease and then the stream; nothing where another standby was faster or the stream is not applied to its
    /// end.
    async fn take_over(&mut self, lapsed: Lease, revision: u64) -> Result<Option<Mastership>, String> {
        let source = self.node.source.name.clone();
        let directory = self.state.directory.clone().unwrap_or_else(|| nuid::next().to_string());
        info!(source, from = lapsed.directory, "takes over");
        let lease = Lease { directory: directory.clone(), released: false, ..lapsed };
        let since = Instant::now();
        let revision = match self.node.leases.put(&source, &lease, revision).await {
            Ok(revision) => revision,
            Err(error) if error.kind() == ErrorKind::Fenced => return Ok(None),
            Err(error) => return Err(error.chain()),
        };
        let keeper = Keeper::spawn(self.node.leases.clone(), &source, lease, revision, since);
        // Known to be this directory's before the lease says so.
        self.state.directory = Some(directory.clone());
        self.note()?;
        loop {
            let last = self.read_to_end().await?;
            let (Some(continues), false) = (self.follows.position.clone(), self.follows.awaits_snapshot)
            else {
                return Ok(None);
            };
            let applier = self.applier.as_ref().ok_or("directory is closed")?;
            let mut position = continues.clone();
            position.ordinal += 1;
            position.engine = applier.position()?;
            let captured_us = i64::try_from(now_us()).unwrap_or(i64::MAX).max(self.captured_us + 1);
            // Only behind this is the end that was read the end of what another writer can have published.
            keeper.confirm().await.map_err(text)?;
            let published =
                publish_writer(&self.node.client, &source, last, &directory, &position, captured_us).await;
            match published {
                Ok(sequence) => {
                    let former = self.follows.directory.clone().map(|former| Former {
                        directory: former,
                        position: continues,
                        sequence,
                    });
                    keeper.replace_writer(former).await.map_err(text)?;
                    return self.promoted(sequence, Mastership { directory, keeper }).await.map(Some);
                }
                Err(error) if error.kind() == ErrorKind::Fenced => {
                    debug!("the writer before was still there, reading on");
                }
                // Whether it is published shows at the next look.
                Err(error) => return Err(error.chain()),
            }
        }
    }

    /// Applies everything up to the last message; returns its sequence.
    async fn read_to_end(&mut self) -> Result<u64, String> {
        loop {
            let last = self.consumer.bounds().await.map_err(text)?.last;
            if self.consumer.next_sequence() > last {
                return Ok(last);
            }
            let batch = self.consumer.next_batch(MESSAGES, BYTES).await.map_err(text)?;
            self.apply(batch).await?;
        }
    }

    async fn promoted(&mut self, sequence: u64, mastership: Mastership) -> Result<Mastership, String> {
        self.state.follows = None;
        self.state.save(&self.node.source.path)?;
        if let Some(applier) = self.applier.take() {
            blocking(move || applier.close()).await??;
        }
        self.node.board.remove_hop("standby", &self.node.source.name);
        warn!(source = self.node.source.name, sequence, "is the writer now");
        Ok(mastership)
    }
}

async fn read_again(node: &Node, first: u64) -> Result<Consumer, String> {
    let stream = subject::changes_stream(&node.source.name);
    Consumer::open(&node.client, &stream, first).await.map_err(text)
}

/// The next messages up to that one.
async fn next_of_group(consumer: &mut Consumer, last: u64) -> Result<Vec<Stored>, String> {
    let left = usize::try_from(last + 1 - consumer.next_sequence()).unwrap_or(MESSAGES);
    consumer.next_batch(MESSAGES.min(left), BYTES).await.map_err(text)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|_ended| "work on the directory broke off".to_owned())
}
