//! Two replicas with views of one name.

use deltamesh_jetstream::Consumer;
use deltamesh_wire::subject;

use crate::harness::{Harness, Row, WAIT};

const COUNTS: &str =
    "CREATE MATERIALIZED VIEW counts AS SELECT chat, count(*) AS n FROM message GROUP BY chat";
const BODIES: &str = "CREATE MATERIALIZED VIEW bodies AS SELECT id, body FROM message";

/// Waits for the subjects of the first messages of a feed stream.
async fn subjects(harness: &Harness, stream: &str, count: u64) -> String {
    let mut subjects = Vec::new();
    let read = async {
        let mut consumer = loop {
            match Consumer::open(&harness.client, stream, 1).await {
                Ok(consumer) => break consumer,
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            }
        };
        while consumer.next_sequence() <= count {
            let batch = consumer.next_batch(1000, 1 << 20).await.unwrap();
            subjects.extend(batch.into_iter().map(|stored| stored.subject));
        }
    };
    tokio::time::timeout(WAIT, read).await.expect("messages in time");
    subjects.join(" ")
}

async fn ask(harness: &Harness, replica: &str, operation: &str, payload: &str) {
    let subject = subject::replica_request(replica, operation);
    let deadline = tokio::time::Instant::now() + WAIT;
    while let Err(error) = harness.client.request(&subject, payload.to_owned(), WAIT).await {
        assert!(tokio::time::Instant::now() < deadline, "{replica} {operation}: {}", error.message);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_taken_stops_no_feed() {
    let mut harness = Harness::new().await;
    harness.publish(true, &[Row::Put(1, 7, "a")]).await;
    harness.start();
    ask(&harness, "main", "view.create", COUNTS).await;
    assert_eq!(subjects(&harness, "FEED_MAIN", 1).await, "feed.counts.7");
    let other = tokio::spawn(harness.another("other"));
    ask(&harness, "other", "view.create", COUNTS).await;
    ask(&harness, "other", "view.create", BODIES).await;
    assert_eq!(subjects(&harness, "FEED_OTHER", 2).await, "aside.other.counts.7 feed.bodies.1");
    let faults = harness.faults().await;
    assert!(faults.starts_with("feed counts: feed.counts.> belongs to the stream FEED_MAIN"), "{faults}");
    harness.publish(false, &[Row::Put(2, 7, "b")]).await;
    assert_eq!(subjects(&harness, "FEED_MAIN", 2).await, "feed.counts.7 feed.counts.7");
    // The name becomes free: the last change of the one is out, and the views of the other change.
    ask(&harness, "main", "view.drop", "counts").await;
    assert_eq!(subjects(&harness, "FEED_MAIN", 3).await, "feed.counts.7 feed.counts.7 feed.counts.7");
    ask(&harness, "main", "view.create", &BODIES.replace("bodies", "texts")).await;
    subjects(&harness, "FEED_MAIN", 5).await;
    ask(&harness, "other", "view.drop", "bodies").await;
    harness.publish(false, &[Row::Put(3, 7, "c")]).await;
    let all = subjects(&harness, "FEED_OTHER", 7).await;
    assert!(all.ends_with(" feed.counts.7"), "{all}");
    assert_eq!(harness.faults().await, "");
    other.abort();
    harness.stop().await;
}
