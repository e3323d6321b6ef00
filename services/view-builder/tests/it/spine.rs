//! From the change stream through the replica to the feed stream.

use std::time::Duration;

use deltamesh_jetstream::Requests;
use expect_test::expect;

use crate::harness::{Harness, Row};

const COUNTS: &str =
    "CREATE MATERIALIZED VIEW counts AS SELECT chat, count(*) AS messages FROM message GROUP BY chat";

#[tokio::test(flavor = "multi_thread")]
async fn changes_become_feed_messages() {
    check_feed_messages(Harness::new().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_become_feed_messages_from_postgres() {
    check_feed_messages(Harness::on_postgres().await).await;
}

/// The database goes away and comes back, and a second view-builder takes the replica over.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_postgres_server_is_waited_for() {
    let mut harness = Harness::on_postgres().await;
    harness.publish(true, &[Row::Put(1, 7, "a")]).await;
    harness.start();
    harness.ask("view.create", COUNTS).await.ok();
    harness.wait_rows("SELECT count(*) FROM app__message", "[1]").await;
    if harness.rows("SELECT * FROM counts").await.is_err() {
        harness.ask("view.create", COUNTS).await.unwrap();
    }
    harness.postgres.as_mut().unwrap().kill().unwrap();
    harness.publish(false, &[Row::Put(2, 7, "b")]).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    harness.postgres.as_mut().unwrap().restart().unwrap();
    harness.wait_rows("SELECT * FROM counts", "[7,2]").await;
    harness.stop().await;
    harness.start();
    harness.publish(false, &[Row::Put(3, 8, "c")]).await;
    harness.wait_rows("SELECT * FROM counts ORDER BY chat", "[7,2]\n[8,1]").await;
    expect![[r#"[{"view":"counts","missing":0,"extra":0}]"#]]
        .assert_eq(&harness.ask("verify", "").await.unwrap());
    harness.stop().await;
}

async fn check_feed_messages(mut harness: Harness) {
    harness.publish(true, &[Row::Put(1, 7, "a")]).await;
    harness.start();
    harness.wait_rows("SELECT count(*) FROM app__message", "[1]").await;
    assert_eq!(harness.ask("view.create", COUNTS).await.unwrap(), "created counts");
    harness.publish(false, &[Row::Put(2, 7, "b"), Row::Put(3, 8, "c")]).await;
    harness.wait_rows("SELECT * FROM counts ORDER BY chat", "[7,2]\n[8,1]").await;
    harness.stop().await;
    harness.publish(false, &[Row::Delete(3)]).await;
    harness.start();
    harness.wait_rows("SELECT * FROM counts ORDER BY chat", "[7,2]").await;
    expect![[r#"
        1 feed.counts.7 insert {"chat":7,"messages":1} !
        2 feed.counts.7 update {"chat":7,"messages":2}
        3 feed.counts.8 insert {"chat":8,"messages":1} !
        4 feed.counts.8 delete {"chat":8,"messages":1} !"#]]
    .assert_eq(&harness.feed(4).await);
    expect![[r#"[{"view":"counts","missing":0,"extra":0}]"#]]
        .assert_eq(&harness.ask("verify", "").await.unwrap());
    assert_eq!(harness.faults().await, "");
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_answered_or_refused() {
    let mut harness = Harness::new().await;
    harness.publish(true, &[Row::Put(1, 7, "a")]).await;
    harness.start();
    harness.wait_rows("SELECT count(*) FROM app__message", "[1]").await;
    let error = harness.ask("view.create", "CREATE MATERIALIZED VIEW v AS SELECT nothing FROM message").await;
    assert!(error.unwrap_err().contains("nothing"));
    harness.ask("view.create", COUNTS).await.unwrap();
    assert!(harness.ask("view.explain", "counts").await.unwrap().contains("app__message"));
    let list: serde_json::Value = serde_json::from_str(&harness.ask("view.list", "").await.unwrap()).unwrap();
    assert_eq!((&list[0]["name"], &list[0]["key"][0]), (&"counts".into(), &"chat".into()));
    let refused = harness.rows("DELETE FROM counts").await.unwrap_err();
    assert!(refused.contains("not authorized") || refused.contains("not a SELECT"), "{refused}");
    assert_eq!(harness.ask("view.drop", "counts").await.unwrap(), "dropped counts");
    expect![[r#"
        1 feed.counts.7 insert {"chat":7,"messages":1} !
        2 feed.counts.7 delete {"chat":7,"messages":1} !"#]]
    .assert_eq(&harness.feed(2).await);
    assert_eq!(harness.ask("view.drop", "counts").await.unwrap_err(), "view counts: does not exist");
    assert!(harness.ask("nothing", "").await.unwrap_err().contains("does not exist"));
    harness.stop().await;
}

/// A view over a large relation is there when its rows are in it, and follows what changes meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_view_is_filled_beside_the_flow() {
    let mut harness = Harness::new().await;
    let rows: Vec<Row> = (1..=1_000).map(|id| Row::Put(id, id % 2, "a")).collect();
    harness.publish(true, &rows).await;
    harness.start();
    harness.wait_rows("SELECT count(*) FROM app__message", "[1000]").await;
    let reply = harness.ask("view.create", COUNTS).await.unwrap();
    assert_eq!(reply, "created counts; still being filled, see status: counts");
    harness.publish(false, &[Row::Put(1, 7, "b"), Row::Delete(1_000)]).await;
    harness.wait_rows("SELECT fault FROM __deltamesh_views", "[null]").await;
    harness.wait_rows("SELECT messages FROM counts ORDER BY chat", "[499]\n[499]\n[1]").await;
    assert_eq!(harness.faults().await, "");
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_is_healed_by_a_snapshot() {
    let mut harness = Harness::new().await;
    let mut reconciles = Requests::subscribe(&harness.client, "source.app.reconcile", None).await.unwrap();
    harness.publish(true, &[Row::Put(1, 7, "a"), Row::Put(2, 7, "b")]).await;
    harness.start();
    harness.ask("view.list", "").await.unwrap();
    harness.wait_rows("SELECT count(*) FROM app__message", "[2]").await;
    harness.ask("view.create", COUNTS).await.unwrap();
    harness.ordinal += 3;
    harness.publish(false, &[Row::Put(9, 9, "after the hole")]).await;
    let request = tokio::time::timeout(crate::harness::WAIT, reconciles.next()).await.unwrap().unwrap();
    request.reply("").await.unwrap();
    assert_eq!(harness.faults().await, "source app: transactions 2 to 4 are missing");
    let snapshot = [Row::Put(2, 7, "b"), Row::Put(9, 9, "after the hole")];
    harness.publish_together(&[(true, &snapshot), (false, &[Row::Put(10, 9, "c")])]).await;
    harness.wait_rows("SELECT * FROM counts ORDER BY chat", "[7,1]\n[9,2]").await;
    assert_eq!(harness.faults().await, "");
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_nats_server_is_waited_for() {
    let mut harness = Harness::new().await;
    harness.publish(true, &[Row::Put(1, 7, "a")]).await;
    harness.start();
    harness.wait_rows("SELECT count(*) FROM app__message", "[1]").await;
    harness.ask("view.create", COUNTS).await.unwrap();
    harness.nats.restart().unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    harness.publish(false, &[Row::Put(2, 7, "b")]).await;
    assert_eq!(harness.feed(2).await.lines().count(), 2);
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_replica_continues_the_numbers_of_the_stream() {
    let mut harness = Harness::new().await;
    harness.publish(true, &[Row::Put(1, 7, "a")]).await;
    harness.start();
    harness.wait_rows("SELECT count(*) FROM app__message", "[1]").await;
    harness.ask("view.create", COUNTS).await.unwrap();
    assert_eq!(harness.feed(1).await.lines().count(), 1);
    harness.stop().await;
    for suffix in ["", "-wal", "-shm"] {
        std::fs::remove_file(format!("{}{suffix}", harness.path().display())).ok();
    }
    harness.start();
    harness.wait_rows("SELECT count(*) FROM app__message", "[1]").await;
    harness.ask("view.create", COUNTS).await.unwrap();
    expect![[r#"
        1 feed.counts.7 insert {"chat":7,"messages":1} !
        2 feed.counts.7 insert {"chat":7,"messages":1} !"#]]
    .assert_eq(&harness.feed(2).await);
    harness.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_has_one_writer() {
    let mut harness = Harness::new().await;
    harness.start();
    harness.ask("view.list", "").await.unwrap();
    let second = harness.run_another().await.unwrap_err();
    assert!(second.to_string().ends_with("another view-builder writes this replica"), "{second}");
    harness.stop().await;
}

/// Who reads does not wait for the transaction that is being applied.
#[tokio::test(flavor = "multi_thread")]
async fn requests_are_answered_beside_a_transaction() {
    let mut harness = Harness::on_postgres().await;
    harness.publish(true, &[Row::Put(1, 7, "a")]).await;
    harness.start();
    harness.wait_rows("SELECT count(*) FROM app__message", "[1]").await;
    // Holds the mirror until the writer has waited for it for a while.
    let lock = "BEGIN; LOCK TABLE app.app__message IN SHARE MODE; DO $$ BEGIN
        WHILE NOT EXISTS (SELECT 1 FROM pg_locks WHERE NOT granted) LOOP PERFORM pg_sleep(0.01); END LOOP;
        PERFORM pg_sleep(2); END $$; COMMIT";
    let server = harness.postgres.take().unwrap();
    let locking = std::thread::spawn(move || server.psql(lock).map(|_| server).unwrap());
    harness
        .wait_rows("SELECT count(*) FROM pg_locks WHERE mode = 'ShareLock' AND relation > 16384", "[1]")
        .await;
    harness.publish(false, &[Row::Put(2, 7, "b")]).await;
    harness.wait_rows("SELECT count(*) FROM pg_locks WHERE NOT granted", "[1]").await;
    harness.wait_rows("SELECT count(*) FROM app__message", "[2]").await;
    let _server = locking.join().unwrap();
    harness.stop().await;
}
