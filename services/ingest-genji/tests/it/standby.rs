//! Two hosts of one source change places under load.
//!
//! `DELTAMESH_FAILOVER_ROUNDS` says how often each way of losing the writer is tried (default: once, in the long test 20 times).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use deltamesh_change::to_json;
use deltamesh_genji::{ReadOptions, Snapshot};
use deltamesh_ingest_genji::Mode;
use deltamesh_jetstream::{Client, Consumer, Status, gather_status};
use deltamesh_testkit::{GenjiHost, NatsServer, Proxy};
use deltamesh_wire::proto::source::v1::ExecuteRequest;
use prost::Message as _;

use crate::program::Program;
use crate::{LONG, Mirror, start};

const WRITERS: usize = 6;
pub(crate) const ANSWER: Duration = Duration::from_millis(1000);
/// How long a client that was refused waits before it tries again.
const BACKOFF: Duration = Duration::from_millis(20);
pub(crate) const TABLE: &str =
    "CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, tags ARRAY, doc DOCUMENT)";

/// How often each way of losing the writer is tried.
pub(crate) fn rounds() -> Option<u64> {
    std::env::var("DELTAMESH_FAILOVER_ROUNDS").ok().map(|rounds| rounds.parse().expect("a number"))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Loss {
    Killed,
    Frozen,
    CutOff,
}

/// A host with its directory, behind a proxy of its own.
pub(crate) struct Node {
    pub(crate) dir: PathBuf,
    proxy: Proxy,
    pub(crate) program: Program,
}

impl Node {
    pub(crate) fn start(nats: &NatsServer, dir: PathBuf, mode: Mode) -> Self {
        let target = nats.url().rsplit(':').next().expect("port").parse().expect("port");
        let proxy = Proxy::start(target).expect("proxy");
        let program = Program::start_at(&url(&proxy), &dir, mode);
        Self { dir, proxy, program }
    }

    pub(crate) fn lose(&mut self, loss: Loss) {
        match loss {
            Loss::Killed => self.program.kill(),
            Loss::Frozen => self.program.signal("STOP"),
            Loss::CutOff => self.proxy.cut(),
        }
    }

    pub(crate) fn come_back(&mut self, loss: Loss) {
        match loss {
            Loss::Killed => self.program = Program::start_at(&url(&self.proxy), &self.dir, Mode::Host),
            Loss::Frozen => self.program.signal("CONT"),
            Loss::CutOff => self.proxy.heal(),
        }
    }
}

fn url(proxy: &Proxy) -> String {
    format!("nats://127.0.0.1:{}", proxy.port())
}

pub(crate) async fn execute(client: &Client, statement: &str) -> Result<Bytes, String> {
    let request = ExecuteRequest { statement: statement.to_owned(), ..Default::default() };
    let reply = client.request("source.app.execute", request.encode_to_vec(), ANSWER).await;
    reply.map_err(|error| error.to_string())
}

pub(crate) async fn execute_in_time(client: &Client, statement: &str) {
    let until = Instant::now() + LONG;
    while let Err(error) = execute(client, statement).await {
        assert!(Instant::now() < until, "{statement}: {error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Writers that note what was acknowledged, and when.
#[derive(Default)]
pub(crate) struct Load {
    next: AtomicU64,
    pub(crate) is_over: AtomicBool,
    /// Number of each acknowledged row, and when its request was sent and answered.
    acknowledged: Mutex<Vec<(u64, Instant, Instant)>>,
}

impl Load {
    /// Rows from that number on.
    pub(crate) fn from(number: u64) -> Self {
        Self { next: AtomicU64::new(number), ..Self::default() }
    }

    pub(crate) fn run(self: &Arc<Self>, client: &Client) {
        for _ in 0..WRITERS {
            let (load, client) = (self.clone(), client.clone());
            tokio::spawn(async move {
                while !load.is_over.load(Ordering::Relaxed) {
                    let number = load.next.fetch_add(1, Ordering::Relaxed);
                    let sent = Instant::now();
                    let row =
                        format!("INSERT INTO t(id, tags, doc) VALUES ({number}, [1, 2], {{a: {number}}})");
                    if execute(&client, &row).await.is_ok() {
                        load.acknowledged.lock().expect("lock").push((number, sent, Instant::now()));
                    } else {
                        // Where nobody listens, the refusal comes at once.
                        tokio::time::sleep(BACKOFF).await;
                    }
                }
            });
        }
    }

    /// Waits for an acknowledgement of what was sent after `since`; how long that took.
    pub(crate) async fn first_after(&self, since: Instant) -> Duration {
        let until = Instant::now() + LONG;
        loop {
            let first = {
                let acknowledged = self.acknowledged.lock().expect("lock");
                let after = acknowledged.iter().filter(|(_, sent, _)| *sent >= since);
                after.map(|(_, _, answered)| *answered - since).min()
            };
            match first {
                Some(first) => return first,
                None => assert!(Instant::now() < until, "nobody takes over"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) fn acknowledged(&self) -> BTreeSet<u64> {
        self.acknowledged.lock().expect("lock").iter().map(|(number, _, _)| *number).collect()
    }
}

/// The status of the node that follows, once there is one that `wanted` holds for.
pub(crate) async fn standby(client: &Client, wanted: impl Fn(&Status) -> bool) -> Status {
    let until = Instant::now() + LONG;
    loop {
        let statuses = gather_status(client, Duration::from_millis(200)).await.expect("status");
        let found = statuses.iter().find(|status| {
            status.hops.iter().any(|hop| hop.hop == "standby" && !hop.position.is_empty()) && wanted(status)
        });
        if let Some(found) = found {
            return found.clone();
        }
        assert!(Instant::now() < until, "nobody follows: {statuses:?}");
    }
}

/// Whether the node that follows waits for no snapshot.
fn can_take_over(status: &Status) -> bool {
    status.hops.iter().any(|hop| hop.more.get("awaits_snapshot") == Some(&false.into()))
}

/// Every message demands the writer message that is the last one before it.
pub(crate) async fn check_one_writer(client: &Client) {
    let mut consumer = Consumer::open(client, "CHANGES_APP", 1).await.expect("stream");
    let last = consumer.bounds().await.expect("bounds").last;
    let mut writer = 0;
    while consumer.next_sequence() <= last {
        for stored in consumer.next_batch(512, 4 << 20).await.expect("messages") {
            let demanded = stored.headers.get("Nats-Expected-Last-Subject-Sequence");
            let is_writer = stored.subject == "changes.app.__writer";
            // The first writer message of a session demands nothing but its place.
            if !is_writer || demanded.is_some() {
                assert_eq!(demanded, Some(writer.to_string().as_str()), "message {}", stored.sequence);
            }
            if is_writer {
                writer = stored.sequence;
            }
        }
    }
}

/// Rows of a directory, in the mirror's form.
pub(crate) fn rows(dir: &Path) -> BTreeSet<String> {
    let snapshot = Snapshot::open(dir, &ReadOptions::default()).expect("snapshot");
    let rows = snapshot.rows("t").expect("rows").map(|row| {
        let row = row.expect("row");
        serde_json::Value::from(row.iter().map(to_json).collect::<Vec<_>>()).to_string()
    });
    rows.collect()
}

// Figures are for who runs many rounds.
#[allow(clippy::print_stdout)]
async fn check(losses: &[Loss], rounds: u64) {
    let (nats, client, dir) = start().await;
    let mut writer = Node::start(&nats, dir.path().join("a"), Mode::Host);
    execute_in_time(&client, TABLE).await;
    let mut follower = Node::start(&nats, dir.path().join("b"), Mode::Standby);
    standby(&client, can_take_over).await;
    let load = Arc::new(Load::default());
    load.run(&client);
    let mut mirror = Mirror::new(&client);
    let mut times: BTreeMap<Loss, Vec<u128>> = BTreeMap::new();
    let mut aside = 0;
    for (round, &loss) in (0..rounds).flat_map(|round| losses.iter().map(move |loss| (round, loss))) {
        tokio::time::sleep(Duration::from_millis(700)).await;
        writer.lose(loss);
        let lost = Instant::now();
        let taken = load.first_after(lost).await;
        println!("{loss:?}, round {round}: writes are acknowledged again after {} ms", taken.as_millis());
        times.entry(loss).or_default().push(taken.as_millis());
        tokio::time::sleep(Duration::from_millis(700)).await;
        writer.come_back(loss);
        // Following, with all that was committed and not published set aside, and able to take over.
        let status = standby(&client, can_take_over).await;
        aside += status.faults.len();
        for fault in &status.faults {
            assert_eq!(fault.part, "unpublished", "{fault:?}");
            let text = std::fs::read_to_string(&fault.place).expect("set aside");
            assert!(text.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
        }
        std::mem::swap(&mut writer, &mut follower);
    }
    load.is_over.store(true, Ordering::Relaxed);
    tokio::time::sleep(ANSWER).await;
    let last =
        Consumer::open(&client, "CHANGES_APP", 1).await.expect("stream").bounds().await.expect("bounds").last;
    let until = Instant::now() + LONG;
    while u64::try_from(mirror.messages).expect("count") < last {
        mirror.read().await;
        assert!(Instant::now() < until, "{mirror:?}");
    }
    // The standby has all of it.
    let position = mirror.position.to_string();
    standby(&client, |status| status.hops.iter().any(|hop| hop.position == position)).await;
    let acknowledged = load.acknowledged();
    for (loss, mut times) in times {
        times.sort_unstable();
        let (least, middle, most) = (times[0], times[times.len() / 2], times[times.len() - 1]);
        println!("{loss:?}: {} times, {least} / {middle} / {most} ms (least, median, most)", times.len());
    }
    println!("{} acknowledged, {aside} times set aside, {mirror:?}", acknowledged.len());
    let mirrored = &mirror.relations["t"];
    let missing: Vec<_> =
        acknowledged.iter().filter(|id| !mirrored.contains_key(&format!("[{id}]"))).collect();
    assert_eq!(missing, Vec::<&u64>::new(), "acknowledged rows are lost");
    check_one_writer(&client).await;
    for node in [&mut follower, &mut writer] {
        assert!(node.program.terminate().success());
    }
    let truth: BTreeSet<String> = mirrored.values().cloned().collect();
    assert_eq!(rows(&writer.dir), truth, "writer's directory");
    assert_eq!(rows(&follower.dir), truth, "standby's directory");
    if let Some(mut host) = GenjiHost::start(&follower.dir).expect("engine") {
        assert_eq!(host.query("SELECT id FROM t").expect("query").len(), truth.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_writer_is_killed() {
    check(&[Loss::Killed], rounds().unwrap_or(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_writer_is_frozen() {
    check(&[Loss::Frozen], rounds().unwrap_or(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_writer_is_cut_off() {
    check(&[Loss::CutOff], rounds().unwrap_or(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long; run with --ignored"]
async fn the_writer_is_lost_sixty_times() {
    check(&[Loss::Killed, Loss::Frozen, Loss::CutOff], rounds().unwrap_or(20)).await;
}
