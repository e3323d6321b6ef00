//! What the service talks to besides engine and change log: requests, the hosted database, modules, the stop signal.

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;

use deltamesh_jetstream::{
    Bucket, BucketEvent, BucketName, Client, Code, Error, Hop, Request, Requests, ServiceError, StatusBoard,
    Watch,
};
use deltamesh_wire::proto::module::v1::Outcome;
use deltamesh_wire::proto::source::v1::FetchRequest;
use deltamesh_wire::subject;
use prost::Message as _;
use tracing::{debug, info, warn};

use crate::SERVICE;
use crate::answer::send_page;
use crate::call::{Call, Work};
use crate::config::{Mode, Source};
use crate::host::{Host, HostEvent};
use crate::sessions::Task;
use crate::standby::{Keeper, Mastership};
use crate::writers::{Committed, Writers};
use crate::{Limits, tables};

/// Parts of the status board, and a hop.
pub(crate) const HOST: &str = "host";
pub(crate) const COMPACTION: &str = "compaction";
/// Why tables of a hosted database stay where they are.
const HINDERED: &str = "texts of 128 bytes and more in keys hinder compaction";

/// After this time a stop no longer waits for the database.
const CLOSE: Duration = Duration::from_secs(10);

/// Requests that may wait for the lease.
const HELD: usize = 1024;

/// What arrives from outside.
pub(crate) enum Outside {
    Stop,
    /// Nothing where the connection was closed.
    Request(Option<Request>),
    Host(HostEvent),
    Module(Result<BucketEvent, Error>),
    /// The lease was renewed, or is lost.
    Lease,
    /// Rows that nobody fetched were dropped.
    Expired,
}

/// What an arrival means for the capture loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Nothing,
    /// The directory has been written.
    Wake,
    /// Someone wants the complete state in the change log.
    Snapshot,
}

type Stop = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The service around the capture loop.
pub(crate) struct Service {
    pub(crate) source: Source,
    pub(crate) client: Client,
    pub(crate) board: StatusBoard,
    pub(crate) writers: Writers,
    /// Requests that are answered when a snapshot is durable.
    pub(crate) reconciles: Vec<Request>,
    pub(crate) is_stopping: bool,
    stop: Stop,
    requests: Requests,
    host: Option<Host>,
    modules: Watch,
    outcomes: Bucket,
    /// The right to write a hosted source.
    mastership: Option<Mastership>,
    /// Requests that wait until the lease is confirmed.
    held: VecDeque<Request>,
    /// Whether the stream has another writer.
    is_fenced: bool,
}

impl Service {
    pub(crate) async fn start(
        source: Source,
        client: Client,
        board: StatusBoard,
        stop: Stop,
        mastership: Option<Mastership>,
        limits: &Limits,
    ) -> Result<Self, crate::Error> {
        let requests = subject::source_request(&source.name, "*");
        // Of two hosts each hears everything, and the one that holds the lease answers.
        let queue = mastership.is_none().then_some(SERVICE);
        let requests = Requests::subscribe(&client, &requests, queue).await?;
        let modules = Bucket::open(&client, BucketName::Modules).await?.watch();
        let outcomes = Bucket::open(&client, BucketName::ModuleStatus).await?;
        let host = match source.mode {
            Mode::Tap => None,
            Mode::Host | Mode::Standby => {
                let host = Host::spawn(&source.name, &source.path, limits, client.max_payload());
                Some(host.map_err(crate::Error::Thread)?)
            }
        };
        let mut service = Self {
            writers: Writers::new(&source.name),
            source,
            client,
            board,
            reconciles: vec![],
            is_stopping: false,
            stop,
            requests,
            host,
            modules,
            outcomes,
            mastership,
            held: VecDeque::new(),
            is_fenced: false,
        };
        if let Some(host) = service.host.as_mut() {
            // The reader begins when there is something to read.
            let event = host.next().await;
            service.on_host(event).await;
        }
        Ok(service)
    }

    /// Waits for the next arrival. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Outside {
        tokio::select! {
            () = &mut self.stop, if !self.is_stopping => Outside::Stop,
            request = self.requests.next(), if !self.is_stopping => Outside::Request(request),
            event = next_host_event(&mut self.host) => Outside::Host(event),
            event = self.modules.next(), if !self.is_stopping => Outside::Module(event),
            () = lease_changed(&mut self.mastership), if !self.is_stopping => Outside::Lease,
            () = self.writers.results.expire() => Outside::Expired,
        }
    }

    pub(crate) async fn handle(&mut self, outside: Outside) -> Command {
        match outside {
            Outside::Stop | Outside::Request(None) => {
                self.drain().await;
                Command::Nothing
            }
            Outside::Request(Some(request)) if self.may_write() => self.on_request(request).await,
            Outside::Request(Some(request)) => {
                self.hold(request).await;
                Command::Nothing
            }
            Outside::Lease => self.on_lease().await,
            Outside::Expired => Command::Nothing,
            Outside::Host(event) => self.on_host(event).await,
            Outside::Module(Ok(BucketEvent::Entry(entry))) => {
                if let Some(value) = entry.value {
                    self.on_module(entry.key, value).await;
                }
                Command::Nothing
            }
            Outside::Module(Ok(BucketEvent::Current)) => Command::Nothing,
            Outside::Module(Err(error)) => {
                debug!(error = %error.chain(), "cannot watch modules, trying again");
                Command::Nothing
            }
        }
    }

    /// Whether nothing is left that the capture loop must still publish for someone.
    pub(crate) fn is_drained(&self) -> bool {
        self.is_stopping && self.host.is_none() && self.writers.is_empty()
    }

    pub(crate) fn is_host(&self) -> bool {
        self.source.mode != Mode::Tap
    }

    /// The right to write a hosted source.
    pub(crate) fn mastership(&self) -> Option<&Mastership> {
        self.mastership.as_ref()
    }

    /// Puts on the status board what the host says of itself.
    pub(crate) fn show_host(&self) {
        let Some(host) = &self.host else { return };
        let (has_session, waiting) = host.gauges().session();
        let mut hop = Hop {
            hop: HOST.to_owned(),
            subject: self.source.name.clone(),
            lag: waiting as u64,
            ..Hop::default()
        };
        hop.more.insert("session".to_owned(), has_session.into());
        self.board.set_hop(hop);
        if host.gauges().is_hindered() {
            self.board.raise(COMPACTION, self.source.path.display().to_string(), HINDERED);
        } else {
            self.board.clear(COMPACTION);
        }
    }

    /// Whether another host writes the source now.
    pub(crate) fn is_lost(&self) -> bool {
        self.is_fenced || self.mastership.as_ref().is_some_and(|mastership| mastership.keeper.is_lost())
    }

    /// The lease, for the time after the service.
    pub(crate) fn into_keeper(self) -> Option<Keeper> {
        self.mastership.map(|mastership| mastership.keeper)
    }

    fn may_write(&self) -> bool {
        self.mastership.as_ref().is_none_or(|mastership| mastership.keeper.is_current())
    }

    /// Keeps a request until the lease is confirmed. If it is lost instead, whoever holds it then has answered.
    async fn hold(&mut self, request: Request) {
        if self.held.len() < HELD {
            self.held.push_back(request);
        } else {
            let reason = format!("source {} waits for its lease", self.source.name);
            refuse(&request, Code::Unavailable, reason).await;
        }
    }

    /// The stream has another writer: nothing of this one can be published any more.
    pub(crate) async fn step_down(&mut self) {
        self.is_fenced = true;
        self.held.clear();
        self.writers.abandon().await;
        self.drain().await;
    }

    async fn on_lease(&mut self) -> Command {
        if self.is_lost() {
            self.step_down().await;
            return Command::Nothing;
        }
        let mut command = Command::Nothing;
        while self.may_write() {
            let Some(request) = self.held.pop_front() else { break };
            match self.on_request(request).await {
                Command::Nothing => {}
                other => command = other,
            }
        }
        command
    }

    /// Waits until the database of a hosted source is closed.
    pub(crate) async fn close(&mut self) {
        if let Some(host) = self.host.as_mut() {
            host.close();
        }
        let closing = async {
            while self.host.is_some() {
                let event = next_host_event(&mut self.host).await;
                self.on_host(event).await;
            }
        };
        if tokio::time::timeout(CLOSE, closing).await.is_err() {
            warn!(source = self.source.name, "database is still busy, stopping without closing it");
        }
    }

    /// Answers those who wait for a snapshot.
    pub(crate) async fn answer_reconciles(&mut self) {
        for request in std::mem::take(&mut self.reconciles) {
            if let Err(error) = request.reply("").await {
                debug!(%error, "nobody took the answer to a reconcile");
            }
        }
    }

    async fn drain(&mut self) {
        info!(source = self.source.name, "draining");
        self.is_stopping = true;
        if let Err(error) = self.requests.drain().await {
            debug!(%error, "connection is closed already");
        }
        if let Some(host) = self.host.as_mut() {
            host.close();
        }
    }

    async fn on_request(&mut self, request: Request) -> Command {
        let operation = request.subject.rsplit('.').next().unwrap_or_default();
        let work = match (operation, &self.host) {
            ("reconcile", _) => {
                self.reconciles.push(request);
                return Command::Snapshot;
            }
            ("mutate" | "execute" | "fetch", None) => {
                let reason = format!(
                    "source {} is tapped: its application holds the database; write there, or host it with mode=host",
                    self.source.name
                );
                refuse(&request, Code::FailedPrecondition, reason).await;
                return Command::Nothing;
            }
            ("mutate", Some(_)) => Work::mutate(&request.payload),
            ("execute", Some(_)) => Work::execute(&request.payload),
            ("fetch", Some(_)) => {
                self.fetch(&request).await;
                return Command::Nothing;
            }
            (other, _) => {
                let reason =
                    format!("a source has no operation {other:?}: mutate, execute, fetch, reconcile");
                refuse(&request, Code::Unimplemented, reason).await;
                return Command::Nothing;
            }
        };
        match work {
            Ok((session, work)) => {
                self.submit(Task::Call(Box::new(Call { request, session, work }))).await;
            }
            Err(error) => refuse(&request, error.code, error.message).await,
        }
        Command::Nothing
    }

    /// Answers with more of what a statement returned.
    async fn fetch(&mut self, request: &Request) {
        let page = match FetchRequest::decode(request.payload.clone()) {
            Ok(FetchRequest { next }) => self.writers.results.fetch(&next),
            Err(_) => Err(ServiceError::new(Code::InvalidArgument, "not a FetchRequest")),
        };
        match page {
            Ok(page) => send_page(request, &self.source.name, page).await,
            Err(error) => refuse(request, error.code, error.message).await,
        }
    }

    async fn submit(&mut self, task: Task) {
        let Some(host) = &self.host else { return };
        let busy = format!("source {} has too many requests waiting", self.source.name);
        match host.submit(task) {
            Err(Task::Call(call)) => refuse(&call.request, Code::ResourceExhausted, busy).await,
            Err(Task::Module { name, value }) => {
                self.report(&name, tables::version(&value), Err(busy)).await;
            }
            Ok(()) => {}
        }
    }

    async fn on_host(&mut self, event: HostEvent) -> Command {
        match event {
            HostEvent::Opened => self.board.clear(HOST),
            HostEvent::Failed { place, reason } => self.board.raise(HOST, place, reason),
            HostEvent::Written { request, position: Some(position), answer } => {
                self.writers.committed(Committed { request, position, answer }).await;
                if self.is_fenced {
                    self.writers.abandon().await;
                    return Command::Nothing;
                }
                return Command::Wake;
            }
            HostEvent::Written { request, position: None, answer } => {
                self.writers.unchanged(&request, answer).await;
            }
            HostEvent::Refused { request, error } => refuse(&request, error.code, error.message).await,
            HostEvent::Module { name, version, result } => {
                self.report(&name, version, result).await;
                return Command::Wake;
            }
            HostEvent::Closed => {
                self.host = None;
                self.board.remove_hop(HOST, &self.source.name);
                self.board.clear(COMPACTION);
            }
        }
        Command::Nothing
    }

    /// A hosted source makes tables of a module's relations; a tapped one has those of its application.
    async fn on_module(&mut self, name: String, value: bytes::Bytes) {
        if self.host.is_some() {
            self.submit(Task::Module { name, value }).await;
        } else {
            self.report(&name, tables::version(&value), Ok(())).await;
        }
    }

    async fn report(&mut self, module: &str, version: u64, result: Result<(), String>) {
        if let Err(reason) = &result {
            warn!(module, version, reason, "module is refused");
        } else {
            info!(module, version, "module is accepted");
        }
        let error = result.err().unwrap_or_default();
        let outcome = Outcome { version, accepted: error.is_empty(), error };
        let key = format!("{module}.{SERVICE}.{}", self.source.name);
        if let Err(error) = self.outcomes.put(&key, outcome.encode_to_vec()).await {
            warn!(module, error = %error.chain(), "cannot record the outcome of a module");
        }
    }
}

async fn next_host_event(host: &mut Option<Host>) -> HostEvent {
    match host {
        Some(host) => host.next().await,
        None => std::future::pending().await,
    }
}

async fn lease_changed(mastership: &mut Option<Mastership>) {
    match mastership {
        Some(mastership) => mastership.keeper.changed().await,
        None => std::future::pending().await,
    }
}

async fn refuse(request: &Request, code: Code, reason: String) {
    if let Err(error) = request.fail(&ServiceError::new(code, reason)).await {
        debug!(%error, "nobody took a refusal");
    }
}
