use std::time::{Duration, Instant};

use deltamesh_jetstream::{Consumer, ErrorKind, Publisher, StreamJournal, ensure_changes};

use tokio::time::timeout;

use crate::{flush, numbered, start};

#[tokio::test]
async fn batches_are_bounded() {
    let (_server, client) = start().await;
    ensure_changes(&client, "app").await.expect("create");
    let journal = StreamJournal::open(&client, "CHANGES_APP").await.expect("open");
    let mut publisher = Publisher::open(journal).await.expect("open");
    publisher.publish(numbered(1..=900)).await.expect("publish");
    publisher.flush().await.expect("ack");
    let mut consumer = Consumer::open(&client, "CHANGES_APP", 101).await.expect("open");
    let mut next = 101;
    while next <= 900 {
        let batch = consumer.next_batch(64, 100).await.expect("read");
        let bytes: usize = batch.iter().map(|stored| stored.payload.len()).sum();
        assert!(batch.len() <= 64 && bytes <= 100);
        for stored in batch {
            assert_eq!(stored.sequence, next);
            next += 1;
        }
    }
    assert_eq!(consumer.next_sequence(), 901);
}

#[tokio::test]
async fn a_consumer_survives_a_restart_of_the_server() {
    let (mut server, client) = start().await;
    ensure_changes(&client, "app").await.expect("create");
    let journal = StreamJournal::open(&client, "CHANGES_APP").await.expect("open");
    let mut publisher = Publisher::open(journal).await.expect("open");
    let mut consumer = Consumer::open(&client, "CHANGES_APP", 1).await.expect("open");
    let mut next = 1;
    for round in 0..3_u64 {
        publisher.publish(numbered(round * 10 + 1..=round * 10 + 10)).await.ok();
        flush(&mut publisher).await;
        while next <= round * 10 + 10 {
            // Waited for a moment at a time; unavailable while the server is away.
            let batch = timeout(Duration::from_millis(30), consumer.next_batch(3, 1 << 20)).await;
            for stored in batch.unwrap_or(Ok(vec![])).unwrap_or_default() {
                assert_eq!(stored.payload, next.to_string());
                next += 1;
            }
        }
        server.kill().expect("kill");
        let away = Instant::now() + Duration::from_millis(1500);
        while Instant::now() < away {
            let batch = timeout(Duration::from_millis(30), consumer.next_batch(3, 1 << 20)).await;
            assert!(batch.is_err() || batch.is_ok_and(|batch| batch.is_err()));
        }
        server.restart().expect("restart");
    }
}

#[tokio::test]
async fn trimmed_and_lost_are_told_apart() {
    let (_server, client) = start().await;
    ensure_changes(&client, "app").await.expect("create");
    let journal = StreamJournal::open(&client, "CHANGES_APP").await.expect("open");
    let mut publisher = Publisher::open(journal).await.expect("open");
    publisher.publish(numbered(1..=20)).await.expect("publish");
    publisher.flush().await.expect("ack");
    let mut consumer = Consumer::open(&client, "CHANGES_APP", 21).await.expect("open");
    let stream =
        async_nats::jetstream::new(client.nats().clone()).get_stream("CHANGES_APP").await.expect("stream");
    stream.purge().sequence(11).await.expect("purge");
    let open = |first| Consumer::open(&client, "CHANGES_APP", first);
    assert_eq!(open(10).await.map(drop).expect_err("gone").kind(), ErrorKind::Trimmed);
    assert_eq!(open(23).await.map(drop).expect_err("never was").kind(), ErrorKind::Lost);
    open(11).await.expect("still there");
    publisher.publish(numbered(21..=30)).await.expect("publish");
    publisher.flush().await.expect("ack");
    stream.purge().sequence(26).await.expect("purge");
    // What the server has sent ahead is still good; behind it the hole is found.
    let mut next = 21;
    loop {
        match consumer.next_batch(1, 1).await {
            Ok(batch) => assert_eq!(batch[0].sequence, next),
            Err(error) => break assert_eq!(error.kind(), ErrorKind::Trimmed),
        }
        next += 1;
        if next == 31 {
            break;
        }
    }
}

#[tokio::test]
async fn a_stream_that_does_not_exist() {
    let (_server, client) = start().await;
    let error = Consumer::open(&client, "CHANGES_NONE", 1).await.map(drop).expect_err("none");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{}", error.chain());
}
