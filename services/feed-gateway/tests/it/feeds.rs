//! Server-sent events and subscriptions: snapshot, live, resume, filters, slow subscribers.

use std::collections::BTreeMap;

use deltamesh_feed_gateway::cursor::Cursor;
use deltamesh_feed_gateway::event::Operation;
use deltamesh_feed_gateway::feed::{self, Hub};
use deltamesh_feed_gateway::replica::Replica;
use deltamesh_feed_gateway::subscription::{Item, Mode, Subscription, Wanted};
use deltamesh_jetstream::StatusBoard;

use crate::browser::{EventSource, request};
use crate::world::{World, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_resumes_behind_its_last_event() {
    let mut world = World::start().await;
    world.items().await;
    world.put(1, "a", "one").await;
    let mut source = EventSource::open(&world, "/v1/feeds/items", None).await;
    let snapshot =
        [r#"snapshot_begin {"reason":""}"#, r#"row {"id":1,"room":"a","text":"one"}"#, "snapshot_end {}"];
    assert_eq!(source.take(3).await, snapshot);
    world.put(2, "a", "two").await;
    let seen = source.next().await;
    assert_eq!(seen.short(), r#"insert {"id":2,"room":"a","text":"two"}"#);
    drop(source);
    world.put(1, "a", "uno").await;
    world.put(3, "b", "three").await;
    world.delete(3).await;
    world.delete(2).await;
    let mut source = EventSource::open(&world, "/v1/feeds/items", seen.id.as_deref()).await;
    let missed = [r#"update {"id":1,"room":"a","text":"uno"}"#, r#"delete {"id":2,"room":"a","text":"two"}"#];
    assert_eq!(source.take(2).await, missed);
    let caught_up = source.progress().await;
    world.put(4, "a", "four").await;
    assert_eq!(source.take(1).await, [r#"insert {"id":4,"room":"a","text":"four"}"#]);
    let path = format!("/v1/feeds/items?cursor={}", caught_up.id.unwrap());
    let mut source = EventSource::open(&world, &path, None).await;
    assert_eq!(source.take(1).await, [r#"insert {"id":4,"room":"a","text":"four"}"#]);
    world.gateway.stop().await;
}

/// Where another replica has the subjects of a view, its changes come all the same, before and behind a cursor.
#[tokio::test(flavor = "multi_thread")]
async fn changes_that_are_published_aside_are_read() {
    let mut world = World::start().await;
    world.items().await;
    world.publish_aside(true).await;
    world.put(1, "a", "one").await;
    let mut source = EventSource::open(&world, "/v1/feeds/items", None).await;
    assert_eq!(source.take(3).await[1], r#"row {"id":1,"room":"a","text":"one"}"#);
    world.put(2, "a", "two").await;
    let seen = source.next().await;
    assert_eq!(seen.short(), r#"insert {"id":2,"room":"a","text":"two"}"#);
    drop(source);
    world.put(1, "a", "uno").await;
    world.publish_aside(false).await;
    world.delete(2).await;
    let mut source = EventSource::open(&world, "/v1/feeds/items", seen.id.as_deref()).await;
    let missed = [r#"update {"id":1,"room":"a","text":"uno"}"#, r#"delete {"id":2,"room":"a","text":"two"}"#];
    assert_eq!(source.take(2).await, missed);
    world.publish_aside(true).await;
    world.put(3, "b", "three").await;
    assert_eq!(source.take(1).await, [r#"insert {"id":3,"room":"b","text":"three"}"#]);
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_turns_moves_into_inserts_and_deletes() {
    let mut world = World::start().await;
    world.items().await;
    world.put(1, "a", "x").await;
    world.put(2, "b", "y").await;
    let mut source = EventSource::open(&world, "/v1/feeds/items?where.room=a", None).await;
    assert_eq!(source.take(3).await[1], r#"row {"id":1,"room":"a","text":"x"}"#);
    world.put(2, "b", "z").await;
    world.put(2, "a", "z").await;
    world.put(2, "a", "w").await;
    world.put(1, "b", "x").await;
    let seen = [
        r#"insert {"id":2,"room":"a","text":"z"}"#,
        r#"update {"id":2,"room":"a","text":"w"}"#,
        r#"delete {"id":1,"room":"a","text":"x"}"#,
    ];
    assert_eq!(source.take(3).await, seen);
    let mut one = EventSource::open(&world, "/v1/feeds/items?where.id=2&mode=snapshot_only", None).await;
    assert_eq!(one.take(3).await[1], r#"row {"id":2,"room":"a","text":"w"}"#);
    for path in ["/v1/feeds/items?where.nothing=1", "/v1/feeds/items?where.id=x", "/v1/feeds/items?cursor=x"]
    {
        assert_eq!(request(&world, "GET", path, "").await.0, 400, "{path}");
    }
    assert_eq!(request(&world, "GET", "/v1/feeds/nothing", "").await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_cursor_gets_a_marked_snapshot() {
    let mut world = World::start().await;
    world.items().await;
    world.put(1, "a", "x").await;
    let position = Replica::new(&world.path).position().await.unwrap();
    let check = async |cursor: Cursor, reason: &str| {
        let mut source = EventSource::open(&world, "/v1/feeds/items", Some(&cursor.encode())).await;
        assert_eq!(source.take(1).await, [format!(r#"snapshot_begin {{"reason":"{reason}"}}"#)]);
    };
    let here =
        Cursor { incarnation: position.incarnation, sequence: position.last, positions: BTreeMap::new() };
    check(Cursor { incarnation: "other".into(), ..here.clone() }, "cursor is of another replica").await;
    check(Cursor { sequence: here.sequence + 1, ..here }, "cursor is ahead of the replica").await;
}

/// A subscriber with a queue of four that takes nothing for a while.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_subscriber_catches_up_from_the_replica() {
    let mut world = World::start().await;
    world.items().await;
    let hub = Hub::new(4);
    let board = StatusBoard::new("test", "slow");
    let reader = tokio::spawn(feed::run(world.client.clone(), "main".to_owned(), hub.clone(), board));
    let wanted = Wanted { view: "items".to_owned(), mode: Mode::SnapshotAndChanges, ..Wanted::default() };
    let mut subscription = Subscription::start(&hub, &Replica::new(&world.path), wanted);
    let mut rows: BTreeMap<String, String> = BTreeMap::new();
    let mut inserted = 0;
    loop {
        if let Some(Item::SnapshotEnd) = within(subscription.next()).await.unwrap() {
            break;
        }
    }
    for round in 0..10 {
        for id in 0..5 {
            world.put(id, "a", &format!("round {round}")).await;
        }
    }
    world.delete(4).await;
    let last = Replica::new(&world.path).position().await.unwrap().last;
    while subscription.cursor().sequence < last {
        match within(subscription.next()).await.unwrap() {
            Some(Item::Change(event)) => {
                let (key, text) = (event.key[0].to_string(), event.row["text"].to_string());
                inserted += usize::from(event.operation == Operation::Insert);
                if event.operation == Operation::Delete {
                    rows.remove(&key)
                } else {
                    rows.insert(key, text)
                };
            }
            Some(Item::Progress) => {}
            other => panic!("{other:?}"),
        }
    }
    let expected = (0..4).map(|id| (id.to_string(), "\"round 9\"".to_owned())).collect();
    assert_eq!(rows, expected);
    assert!(inserted <= 5, "{inserted} inserts of 5 rows");
    reader.abort();
}
