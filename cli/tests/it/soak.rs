//! Mixed load at full speed with kills on both sides; at its end the mirrors equal the engine's own dump.
//!
//! Ignored by default: `DELTAMESH_SOAK_SECONDS=600 cargo test -p deltamesh-cli --test it -- --ignored --nocapture soak`.
//! `DELTAMESH_SOAK_SEED` chooses another course.

mod load;

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use deltamesh_testkit::{GenjiHost, Random, number};
use rustix::process::Signal;
use serde_json::Value;

use crate::mesh::{Mesh, eventually, signal};
use load::Load;

/// Compared at the end, by these columns.
const TABLES: [(&str, &[&str]); 5] = [
    ("single", &["id", "pad"]),
    ("bulk", &["id", "pad"]),
    ("uniq", &["id", "name", "n"]),
    ("docs", &["name", "n"]),
    ("shape", &["id"]),
];

/// Over tables that the load does not drop.
const VIEWS: [&str; 3] = [
    "CREATE MATERIALIZED VIEW per_n AS SELECT n, COUNT(*) AS rows FROM uniq GROUP BY n",
    "CREATE MATERIALIZED VIEW per_pad AS SELECT pad, COUNT(*) AS rows, MAX(id) AS last FROM bulk GROUP BY pad",
    "CREATE MATERIALIZED VIEW docs_d AS SELECT __docid, n FROM docs WHERE name = 'd'",
];
/// How long the path may take for what is left when the load ends.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(600);

#[test]
#[ignore = "long"]
fn soak() {
    let (seconds, seed) =
        (number("DELTAMESH_SOAK_SECONDS", 60).unwrap(), number("DELTAMESH_SOAK_SEED", 1).unwrap());
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("db");
    let Some(load) = Load::open(&db, seed) else { return };
    let mesh = Mesh::start(dir.path(), &["--source", &format!("app=genji:{}", db.display())]);
    for create in VIEWS {
        eventually("the tables have arrived", || {
            mesh.run(&["view", "create", create]).status.success().then_some(())
        });
    }
    let (mut load, kills) = std::thread::scope(|scope| {
        let (done, stopped) = channel();
        let disturber = scope.spawn(|| disturb(&mesh, seed, stopped));
        let load = load.run_for(Duration::from_secs(seconds));
        drop(done);
        (load, disturber.join().unwrap())
    });
    println!("{} statements ({} refused), {} rows", load.statements, load.refused, load.rows);
    println!("{} kills of the engine, {kills} of services", load.kills);
    let ended = Instant::now();
    while !mesh.run(&["sql", "SELECT COUNT(*) FROM app__finished"]).status.success() {
        assert!(ended.elapsed() < CAUGHT_UP_WITHIN, "the end of the load arrives\n{}", mesh.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    println!("caught up after {:?}", ended.elapsed());
    for (table, columns) in TABLES {
        let rows = same(&mesh, &mut load.host, table, columns);
        println!("{table}: {rows} rows are equal");
    }
    print!("{}", mesh.say(&["verify"]));
    let status: Value = serde_json::from_str(&mesh.say(&["status", "--json"])).unwrap();
    assert!(!status.to_string().contains("\"reason\""), "{status:#}");
    assert_eq!(mesh.stop().code(), Some(0));
}

/// The mirror of a table holds the rows that the engine says; gives their number.
fn same(mesh: &Mesh, host: &mut GenjiHost, table: &str, columns: &[&str]) -> usize {
    let columns = columns.join(", ");
    let values = |row: &Value| Value::from_iter(row.as_object().unwrap().values().cloned()).to_string();
    let sorted = |mut rows: Vec<String>| {
        rows.sort();
        rows
    };
    let engine = host.query(&format!("SELECT {columns} FROM {table}")).unwrap();
    let expected = sorted(engine.iter().map(|row| values(&serde_json::from_str(row).unwrap())).collect());
    let found =
        sorted(mesh.rows(&format!("SELECT {columns} FROM app__{table}")).iter().map(values).collect());
    let at = found.iter().zip(&expected).position(|(found, expected)| found != expected);
    assert!(found == expected, "{table}: {} rows, {} expected, at {at:?}", found.len(), expected.len());
    found.len()
}

/// Kills and freezes services from time to time, until the load has ended; says how often it killed one.
fn disturb(mesh: &Mesh, seed: u64, stopped: Receiver<()>) -> usize {
    let mut random = Random(seed ^ 0x5eed);
    let mut kills = 0;
    let goes_on = |random: &mut Random, from: u64, to: i64| {
        let pause = Duration::from_millis(from + random.below(to).unsigned_abs());
        stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout)
    };
    while goes_on(&mut random, 2000, 10_000) {
        let victim = if random.below(4) == 0 { "view-builder" } else { "ingest-genji" };
        let pid = mesh.child(victim);
        if random.below(3) == 0 {
            signal(pid, Signal::STOP);
            let still = goes_on(&mut random, 100, 2000);
            signal(pid, Signal::CONT);
            if !still {
                break;
            }
        }
        signal(pid, Signal::KILL);
        kills += 1;
    }
    kills
}
