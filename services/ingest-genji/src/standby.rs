//! Two hosts of one source: who writes, who follows, and how they change places.
//!
//! A host takes the lease of its source before it writes (`keeper`). A standby applies the change log to a directory of its
//! own (`follow`, `apply`) and watches the lease. When it lapses, the standby takes it, reads the change log to its end and
//! publishes a writer message there: a group without rows, at the next ordinal of the same incarnation, whose engine
//! position is one of the standby's directory. So consumers go on without a snapshot, and whatever the writer before has in
//! flight is refused by the stream ([`deltamesh_jetstream::Fence`]). Then the lease names it as the writer, and only then it
//! writes.
//!
//! A former writer finds another one in the lease, and how far it counts itself. What it had committed and not published is
//! written to a file beside its directory (`aside`), and the directory follows from then on. What each directory was is in
//! a file of its own (`state`).

mod apply;
mod aside;
mod follow;
mod keeper;
mod seen;
mod state;

use std::time::Duration;

use deltamesh_genji::{Database, HostOptions};
use deltamesh_jetstream::{Client, Error, ErrorKind, Lease, Leases, StatusBoard, last_directory};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::config::{Mode, Source};
use crate::service::{COMPACTION, HOST, Service};
use crate::{Limits, capture, stopped};
use aside::{Aside, set_aside};
use follow::Follower;
use keeper::{LOOK, Observer};
use state::{Follows, State, holds_database};

pub(crate) use keeper::Keeper;

/// Part of the status board.
const STANDBY: &str = "standby";
/// Part of the status board for what a former writer had not published.
const UNPUBLISHED: &str = "unpublished";
/// Parts of the status board that only a writer has.
const WRITING: [&str; 4] = ["capture", "publish", HOST, COMPACTION];
/// Delay before trying again after a failure.
const RETRY: Duration = Duration::from_millis(500);

/// The right to write a source's change log.
pub(crate) struct Mastership {
    /// Name of the directory's history.
    pub(crate) directory: String,
    pub(crate) keeper: Keeper,
}

/// This process with its directory.
struct Node {
    source: Source,
    client: Client,
    board: StatusBoard,
    leases: Leases,
}

/// Writes or follows until `stop` says so.
pub(crate) async fn run(
    source: Source,
    client: Client,
    board: StatusBoard,
    stop: watch::Receiver<bool>,
    limits: &Limits,
) -> Result<(), crate::Error> {
    let leases = Leases::open(&client).await?;
    let node = Node { source, client, board, leases };
    loop {
        let mastership = tokio::select! {
            () = stopped(stop.clone()) => return Ok(()),
            mastership = node.become_writer() => mastership,
        };
        let service = Service::start(
            node.source.clone(),
            node.client.clone(),
            node.board.clone(),
            Box::pin(stopped(stop.clone())),
            Some(mastership),
            limits,
        );
        let mut service = service.await?;
        capture::run(&mut service).await;
        service.close().await;
        if let Some(keeper) = service.into_keeper() {
            keeper.release().await;
        }
        if *stop.borrow() {
            return Ok(());
        }
        warn!(source = node.source.name, "another host writes now");
        node.clear_board();
    }
}

impl Node {
    /// Removes what the status said of writing.
    fn clear_board(&self) {
        for part in WRITING {
            self.board.clear(part);
        }
        self.board.remove_hop("capture", &self.source.name);
        self.board.remove_hop(HOST, &self.source.name);
        let stream = deltamesh_wire::subject::changes_stream(&self.source.name);
        self.board.remove_hop("publish", &stream);
    }

    /// Follows, or waits, until this node is the writer.
    async fn become_writer(&self) -> Mastership {
        let mut observer = Observer::new();
        loop {
            let pause = match self.attempt(&mut observer).await {
                Ok(Some(mastership)) => {
                    self.board.clear(STANDBY);
                    return mastership;
                }
                Ok(None) => LOOK,
                Err(reason) => {
                    self.board.raise(STANDBY, self.source.path.display().to_string(), reason);
                    RETRY
                }
            };
            sleep(pause).await;
        }
    }

    /// Finds out who the writer is, and acts on it; nothing where it must wait.
    async fn attempt(&self, observer: &mut Observer) -> Result<Option<Mastership>, String> {
        let state = State::load(&self.source.path)?;
        let lease = self.leases.get(&self.source.name).await.map_err(text)?;
        let owner = match &lease {
            Some((lease, _)) => Some(lease.writer.clone()),
            None => last_directory(&self.client, &self.source.name).await.map_err(text)?,
        };
        match owner {
            None if self.source.mode == Mode::Standby => Ok(None),
            Some(owner) if state.directory.as_ref() != Some(&owner) => {
                let state = self.begin_to_follow(state, &owner, lease.map(|(lease, _)| lease)).await?;
                self.board.clear(STANDBY);
                Follower::open(self, state).await?.run().await.map(Some)
            }
            _ => self.claim(state, lease, observer).await,
        }
    }

    /// Takes the lease for the directory that is the writer's, or for the first one.
    async fn claim(
        &self,
        state: State,
        lease: Option<(Lease, u64)>,
        observer: &mut Observer,
    ) -> Result<Option<Mastership>, String> {
        let directory = state.directory.clone().unwrap_or_else(|| nuid::next().to_string());
        let (lease, revision) = match lease {
            None => (Lease::new(&directory), 0),
            Some((lease, revision)) => {
                let is_free = lease.released || lease.directory == directory || observer.has_lapsed(revision);
                if !is_free {
                    return Ok(None);
                }
                (Lease { directory: directory.clone(), released: false, ..lease }, revision)
            }
        };
        // Another process of the same directory would hold its lock.
        let path = self.source.path.clone();
        let probe = tokio::task::spawn_blocking(move || {
            Database::open(&path, &HostOptions::default()).map(drop).map_err(|error| error.to_string())
        });
        probe.await.map_err(|_ended| "opening the directory broke off".to_owned())??;
        // Known to be this directory's before the lease says so.
        State { directory: Some(directory.clone()), follows: None }.save(&self.source.path)?;
        let since = Instant::now();
        match keeper::put(&self.leases, &self.source.name, &lease, revision).await {
            Ok(revision) => {
                let keeper = Keeper::spawn(self.leases.clone(), &self.source.name, lease, revision, since);
                Ok(Some(Mastership { directory, keeper }))
            }
            Err(error) if error.kind() == ErrorKind::Fenced => {
                state.save(&self.source.path)?;
                Ok(None)
            }
            Err(error) => Err(error.chain()),
        }
    }

    /// Makes the directory one that can follow `owner`: sets aside what it had written by itself.
    async fn begin_to_follow(
        &self,
        state: State,
        owner: &str,
        lease: Option<Lease>,
    ) -> Result<State, String> {
        if state.follows.is_some() {
            return Ok(state);
        }
        let Some(directory) = state.directory else {
            if holds_database(&self.source.path) {
                return Err(format!(
                    "directory holds a database that is not this source's, which is written in {owner}; \
                     start the standby with an empty one"
                ));
            }
            return Ok(State { follows: Some(Follows::default()), ..State::default() });
        };
        let former = lease.and_then(|lease| lease.former(&directory).cloned());
        let name = former.as_ref().map_or_else(|| directory.clone(), |former| former.sequence.to_string());
        let (path, engine) = (self.source.path.clone(), former.as_ref().map(|former| former.position.engine));
        let aside = tokio::task::spawn_blocking(move || set_aside(&path, engine, &name));
        let aside = aside.await.map_err(|_ended| "setting aside broke off".to_owned())??;
        let follows = match (&aside, former) {
            (Aside::Directory { .. }, _) | (_, None) => Follows::default(),
            (aside, Some(former)) => Follows {
                sequence: former.sequence - 1,
                position: Some(former.position),
                directory: Some(directory),
                awaits_snapshot: *aside != Aside::Nothing,
                schemas: self.schemas().await?,
            },
        };
        self.report(&aside);
        let state = State { directory: None, follows: Some(follows) };
        state.save(&self.source.path)?;
        Ok(state)
    }

    /// The schemas that the directory's rows were published under.
    async fn schemas(&self) -> Result<Vec<deltamesh_change::RelationSchema>, String> {
        let stream = deltamesh_wire::subject::changes_stream(&self.source.name);
        let journal = deltamesh_jetstream::StreamJournal::open(&self.client, &stream).await.map_err(text)?;
        let recovered = deltamesh_jetstream::recover_changes(&journal, &self.source.name).await;
        let schemas = recovered.map_err(text)?.schemas;
        Ok(schemas.into_values().map(|schema| deltamesh_change::RelationSchema::clone(&schema)).collect())
    }

    /// Says where the unpublished transactions are, until the process ends.
    fn report(&self, aside: &Aside) {
        let (place, reason) = match aside {
            Aside::Nothing => {
                info!(source = self.source.name, "everything was published before another host took over");
                return;
            }
            Aside::Transactions { file, count } => {
                (file, format!("{count} transactions were committed here and never published"))
            }
            Aside::Directory { moved, reason } => (moved, format!("directory was set aside whole: {reason}")),
        };
        warn!(source = self.source.name, place = %place.display(), reason, "set aside");
        self.board.raise(UNPUBLISHED, place.display().to_string(), reason);
    }
}

fn text(error: Error) -> String {
    error.chain()
}
