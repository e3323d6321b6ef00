use std::sync::Arc;

use deltamesh_change::{
    ChangeEvent, Column, ColumnType, EnginePosition, Item, Operation, RelationSchema, SchemaChange,
    SourcePosition, Transaction, Value,
};
use deltamesh_jetstream::{
    GroupPacker, Publisher, StreamJournal, ensure_changes, next_dsid, recover_changes,
};

use crate::start;

fn schema(relation: &str, dsid: u64) -> Arc<RelationSchema> {
    let columns = vec![Column::new("id", ColumnType::Int, false)];
    Arc::new(RelationSchema { relation: relation.into(), dsid, columns, key: vec![0] })
}

fn row(relation: &str, dsid: u64, id: i64) -> Item {
    Item::Row(ChangeEvent {
        schema: schema(relation, dsid),
        operation: Operation::Upsert,
        key: vec![Value::Int(id)],
        before: None,
        after: Some(vec![Value::Int(id)]),
    })
}

#[tokio::test]
async fn a_change_log_says_where_it_stands() {
    let (_server, client) = start().await;
    ensure_changes(&client, "app").await.expect("create");
    assert_eq!([next_dsid(&client, "app").await.unwrap(), next_dsid(&client, "app").await.unwrap()], [1, 2]);
    assert_eq!(next_dsid(&client, "other").await.unwrap(), 1);
    let journal = StreamJournal::open(&client, "CHANGES_APP").await.expect("open");
    assert_eq!(recover_changes(&journal, "app").await.expect("empty").position, None);

    let mut publisher = Publisher::open(journal.clone()).await.expect("open");
    let position = |ordinal| SourcePosition {
        incarnation: "a".into(),
        ordinal,
        engine: EnginePosition { sequence: 10 * ordinal, log: 2, offset: 7 },
    };
    let define = |relation, dsid| Item::Schema(SchemaChange::Define(schema(relation, dsid)));
    let rename = Item::Schema(SchemaChange::Rename { from: "b".into(), to: schema("c", 4) });
    let groups = [
        vec![define("a", 1), row("a", 1, 1)],
        vec![define("b", 2)],
        vec![define("d", 3)],
        vec![rename],
        vec![Item::Schema(SchemaChange::Drop { relation: "d".into(), dsid: 5 })],
        vec![row("a", 1, 2)],
    ];
    for (items, ordinal) in groups.into_iter().zip(1..) {
        let mut packer = GroupPacker::new("app", client.max_payload());
        packer.push(Transaction { position: position(ordinal), items, snapshot: false }, 77);
        publisher.publish(packer.finish()).await.expect("publish");
    }
    publisher.flush().await.expect("acks");
    let complete = recover_changes(&journal, "app").await.expect("recover");
    assert_eq!(complete.position, Some(position(6)));
    assert_eq!(complete.schemas.keys().collect::<Vec<_>>(), ["a", "c"]);

    // A group whose end never came.
    let mut packer = GroupPacker::new("app", client.max_payload());
    let items = vec![row("a", 1, 3), define("e", 6), row("a", 1, 4)];
    packer.push(Transaction { position: position(7), items, snapshot: false }, 99);
    let mut messages = packer.finish();
    messages.pop();
    publisher.publish(messages).await.expect("publish");
    publisher.flush().await.expect("acks");
    let recovered = recover_changes(&journal, "app").await.expect("recover");
    assert_eq!(recovered.captured_us, 99);
    assert_eq!((recovered.position, recovered.schemas), (complete.position, complete.schemas));
}
