//! The stream loses its oldest messages, writer messages too, while writers write, follow and change places.
//!
//! `DELTAMESH_FAILOVER_ROUNDS` says how often the writer is lost in each way (default: once).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use deltamesh_change::SourcePosition;
use deltamesh_ingest_genji::Mode;
use deltamesh_jetstream::{Client, Consumer};
use deltamesh_wire::proto::source::v1::MutateResponse;
use prost::Message as _;
use serde_json::{Value, json};

use crate::standby::{ANSWER, Load, Loss, Node, TABLE, execute, execute_in_time, rounds, rows, standby};
use crate::{LONG, start};

/// A request to the JetStream API for the change log.
async fn api(client: &Client, operation: &str, body: &Value) -> Value {
    let subject = format!("$JS.API.STREAM.{operation}.CHANGES_APP");
    let reply = client.request(&subject, body.to_string(), LONG).await.expect("answer");
    let reply: Value = serde_json::from_slice(&reply).expect("json");
    assert!(reply["error"].is_null(), "{operation}: {reply}");
    reply
}

pub(crate) async fn purge(client: &Client, keep: u64) {
    api(client, "PURGE", &json!({ "keep": keep })).await;
}

pub(crate) async fn limit(client: &Client, bytes: u64, age: Duration) {
    let mut config = api(client, "INFO", &json!({})).await["config"].clone();
    config["max_bytes"] = bytes.into();
    config["max_age"] = u64::try_from(age.as_nanos()).expect("short").into();
    config["duplicate_window"] = json!(100_000_000);
    api(client, "UPDATE", &config).await;
}

async fn bounds(client: &Client) -> (u64, u64) {
    let state = api(client, "INFO", &json!({})).await["state"].clone();
    (state["first_seq"].as_u64().expect("first"), state["last_seq"].as_u64().expect("last"))
}

/// Waits until the standby has everything that was acknowledged before.
pub(crate) async fn caught_up(client: &Client, number: u64) {
    let until = Instant::now() + LONG;
    let reply = loop {
        // Perhaps it is there already, and only the answer was late.
        let row = format!("INSERT INTO t(id) VALUES ({number}) ON CONFLICT DO REPLACE");
        match execute(client, &row).await {
            Ok(reply) => break reply,
            Err(error) => assert!(Instant::now() < until, "{error}"),
        }
    };
    let response = MutateResponse::decode(reply).expect("response");
    let wanted: SourcePosition = response.position.expect("position").into();
    let has = |text: &str| {
        text.parse::<SourcePosition>().is_ok_and(|position| {
            position.incarnation == wanted.incarnation && position.ordinal >= wanted.ordinal
        })
    };
    standby(client, |status| status.hops.iter().any(|hop| hop.hop == "standby" && has(&hop.position))).await;
}

async fn count(client: &Client) -> usize {
    let consumer = Consumer::open(client, "CHANGES_APP", bounds(client).await.0).await;
    let (mut consumer, last) = (consumer.expect("stream"), bounds(client).await.1);
    let mut writers = 0;
    while consumer.next_sequence() <= last {
        let batch = consumer.next_batch(512, 4 << 20).await.expect("messages");
        writers += batch.iter().filter(|stored| stored.subject == "changes.app.__writer").count();
    }
    writers
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_is_emptied() {
    let (nats, client, dir) = start().await;
    let mut writer = Node::start(&nats, dir.path().join("a"), Mode::Host);
    execute_in_time(&client, TABLE).await;
    execute_in_time(&client, "INSERT INTO t(id) VALUES (1)").await;
    purge(&client, 0).await;
    // Nothing says who writes: the holder of the lease says it again.
    execute_in_time(&client, "INSERT INTO t(id) VALUES (2)").await;
    assert_eq!(count(&client).await, 1);
    let mut follower = Node::start(&nats, dir.path().join("b"), Mode::Standby);
    caught_up(&client, 3).await;
    // Only rows are left, then nothing.
    purge(&client, 1).await;
    execute_in_time(&client, "INSERT INTO t(id) VALUES (4)").await;
    caught_up(&client, 5).await;
    purge(&client, 0).await;
    let before = bounds(&client).await.1;
    writer.lose(Loss::Killed);
    execute_in_time(&client, "INSERT INTO t(id) VALUES (6)").await;
    assert!(bounds(&client).await.0 > before, "sequences go on");
    purge(&client, 0).await;
    writer.come_back(Loss::Killed);
    caught_up(&client, 7).await;
    for node in [&mut follower, &mut writer] {
        assert!(node.program.terminate().success());
    }
    let expected: BTreeSet<String> = (1..=7).map(|id| format!("[{id},null,null]")).collect();
    assert_eq!(rows(&follower.dir), expected);
    assert_eq!(rows(&writer.dir), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_messages_go_while_writers_change() {
    let age = Duration::from_secs(4);
    let (nats, client, dir) = start().await;
    let mut writer = Node::start(&nats, dir.path().join("a"), Mode::Host);
    execute_in_time(&client, TABLE).await;
    limit(&client, 4 << 20, age).await;
    let mut follower = Node::start(&nats, dir.path().join("b"), Mode::Standby);
    let mut acknowledged = BTreeSet::new();
    for round in 0..rounds().unwrap_or(1) {
        for (index, loss) in [Loss::Killed, Loss::Frozen, Loss::CutOff].into_iter().enumerate() {
            let number = 1_000_000_000 + (round * 3 + index as u64) * 2;
            caught_up(&client, number).await;
            let load = Arc::new(Load::from((round * 3 + index as u64) * 1_000_000));
            load.run(&client);
            tokio::time::sleep(Duration::from_millis(700)).await;
            let lost = Instant::now();
            writer.lose(loss);
            load.first_after(lost).await;
            load.is_over.store(true, Ordering::Relaxed);
            // All that is in the stream grows too old, but for what says who writes.
            tokio::time::sleep(age + ANSWER).await;
            let (first, last) = bounds(&client).await;
            assert!(last - first < 20, "{first} to {last}");
            writer.come_back(loss);
            caught_up(&client, number + 1).await;
            acknowledged.extend(load.acknowledged());
            acknowledged.extend([number, number + 1]);
            std::mem::swap(&mut writer, &mut follower);
        }
    }
    for node in [&mut follower, &mut writer] {
        assert!(node.program.terminate().success());
    }
    let held = rows(&writer.dir);
    assert_eq!(rows(&follower.dir), held);
    let ids = held.iter().map(|row| serde_json::from_str::<Vec<Value>>(row).expect("row")[0].as_u64());
    let ids: BTreeSet<u64> = ids.map(|id| id.expect("id")).collect();
    assert_eq!(acknowledged.difference(&ids).collect::<Vec<_>>(), Vec::<&u64>::new(), "lost");
}
