//! The loop of the service: what arrives from the sources becomes the replica's next transaction.

use std::future::ready;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use deltamesh_jetstream::{
    Bucket, BucketEvent, BucketName, Client, Disposition, Hop, Requests, StatusBoard, Watch, answer_status,
    backoff, connect,
};
use deltamesh_replica::{Location, Replica, ViewState, Writer};
use deltamesh_wire::subject;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, sleep_until};

use crate::consume::{Arrival, arrivals};
use crate::control::{Control, ViewChange, service_error, text};
use crate::feed::{Committed, Feed};
use crate::modules::{Migrating, Modules, Wanted, publish_outcome};
use crate::opening::{open, open_at_last};
use crate::sources::{Sources, Waiting};
use crate::{Error, Options, SERVICE};

/// How often the loop looks after what nothing else reminds it of.
const TICK: Duration = Duration::from_secs(1);
/// Ticks between two attempts to mend faulted views and refused modules, and two looks at the WAL under load.
const MEND_TICKS: u64 = 10;
/// How long the last changes may take to go out when the service stops.
const DRAIN_WITHIN: Duration = Duration::from_secs(10);

/// What the loop waits for.
enum Event {
    Arrived(Arrival),
    /// A batch that could not be applied is due again.
    Due(Waiting),
    Asked(Box<ViewChange>),
    Module(Result<BucketEvent, deltamesh_jetstream::Error>),
    /// A module's next migration is to be applied.
    Migrate,
    Tick,
    /// Nothing else waits: views may be filled a little further.
    Fill,
    Stop,
}

/// Runs the service until `stop` resolves, then drains. Its status stands on `board`.
///
/// # Errors
/// The replica cannot be opened whatever one waits for, or NATS refuses what the service cannot do without. Everything that can be
/// mended while the service runs is a fault in its status instead.
pub async fn run(options: Options, board: StatusBoard, stop: impl Future<Output = ()>) -> Result<(), Error> {
    let location = options.replica.location.clone().absolute()?;
    let opened = open(&options, &location, &board).await?;
    let mut stop = std::pin::pin!(stop);
    let start = async {
        let client = connect(&options.nats, SERVICE).await?;
        let replica = match opened {
            Some(replica) => replica,
            None => open_at_last(&client, &options, &location, &board).await?,
        };
        Pipeline::start(client, &options, board, location, replica).await
    };
    let pipeline = tokio::select! {
        () = &mut stop => return Ok(()),
        pipeline = start => pipeline?,
    };
    tracing::info!(replica = %options.replica, sources = ?options.source, "ready");
    pipeline.run(stop).await
}

/// Opens a bucket; waits while the server is not ready.
async fn open_bucket(client: &Client, name: BucketName) -> Result<Bucket, Error> {
    let mut attempt = 0;
    loop {
        match Bucket::open(client, name).await {
            Err(error) if error.disposition() == Disposition::Retry => {
                tracing::warn!(error = error.chain(), "cannot open a bucket, trying again");
                tokio::time::sleep(backoff(attempt)).await;
                attempt += 1;
            }
            opened => return Ok(opened?),
        }
    }
}

struct Pipeline {
    client: Client,
    replica: String,
    location: Location,
    writer: Arc<Writer>,
    board: StatusBoard,
    arrivals: BoxStream<'static, Arrival>,
    requests: mpsc::Receiver<ViewChange>,
    routing: JoinHandle<()>,
    modules: Modules,
    modules_watch: Watch,
    outcomes: Bucket,
    replicas: Bucket,
    sources: Sources,
    committed: watch::Sender<Committed>,
    feed: JoinHandle<()>,
    status: JoinHandle<Result<(), deltamesh_jetstream::Error>>,
    announced: String,
    ticks: u64,
    busy: bool,
    /// Whether views are being filled, as far as is known.
    filling: bool,
}

/// The feed has a thread of its own: its publisher's futures are bound to one.
fn spawn_feed(feed: Feed, committed: watch::Receiver<Committed>) -> JoinHandle<()> {
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || runtime.block_on(feed.run(committed)))
}

impl Pipeline {
    async fn start(
        client: Client,
        options: &Options,
        board: StatusBoard,
        location: Location,
        replica: Box<dyn Replica>,
    ) -> Result<Self, Error> {
        let name = options.replica.name.clone();
        let beside = location.file().and_then(|path| path.parent()).map(ToOwned::to_owned);
        let folder = beside.unwrap_or_else(std::env::temp_dir);
        let sources = Sources::new(&client, &board, &options.source, &*replica, &folder);
        let committed = Committed { last_sequence: replica.last_sequence(), views: 0 };
        let writer = Arc::new(Writer::spawn(replica)?);
        let (committed, follow) = watch::channel(committed);
        let feed = Feed::new(client.clone(), &name, &location, writer.clone(), board.clone());
        let requests =
            Requests::subscribe(&client, &subject::replica_request(&name, ">"), Some(SERVICE)).await?;
        let (requests, routing) = Control::new(&location, writer.clone()).route(requests, &name);
        let status = {
            let (client, board) = (client.clone(), board.clone());
            tokio::spawn(async move { answer_status(&client, &board).await })
        };
        Ok(Self {
            arrivals: arrivals(&client, &sources, &board),
            requests,
            routing,
            modules: Modules::new(options.module.clone()),
            modules_watch: open_bucket(&client, BucketName::Modules).await?.watch(),
            outcomes: open_bucket(&client, BucketName::ModuleStatus).await?,
            replicas: open_bucket(&client, BucketName::Replicas).await?,
            sources,
            committed,
            feed: spawn_feed(feed, follow),
            status,
            announced: String::new(),
            ticks: 0,
            busy: false,
            filling: true,
            replica: name,
            location,
            client,
            writer,
            board,
        })
    }

    async fn run(mut self, mut stop: Pin<&mut impl Future<Output = ()>>) -> Result<(), Error> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.show_views().await?;
        let mut migrated = false;
        loop {
            let waiting = self.sources.take_waiting();
            let due = waiting.as_ref().map_or_else(Instant::now, |waiting| waiting.until);
            let is_waiting = waiting.is_some();
            // Between two migrations comes what has arrived.
            let is_migrating = self.modules.is_migrating();
            let event = tokio::select! {
                biased;
                () = &mut stop => Event::Stop,
                Some(change) = self.requests.recv() => Event::Asked(Box::new(change)),
                _ = tick.tick() => Event::Tick,
                () = sleep_until(due), if is_waiting => Event::Tick,
                () = ready(()), if is_migrating && !migrated => Event::Migrate,
                Some(arrival) = self.arrivals.next(), if !is_waiting => Event::Arrived(arrival),
                event = self.modules_watch.next() => Event::Module(event),
                () = ready(()), if self.filling => Event::Fill,
                () = ready(()), if is_migrating => Event::Migrate,
            };
            migrated = matches!(event, Event::Migrate);
            let event = match waiting {
                Some(waiting) if Instant::now() >= waiting.until && matches!(event, Event::Tick) => {
                    Event::Due(waiting)
                }
                waiting => {
                    self.sources.put_waiting(waiting);
                    event
                }
            };
            match event {
                Event::Arrived(arrival) => self.arrived(arrival).await?,
                Event::Due(waiting) => self.apply(waiting).await?,
                Event::Asked(change) => self.asked(*change).await?,
                Event::Module(event) => self.module(event).await?,
                Event::Migrate => self.migrate().await?,
                Event::Tick => self.tick().await?,
                Event::Fill => self.fill().await?,
                Event::Stop => break,
            }
        }
        self.drain().await
    }

    async fn arrived(&mut self, arrival: Arrival) -> Result<(), Error> {
        self.busy = true;
        if let Some(batch) = self.sources.assemble(arrival) {
            self.apply(batch).await?;
            if self.filling {
                self.fill().await?;
            }
        }
        Ok(())
    }

    /// Applies a batch in one transaction; group by group where one of them is refused.
    async fn apply(&mut self, batch: Waiting) -> Result<(), Error> {
        let Waiting { source, groups, attempt, .. } = batch;
        let (groups, result, last_sequence) = self
            .writer
            .call(move |replica| {
                let result = replica.apply(&groups);
                Ok((groups, result, replica.last_sequence()))
            })
            .await?;
        match result {
            Ok(applied) => {
                self.board.clear("apply");
                self.sources.applied(&source, &groups, &applied);
                self.committed.send_modify(|committed| committed.last_sequence = last_sequence);
                if applied.schema_changes > 0 || !applied.faults.is_empty() {
                    self.show_views().await?;
                    self.retry_modules().await?;
                }
            }
            Err(error) if Sources::is_gap(&error) && groups.len() > 1 => {
                for group in groups {
                    if self.sources.accepts(&group) {
                        let alone = Waiting::now(&source, vec![group]);
                        Box::pin(self.apply(alone)).await?;
                    }
                }
            }
            Err(error) if Sources::is_gap(&error) => self.sources.ask_snapshot(&source, &error),
            Err(error) => {
                self.board.raise("apply", error.place(), error.reason());
                let until = Instant::now() + backoff(attempt + 3);
                self.sources.put_waiting(Some(Waiting { source, groups, attempt: attempt + 1, until }));
            }
        }
        Ok(())
    }

    /// Fills views a little further; what changes meanwhile comes in between.
    async fn fill(&mut self) -> Result<(), Error> {
        let (filling, last_sequence) =
            self.writer.call(|replica| Ok((replica.fill(), replica.last_sequence()))).await?;
        self.committed.send_modify(|committed| committed.last_sequence = last_sequence);
        match filling {
            Ok(filling) => {
                self.board.clear("fill");
                self.filling = filling.goes_on;
                if !filling.settled.is_empty() {
                    self.views_changed().await?;
                }
            }
            Err(error) => {
                self.board.raise("fill", error.place(), error.reason());
                self.filling = false;
            }
        }
        Ok(())
    }

    async fn asked(&mut self, ViewChange { operation, request }: ViewChange) -> Result<(), Error> {
        let sql = text(&request).map(|text| match operation.as_str() {
            "view.drop" => format!("DROP MATERIALIZED VIEW \"{}\"", text.replace('"', "\"\"")),
            _ => text,
        });
        let executed = move |replica: &mut dyn Replica| {
            let names = replica.execute(&sql?)?;
            let views = replica.views().into_iter().filter(|view| view.progress().is_some());
            let filling = views.map(|view| view.definition.name).filter(|name| names.contains(name));
            let filling = filling.collect::<Vec<_>>();
            Ok((names, filling))
        };
        let result = self.writer.call(executed).await;
        let reply = match &result {
            Ok((names, _)) if names.is_empty() => Ok("nothing to change".to_owned()),
            Ok((names, filling)) => {
                let done = operation.trim_start_matches("view.");
                let done = done.replace("create", "created").replace("drop", "dropped");
                let mut reply = format!("{done} {}", names.join(", "));
                if !filling.is_empty() {
                    let filling = filling.join(", ");
                    reply.push_str(&format!("; still being filled, see status: {filling}"));
                }
                Ok(reply)
            }
            Err(error) => Err(service_error(error)),
        };
        if let Err(error) = request.finish(reply.map(String::into_bytes)).await {
            tracing::warn!(operation, error = error.chain(), "cannot answer a request");
        }
        if result.is_ok_and(|(names, _)| !names.is_empty()) {
            self.views_changed().await?;
            self.retry_modules().await?;
        }
        Ok(())
    }

    async fn module(&mut self, event: Result<BucketEvent, deltamesh_jetstream::Error>) -> Result<(), Error> {
        match event {
            Ok(BucketEvent::Entry(entry)) => match self.modules.take(entry) {
                Ok(wanted) => self.apply_module(wanted, true).await?,
                Err((name, outcome)) => {
                    self.board.raise(&format!("module {name}"), &name, &outcome.error);
                    self.publish_outcome(&name, &outcome).await;
                }
            },
            Ok(BucketEvent::Current) => {}
            Err(error) => tracing::warn!(error = error.chain(), "cannot watch modules"),
        }
        Ok(())
    }

    async fn apply_module(&mut self, wanted: Wanted, first: bool) -> Result<(), Error> {
        let Wanted { name, sql, migrations } = wanted;
        let module = name.clone();
        let result = self.writer.call(move |replica| replica.set_module(&module, &sql)).await;
        if result.is_ok() && !migrations.is_empty() {
            self.modules.migrate(Migrating { name, migrations: Arc::new(migrations), first });
        } else {
            self.settle(&name, result.as_ref().err(), first).await;
        }
        match result {
            Ok(names) if !names.is_empty() => self.views_changed().await,
            _ => Ok(()),
        }
    }

    /// Applies one migration of the module whose turn it is.
    async fn migrate(&mut self) -> Result<(), Error> {
        let Some(migrating) = self.modules.next_migrating() else { return Ok(()) };
        let (name, migrations) = (migrating.name.clone(), Arc::clone(&migrating.migrations));
        match self.writer.call(move |replica| replica.migrate(&name, &migrations)).await {
            Ok(Some(migrated)) => {
                self.modules.migrate(migrating);
                if migrated.views.is_empty() { Ok(()) } else { self.views_changed().await }
            }
            result => {
                self.settle(&migrating.name, result.as_ref().err(), migrating.first).await;
                self.show_views().await
            }
        }
    }

    /// Says what became of a module.
    async fn settle(&mut self, name: &str, error: Option<&deltamesh_replica::Error>, first: bool) {
        if let Some(outcome) = self.modules.settle(name, error, first) {
            tracing::info!(module = %name, accepted = outcome.accepted, "module applied");
            self.publish_outcome(name, &outcome).await;
        }
        self.modules.show(name, &self.board);
    }

    /// A refused module may be accepted now: a relation has appeared, or a view that was in the way has gone.
    async fn retry_modules(&mut self) -> Result<(), Error> {
        for wanted in self.modules.refused() {
            self.apply_module(wanted, false).await?;
        }
        Ok(())
    }

    async fn publish_outcome(&mut self, module: &str, outcome: &deltamesh_wire::proto::module::v1::Outcome) {
        if let Err(error) = publish_outcome(&self.outcomes, module, &self.replica, outcome).await {
            tracing::warn!(module, error = error.chain(), "cannot publish the outcome of a module");
        }
    }

    async fn views_changed(&mut self) -> Result<(), Error> {
        let last_sequence = self.writer.call(|replica| Ok(replica.last_sequence())).await?;
        self.committed.send_modify(|committed| {
            committed.last_sequence = last_sequence;
            committed.views += 1;
        });
        self.filling = true;
        self.show_views().await
    }

    /// Shows faulted views, and what is missing of migrations, as faults.
    async fn show_views(&mut self) -> Result<(), Error> {
        let (views, missing) = self.writer.call(|replica| Ok((replica.views(), replica.missing()))).await?;
        self.show_filling(&views);
        let faulted = views.iter().filter_map(|view| {
            let next = view.replacement.as_ref().and_then(|next| next.fault.as_ref());
            let of_next = next.map(|reason| format!("what is to replace it: {reason}"));
            let reason = view.fault.clone().or(of_next)?;
            Some((format!("view {}", view.definition.name), reason))
        });
        let missing = missing.into_iter().map(|(name, reason)| (format!("object {name}"), reason));
        let faulted = faulted.chain(missing).collect::<Vec<_>>();
        for fault in self.board.status().faults {
            let part = fault.part;
            let is_shown = part.starts_with("view ") || part.starts_with("object ");
            if is_shown && !faulted.iter().any(|(name, _)| *name == part) {
                self.board.clear(&part);
            }
        }
        for (part, reason) in faulted {
            self.board.raise(&part, format!("replica {}", self.replica), reason);
        }
        Ok(())
    }

    /// Shows how far views are filled as hops.
    fn show_filling(&self, views: &[ViewState]) {
        let filling = |name: &str| {
            let view = views.iter().find(|view| view.definition.name == name);
            view.and_then(ViewState::progress)
        };
        for hop in self.board.status().hops.iter().filter(|hop| hop.hop == "fill") {
            if filling(&hop.subject).is_none() {
                self.board.remove_hop(&hop.hop, &hop.subject);
            }
        }
        for view in views {
            let Some(progress) = view.progress() else { continue };
            let left = progress.seconds_left().map(|left| ("seconds_left".to_owned(), left.into()));
            self.board.set_hop(Hop {
                hop: "fill".to_owned(),
                subject: view.definition.name.clone(),
                position: format!("{} of {} rows", progress.rows, progress.total),
                lag: progress.total.saturating_sub(progress.rows),
                rate: progress.per_second as f64,
                more: left.into_iter().collect(),
            });
        }
    }

    async fn tick(&mut self) -> Result<(), Error> {
        self.ticks += 1;
        self.sources.tick();
        self.announce().await;
        if self.filling {
            self.show_views().await?;
        }
        let mend = self.ticks.is_multiple_of(MEND_TICKS);
        if mend {
            self.filling = true;
            let mended = self.writer.call(|replica| Ok(replica.repair())).await?;
            match mended {
                Ok(names) if names.is_empty() => self.show_views().await?,
                Ok(_) => self.views_changed().await?,
                Err(error) => self.board.raise("views", error.place(), error.reason()),
            }
            self.retry_modules().await?;
        }
        if !self.busy || mend {
            self.rest().await?;
        }
        self.busy = false;
        Ok(())
    }

    /// Housekeeping of the replica.
    async fn rest(&mut self) -> Result<(), Error> {
        match self.writer.call(|replica| Ok(replica.rest())).await? {
            Ok(_) => self.board.clear("housekeeping"),
            Err(error) => self.board.raise("housekeeping", error.place(), error.reason()),
        }
        Ok(())
    }

    /// Tells the gateways where the replica is.
    async fn announce(&mut self) {
        let Ok(incarnation) = self.writer.call(|replica| replica.incarnation()).await else { return };
        if incarnation == self.announced {
            return;
        }
        let value = serde_json::json!({
            "url": self.location.to_string(),
            "incarnation": incarnation,
            "feed": subject::feed_stream(&self.replica),
        });
        match self.replicas.put(&self.replica, value.to_string()).await {
            Ok(_) => self.announced = incarnation,
            Err(error) => tracing::warn!(error = error.chain(), "cannot announce the replica"),
        }
    }

    /// Takes nothing more, publishes what is committed, closes the replica.
    async fn drain(self) -> Result<(), Error> {
        self.routing.abort();
        self.routing.await.ok();
        drop((self.arrivals, self.requests, self.committed));
        self.status.abort();
        if tokio::time::timeout(DRAIN_WITHIN, self.feed).await.is_err() {
            tracing::warn!("stops before every change is published; the replica keeps them");
        }
        let rested = self.writer.call(|replica| Ok(replica.rest())).await?;
        if let Err(error) = rested {
            tracing::warn!(%error, "cannot store the published position");
        }
        self.client.close().await;
        if let Some(writer) = Arc::into_inner(self.writer) {
            tokio::task::spawn_blocking(|| writer.stop()).await.ok();
        }
        Ok(())
    }
}
