use std::time::Duration;

use deltamesh_ingest_genji::Mode;
use deltamesh_jetstream::{Client, Code, Fault, gather_status};
use deltamesh_testkit::GenjiHost;

use crate::program::Program;
use crate::{Ingest, LONG, Mirror, read_until, start};

pub(crate) const TABLE: &str = "CREATE TABLE t(id INT PRIMARY KEY, pad TEXT)";

/// Rows that the real engine has, in the mirror's form.
pub(crate) fn truth(host: &mut GenjiHost, table: &str) -> Vec<String> {
    dump(host, table, &["id", "pad"])
}

/// These columns of all rows that the real engine has, in the mirror's form.
pub(crate) fn dump(host: &mut GenjiHost, table: &str, columns: &[&str]) -> Vec<String> {
    let rows = host.query(&format!("SELECT {} FROM {table}", columns.join(", "))).expect("query");
    let mut rows: Vec<_> = rows
        .iter()
        .map(|row| serde_json::from_str::<serde_json::Value>(row).expect("json"))
        .map(|row| serde_json::Value::from(columns.iter().map(|name| row[*name].clone()).collect::<Vec<_>>()))
        .map(|row| row.to_string())
        .collect();
    rows.sort();
    rows
}

pub(crate) fn mirrored(mirror: &Mirror, table: &str) -> Vec<String> {
    let mut rows: Vec<_> = mirror.relations[table].values().cloned().collect();
    rows.sort();
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_writes_while_it_is_tapped() {
    let (nats, client, dir) = start().await;
    let Some(mut host) = GenjiHost::start(dir.path()).expect("engine") else { return };
    host.execute(TABLE).expect("create");
    host.execute(".fill t 0 100 40 10").expect("fill");
    let ingest = Ingest::start(&nats, dir.path(), Mode::Tap);
    let mut mirror = Mirror::new(&client);
    read_until(&mut mirror, |mirror| mirror.rows("t") == 100).await;
    assert_eq!((mirror.snapshots, mirror.events), (1, 0));

    // One transaction when idle is one message.
    let messages = mirror.messages;
    host.execute("INSERT INTO t(id, pad) VALUES (100, 'x')").expect("insert");
    read_until(&mut mirror, |mirror| mirror.rows("t") == 101).await;
    assert_eq!(mirror.messages, messages + 1);

    for line in [
        ".fill t 1000 2000 40 1",
        ".fill t 10000 50000 40 1000",
        "CREATE TABLE u(id INT PRIMARY KEY, pad TEXT)",
        ".fill u 0 3000 40 100",
        "DELETE FROM t WHERE id = 7",
        "UPDATE t SET pad = 'changed' WHERE id = 8",
        "ALTER TABLE u RENAME TO v",
        "CREATE TABLE gone(id INT PRIMARY KEY)",
        "INSERT INTO gone(id) VALUES (1)",
        "DROP TABLE gone",
        "CREATE TABLE last(id INT PRIMARY KEY)",
    ] {
        host.execute(line).expect(line);
    }
    read_until(&mut mirror, |mirror| mirror.relations.contains_key("last")).await;
    assert_eq!(mirrored(&mirror, "t"), truth(&mut host, "t"));
    assert_eq!(mirrored(&mirror, "v"), truth(&mut host, "v"));
    assert_eq!(mirror.relations.keys().collect::<Vec<_>>(), ["last", "t", "v"]);
    if mirror.snapshots == 1 {
        // Every change once: 1 + 2000 + 50000 + 3000 inserts, a delete, an update, and the row of `gone` with its delete.
        assert_eq!(mirror.events, 55_005);
    }

    let error = client.request("source.app.mutate", "", LONG).await.expect_err("tapped");
    assert_eq!(error.code, Code::FailedPrecondition);
    client.request("source.app.reconcile", "", LONG).await.expect("reconcile");
    let snapshots = mirror.snapshots;
    read_until(&mut mirror, |mirror| mirror.snapshots > snapshots).await;
    assert_eq!(mirrored(&mirror, "t"), truth(&mut host, "t"));
    let status = gather_status(&client, Duration::from_millis(300)).await.expect("status");
    let hops: Vec<_> = status[0].hops.iter().map(|hop| hop.hop.as_str()).collect();
    assert_eq!((hops.as_slice(), status[0].faults.as_slice()), (&["capture", "publish"][..], &[][..]));
    ingest.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_under_load_it_continues() {
    let (mut nats, client, dir) = start().await;
    let Some(mut host) = GenjiHost::start(dir.path()).expect("engine") else { return };
    host.execute(TABLE).expect("create");
    let writer = std::thread::spawn(move || {
        for round in 0..40 {
            host.execute(&format!(".fill t {} 200 40 1", round * 10_000)).expect("single rows");
            host.execute(&format!(".fill t {} 3000 40 1000", round * 10_000 + 1000)).expect("many rows");
        }
        host.execute("CREATE TABLE last(id INT PRIMARY KEY)").expect("create");
        host
    });
    let mut mirror = Mirror::new(&client);
    for round in 0..8 {
        let mut ingest = Program::start(&nats, dir.path(), Mode::Tap);
        let snapshot = mirror.snapshots;
        let events = mirror.events;
        read_until(&mut mirror, |mirror| mirror.snapshots > snapshot || mirror.events > events).await;
        if round % 3 == 2 {
            nats.restart().expect("restart");
        }
        ingest.kill();
    }
    let mut host = tokio::task::spawn_blocking(|| writer.join().expect("writer")).await.expect("join");
    let ingest = Ingest::start(&nats, dir.path(), Mode::Tap);
    read_until(&mut mirror, |mirror| mirror.relations.contains_key("last")).await;
    assert_eq!(mirror.rows("t"), 40 * 3200);
    assert_eq!(mirrored(&mirror, "t"), truth(&mut host, "t"));
    if mirror.snapshots == 1 {
        assert!(mirror.events <= 40 * 3200, "{mirror:?}");
    }
    ingest.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_engine_is_killed_and_opened_again() {
    let (nats, client, dir) = start().await;
    let Some(mut host) = GenjiHost::start(dir.path()).expect("engine") else { return };
    host.execute(TABLE).expect("create");
    let ingest = Ingest::start(&nats, dir.path(), Mode::Tap);
    let mut mirror = Mirror::new(&client);
    for round in 0..5 {
        host.execute(&format!(".fill t {} 500 40 7", round * 1000)).expect("fill");
        if round % 2 == 0 {
            host.kill().expect("kill");
        } else {
            host.close().expect("close");
        }
        host = GenjiHost::start(dir.path()).expect("engine").expect("present");
        read_until(&mut mirror, |mirror| mirror.rows("t") == (round + 1) * 500).await;
    }
    assert_eq!(mirrored(&mirror, "t"), truth(&mut host, "t"));
    ingest.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_not_there_yet() {
    let (nats, client, dir) = start().await;
    let path = dir.path().join("later");
    let ingest = Ingest::start(&nats, &path, Mode::Tap);
    let fault = loop {
        if let Some(fault) = faults(&client).await.pop() {
            break fault;
        }
    };
    assert_eq!(fault.part, "capture");
    assert!(fault.place.contains("later"), "{fault:?}");
    if let Some(mut host) = GenjiHost::start(&path).expect("engine") {
        host.execute(TABLE).expect("create");
        host.execute(".fill t 0 10 10").expect("fill");
        let mut mirror = Mirror::new(&client);
        read_until(&mut mirror, |mirror| mirror.rows("t") == 10).await;
        while !faults(&client).await.is_empty() {}
    }
    ingest.stop().await;
}

/// Faults that the service reports.
pub(crate) async fn faults(client: &Client) -> Vec<Fault> {
    let status = gather_status(client, Duration::from_millis(200)).await.expect("status");
    status.into_iter().next().map(|status| status.faults).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_log_stands_still_until_it_is_mended() {
    let (nats, client, dir) = start().await;
    let Some(mut host) = GenjiHost::start(dir.path()).expect("engine") else { return };
    host.execute(TABLE).expect("create");
    host.execute(".fill t 0 10 40 1").expect("fill");
    let ingest = Ingest::start(&nats, dir.path(), Mode::Tap);
    let mut mirror = Mirror::new(&client);
    read_until(&mut mirror, |mirror| mirror.rows("t") == 10).await;
    ingest.stop().await;

    host.execute(".fill t 10 20 40 1").expect("fill");
    host.close().expect("close");
    let log = dir.path().join("000002.log");
    let whole = std::fs::read(&log).expect("log");
    let mut damaged = whole.clone();
    // In the middle of what ingest has not read yet.
    let offset = whole.len() - 700;
    damaged[offset] ^= 0x40;
    std::fs::write(&log, &damaged).expect("damage");

    let ingest = Ingest::start(&nats, dir.path(), Mode::Tap);
    let fault = async {
        loop {
            if let Some(fault) = faults(&client).await.pop() {
                return fault;
            }
        }
    };
    let fault = tokio::time::timeout(LONG, fault).await.expect("a fault");
    assert_eq!(fault.part, "capture");
    assert!(fault.place.contains("000002.log:"), "{fault:?}");
    assert!(mirror.rows("t") < 30);

    std::fs::write(&log, &whole).expect("mend");
    read_until(&mut mirror, |mirror| mirror.rows("t") == 30).await;
    assert_eq!((mirror.snapshots, mirror.events), (1, 20));
    while !faults(&client).await.is_empty() {}
    ingest.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_is_away_for_a_while() {
    let (mut nats, client, dir) = start().await;
    let Some(mut host) = GenjiHost::start(dir.path()).expect("engine") else { return };
    host.execute(TABLE).expect("create");
    let ingest = Ingest::start(&nats, dir.path(), Mode::Tap);
    let mut mirror = Mirror::new(&client);
    read_until(&mut mirror, |mirror| mirror.snapshots == 1).await;
    for round in 0..3 {
        host.execute(&format!(".fill t {} 500 40 1", round * 1000)).expect("fill");
        nats.kill().expect("kill");
        host.execute(&format!(".fill t {} 500 40 1", round * 1000 + 500)).expect("fill");
        nats.restart().expect("restart");
        read_until(&mut mirror, |mirror| mirror.rows("t") == (round + 1) * 1000).await;
    }
    assert_eq!((mirror.snapshots, mirror.events), (1, 3000));
    ingest.stop().await;
}
