//! The service in this process, against a real nats-server and, where it is present, the real engine.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod chai;
mod host;
mod host_proto;
mod host_random;
mod host_session;
mod host_status;
mod inspect;
mod large;
mod mirror;
mod program;
mod sql;
mod standby;
mod standby_objects;
mod standby_trim;
mod tap;
mod tap_history;
mod tap_schema;

use std::path::Path;
use std::time::Duration;

use deltamesh_ingest_genji::{Limits, Mode, Options, SERVICE, Source, run};
use deltamesh_jetstream::{Client, StatusBoard, connect};
use deltamesh_testkit::NatsServer;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use mirror::Mirror;

/// Long enough for a busy machine; a test that works never waits for it.
const LONG: Duration = Duration::from_secs(60);

/// A running service.
struct Ingest {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Ingest {
    fn start(nats: &NatsServer, dir: &Path, mode: Mode) -> Self {
        Self::start_with(nats, dir, mode, Limits::default())
    }

    fn start_with(nats: &NatsServer, dir: &Path, mode: Mode, limits: Limits) -> Self {
        let source = Source { name: "app".into(), path: dir.to_owned(), mode };
        let options =
            Options { source, nats: nats.url(), standby: false, limits, monitor: None, print_config: false };
        let board = StatusBoard::new(SERVICE, "app");
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let stopped = async move {
                if stopped.await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            run(&options, board, stopped).await.expect("runs");
        });
        Self { stop, task }
    }

    /// Asks it to stop and waits until it has drained.
    async fn stop(self) {
        self.stop.send(()).expect("runs");
        self.task.await.expect("stops cleanly");
    }
}

async fn start() -> (NatsServer, Client, tempfile::TempDir) {
    let nats = NatsServer::start().expect("nats-server");
    let client = connect(&nats.url(), "test").await.expect("connect");
    (nats, client, tempfile::tempdir().expect("folder"))
}

/// Reads the change log until `condition` holds for its mirror.
async fn read_until(mirror: &mut Mirror, condition: impl Fn(&Mirror) -> bool) {
    let reading = async {
        while !condition(mirror) {
            mirror.read().await;
        }
    };
    if tokio::time::timeout(LONG, reading).await.is_err() {
        panic!("the change log does not get there: {mirror:?}");
    }
}
