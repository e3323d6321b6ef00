//! Messages of a change stream to groups.

use deltamesh_change::{Item, SchemaChange, Value};
use deltamesh_replica::{Assembler, ErrorKind, Group, Items};
use deltamesh_wire::proto::change::v1::{Changes, TransactionRows};
use expect_test::expect;
use prost::Message as _;

use crate::fixture::*;

fn part(ordinal: u64, snapshot: bool, end: bool) -> Changes {
    let position =
        deltamesh_change::SourcePosition { incarnation: "i1".into(), ordinal, ..Default::default() };
    Changes {
        relation: "message".into(),
        dsid: 1,
        first_ordinal: ordinal,
        position: Some((&position).into()),
        end,
        snapshot,
        captured_us: 5,
        transactions: vec![],
        schema: None,
        objects: vec![],
    }
}

fn schema_part(ordinal: u64, snapshot: bool) -> Vec<u8> {
    let define = SchemaChange::Define(message_schema());
    Changes { schema: Some((&define).into()), ..part(ordinal, snapshot, false) }.encode_to_vec()
}

fn rows_part(ordinal: u64, snapshot: bool, end: bool, ids: std::ops::Range<i64>, body: &str) -> Vec<u8> {
    let rows = ids.map(|id| match message(id, 1, 1, body) {
        Item::Row(event) => event.into(),
        Item::Schema(_) => unreachable!("a message is a row"),
    });
    let transactions = vec![TransactionRows { ordinal, rows: rows.collect() }];
    Changes { transactions, ..part(ordinal, snapshot, end) }.encode_to_vec()
}

/// Sequence, ordinal, and number of items of the groups that the messages give; or the kind of error.
fn check(
    assembler: &mut Assembler,
    messages: &[(u64, Vec<u8>)],
    expected: &expect_test::Expect,
) -> Vec<Group> {
    let (mut lines, mut groups) = (Vec::new(), Vec::new());
    for (sequence, payload) in messages {
        match assembler.push(payload, *sequence) {
            Ok(None) => {}
            Ok(Some(group)) => {
                let size = match &group.items {
                    Items::Memory(items) => items.len().to_string(),
                    Items::Spool(_) => "spooled".to_owned(),
                };
                lines.push(format!("{sequence}: {} {size}", group.position.ordinal));
                groups.push(group);
            }
            Err(error) => lines.push(format!("{sequence}: {:?}", error.kind())),
        }
    }
    expected.assert_eq(&lines.join("\n"));
    groups
}

#[test]
fn groups_end_and_begin() {
    let dir = tempfile::tempdir().unwrap();
    let mut assembler = Assembler::new("app", [], dir.path());
    let messages = [
        (1, schema_part(1, true)),
        (2, rows_part(1, true, true, 0..3, "a")),
        // Never ended, then published again from its beginning.
        (3, rows_part(2, false, false, 0..1, "b")),
        (4, rows_part(3, false, true, 0..2, "b")),
        (5, b"\xff\xff".to_vec()),
        (6, rows_part(4, false, false, 0..1, "c")),
        (7, rows_part(4, false, true, 1..2, "c")),
        (8, rows_part(5, false, true, 1..2, "c")),
    ];
    let expected = expect![[r#"
        2: 1 4
        4: 3 2
        5: Decode
        8: 5 1"#]];
    check(&mut assembler, &messages, &expected);
}

#[test]
fn a_snapshot_without_its_beginning_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let mut assembler = Assembler::new("app", [message_schema()], dir.path());
    assembler.skip_group();
    let messages = [
        (7, rows_part(4, true, false, 0..1, "a")),
        (8, rows_part(4, true, true, 1..2, "a")),
        (9, rows_part(5, false, true, 1..2, "a")),
    ];
    check(&mut assembler, &messages, &expect!["9: 5 1"]);
    let other = Changes { dsid: 9, ..part(6, false, true) };
    assert_eq!(assembler.push(&other.encode_to_vec(), 10).unwrap_err().kind(), ErrorKind::Decode);
}

#[test]
fn a_large_group_is_spooled_and_applied() {
    let mut fixture = Fixture::new();
    let dir = tempfile::tempdir().unwrap();
    let mut assembler = Assembler::new("app", [], dir.path());
    let body = "x".repeat(100_000);
    let mut messages = vec![(1, schema_part(1, true))];
    messages.extend((0..40_i64).map(|index| {
        let ids = index * 5..index * 5 + 5;
        (2 + index.unsigned_abs(), rows_part(1, true, index == 39, ids, &body))
    }));
    let groups = check(&mut assembler, &messages, &expect!["41: 1 spooled"]);
    let applied = fixture.replica().apply(&groups).unwrap();
    assert_eq!((applied.rows, applied.schema_changes), (200, 1));
    expect!["[200,100000]"].assert_eq(&fixture.rows("SELECT count(*), min(length(body)) FROM app__message"));
    assert!(dir.path().read_dir().unwrap().next().is_none(), "the spool has no name");
    fixture.ordinal = 1;
    fixture.apply(vec![delete(&message_schema(), vec![Value::Int(3)])]);
    expect!["[199]"].assert_eq(&fixture.rows("SELECT count(*) FROM app__message"));
}
