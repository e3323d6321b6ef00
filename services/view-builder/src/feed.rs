//! Publishing the view changes of the replica.
//!
//! The stream gives each change the number that it has in the replica, so that a feed position is known in the replica's
//! own transaction. Three states of a stream do not fit at once:
//! - it is missing or was lost: it is made with the number of the first unpublished change as its first;
//! - it holds messages that this replica does not know (the replica is new, or was restored from an older copy): the
//!   replica's unpublished changes are numbered behind them, under a new incarnation, and nothing of the stream is deleted;
//! - it ends before what it had acknowledged: the changes are published again from there, where they are still retained.
//!
//! A view whose name another replica's feed has cannot have its subjects; every change has its number in the stream all the
//! same. So its changes are published on subjects of this replica's own, where gateways find them, until its own are free.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use deltamesh_jetstream::{
    Client, ErrorKind, FeedPublisher, Headers, Hop, Message, StatusBoard, backoff, ensure_feed, feed_owner,
};
use deltamesh_replica::{Location, OutboxRow, Reader, Replica, Writer};
use deltamesh_wire::{header, subject};
use tokio::sync::watch;

use crate::Error;
use crate::reading::Reading;

/// Changes that are read and published at once.
const CHUNK: usize = 1000;

/// How soon a view whose subjects were taken may have them, once it changes.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Attempts to get the last changes out after the pipeline has stopped; the replica keeps what does not go.
const LAST_ATTEMPTS: usize = 4;

/// What the pipeline tells the feed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Committed {
    /// Feed position of the newest change.
    pub(crate) last_sequence: u64,
    /// Raised by one when views came or went.
    pub(crate) views: u64,
}

/// See the module.
pub(crate) struct Feed {
    client: Client,
    replica: String,
    writer: Arc<Writer>,
    reading: Reading,
    board: StatusBoard,
    /// Every change up to here is in the stream.
    published: u64,
    /// Views whose feeds the stream captures.
    captured: HashSet<String>,
    /// Views whose subjects another stream has, with its name.
    aside: BTreeMap<String, String>,
    /// Dropped views whose last changes are still to go out have subjects, too.
    leaving: bool,
    /// When the stream was last made to capture what it should.
    ensured: Instant,
    rate: Rate,
}

impl Feed {
    pub(crate) fn new(
        client: Client,
        replica: &str,
        location: &Location,
        writer: Arc<Writer>,
        board: StatusBoard,
    ) -> Self {
        let (replica, reading) = (replica.to_owned(), Reading::new(location));
        let (captured, aside, rate) = (HashSet::new(), BTreeMap::new(), Rate::default());
        let ensured = Instant::now();
        Self {
            client,
            replica,
            writer,
            reading,
            board,
            published: 0,
            captured,
            aside,
            leaving: false,
            ensured,
            rate,
        }
    }

    /// Publishes until the pipeline has gone and everything that it committed is out. Errors are faults, and tried again.
    pub(crate) async fn run(mut self, mut committed: watch::Receiver<Committed>) {
        let mut attempt = 0;
        while let Err(error) = self.publish(&mut committed, &mut attempt).await {
            let (place, reason) = match &error {
                Error::Replica(error) => (error.place().to_owned(), error.reason().to_owned()),
                Error::JetStream(error) => (subject::feed_stream(&self.replica), error.chain()),
            };
            self.board.raise("feed", place, reason);
            if committed.has_changed().is_err() && attempt >= LAST_ATTEMPTS {
                tracing::warn!(published = self.published, "stops with unpublished changes");
                return;
            }
            tokio::time::sleep(backoff(attempt)).await;
            attempt += 1;
        }
    }

    async fn publish(
        &mut self,
        committed: &mut watch::Receiver<Committed>,
        attempt: &mut usize,
    ) -> Result<(), Error> {
        let mut losses = self.client.losses();
        loop {
            losses.mark_unchanged();
            let mut publisher = self.open().await?;
            self.board.clear("feed");
            // The server writes the stream behind its acks: one that crashed may have come back without the newest messages,
            // and they have to be there again before the next change.
            tokio::select! {
                ended = self.follow(&mut publisher, committed, attempt) => return ended,
                _ = losses.changed() => {}
            }
        }
    }

    /// Publishes through one connection until the pipeline has gone.
    async fn follow(
        &mut self,
        publisher: &mut FeedPublisher,
        committed: &mut watch::Receiver<Committed>,
        attempt: &mut usize,
    ) -> Result<(), Error> {
        let mut known = *committed.borrow();
        loop {
            let now = *committed.borrow_and_update();
            let looks_again = !self.aside.is_empty() && self.ensured.elapsed() >= LOOK_AGAIN;
            if known.views != now.views || looks_again {
                self.ensure_stream().await?;
            }
            known = now;
            while self.publish_chunk(publisher).await? {
                *attempt = 0;
                self.board.clear("feed");
            }
            if self.leaving {
                self.ensure_stream().await?;
            }
            self.show(now.last_sequence);
            if committed.changed().await.is_err() {
                return Ok(());
            }
        }
    }

    /// Makes stream and replica continue each other.
    async fn open(&mut self) -> Result<FeedPublisher, Error> {
        let numbers = |replica: &mut dyn Replica| Ok((replica.published(), replica.last_sequence()));
        let (published, last) = self.writer.call(numbers).await?;
        self.published = published;
        self.ensure_stream().await?;
        let publisher = FeedPublisher::open(&self.client, &self.replica).await?;
        let end = publisher.last_sequence();
        if end > last {
            self.renumber(end).await?;
        } else if end > published {
            // The last of them is published once more, which compares it with what the stream holds.
            self.published = end - 1;
        } else if end < published {
            self.go_back(end).await?;
        }
        Ok(publisher)
    }

    /// Publishes the next changes; says whether there were any.
    async fn publish_chunk(&mut self, publisher: &mut FeedPublisher) -> Result<bool, Error> {
        let after = self.published;
        let rows = self.reading.read(move |reader| reader.changes_after(after, None, CHUNK)).await?;
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(false) };
        let (first, last, count) = (first.sequence, last.sequence, rows.len());
        // The first rows of a new view can be read before the pipeline has told of it.
        if rows.iter().any(|row| !self.captured.contains(&row.view)) {
            self.ensure_stream().await?;
        }
        let messages = rows.into_iter().map(|row| self.message(row)).collect();
        let published = match publisher.publish(first, messages).await {
            Ok(published) => published.min(last),
            Err(error) if error.kind() == ErrorKind::Diverged => {
                self.renumber(publisher.last_sequence()).await?;
                return Ok(true);
            }
            Err(error) => return Err(error.into()),
        };
        self.published = published;
        self.rate.add(count);
        let mark = move |replica: &mut dyn Replica| {
            replica.mark_published(published);
            Ok(())
        };
        self.writer.call(mark).await?;
        self.show(last);
        Ok(true)
    }

    async fn renumber(&mut self, end: u64) -> Result<(), Error> {
        tracing::warn!(end, "feed stream holds other messages, changes are numbered behind them");
        self.writer.call(move |replica| replica.continue_after(end)).await?;
        self.published = end;
        Ok(())
    }

    async fn go_back(&mut self, end: u64) -> Result<(), Error> {
        let retained = self.reading.read(Reader::retained_from).await?;
        if retained > end + 1 {
            let reason = format!("stream ends at {end}, changes are kept from {retained}: delete the stream");
            let kind = deltamesh_replica::ErrorKind::Gap;
            return Err(
                deltamesh_replica::Error::new(kind, subject::feed_stream(&self.replica), reason).into()
            );
        }
        tracing::warn!(
            end,
            published = self.published,
            "feed stream lost messages, they are published again"
        );
        self.published = end;
        Ok(())
    }

    /// Makes the stream capture the feeds of the views that there are, and of those whose last changes are still to go out.
    async fn ensure_stream(&mut self) -> Result<(), Error> {
        let published = self.published;
        let names = move |reader: &mut Reader| {
            let mut names = reader.views()?.into_iter().map(|view| view.definition.name).collect::<Vec<_>>();
            let there = names.len();
            names.extend(reader.views_changed_after(published)?);
            names.sort();
            names.dedup();
            let leaving = names.len() > there;
            Ok((names, leaving))
        };
        let (views, leaving) = self.reading.read(names).await?;
        self.leaving = leaving;
        let mut aside = BTreeMap::new();
        match ensure_feed(&self.client, &self.replica, &views, published + 1).await {
            Err(error) if error.kind() == ErrorKind::Taken => {
                aside = self.taken(&views).await?;
                let free: Vec<_> = views.iter().filter(|view| !aside.contains_key(*view)).cloned().collect();
                ensure_feed(&self.client, &self.replica, &free, published + 1).await?;
            }
            ensured => ensured?,
        }
        self.captured = views.into_iter().collect();
        self.show_aside(aside);
        self.ensured = Instant::now();
        Ok(())
    }

    /// The views whose feeds another stream captures.
    async fn taken(&self, views: &[String]) -> Result<BTreeMap<String, String>, Error> {
        let own = subject::feed_stream(&self.replica);
        let mut taken = BTreeMap::new();
        for view in views {
            if let Some(owner) = feed_owner(&self.client, view).await?.filter(|owner| *owner != own) {
                taken.insert(view.clone(), owner);
            }
        }
        Ok(taken)
    }

    /// Notes which views are published aside, each of them as a fault.
    fn show_aside(&mut self, aside: BTreeMap<String, String>) {
        for view in self.aside.keys().filter(|view| !aside.contains_key(*view)) {
            self.board.clear(&format!("feed {view}"));
        }
        for (view, owner) in &aside {
            let (wanted, instead) =
                (subject::feed_view(view), subject::aside(&self.replica, &subject::feed_view(view)));
            let reason = format!(
                "{wanted} belongs to the stream {owner}, so that its changes are on {instead}: give the view another name, \
                 or drop it in one of the replicas"
            );
            self.board.raise(&format!("feed {view}"), subject::feed_stream(&self.replica), reason);
        }
        self.aside = aside;
    }

    fn message(&self, mut row: OutboxRow) -> Message {
        if self.aside.contains_key(&row.view) {
            row.subject = subject::aside(&self.replica, &row.subject);
        }
        message(row)
    }

    fn show(&mut self, last_sequence: u64) {
        self.board.set_hop(Hop {
            hop: "feed".to_owned(),
            subject: subject::feed_stream(&self.replica),
            position: self.published.to_string(),
            lag: last_sequence.saturating_sub(self.published),
            rate: self.rate.per_second(),
            ..Hop::default()
        });
    }
}

fn message(row: OutboxRow) -> Message {
    let mut headers = Headers::new().with(header::OPERATION, row.operation).with(header::KEY, row.key);
    if let Some(before) = row.before {
        headers = headers.with(header::BEFORE, before);
    }
    if !row.position.is_empty() {
        headers = headers.with(header::POSITION, row.position);
    }
    if row.dsid > 0 {
        headers = headers.with(header::DSID, row.dsid.to_string());
    }
    if row.transaction_end {
        headers = headers.with(header::TRANSACTION_END, "1");
    }
    if row.captured_us > 0 {
        headers = headers.with(header::CAPTURED, row.captured_us.to_string());
    }
    Message { subject: row.subject, headers, payload: row.row.into() }
}

/// Events per second, over the last seconds.
#[derive(Debug, Default)]
pub(crate) struct Rate {
    since: Option<Instant>,
    count: usize,
    last: f64,
}

/// Seconds that a rate is measured over.
const RATE_SECONDS: f64 = 5.0;

impl Rate {
    pub(crate) fn add(&mut self, count: usize) {
        self.per_second();
        self.since.get_or_insert_with(Instant::now);
        self.count += count;
    }

    pub(crate) fn per_second(&mut self) -> f64 {
        let Some(since) = self.since else { return self.last };
        let seconds = since.elapsed().as_secs_f64();
        if seconds >= RATE_SECONDS {
            self.last = if seconds < 2.0 * RATE_SECONDS { self.count as f64 / seconds } else { 0.0 };
            self.since = None;
            self.count = 0;
        } else if seconds >= 1.0 && self.last == 0.0 {
            return self.count as f64 / seconds;
        }
        self.last
    }
}
