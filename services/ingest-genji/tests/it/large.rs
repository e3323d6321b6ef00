//! Transactions that are larger than what the service keeps in memory.

use std::path::Path;
use std::time::{Duration, Instant};

use deltamesh_ingest_genji::Mode;
use deltamesh_jetstream::{Client, Consumer, decode};
use deltamesh_testkit::GenjiHost;
use deltamesh_wire::proto::change::v1::value::Kind;

use crate::program::Program;
use crate::sql::Sql;
use crate::standby::{self, Loss, Node, check_one_writer, execute_in_time, rows};
use crate::standby_trim::{caught_up, limit};
use crate::tap::{TABLE, mirrored, truth};
use crate::{Ingest, Mirror, read_until, start};

/// How many megabytes the large transaction has.
const MEGABYTES: &str = "DELTAMESH_TEST_MEGABYTES";
/// Another `ingest-genji` than the one that was built with the test.
const PROGRAM: &str = "DELTAMESH_TEST_PROGRAM";
/// Longest wait for the whole transaction.
const WITHIN: Duration = Duration::from_secs(1200);

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_comes_in_parts() {
    let (nats, client, dir) = start().await;
    let Some(mut host) = GenjiHost::start(dir.path()).expect("engine") else { return };
    host.execute(TABLE).expect("create");
    host.execute(".fill t 0 10 40 1").expect("fill");
    let ingest = Ingest::start(&nats, dir.path(), Mode::Tap);
    let mut mirror = Mirror::new(&client);
    read_until(&mut mirror, |mirror| mirror.rows("t") == 10).await;
    // 24 MB: beyond what is kept in memory.
    host.execute(".fill t 1000 24000 1000 24000").expect("fill");
    host.execute("INSERT INTO t(id, pad) VALUES (1, 'after') ON CONFLICT DO REPLACE").expect("insert");
    read_until(&mut mirror, |mirror| {
        mirror.relations["t"].get("[1]").is_some_and(|row| row.contains("after"))
    })
    .await;
    assert_eq!(mirrored(&mirror, "t"), truth(&mut host, "t"));
    if mirror.snapshots == 1 {
        // The large one is a group of its own, in messages of half a MiB.
        assert!(mirror.events == 24_001 && mirror.messages > 45, "{mirror:?}");
    }
    ingest.stop().await;
}

/// Its beginning stays in the stream without an end; what comes behind it has the rows.
#[tokio::test(flavor = "multi_thread")]
async fn ended_inside_a_transaction_it_begins_again() {
    let (nats, client, dir) = start().await;
    let Some(mut host) = GenjiHost::start(dir.path()).expect("engine") else { return };
    host.execute(TABLE).expect("create");
    let mut mirror = Mirror::new(&client);
    for drains in [false, true] {
        let mut ingest = Program::start(&nats, dir.path(), Mode::Tap);
        host.execute("INSERT INTO t(id, pad) VALUES (1, 'x') ON CONFLICT DO REPLACE").expect("insert");
        read_until(&mut mirror, |mirror| mirror.relations.get("t").is_some_and(|rows| !rows.is_empty()))
            .await;
        let messages = mirror.messages;
        host.execute(".fill t 1000 40000 1000 40000").expect("fill");
        read_until(&mut mirror, |mirror| mirror.messages > messages + 10).await;
        if drains {
            assert!(ingest.terminate().success());
        } else {
            ingest.kill();
        }
        let _ingest = Program::start(&nats, dir.path(), Mode::Tap);
        let expected = truth(&mut host, "t");
        read_until(&mut mirror, |mirror| mirrored(mirror, "t") == expected).await;
        host.execute("DELETE FROM t WHERE id >= 1000").expect("delete");
        read_until(&mut mirror, |mirror| mirror.rows("t") == 1).await;
    }
}

/// The stream keeps so little that the writer message is renewed inside the transaction, and the standby reads it twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_follows_a_transaction_in_parts() {
    let (nats, client, dir) = start().await;
    let mut writer = Node::start(&nats, dir.path().join("a"), Mode::Host);
    execute_in_time(&client, standby::TABLE).await;
    limit(&client, 64 << 20, Duration::from_secs(600)).await;
    writer.lose(Loss::Killed);
    writer.come_back(Loss::Killed);
    let mut follower = Node::start(&nats, dir.path().join("b"), Mode::Standby);
    caught_up(&client, 1).await;

    let sql = Sql::new(&client);
    let session = sql.begin().await;
    let text = "v".repeat(400_000);
    for id in 10..110 {
        let row = format!("INSERT INTO t(id, doc) VALUES ({id}, {{a: '{text}'}})");
        sql.run(&session, &row).await.expect("insert");
    }
    sql.run(&session, "DELETE FROM t WHERE id = 1").await.expect("delete");
    let position = sql.run(&session, "COMMIT").await.expect("commit").position.expect("changes");
    let mut mirror = Mirror::new(&client);
    read_until(&mut mirror, |mirror| mirror.position.ordinal >= position.ordinal).await;
    assert_eq!(writers_inside(&client, position.ordinal).await, 2);
    check_one_writer(&client).await;
    caught_up(&client, 2).await;
    for node in [&mut follower, &mut writer] {
        assert!(node.program.terminate().success());
    }
    let held = rows(&writer.dir);
    assert_eq!(held.len(), 101);
    assert!(rows(&follower.dir) == held, "the standby differs");
}

/// Writer messages among those of the group that ends with that transaction, but for its last.
async fn writers_inside(client: &Client, ordinal: u64) -> usize {
    let mut consumer = Consumer::open(client, "CHANGES_APP", 1).await.expect("stream");
    let last = consumer.bounds().await.expect("bounds").last;
    let mut writers = 0;
    while consumer.next_sequence() <= last {
        for stored in consumer.next_batch(16, 8 << 20).await.expect("messages") {
            let changes = decode(&stored).expect("changes");
            let is_inside = changes.position.is_some_and(|at| at.ordinal == ordinal) && !changes.end;
            writers += usize::from(is_inside && stored.subject == "changes.app.__writer");
        }
    }
    writers
}

/// Reads the change log until all keys below `rows` have come in one group; returns how many messages that took, and
/// whether it is a snapshot.
async fn read_all(client: &Client, rows: u64) -> (usize, bool) {
    let mut consumer = Consumer::open(client, "CHANGES_APP", 1).await.expect("stream");
    let mut seen = vec![false; usize::try_from(rows).expect("small")];
    let mut group = None;
    loop {
        for stored in consumer.next_batch(16, 8 << 20).await.expect("messages") {
            let changes = decode(&stored).expect("changes");
            let head = (changes.first_ordinal, changes.captured_us, changes.snapshot);
            if group.as_ref().is_none_or(|(known, _)| *known != head) {
                group = Some((head, 0));
                seen.fill(false);
            }
            let Some((_, messages)) = &mut group else { continue };
            *messages += 1;
            for row in changes.transactions.into_iter().flat_map(|transaction| transaction.rows) {
                let id = row.after.as_ref().and_then(|after| after.values.first()?.kind.as_ref());
                let Some(Kind::Int(id)) = id else { panic!("no key") };
                seen[usize::try_from(*id).expect("key")] = true;
            }
            if changes.end && seen.iter().all(|seen| *seen) {
                return (*messages, changes.snapshot);
            }
        }
    }
}

/// Largest resident size that a process has had.
fn peak(pid: u32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("VmHWM unknown").to_owned()
}

/// Takes minutes, and three times the size of the transaction in the folder for temporary files.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "long; run with --ignored"]
async fn a_transaction_of_gigabytes() {
    let (nats, client, dir) = start().await;
    let megabytes = std::env::var(MEGABYTES).ok().and_then(|text| text.parse().ok()).unwrap_or(2000u64);
    let rows = megabytes * 1000;
    let Some(mut host) = GenjiHost::start_with(dir.path(), &["-sync=false"]).expect("engine") else { return };
    host.execute(TABLE).expect("create");
    let program = std::env::var_os(PROGRAM).unwrap_or_else(|| env!("CARGO_BIN_EXE_ingest-genji").into());
    let ingest = Program::start_program(Path::new(&program), &nats.url(), dir.path(), Mode::Tap, &[]);
    let mut mirror = Mirror::new(&client);
    read_until(&mut mirror, |mirror| mirror.relations.contains_key("t")).await;
    println!("before: {}", peak(ingest.pid()));

    let begun = Instant::now();
    let writing = tokio::task::spawn_blocking(move || {
        host.execute(&format!(".fill t 0 {rows} 1000 {rows}")).expect("fill");
        host.execute(".walsync").expect("sync");
        host
    });
    let host = writing.await.expect("writer");
    println!("the engine wrote {megabytes} MB in {:?}, then: {}", begun.elapsed(), peak(ingest.pid()));
    let reading = tokio::time::timeout(WITHIN, read_all(&client, rows));
    let (messages, is_snapshot) = reading.await.expect("in time");
    let what = if is_snapshot { "snapshot" } else { "transaction" };
    println!(
        "{rows} rows in {messages} messages of a {what} after {:?}: {}",
        begun.elapsed(),
        peak(ingest.pid())
    );
    drop(host);
}
