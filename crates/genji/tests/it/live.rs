//! The real engine writes, we follow.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deltamesh_change::{EnginePosition, Item, Operation, Value};
use deltamesh_genji::{ErrorKind, GenjiTransaction, ReadOptions, Snapshot, Tail};
use deltamesh_testkit::GenjiHost;

const TABLE: &str = "CREATE TABLE t(id INT PRIMARY KEY, pad TEXT)";

type Rows = BTreeMap<i64, String>;

fn row(values: &[Value]) -> (i64, String) {
    match values {
        [Value::Int(id), Value::Text(pad)] => (*id, pad.clone()),
        other => panic!("{} columns", other.len()),
    }
}

/// Rows of table `t` as the transactions leave them; each key may be new only once.
#[derive(Default)]
struct Mirror {
    rows: Rows,
    inserts: usize,
}

impl Mirror {
    fn of(snapshot: &Snapshot) -> Self {
        let rows = snapshot.rows("t").map(|rows| rows.map(|values| row(&values.unwrap())).collect());
        Self { rows: rows.unwrap_or_default(), inserts: 0 }
    }

    fn apply(&mut self, transaction: &GenjiTransaction) {
        for item in &transaction.items {
            let Item::Row(event) = item else { continue };
            match (event.operation, &event.after) {
                (Operation::Upsert, Some(values)) => {
                    let (id, pad) = row(values);
                    let before = self.rows.insert(id, pad.clone());
                    assert_ne!(before, Some(pad), "row {id} came twice");
                    self.inserts += usize::from(before.is_none());
                }
                _ => drop(self.rows.remove(&row(&[event.key[0].clone(), Value::from("")]).0)),
            }
        }
    }

    /// Applies a few transactions.
    fn step(&mut self, tail: &mut Tail) {
        for _ in 0..20 {
            let Some(transaction) = tail.poll().unwrap() else { return };
            self.apply(&transaction);
        }
    }

    /// Applies everything that is there; returns the number of transactions with rows or relations.
    fn drain(&mut self, tail: &mut Tail) -> usize {
        let mut count = 0;
        while let Some(transaction) = tail.poll().unwrap() {
            self.apply(&transaction);
            count += usize::from(!transaction.items.is_empty());
        }
        count
    }
}

fn truth(host: &mut GenjiHost) -> Rows {
    let rows = host.query("SELECT id, pad FROM t").unwrap();
    let rows = rows.iter().map(|row| serde_json::from_str::<serde_json::Value>(row).unwrap());
    rows.map(|row| (row["id"].as_i64().unwrap(), row["pad"].as_str().unwrap().to_owned())).collect()
}

fn start(dir: &Path, arguments: &[&str]) -> Option<GenjiHost> {
    GenjiHost::start_with(&dir.join("db"), arguments).unwrap()
}

fn snapshot(dir: &Path) -> Snapshot {
    Snapshot::open(&dir.join("db"), &ReadOptions::default()).unwrap()
}

/// Runs lines in the engine while `follow` is called again and again; kills the engine when `follow` says so.
fn while_running(mut host: GenjiHost, lines: &[&str], mut follow: impl FnMut() -> bool) -> Option<GenjiHost> {
    let finished = AtomicBool::new(false);
    let pid = rustix::process::Pid::from_raw(host.pid().cast_signed()).unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let written = lines.iter().all(|line| host.execute(line).is_ok());
            finished.store(true, Ordering::Release);
            written.then_some(host)
        });
        let mut killed = false;
        while !finished.load(Ordering::Acquire) {
            if follow() && !killed {
                rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
                killed = true;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        writer.join().unwrap()
    })
}

/// Every row arrives exactly once, through rotation, recycling, kill -9 and reopening.
#[test]
fn every_row_once_at_full_speed() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut host) = start(dir.path(), &[]) else { return };
    host.execute(TABLE).unwrap();
    let mut tail = snapshot(dir.path()).into_tail();
    let mut mirror = Mirror::default();
    for round in 0..3 {
        let first = round * 1_000_000;
        let single = format!(".fill t {first} 2000 100");
        let bulk = format!(".fill t {} 400000 100 1000", first + 2000);
        let before = mirror.rows.len();
        let ended = while_running(host, &[&single, &bulk], || {
            mirror.step(&mut tail);
            // Killed inside the bulk, at another place in each round; the last round runs to its end.
            round < 2 && mirror.rows.len() > before + 2000 + 4000 * round as usize
        });
        mirror.drain(&mut tail);
        host = ended.or_else(|| start(dir.path(), &[])).unwrap();
        assert_eq!(mirror.rows, truth(&mut host), "round {round}");
        mirror.drain(&mut tail);
        assert_eq!(mirror.inserts, mirror.rows.len());
        assert_eq!(Mirror::of(&snapshot(dir.path())).rows, mirror.rows, "round {round}");
    }
    assert!(tail.faults().is_empty());
    host.close().unwrap();
}

/// A snapshot taken in the middle of the load is the state after a whole transaction, and its tail goes on exactly there.
#[test]
fn snapshots_under_load() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut host) = start(dir.path(), &[]) else { return };
    host.execute(TABLE).unwrap();
    let mut taken = 0;
    let mut last: Option<(Tail, Mirror)> = None;
    let ended = while_running(host, &[".fill t 0 300000 100 500"], || {
        let snapshot = snapshot(dir.path());
        let mut mirror = Mirror::of(&snapshot);
        let rows = mirror.rows.len();
        assert_eq!(rows % 500, 0);
        assert_eq!(mirror.rows.last_key_value().map_or(0, |(id, _)| *id as usize + 1), rows);
        let mut tail = snapshot.into_tail();
        mirror.drain(&mut tail);
        assert_eq!(mirror.inserts, mirror.rows.len() - rows);
        taken += 1;
        last = Some((tail, mirror));
        false
    });
    let (mut tail, mut mirror) = last.unwrap();
    mirror.drain(&mut tail);
    assert_eq!(mirror.rows, truth(&mut ended.unwrap()));
    assert!(taken > 1);
}

/// A tail that is dropped and resumed under load goes on where it was, or says that it cannot.
#[test]
fn resume_under_load() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut host) = start(dir.path(), &[]) else { return };
    host.execute(TABLE).unwrap();
    let options = ReadOptions::default();
    let first = snapshot(dir.path());
    let mut position = first.position();
    let mut tail = first.into_tail();
    let mut mirror = Mirror::default();
    let mut resumed = 0;
    let ended = while_running(host, &[".fill t 0 8000 300", ".fill t 8000 100000 100 500"], || {
        tail = match Tail::resume(&dir.path().join("db"), position, &options) {
            Ok(tail) => {
                resumed += 1;
                tail
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Gap);
                let snapshot = snapshot(dir.path());
                mirror = Mirror::of(&snapshot);
                position = snapshot.position();
                snapshot.into_tail()
            }
        };
        while let Some(transaction) = tail.poll().unwrap() {
            mirror.apply(&transaction);
            position = transaction.position;
        }
        false
    });
    mirror.drain(&mut tail);
    assert_eq!(mirror.rows, truth(&mut ended.unwrap()));
    assert!(resumed > 1);
}

/// A spilled transaction is invisible until it ends, whole when it commits, and stays in part when its host dies.
#[test]
fn spilled_transactions() {
    let dir = tempfile::tempdir().unwrap();
    let spill = ["-maxbatch", "2000"];
    let Some(mut host) = start(dir.path(), &spill) else { return };
    host.execute(TABLE).unwrap();
    let write = |host: &mut GenjiHost, from: i64| {
        for id in from..from + 60 {
            let pad = "x".repeat(600);
            host.execute(&format!("INSERT INTO t(id, pad) VALUES ({id}, \"{id} {pad}\")")).unwrap();
        }
        host.execute(".walsync").unwrap();
    };
    let mut tail = snapshot(dir.path()).into_tail();
    let mut mirror = Mirror::default();

    host.execute("BEGIN").unwrap();
    write(&mut host, 0);
    assert_eq!(mirror.drain(&mut tail), 0);
    let middle = snapshot(dir.path());
    assert_eq!(Mirror::of(&middle).rows.len(), 0);
    let mut from_middle = middle.into_tail();
    host.execute("COMMIT").unwrap();
    assert_eq!(mirror.drain(&mut tail), 1);
    assert_eq!(mirror.rows.len(), 60);
    let mut other = Mirror::default();
    assert_eq!(other.drain(&mut from_middle), 1);
    assert_eq!(other.rows, mirror.rows);

    host.execute("BEGIN").unwrap();
    write(&mut host, 100);
    host.execute("ROLLBACK").unwrap();
    host.execute("INSERT INTO t(id, pad) VALUES (99, \"after\")").unwrap();
    mirror.drain(&mut tail);
    assert_eq!(mirror.rows.len(), 61);
    assert_eq!(mirror.rows, truth(&mut host));

    host.execute("BEGIN").unwrap();
    write(&mut host, 200);
    host.kill().unwrap();
    assert_eq!(mirror.drain(&mut tail), 0);
    let mut host = start(dir.path(), &spill).unwrap();
    let partial = tail.poll().unwrap().unwrap();
    assert!(partial.partial);
    mirror.apply(&partial);
    assert_eq!(mirror.rows, truth(&mut host));
    assert!(mirror.rows.len() > 61);
    assert_eq!(Mirror::of(&snapshot(dir.path())).rows, mirror.rows);
}

/// A spilled part of the engine's own size goes into the tables at once; a snapshot takes it out again.
#[test]
fn spilled_into_tables() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut host) = start(dir.path(), &[]) else { return };
    host.execute(TABLE).unwrap();
    host.execute("INSERT INTO t(id, pad) VALUES (0, \"before\")").unwrap();
    host.execute("BEGIN").unwrap();
    host.execute("UPDATE t SET pad = \"inside\" WHERE id = 0").unwrap();
    let pad = "x".repeat(1_000_000);
    for id in 1..25 {
        host.execute(&format!("INSERT INTO t(id, pad) VALUES ({id}, \"{pad}\")")).unwrap();
    }
    let middle = snapshot(dir.path());
    let mut mirror = Mirror::of(&middle);
    assert_eq!(mirror.rows.values().collect::<Vec<_>>(), ["before"]);
    let mut tail = middle.into_tail();
    assert_eq!(mirror.drain(&mut tail), 0);
    host.execute("COMMIT").unwrap();
    assert_eq!(mirror.drain(&mut tail), 1);
    assert_eq!(mirror.rows, truth(&mut host));
    assert_eq!(mirror.rows.len(), 25);
}

/// A clean close writes sequences last, and the next open flushes them: no gap for who was away meanwhile.
#[test]
fn resume_after_a_clean_restart() {
    let Some(program) = deltamesh_testkit::reference("genjihost") else { return };
    let dir = tempfile::tempdir().unwrap();
    let run = |script: &str| {
        let file = dir.path().join("script.sql");
        std::fs::write(&file, script).unwrap();
        let mut host = std::process::Command::new(&program);
        host.arg("-db").arg(dir.path().join("db")).arg("-q").arg("-script").arg(&file);
        assert!(host.status().unwrap().success());
    };
    run(
        "CREATE TABLE t(pad TEXT);\nINSERT INTO t(pad) VALUES (\"a\");\nINSERT INTO t(pad) VALUES (\"b\");\n",
    );
    let database = dir.path().join("db");
    let options = ReadOptions::default();
    let begin = EnginePosition { sequence: 1, log: 2, offset: 0 };
    let mut position = begin;
    let mut tail = Tail::resume(&database, begin, &options).unwrap();
    while let Some(transaction) = tail.poll().unwrap() {
        if !transaction.items.is_empty() {
            position = transaction.position;
        }
    }
    assert!(position.sequence < snapshot(dir.path()).position().sequence);
    run("INSERT INTO t(pad) VALUES (\"c\");\n");
    let mut mirror = Mirror::default();
    let mut tail = Tail::resume(&database, position, &options).unwrap();
    assert_eq!(mirror.drain(&mut tail), 1);
    assert_eq!(mirror.rows.into_values().collect::<Vec<_>>(), ["c"]);
}

/// A damaged byte stops the reader with file and offset; mended, nothing is lost. Needs no engine.
#[test]
fn damaged_log_recovers_when_mended() {
    let source = deltamesh_testkit::workspace_root().join("fixtures/genji/multi_tx/db");
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(source).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    let log = dir.path().join("000002.log");
    let good = std::fs::read(&log).unwrap();
    let options = ReadOptions::default();
    let whole = Snapshot::open(dir.path(), &options).unwrap().position();
    for at in [0, 3, 5, 40, 700] {
        let mut bad = good.clone();
        bad[at] ^= 0x20;
        std::fs::write(&log, bad).unwrap();
        let error = Snapshot::open(dir.path(), &options).map(|_| ()).unwrap_err();
        assert_eq!((error.kind(), error.file()), (ErrorKind::Corrupt, Some(log.as_path())), "{at}");
        assert!(error.offset().is_some_and(|offset| offset <= at as u64));
        std::fs::write(&log, &good).unwrap();
        assert_eq!(Snapshot::open(dir.path(), &options).unwrap().position(), whole);
    }
}
