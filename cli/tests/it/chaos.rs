//! Every process in turn is killed with SIGKILL while the real engine writes.
//!
//! `DELTAMESH_CHAOS_ROUNDS` says how often each process is killed (default 1).

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use deltamesh_testkit::GenjiHost;
use rustix::process::Signal;
use serde_json::Value;

use crate::mesh::{Mesh, eventually, signal};
use crate::subscriber::{Held, Subscriber};

const VICTIMS: [&str; 5] = ["ingest-genji", "view-builder", "feed-gateway", "nats-server", "up"];
const VIEWS: [(&str, &str); 2] = [
    (
        "per_part",
        "CREATE MATERIALIZED VIEW per_part AS \
         SELECT part, COUNT(*) AS items, SUM(n) AS total FROM item GROUP BY part",
    ),
    ("large", "CREATE MATERIALIZED VIEW large AS SELECT id, part, n FROM item WHERE n >= 900"),
];

#[test]
fn nothing_is_lost_doubled_or_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("db");
    let Some(mut host) = GenjiHost::start(&db).unwrap() else { return };
    host.execute("CREATE TABLE item (id INTEGER PRIMARY KEY, part INTEGER, n INTEGER)").unwrap();
    let mut mesh = Mesh::start(dir.path(), &["--source", &format!("app=genji:{}", db.display())]);
    for (_, create) in VIEWS {
        eventually("the table has arrived", || {
            mesh.run(&["view", "create", create]).status.success().then_some(())
        });
    }
    let subscribers = VIEWS.map(|(view, _)| (view, Subscriber::follow(&mesh, view)));
    let load = Load::start(host);
    for _ in 0..rounds() {
        for victim in VICTIMS {
            sleep(Duration::from_millis(700));
            kill(&mut mesh, victim);
        }
    }
    sleep(Duration::from_millis(700));
    let mut host = load.stop();
    settled(&mesh, &mut host, &subscribers);
    assert_eq!(mesh.stop().code(), Some(0));
}

fn rounds() -> usize {
    std::env::var("DELTAMESH_CHAOS_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(1)
}

fn kill(mesh: &mut Mesh, victim: &str) {
    if victim == "up" {
        mesh.kill();
        mesh.restart();
    } else {
        signal(mesh.child(victim), Signal::KILL);
    }
}

/// The replica equals the engine, each view its SQL, each subscriber its view.
fn settled(mesh: &Mesh, host: &mut GenjiHost, subscribers: &[(&str, Subscriber)]) {
    let truth = host.query("SELECT id, part, n FROM item ORDER BY id").unwrap();
    assert!(!truth.is_empty());
    writeln!(std::io::stderr().lock(), "{} rows in the engine after the kills", truth.len()).ok();
    let count = || mesh.rows("SELECT COUNT(*) AS n FROM app__item")[0]["n"].as_u64();
    eventually("as many rows have arrived", || (count() == Some(truth.len() as u64)).then_some(()));
    for (page, truth) in truth.chunks(PAGE).enumerate() {
        let truth: Vec<Value> = truth.iter().map(|row| serde_json::from_str(row).unwrap()).collect();
        let page = format!("ORDER BY id LIMIT {PAGE} OFFSET {}", page * PAGE);
        // The last changes may have left the number of rows as it was.
        let mirror = || mesh.rows(&format!("SELECT id, part, n FROM app__item {page}"));
        eventually(&format!("the mirror equals the engine's rows {page}"), || {
            (mirror() == truth).then_some(())
        });
    }
    mesh.say(&["verify"]);
    for (view, subscriber) in subscribers {
        // The key of each view is its first column.
        let keyed = |row: Value| (format!("[{}]", row.as_object().unwrap().values().next().unwrap()), row);
        let rows = mesh.rows(&format!("SELECT * FROM {view}")).into_iter().map(keyed);
        let expected: BTreeMap<String, Value> = rows.collect();
        caught_up(subscriber, &expected);
        let held = subscriber.held();
        assert_eq!(held.wrong, Vec::<String>::new(), "{view}");
        // Resumed by cursor; but who missed more changes than a catch-up holds is told so and gets the rows again.
        let again: Vec<&String> =
            held.snapshots[1..].iter().filter(|why| *why != "cursor is too far behind").collect();
        assert_eq!(again, Vec::<&String>::new(), "{view}");
    }
}

/// A subscriber that was cut off may be far behind: it has as long as it gets on.
fn caught_up(subscriber: &Subscriber, expected: &BTreeMap<String, Value>) {
    let progress = |held: &Held| (held.cursor.clone(), held.rows.len());
    let mut last = progress(&subscriber.held());
    while subscriber.held().rows != *expected {
        last = eventually(&format!("who holds {} of {} rows gets on", last.1, expected.len()), || {
            let held = subscriber.held();
            (progress(&held) != last || held.rows == *expected).then(|| progress(&held))
        });
    }
}

/// Transactions of one row and of many, at the engine's own speed.
struct Load {
    stop: Arc<AtomicBool>,
    writer: JoinHandle<GenjiHost>,
}

impl Load {
    fn start(mut host: GenjiHost) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let writer = std::thread::spawn(move || {
            let mut steps = 0;
            while !stopping.load(Ordering::Relaxed) {
                write(&mut host, steps);
                steps += 1;
            }
            host
        });
        Self { stop, writer }
    }

    fn stop(self) -> GenjiHost {
        self.stop.store(true, Ordering::Relaxed);
        self.writer.join().unwrap()
    }
}

/// Rows that are compared at once.
const PAGE: usize = 200_000;
/// Keys between the steps of the load.
const STEP: u64 = 2_000;

/// A new row; now and then a transaction of a thousand, a change of rows, a deletion.
fn write(host: &mut GenjiHost, step: u64) {
    let id = step * STEP;
    let (part, n) = (step % 7, (step * 37) % 1_000);
    host.execute(&format!("INSERT INTO item (id, part, n) VALUES ({id}, {part}, {n})")).unwrap();
    if step % 10 == 9 {
        let rows: Vec<String> =
            (1..=1_000).map(|i| format!("({}, {}, {})", id + i, i % 7, (i * 61) % 1_000)).collect();
        host.execute(&format!("INSERT INTO item (id, part, n) VALUES {}", rows.join(", "))).unwrap();
    }
    if step % 4 == 3 {
        let earlier = id - 2 * STEP;
        host.execute(&format!("UPDATE item SET n = n + 300, part = {part} WHERE id = {earlier}")).unwrap();
    }
    if step % 9 == 8 {
        host.execute(&format!("DELETE FROM item WHERE id = {}", id - 5 * STEP)).unwrap();
    }
}
