use std::time::Duration;

use deltamesh_jetstream::{Bucket, BucketEvent, BucketName};

use crate::start;

#[tokio::test]
async fn current_values_then_changes_across_a_restart() {
    let (mut server, client) = start().await;
    let bucket = Bucket::open(&client, BucketName::Modules).await.expect("open");
    let mut empty = bucket.watch();
    assert_eq!(empty.next().await.expect("empty"), BucketEvent::Current);
    bucket.put("a", "1").await.expect("put");
    bucket.put("a", "2").await.expect("put");
    bucket.put("b", "3").await.expect("put");
    bucket.delete("b").await.expect("delete");
    assert_eq!(bucket.get("a").await.expect("get").as_deref(), Some(&b"2"[..]));
    assert_eq!(bucket.get("b").await.expect("get"), None);
    assert_eq!(bucket.entries().await.expect("entries").len(), 1);

    let mut watch = bucket.watch();
    let mut seen = vec![];
    while let BucketEvent::Entry(entry) = watch.next().await.expect("watch") {
        seen.push((entry.key, entry.value.is_some()));
    }
    seen.sort();
    assert_eq!(seen, [("a".to_owned(), true), ("b".to_owned(), false)]);

    server.restart().expect("restart");
    while bucket.put("c", "4").await.is_err() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let entry = loop {
        if let Ok(BucketEvent::Entry(entry)) = watch.next().await {
            break entry;
        }
    };
    assert_eq!((entry.key.as_str(), entry.value.as_deref()), ("c", Some(&b"4"[..])));
}

/// A stream that is being made takes all the room for a moment.
#[tokio::test]
async fn a_bucket_waits_for_room() {
    let (_server, client) = start().await;
    let bucket = Bucket::open(&client, BucketName::Replicas).await.expect("open");
    let context = async_nats::jetstream::new(client.nats().clone());
    let config = async_nats::jetstream::stream::Config {
        name: "ALL".to_owned(),
        max_bytes: 64_000_000_000,
        ..Default::default()
    };
    context.create_stream(config).await.expect("create");
    let (put, opened, deleted) =
        tokio::join!(bucket.put("a", "1"), Bucket::open(&client, BucketName::Modules), async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            context.delete_stream("ALL").await
        });
    put.expect("put");
    opened.expect("open");
    deleted.expect("delete");
}
