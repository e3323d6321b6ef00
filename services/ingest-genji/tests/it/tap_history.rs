//! Histories that are not read from end to end: what is missing is found and healed by a snapshot.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use deltamesh_ingest_genji::Mode;
use deltamesh_testkit::GenjiHost;

use crate::program::{Program, signal};
use crate::tap::{TABLE, faults, mirrored, truth};
use crate::{Ingest, Mirror, read_until, start};

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-r").arg(from).arg(to).status().expect("cp");
    assert!(status.success());
}

fn open(dir: &Path) -> Option<GenjiHost> {
    GenjiHost::start(dir).expect("engine")
}

/// Waits until the mirror holds exactly what the engine has in table `t`.
async fn same(mirror: &mut Mirror, host: &mut GenjiHost) {
    let expected = truth(host, "t");
    read_until(mirror, |mirror| mirror.relations.contains_key("t") && mirrored(mirror, "t") == expected)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_or_frozen_service_misses_recycled_logs() {
    let (nats, client, dir) = start().await;
    let Some(mut host) = open(dir.path()) else { return };
    host.execute(TABLE).expect("create");
    host.execute(".fill t 0 100 40 1").expect("fill");
    let mut ingest = Program::start(&nats, dir.path(), Mode::Tap);
    let mut mirror = Mirror::new(&client);
    same(&mut mirror, &mut host).await;
    let incarnation = mirror.position.incarnation.clone();

    // Frozen: the reader still holds descriptors of logs that are overwritten meanwhile.
    ingest.signal("STOP");
    host.execute(".fill t 1000 60000 200 1000").expect("fill");
    host.execute("DELETE FROM t WHERE id < 50").expect("delete");
    ingest.signal("CONT");
    same(&mut mirror, &mut host).await;

    // Away: at its next start the logs begin behind its position.
    ingest.kill();
    host.execute(".fill t 100000 60000 200 1000").expect("fill");
    host.execute("DELETE FROM t WHERE id < 70").expect("delete");
    host.close().expect("close");
    let mut host = open(dir.path()).expect("present");
    host.execute("UPDATE t SET pad = 'x' WHERE id = 80").expect("update");
    let _ingest = Program::start(&nats, dir.path(), Mode::Tap);
    same(&mut mirror, &mut host).await;
    assert_eq!(mirror.position.incarnation, incarnation);
    assert!(mirror.snapshots >= 2, "{mirror:?}");
}

/// Puts another state of the directory in its place, as an operator does: the engine is stopped, the service may be.
async fn check_restore(lives: bool, writes_after: &[&str]) {
    let (nats, client, folder) = start().await;
    let (dir, backup) = (folder.path().join("db"), folder.path().join("backup"));
    let Some(mut host) = open(&dir) else { return };
    host.execute(TABLE).expect("create");
    host.execute(".fill t 0 30 40 1").expect("fill");
    host.close().expect("close");
    copy(&dir, &backup);
    let mut host = open(&dir).expect("present");
    host.execute("UPDATE t SET pad = 'later' WHERE id < 10").expect("update");
    host.execute(".fill t 100 20 40 1").expect("fill");
    let mut ingest = Some(Ingest::start(&nats, &dir, Mode::Tap));
    let mut mirror = Mirror::new(&client);
    same(&mut mirror, &mut host).await;
    let incarnation = mirror.position.incarnation.clone();
    host.close().expect("close");

    if !lives && let Some(ingest) = ingest.take() {
        ingest.stop().await;
    }
    fs::remove_dir_all(&dir).expect("remove");
    copy(&backup, &dir);
    let mut host = open(&dir).expect("present");
    writes_after.iter().for_each(|line| host.execute(line).expect(line));
    let ingest = ingest.unwrap_or_else(|| Ingest::start(&nats, &dir, Mode::Tap));
    same(&mut mirror, &mut host).await;
    assert_ne!(mirror.position.incarnation, incarnation);

    // And goes on there.
    host.execute("INSERT INTO t(id, pad) VALUES (9999, 'on')").expect("insert");
    same(&mut mirror, &mut host).await;
    ingest.stop().await;
    assert_eq!(faults(&client).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_put_back_while_it_is_followed() {
    check_restore(true, &[]).await;
    check_restore(true, &[".fill t 200 60 40 1"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_put_back_while_the_service_is_away() {
    check_restore(false, &[]).await;
    // The new history is as long as the lost one, and longer.
    check_restore(false, &["UPDATE t SET pad = 'other' WHERE id < 10", ".fill t 300 20 40 1"]).await;
    check_restore(false, &[".fill t 200 60 40 1"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_removed_and_made_anew() {
    let (nats, client, folder) = start().await;
    let dir = folder.path().join("db");
    let Some(mut host) = open(&dir) else { return };
    host.execute(TABLE).expect("create");
    host.execute(".fill t 0 30 40 1").expect("fill");
    let ingest = Ingest::start(&nats, &dir, Mode::Tap);
    let mut mirror = Mirror::new(&client);
    same(&mut mirror, &mut host).await;
    host.kill().expect("kill");
    fs::remove_dir_all(&dir).expect("remove");
    let mut host = open(&dir).expect("present");
    host.execute("CREATE TABLE u(id INT PRIMARY KEY, pad TEXT)").expect("create");
    host.execute(".fill u 0 7 40 1").expect("fill");
    read_until(&mut mirror, |mirror| mirror.rows("u") == 7 && !mirror.relations.contains_key("t")).await;
    assert_eq!(mirrored(&mirror, "u"), truth(&mut host, "u"));
    ingest.stop().await;
}

/// Cuts what the engine wrote last, as an operating system does that dies before it has written it.
async fn check_lost_tail(lives: bool, writes_after: &[&str]) {
    let (nats, client, dir) = start().await;
    let Some(mut host) = open(dir.path()) else { return };
    host.execute(TABLE).expect("create");
    host.execute(".fill t 0 30 40 1").expect("fill");
    let log = dir.path().join("000002.log");
    let before = fs::read(&log).expect("log");
    host.execute("UPDATE t SET pad = 'lost' WHERE id = 3").expect("update");
    host.execute(".fill t 100 10 40 1").expect("fill");
    let mut ingest = Some(Ingest::start(&nats, dir.path(), Mode::Tap));
    let mut mirror = Mirror::new(&client);
    same(&mut mirror, &mut host).await;
    let incarnation = mirror.position.incarnation.clone();
    host.kill().expect("kill");

    if !lives && let Some(ingest) = ingest.take() {
        ingest.stop().await;
    }
    fs::write(&log, &before).expect("cut");
    let mut host = open(dir.path()).expect("present");
    writes_after.iter().for_each(|line| host.execute(line).expect(line));
    let ingest = ingest.unwrap_or_else(|| Ingest::start(&nats, dir.path(), Mode::Tap));
    same(&mut mirror, &mut host).await;
    assert_ne!(mirror.position.incarnation, incarnation);
    ingest.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_that_was_published_is_lost() {
    for lives in [true, false] {
        check_lost_tail(lives, &[]).await;
        // As many sequence numbers as were lost, at the same places, and more.
        check_lost_tail(lives, &["UPDATE t SET pad = 'else' WHERE id = 3", ".fill t 200 10 40 1"]).await;
        check_lost_tail(lives, &[".fill t 200 50 40 1"]).await;
    }
}

const SPILLS: [&str; 2] = ["-maxbatch", "2000"];

/// A transaction of many parts, open at the end.
fn spill(host: &mut GenjiHost, first: i64) {
    host.execute("BEGIN").expect("begin");
    for id in first..first + 200 {
        let pad = "s".repeat(60);
        host.execute(&format!("INSERT INTO t(id, pad) VALUES ({id}, '{pad}')")).expect("insert");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn spilled_transactions_show_whole_or_not_at_all() {
    let (nats, client, dir) = start().await;
    let Some(mut host) = GenjiHost::start_with(dir.path(), &SPILLS).expect("engine") else { return };
    host.execute(TABLE).expect("create");
    host.execute(".fill t 0 30 40 1").expect("fill");
    let mut mirror = Mirror::new(&client);
    for (round, ends_with) in ["ROLLBACK", "COMMIT", "ROLLBACK", "COMMIT"].into_iter().enumerate() {
        let first = 1000 * (i64::try_from(round).expect("small") + 1);
        let mut ingest = Program::start(&nats, dir.path(), Mode::Tap);
        same(&mut mirror, &mut host).await;
        let rows = mirror.rows("t");
        if round < 2 {
            spill(&mut host, first);
        } else {
            // The service begins, and is killed, inside of the transaction.
            ingest.kill();
            spill(&mut host, first);
            host.execute(".flush").expect("flush");
            ingest = Program::start(&nats, dir.path(), Mode::Tap);
            tokio::time::sleep(Duration::from_millis(300)).await;
            ingest.kill();
            ingest = Program::start(&nats, dir.path(), Mode::Tap);
        }
        tokio::time::timeout(Duration::from_millis(300), mirror.read()).await.ok();
        assert_eq!(mirror.rows("t"), rows, "open in round {round}");
        host.execute(ends_with).expect(ends_with);
        host.execute(&format!("INSERT INTO t(id, pad) VALUES ({}, 'after')", first + 900)).expect("insert");
        same(&mut mirror, &mut host).await;
        assert_eq!(mirror.rows("t"), rows + 1 + if ends_with == "COMMIT" { 200 } else { 0 });
        ingest.kill();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_dies_inside_a_transaction_keeps_its_part() {
    let (nats, client, dir) = start().await;
    let Some(mut host) = GenjiHost::start_with(dir.path(), &SPILLS).expect("engine") else { return };
    host.execute(TABLE).expect("create");
    host.execute(".fill t 0 30 40 1").expect("fill");
    let mut mirror = Mirror::new(&client);
    for round in 1..=4 {
        let mut ingest = Program::start(&nats, dir.path(), Mode::Tap);
        same(&mut mirror, &mut host).await;
        if round % 2 == 0 {
            ingest.kill();
        }
        spill(&mut host, round * 1000);
        // Parts stand in full blocks; the flush brings the rest to the disk.
        host.execute(".walsync").expect("sync");
        signal(host.pid(), "KILL");
        drop(host);
        host = GenjiHost::start_with(dir.path(), &SPILLS).expect("engine").expect("present");
        if round % 2 == 0 {
            ingest = Program::start(&nats, dir.path(), Mode::Tap);
        }
        same(&mut mirror, &mut host).await;
        // What the next spilled transaction rolls back takes the orphan along.
        spill(&mut host, round * 1000 + 500);
        host.execute(if round < 3 { "ROLLBACK" } else { "COMMIT" }).expect("end");
        host.execute(&format!("INSERT INTO t(id, pad) VALUES ({}, 'after')", round * 1000 + 900))
            .expect("insert");
        same(&mut mirror, &mut host).await;
        ingest.kill();
    }
}

/// After a kill Genji gives the last namespace out again: each of two tables shows the rows of both.
#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_is_given_out_twice() {
    let (nats, client, dir) = start().await;
    let Some(mut host) = open(dir.path()) else { return };
    host.execute(TABLE).expect("create");
    host.execute(".fill t 0 30 40 1").expect("fill");
    let ingest = Ingest::start(&nats, dir.path(), Mode::Tap);
    let mut mirror = Mirror::new(&client);
    same(&mut mirror, &mut host).await;
    host.kill().expect("kill");
    let mut host = open(dir.path()).expect("present");
    host.execute("CREATE TABLE u(id INT PRIMARY KEY, pad TEXT)").expect("create");
    host.execute(".fill u 100 5 40 1").expect("fill");
    host.execute("DELETE FROM t WHERE id = 3").expect("delete");
    for table in ["t", "u"] {
        let expected = truth(&mut host, table);
        read_until(&mut mirror, |mirror| {
            mirror.relations.contains_key(table) && mirrored(mirror, table) == expected
        })
        .await;
    }
    assert_eq!(mirror.rows("u"), 34);
    let parts: Vec<_> = faults(&client).await.into_iter().map(|fault| (fault.part, fault.reason)).collect();
    let (part, reason) = parts.first().expect("a fault");
    assert_eq!((parts.len(), part.as_str()), (2, "relation t"));
    assert!(reason.contains("is shared by t, u"), "{reason}");
    ingest.stop().await;
}
