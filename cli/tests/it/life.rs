//! The life of one `UPDATE`, step by step as `ARCHITECTURE.md` tells it.

use std::time::Duration;

use deltamesh_jetstream::{Client, Consumer, Stored, connect};
use deltamesh_wire::proto::change::v1::{Changes, Operation};
use deltamesh_wire::proto::source::v1::{ExecuteRequest, MutateResponse};
use deltamesh_wire::{header, subject};
use prost::Message as _;
use serde_json::{Value, json};

use crate::mesh::{Mesh, eventually};
use crate::subscriber::Subscriber;

const WITHIN: Duration = Duration::from_secs(30);

#[tokio::test]
async fn life_of_one_update() {
    let dir = tempfile::tempdir().unwrap();
    let source = format!("app=genji:{}?mode=host", dir.path().join("db").display());
    let module = deltamesh_testkit::workspace_root().join("modules/chat");
    let mesh = Mesh::start(dir.path(), &["--source", &source, "--module", module.to_str().unwrap()]);
    let client = connect(mesh.ready["nats"].as_str().unwrap(), "test").await.unwrap();
    execute(&client, "INSERT INTO user (user_id, login) VALUES ('anna', 'Anna')").await;
    let before = execute(
        &client,
        "INSERT INTO chat_message (chat_message_id, chat_id, user_id, body) VALUES ('m1', 'general', 'anna', 'hello')",
    )
    .await;
    let subscriber = Subscriber::follow(&mesh, "chat_feed");
    let (former, cursor) = eventually("the subscriber holds the message", || {
        let held = subscriber.held();
        let there = held.rows.contains_key(r#"["m1"]"#);
        held.cursor.clone().filter(|_| there).map(|cursor| (held.rows.clone(), cursor))
    });
    let log = follow(&client, &subject::changes_stream("app")).await;
    let feed = follow(&client, &subject::feed_stream("main")).await;

    // 1, 2: the engine commits, and the tail reads one transaction behind the one before.
    let after =
        execute(&client, "UPDATE chat_message SET body = 'hello, all' WHERE chat_message_id = 'm1'").await;
    assert_eq!(after.rows, 1);
    let (before, after) = (before.position.unwrap(), after.position.unwrap());
    assert_eq!((after.incarnation, after.ordinal), (before.incarnation, before.ordinal + 1));

    // 3: one message in the change log; the log cannot tell insert from update.
    let message = next(log).await;
    assert_eq!(message.subject, "changes.app.chat_message");
    let changes = Changes::decode(message.payload).unwrap();
    assert_eq!((changes.first_ordinal, changes.end), (after.ordinal, true));
    let rows = &changes.transactions[0].rows;
    assert_eq!((changes.transactions.len(), rows.len()), (1, 1));
    assert_eq!(rows[0].operation(), Operation::Upsert);

    // 4, 5, 6: the mirror made an update of it, the view a delta, the change log of the replica a message.
    let message = next(feed).await;
    assert_eq!(message.subject, "feed.chat_feed.general.m1");
    let text = |name: &str| message.headers.get(name).unwrap();
    assert_eq!(text(header::OPERATION), "update");
    assert_eq!(text(header::KEY), r#"["m1"]"#);
    assert_eq!(text(header::BEFORE), r#"{"body":"hello"}"#);
    assert!(text(header::POSITION).contains(&format!("/{}/", after.ordinal)));
    let row: Value = serde_json::from_slice(&message.payload).unwrap();
    let expected = json!({
        "chat_message_id": "m1", "chat_id": "general", "user_id": "anna", "sender": "Anna", "body": "hello, all",
        "sent_at": null,
    });
    assert_eq!(row, expected);
    assert_eq!(mesh.rows("SELECT * FROM chat_feed"), std::slice::from_ref(&expected));

    // 7: the subscriber has it. 8: so has one who comes back with the cursor from before.
    eventually("the subscriber has the update", || {
        (subscriber.held().rows[r#"["m1"]"#] == expected).then_some(())
    });
    assert_eq!(subscriber.held().wrong, Vec::<String>::new());
    let resumed = Subscriber::resume(&mesh, "chat_feed", &cursor, former);
    eventually("the resumed subscriber has the update", || {
        (resumed.held().rows[r#"["m1"]"#] == expected).then_some(())
    });
    assert_eq!(resumed.held().snapshots, Vec::<String>::new());
    assert_eq!(mesh.stop().code(), Some(0));
}

pub(crate) async fn execute(client: &Client, statement: &str) -> MutateResponse {
    let request = ExecuteRequest { statement: statement.to_owned(), ..ExecuteRequest::default() };
    let subject = subject::source_request("app", "execute");
    let answer = client.request(&subject, request.encode_to_vec(), WITHIN).await.unwrap();
    MutateResponse::decode(answer).unwrap()
}

/// A reader of what comes behind the stream's end.
async fn follow(client: &Client, stream: &str) -> Consumer {
    let end = Consumer::open(client, stream, 1).await.unwrap().bounds().await.unwrap().last;
    Consumer::open(client, stream, end + 1).await.unwrap()
}

async fn next(mut stream: Consumer) -> Stored {
    let batch = tokio::time::timeout(WITHIN, stream.next_batch(1, usize::MAX)).await;
    batch.expect("a message comes").unwrap().remove(0)
}
