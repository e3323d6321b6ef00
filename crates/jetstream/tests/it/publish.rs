use deltamesh_jetstream::{
    Consumer, ErrorKind, FeedPublisher, Journal as _, Publisher, StreamJournal, ensure_changes, ensure_feed,
    feed_owner,
};

use crate::{flush, message, numbered, start};

async fn texts(client: &deltamesh_jetstream::Client, stream: &str, count: u64) -> Vec<String> {
    let mut consumer = Consumer::open(client, stream, 1).await.expect("open");
    let mut texts = vec![];
    while (texts.len() as u64) < count {
        for stored in consumer.next_batch(500, 1 << 20).await.expect("read") {
            assert_eq!(stored.sequence, texts.len() as u64 + 1);
            texts.push(String::from_utf8_lossy(&stored.payload).into_owned());
        }
    }
    texts
}

#[tokio::test]
async fn one_many_and_more_than_a_batch() {
    let (_server, client) = start().await;
    ensure_changes(&client, "app").await.expect("create");
    ensure_changes(&client, "app").await.expect("exists");
    let journal = StreamJournal::open(&client, "CHANGES_APP").await.expect("open");
    let mut publisher = Publisher::open(journal.clone()).await.expect("open");
    for range in [1..=1, 2..=2, 3..=102, 103..=1102, 1103..=3000, 3001..=3001] {
        let end = *range.end();
        assert_eq!(publisher.publish(numbered(range)).await.expect("publish"), end);
    }
    assert_eq!(publisher.flush().await.expect("acks"), 3001);
    assert_eq!(journal.bounds().await.expect("state").last, 3001);
    let expected: Vec<_> = (1..=3001).map(|number: u64| number.to_string()).collect();
    assert_eq!(texts(&client, "CHANGES_APP", 3001).await, expected);
    let stored = journal.read(50).await.expect("read");
    assert!(stored.is(&message("changes.app.t", "50")) && !stored.is(&message("changes.app.t", "51")));
}

#[tokio::test]
async fn two_publishers_of_one_stream() {
    let (_server, client) = start().await;
    ensure_changes(&client, "app").await.expect("create");
    let journal = StreamJournal::open(&client, "CHANGES_APP").await.expect("open");
    let mut first = Publisher::open(journal.clone()).await.expect("open");
    let mut second = Publisher::open(journal.clone()).await.expect("open");
    first.publish(numbered(1..=1)).await.expect("send");
    first.flush().await.expect("ack");
    for range in [101..=101, 102..=120] {
        second.publish(numbered(range)).await.expect("send");
    }
    assert_eq!(second.flush().await.expect_err("fenced").kind(), ErrorKind::Fenced);
    // The foreign message has taken the place of 101, and 102 to 120 fit behind it.
    assert_eq!(second.recover().await.expect_err("fenced").kind(), ErrorKind::Interleaved);
    assert_eq!(journal.bounds().await.expect("state").last, 20);
    first.publish(numbered(2..=2)).await.expect("send");
    assert_eq!(first.flush().await.expect_err("fenced").kind(), ErrorKind::Fenced);
    assert_eq!(first.recover().await.expect_err("fenced").kind(), ErrorKind::Fenced);
}

#[tokio::test]
async fn a_killed_server_neither_doubles_nor_loses() {
    let (mut server, client) = start().await;
    ensure_changes(&client, "app").await.expect("create");
    let journal = StreamJournal::open(&client, "CHANGES_APP").await.expect("open");
    let mut publisher = Publisher::open(journal).await.expect("open");
    let mut next = 1;
    for round in 0..4_u64 {
        for _ in 0..6 {
            let end = next + round * 5;
            publisher.publish(numbered(next..=end)).await.ok();
            next = end + 1;
        }
        server.kill().expect("kill");
        server.restart().expect("restart");
        flush(&mut publisher).await;
    }
    let expected: Vec<_> = (1..next).map(|number| number.to_string()).collect();
    assert_eq!(publisher.acked(), next - 1);
    assert_eq!(texts(&client, "CHANGES_APP", next - 1).await, expected);
}

#[tokio::test]
async fn a_message_above_the_limit_is_refused() {
    let (_server, client) = start().await;
    ensure_changes(&client, "app").await.expect("create");
    let journal = StreamJournal::open(&client, "CHANGES_APP").await.expect("open");
    let mut publisher = Publisher::open(journal).await.expect("open");
    let large = message("changes.app.t", "x".repeat(client.max_payload()));
    assert_eq!(publisher.publish(vec![large]).await.expect_err("too large").kind(), ErrorKind::TooLarge);
    publisher.publish(numbered(1..=1)).await.expect("next");
    assert_eq!(publisher.flush().await.expect("ack"), 1);
}

#[tokio::test]
async fn feed_messages_have_the_sequences_of_the_outbox() {
    let (_server, client) = start().await;
    let views = ["a".to_owned(), "b".to_owned()];
    ensure_feed(&client, "main", &views, 41).await.expect("create");
    let feed = |range: std::ops::RangeInclusive<u64>| {
        range.map(|number| message("feed.a.x", number.to_string())).collect::<Vec<_>>()
    };
    let mut publisher = FeedPublisher::open(&client, "main").await.expect("open");
    assert_eq!(publisher.last_sequence(), 40);
    assert_eq!(publisher.publish(41, feed(41..=43)).await.expect("few"), 43);
    assert_eq!(publisher.publish(44, feed(44..=2500)).await.expect("many"), 2500);
    // After a restart the outbox is published again from an earlier watermark.
    let mut publisher = FeedPublisher::open(&client, "main").await.expect("open");
    assert_eq!(publisher.publish(2499, feed(2499..=2503)).await.expect("again"), 2503);
    assert_eq!(publisher.publish(2503, feed(2503..=2503)).await.expect("nothing new"), 2503);
    for (first, range, kind) in [
        (2600, 2600..=2600, ErrorKind::Lost),
        (2503, 7..=7, ErrorKind::Diverged),
        (2400, 2400..=2401, ErrorKind::Diverged),
    ] {
        assert_eq!(publisher.publish(first, feed(range)).await.expect_err("refused").kind(), kind);
    }
    ensure_feed(&client, "main", &views[..1], 1).await.expect("one view less");
    let error = ensure_feed(&client, "other", &views, 1).await.expect_err("taken");
    assert_eq!(error.kind(), ErrorKind::Taken, "{}", error.chain());
    assert_eq!(feed_owner(&client, "a").await.expect("asked").as_deref(), Some("FEED_MAIN"));
    assert_eq!(feed_owner(&client, "b").await.expect("asked"), None);
}
