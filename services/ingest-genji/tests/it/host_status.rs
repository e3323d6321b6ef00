//! What a host says of itself.

use std::time::Duration;

use deltamesh_ingest_genji::Mode;
use deltamesh_jetstream::{Client, Status, gather_status};
use deltamesh_testkit::GenjiHost;

use crate::sql::Sql;
use crate::{Ingest, LONG, start};

/// Waits for a status that is as wanted.
async fn status(client: &Client, wanted: impl Fn(&Status) -> bool) -> Status {
    let mut last = vec![];
    let asking = async {
        loop {
            last = gather_status(client, Duration::from_millis(200)).await.expect("status");
            if let Some(found) = last.iter().find(|status| wanted(status)) {
                return found.clone();
            }
        }
    };
    let found = tokio::time::timeout(LONG, asking).await;
    found.unwrap_or_else(|_late| panic!("the status does not get there: {last:?}"))
}

/// Whether a session is open, and how many wait for it.
fn session(status: &Status) -> Option<(bool, u64)> {
    let hop = status.hops.iter().find(|hop| hop.hop == "host")?;
    Some((hop.more["session"].as_bool()?, hop.lag))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_and_who_waits_for_it() {
    let (nats, client, dir) = start().await;
    let ingest = Ingest::start(&nats, dir.path(), Mode::Host);
    let sql = Sql::new(&client);
    sql.insist("", "CREATE TABLE t (id INTEGER PRIMARY KEY)").await.expect("table");
    status(&client, |status| session(status) == Some((false, 0))).await;
    let name = sql.begin().await;
    let waiting =
        [sql.ask("INSERT INTO t (id) VALUES (1)").await, sql.ask("INSERT INTO t (id) VALUES (2)").await];
    status(&client, |status| session(status) == Some((true, 2))).await;
    sql.run(&name, "ROLLBACK").await.expect("rollback");
    for answer in waiting {
        answer.take().await.expect("its turn");
    }
    status(&client, |status| session(status) == Some((false, 0))).await;
    ingest.stop().await;
}

/// The real engine has written texts of 128 bytes and more into keys, beside shorter ones.
#[tokio::test(flavor = "multi_thread")]
async fn tables_that_cannot_be_merged_are_a_fault() {
    let (nats, client, dir) = start().await;
    let Some(mut host) = GenjiHost::start(dir.path()).expect("engine") else { return };
    for line in [
        "CREATE TABLE k (k TEXT PRIMARY KEY)",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)",
        "INSERT INTO t (id, v) VALUES (0, 'theirs')",
        &format!("INSERT INTO k (k) VALUES ('a'), ('{}')", "b".repeat(200)),
        ".flush",
    ] {
        host.execute(line).expect(line);
    }
    host.close().expect("close");
    let ingest = Ingest::start(&nats, dir.path(), Mode::Host);
    let sql = Sql::new(&client);
    let text = "v".repeat(400_000);
    // Eight memtables become tables.
    for number in 0..90 {
        let row = format!("INSERT INTO t (id, v) VALUES ({}, '{text}') ON CONFLICT DO REPLACE", number % 30);
        sql.insist("", &row).await.expect("insert");
    }
    let is_compaction = |fault: &deltamesh_jetstream::Fault| fault.part == "compaction";
    let told = status(&client, |status| status.faults.iter().any(is_compaction)).await;
    let fault = told.faults.iter().find(|fault| is_compaction(fault)).expect("fault");
    assert_eq!(fault.place, dir.path().display().to_string());
    assert_eq!(fault.reason, "texts of 128 bytes and more in keys hinder compaction");
    ingest.stop().await;
}
