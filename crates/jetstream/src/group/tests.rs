use std::sync::Arc;

use deltamesh_change::{
    ChangeEvent, Column, ColumnType, EnginePosition, Item, Operation, RelationSchema, SchemaChange,
    SourcePosition, Transaction, Value,
};

use deltamesh_wire::proto::change::v1::Changes;

use super::{Group, GroupReader, KEPT_BYTES};
use crate::{ErrorKind, GroupPacker, Message, SnapshotPacker, Stored};

fn schema(relation: &str) -> Arc<RelationSchema> {
    let columns = vec![Column::new("id", ColumnType::Int, false), Column::new("v", ColumnType::Text, true)];
    Arc::new(RelationSchema { relation: relation.into(), dsid: 1, columns, key: vec![0] })
}

fn event(relation: &str, id: i64, size: usize) -> ChangeEvent {
    ChangeEvent {
        schema: schema(relation),
        operation: Operation::Upsert,
        key: vec![Value::Int(id)],
        before: None,
        after: Some(vec![Value::Int(id), Value::Text("x".repeat(size))]),
    }
}

fn row(relation: &str, id: i64, size: usize) -> Item {
    Item::Row(event(relation, id, size))
}

fn position(ordinal: u64) -> SourcePosition {
    SourcePosition { incarnation: "a".into(), ordinal, engine: EnginePosition::default() }
}

fn group(transactions: impl IntoIterator<Item = (u64, Vec<Item>)>) -> Vec<Message> {
    let mut packer = GroupPacker::new("app", 1 << 20);
    for (ordinal, items) in transactions {
        packer.push(Transaction { position: position(ordinal), items, snapshot: false }, 7);
    }
    packer.finish()
}

fn stored(messages: Vec<Message>) -> impl Iterator<Item = Stored> {
    messages.into_iter().zip(1..).map(|(message, sequence)| Stored {
        sequence,
        subject: message.subject,
        headers: message.headers,
        payload: message.payload,
    })
}

fn kept(group: &Group) -> &[Changes] {
    group.messages.as_deref().expect("small")
}

#[test]
fn transactions_of_one_relation_are_one_message() {
    let messages = group([(1, vec![row("t", 1, 3)]), (2, vec![row("t", 2, 3), row("t", 3, 3)])]);
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].subject, "changes.app.t");
    let mut reader = GroupReader::new(None);
    let group = stored(messages).find_map(|stored| reader.push(&stored).expect("valid")).expect("complete");
    assert_eq!((group.first_ordinal, group.position.ordinal), (1, 2));
    let ordinals: Vec<_> = kept(&group)[0].transactions.iter().map(|t| (t.ordinal, t.rows.len())).collect();
    assert_eq!(ordinals, [(1, 1), (2, 2)]);
}

#[test]
fn a_schema_change_stands_between_the_rows() {
    let define = Item::Schema(SchemaChange::Define(schema("t")));
    let messages = group([(1, vec![row("t", 1, 1), row("s", 1, 1), define, row("t", 2, 1)])]);
    let subjects: Vec<_> = messages.iter().map(|message| message.subject.as_str()).collect();
    assert_eq!(subjects, ["changes.app.t", "changes.app.s", "changes.app.__schema.t", "changes.app.t"]);
    let mut reader = GroupReader::new(None);
    let ends: Vec<_> =
        stored(messages).map(|stored| reader.push(&stored).expect("valid").is_some()).collect();
    assert_eq!(ends, [false, false, false, true]);
}

#[test]
fn messages_stay_below_half_a_mebibyte() {
    let messages = group([(1, (0..20).map(|id| row("t", id, 100_000)).collect())]);
    assert_eq!(messages.len(), 4);
    assert!(messages.iter().all(|message| message.payload.len() <= 512 << 10));
}

#[test]
fn a_snapshot_is_packed_as_it_comes() {
    let mut packer = SnapshotPacker::new("app", position(5), 9, 1 << 20);
    let mut messages = vec![];
    messages.extend(packer.define(&schema("t")));
    messages.extend(packer.define(&schema("s")));
    for id in 0..12 {
        messages.extend(packer.row(event("t", id, 100_000)));
    }
    messages.push(packer.finish());
    assert_eq!(messages.len(), 5);
    let mut reader = GroupReader::new(None);
    let group = stored(messages).find_map(|stored| reader.push(&stored).expect("valid")).expect("complete");
    assert!(group.snapshot);
    let rows: usize = kept(&group).iter().flat_map(|m| &m.transactions).map(|t| t.rows.len()).sum();
    assert_eq!(rows, 12);
}

/// Row numbers that are packed in parts, each as a message at least, and their ends.
#[test]
fn a_transaction_in_parts_is_packed_as_it_comes() {
    let mut packer = GroupPacker::new("app", 1 << 20);
    let mut messages = vec![];
    for part in 0..10 {
        let mut items: Vec<_> = (0..8).map(|id| row("t", part * 8 + id, 100_000)).collect();
        items.push(row("s", part, 10));
        packer.push(Transaction { position: position(1), items, snapshot: false }, 7);
        messages.extend(packer.take_complete());
        assert!(messages.len() as i64 >= part, "{} after part {part}", messages.len());
    }
    messages.extend(packer.finish());
    let mut reader = GroupReader::new(None);
    let mut groups: Vec<_> =
        stored(messages).filter_map(|stored| reader.push(&stored).expect("valid")).collect();
    let group = groups.pop().expect("complete");
    assert_eq!((groups.len(), group.first_ordinal, group.position.ordinal), (0, 1, 1));
    for (relation, expected) in [("t", 80), ("s", 10)] {
        let of = kept(&group).iter().filter(|message| message.relation == relation);
        let keys = of.flat_map(|message| &message.transactions).map(|transaction| transaction.rows.len());
        assert_eq!(keys.sum::<usize>(), expected);
    }
}

#[test]
fn a_large_group_is_not_kept() {
    let rows = |count: usize| (0..count as i64).map(|id| row("t", id, 100_000)).collect();
    for (count, is_kept) in [(10, true), (KEPT_BYTES / 100_000 + 1, false), (10, true)] {
        let messages = group([(1, rows(count))]);
        let last = messages.len() as u64;
        let mut reader = GroupReader::new(None);
        let group =
            stored(messages).find_map(|stored| reader.push(&stored).expect("valid")).expect("complete");
        assert_eq!((group.first_sequence, group.last_sequence), (1, last));
        assert_eq!(group.messages.is_some(), is_kept);
    }
}

#[test]
fn a_group_that_was_begun_again_counts_once() {
    let whole = |captured| {
        let mut packer = SnapshotPacker::new("app", position(1), captured, 1 << 20);
        let mut messages = vec![];
        messages.extend(packer.define(&schema("t")));
        messages.extend((0..8).filter_map(|id| packer.row(event("t", id, 100_000))));
        messages.push(packer.finish());
        messages
    };
    let mut messages = whole(1);
    messages.pop();
    messages.extend(whole(2));
    let mut reader = GroupReader::new(None);
    let groups: Vec<_> = stored(messages).filter_map(|stored| reader.push(&stored).expect("valid")).collect();
    assert_eq!(groups.len(), 1);
    let rows: usize = kept(&groups[0]).iter().flat_map(|m| &m.transactions).map(|t| t.rows.len()).sum();
    assert_eq!(rows, 8);
}

#[test]
fn a_hole_is_found_and_healed_by_a_snapshot() {
    let mut reader = GroupReader::new(Some(position(3)));
    let mut push = |messages| {
        let mut group = None;
        for stored in stored(messages) {
            group = reader.push(&stored)?;
        }
        Ok::<_, crate::Error>(group.map(|group| group.position.ordinal))
    };
    assert_eq!(push(group([(4, vec![row("t", 1, 1)])])).expect("follows"), Some(4));
    let error = push(group([(6, vec![row("t", 1, 1)])])).expect_err("5 is missing");
    assert_eq!(error.kind(), ErrorKind::Hole);
    assert_eq!(push(group([(7, vec![row("t", 1, 1)])])).expect("dropped"), None);
    let snapshot = SnapshotPacker::new("app", position(8), 1, 1 << 20).finish();
    assert_eq!(push(vec![snapshot]).expect("snapshot"), Some(8));
    assert_eq!(push(group([(9, vec![row("t", 1, 1)])])).expect("follows"), Some(9));
}
