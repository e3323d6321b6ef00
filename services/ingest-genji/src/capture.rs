//! The loop of the service: what the engine says goes to the change log, what is durable answers writers.

use std::time::Duration;

use deltamesh_genji::GenjiTransaction;
use deltamesh_jetstream::{Disposition, Error, ErrorKind, Hop, StatusBoard, backoff};
use deltamesh_wire::subject;
use serde_json::json;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until, timeout_at};
use tracing::{info, warn};

use crate::engine::{EngineEvent, EngineReader, Start};
use crate::log::{ChangeLog, Durable};
use crate::meter::Meter;
use crate::progress::Progress;
use crate::service::{Command, Outside, Service};
use crate::unreadable::Unreadable;

/// Parts of the status board, and hops.
const CAPTURE: &str = "capture";
const PUBLISH: &str = "publish";
const SNAPSHOT: &str = "snapshot";

/// Delay before the change log is opened again.
const REOPEN: Duration = Duration::from_millis(500);
/// How often figures go to the status board.
const TICK: Duration = Duration::from_millis(250);
/// After this time a stop no longer waits for the change log.
const DRAIN: Duration = Duration::from_secs(10);

enum Event {
    Engine(Option<EngineEvent>),
    Durable(Result<Vec<Durable>, Error>),
    Recover,
    Outside(Outside),
    Tick,
    Overdue,
}

/// Why a session ends.
enum End {
    /// The service has drained.
    Stopped,
    /// The change log must be opened again; with a snapshot where the log alone cannot continue.
    Reopen { snapshot: bool },
}

/// Captures until the service is stopped, opening the change log again as often as it takes.
pub(crate) async fn run(service: &mut Service) {
    let mut snapshot = false;
    while !service.is_stopping {
        match Session::open(service, snapshot).await {
            Ok(session) => match session.run(service).await {
                End::Stopped => return,
                End::Reopen { snapshot: needed } => snapshot = needed,
            },
            Err(reason) => service.board.raise(PUBLISH, stream(service), reason),
        }
        let until = Instant::now() + REOPEN;
        while let Ok(outside) = timeout_at(until, service.next()).await {
            service.handle(outside).await;
        }
    }
}

fn stream(service: &Service) -> String {
    subject::changes_stream(&service.source.name)
}

/// Change log and engine, open at the same position.
struct Session {
    log: ChangeLog,
    reader: EngineReader,
    /// An engine event that was taken but belongs behind the group that was published.
    held: Option<EngineEvent>,
    /// When publishing broke down, the time to look what has arrived.
    recover_at: Option<Instant>,
    attempts: usize,
    unreadable: Unreadable,
    /// The snapshot that is being read or published.
    snapshot: Option<Progress>,
    captured: Meter,
    published: Meter,
    tick: Interval,
    /// When a stop no longer waits.
    overdue: Option<Instant>,
}

impl Session {
    /// Reads from the change log where to continue, and begins to read there.
    async fn open(service: &mut Service, snapshot: bool) -> Result<Self, String> {
        let opened = ChangeLog::open(&service.client, &service.source.name, service.mastership()).await;
        if opened.as_ref().is_err_and(|error| error.kind() == ErrorKind::Fenced) {
            service.step_down().await;
        }
        let (log, mut start) = opened.map_err(|error| error.chain())?;
        if matches!(start, Start::Resume(_)) {
            service.writers.reached(log.durable()).await;
            if snapshot || !service.reconciles.is_empty() {
                start = Start::Snapshot { continues: true };
            }
        }
        info!(source = service.source.name, position = %log.position(), ?start, "capture begins");
        let reader = EngineReader::spawn(&service.source.path, start)
            .map_err(|error| format!("cannot start the reading thread: {error}"))?;
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            log,
            reader,
            held: None,
            recover_at: None,
            attempts: 0,
            unreadable: Unreadable::default(),
            snapshot: None,
            captured: Meter::new(),
            published: Meter::new(),
            tick,
            overdue: None,
        })
    }

    async fn run(mut self, service: &mut Service) -> End {
        loop {
            let event = self.next_event(service).await;
            if let Some(end) = self.handle(event, service).await {
                return end;
            }
            // What a host had not published when it lost its lease is set aside later.
            if service.is_drained() && (service.is_lost() || self.log.is_idle()) {
                return End::Stopped;
            }
        }
    }

    async fn next_event(&mut self, service: &mut Service) -> Event {
        if let Some(event) = self.held.take() {
            return Event::Engine(Some(event));
        }
        if service.is_stopping && self.overdue.is_none() {
            self.overdue = Some(Instant::now() + DRAIN);
        }
        let works = self.recover_at.is_none();
        // A tapped source that stops has only to publish what it has read.
        let reads = works && self.log.has_room() && (!service.is_stopping || service.is_host());
        tokio::select! {
            durable = self.log.next_durable(), if works => Event::Durable(durable),
            event = self.reader.next(), if reads => Event::Engine(event),
            outside = service.next() => Event::Outside(outside),
            () = at(self.recover_at) => Event::Recover,
            _ = self.tick.tick() => Event::Tick,
            () = at(self.overdue) => Event::Overdue,
        }
    }

    async fn handle(&mut self, event: Event, service: &mut Service) -> Option<End> {
        match event {
            Event::Engine(Some(event)) => match self.on_engine(event, service).await {
                Ok(()) => None,
                Err(error) => Some(reopen(&error, service)),
            },
            Event::Engine(None) => Some(End::Reopen { snapshot: false }),
            Event::Durable(Ok(groups)) => {
                self.on_durable(groups, service).await;
                None
            }
            Event::Durable(Err(error)) => {
                // What has arrived decides, even where the server says that another writer was faster.
                self.broke_down(&error, service);
                None
            }
            Event::Recover => self.recover(service).await,
            Event::Outside(outside) => {
                match service.handle(outside).await {
                    Command::Nothing => {}
                    Command::Wake => self.reader.wake(),
                    Command::Snapshot => self.reader.request_snapshot(),
                }
                None
            }
            Event::Tick => {
                self.show(service);
                self.log.keep().await.err().map(|error| reopen(&error, service))
            }
            Event::Overdue => {
                warn!(source = service.source.name, "the change log does not take what is left, stopping");
                Some(End::Stopped)
            }
        }
    }

    async fn on_engine(&mut self, event: EngineEvent, service: &mut Service) -> Result<(), Error> {
        match event {
            EngineEvent::Resumed => {}
            EngineEvent::SnapshotBegin { position, objects, relations, continues } => {
                self.unreadable.clear(&service.board);
                self.snapshot = Some(Progress::new(&service.source.name, relations.len()));
                self.log.begin_snapshot(position, objects, &relations, continues).await?;
            }
            EngineEvent::SnapshotRows { schema, rows, left } => {
                self.captured.add(rows.len() as u64);
                if let Some(snapshot) = &mut self.snapshot {
                    snapshot.add(&schema.relation, rows.len() as u64, left);
                }
                self.log.add_snapshot_rows(&schema, rows).await?;
            }
            EngineEvent::SnapshotEnd => {
                let is_empty = self.snapshot.as_ref().is_some_and(Progress::has_no_relations);
                if !self.log.end_snapshot(is_empty).await? {
                    self.end_snapshot(service).await;
                }
            }
            EngineEvent::Transactions(transactions) => self.publish(transactions, &service.board).await?,
            EngineEvent::Part(part) => {
                self.note(&part, &service.board);
                self.log.add_part(part).await?;
            }
            EngineEvent::Passed(sequence) => {
                service.writers.passed(sequence, self.log.position().ordinal).await;
            }
            EngineEvent::Unreadable(faults) => {
                self.unreadable.add(faults, &service.source.path, &service.board);
            }
            EngineEvent::Failed { place, reason } => service.board.raise(CAPTURE, place, reason),
            EngineEvent::Works => service.board.clear(CAPTURE),
        }
        Ok(())
    }

    /// Publishes transactions, with those that have been read meanwhile, as one group.
    async fn publish(
        &mut self,
        transactions: Vec<GenjiTransaction>,
        board: &StatusBoard,
    ) -> Result<(), Error> {
        let mut next = Some(transactions);
        while let Some(transactions) = next.take() {
            for transaction in &transactions {
                self.note(transaction, board);
            }
            if !self.log.add(transactions).await? {
                break;
            }
            match self.reader.try_next() {
                Some(EngineEvent::Transactions(transactions)) => next = Some(transactions),
                other => self.held = other,
            }
        }
        self.log.publish().await
    }

    /// Counts a transaction, or a part of it, and says what is odd.
    fn note(&mut self, transaction: &GenjiTransaction, board: &StatusBoard) {
        self.captured.add(transaction.items.len() as u64);
        self.unreadable.forget(&transaction.items, board);
        if transaction.partial && !transaction.more {
            let sequence = transaction.position.sequence;
            warn!(
                sequence,
                "the application died inside a transaction, its part stays as the engine keeps it"
            );
        }
    }

    async fn on_durable(&mut self, groups: Vec<Durable>, service: &mut Service) {
        self.attempts = 0;
        service.board.clear(PUBLISH);
        for group in groups {
            self.published.add(group.rows);
            service.writers.durable(&group).await;
            if group.snapshot {
                info!(source = service.source.name, position = %group.position, rows = group.rows, "snapshot is published");
                self.end_snapshot(service).await;
            }
        }
    }

    /// A snapshot is durable, or there was nothing in it to publish.
    async fn end_snapshot(&mut self, service: &mut Service) {
        // One that has begun meanwhile goes on.
        if self.log.is_in_snapshot() {
            return;
        }
        self.snapshot = None;
        service.board.remove_hop(SNAPSHOT, &service.source.name);
        service.answer_reconciles().await;
    }

    fn broke_down(&mut self, error: &Error, service: &Service) {
        // The first look is at once; a lost ack needs no alarm.
        if self.attempts > 0 {
            service.board.raise(PUBLISH, stream(service), error.chain());
        }
        self.recover_at =
            Some(Instant::now() + if self.attempts == 0 { Duration::ZERO } else { backoff(self.attempts) });
        self.attempts += 1;
    }

    async fn recover(&mut self, service: &mut Service) -> Option<End> {
        match self.log.recover().await {
            Ok(()) => {
                self.recover_at = None;
                None
            }
            Err(error) if error.disposition() == Disposition::Retry => {
                self.broke_down(&error, service);
                None
            }
            Err(error) => Some(reopen(&error, service)),
        }
    }

    /// Puts figures on the status board.
    fn show(&mut self, service: &Service) {
        if let Some(snapshot) = &mut self.snapshot {
            let mut hop = snapshot.hop();
            SNAPSHOT.clone_into(&mut hop.hop);
            service.board.set_hop(hop);
        }
        service.show_host();
        service.board.set_hop(Hop {
            hop: CAPTURE.to_owned(),
            subject: service.source.name.clone(),
            position: self.log.position().to_string(),
            lag: self.log.transactions_in_flight(),
            rate: self.captured.rate(),
            ..Hop::default()
        });
        let mut hop = Hop {
            hop: PUBLISH.to_owned(),
            subject: stream(service),
            position: self.log.durable().to_string(),
            lag: self.log.groups_in_flight() as u64,
            rate: self.published.rate(),
            ..Hop::default()
        };
        hop.more.insert("sequence".to_owned(), json!(self.log.sequence()));
        hop.more.insert("writers".to_owned(), json!(service.writers.len()));
        service.board.set_hop(hop);
    }
}

/// Nothing of this session can be kept: reports why, and says with what to begin again.
fn reopen(error: &Error, service: &Service) -> End {
    service.board.raise(PUBLISH, stream(service), error.chain());
    End::Reopen { snapshot: error.disposition() == Disposition::Reconcile }
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
