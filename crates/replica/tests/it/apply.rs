//! Mirrors, checkpoints, schema changes, reconcile, failures.

use deltamesh_change::{ColumnType, Item, Operation, SchemaChange, Value};
use deltamesh_replica::ErrorKind;
use expect_test::expect;

use crate::fixture::*;

const MESSAGES: &str = "SELECT * FROM app__message ORDER BY id";

#[test]
fn rows_are_netted_and_survive_a_restart() {
    let mut fixture = Fixture::new();
    let applied = fixture.apply(vec![
        define(&message_schema()),
        message(1, 7, 1, "a"),
        message(2, 7, 1, "b"),
        message(1, 7, 1, "c"),
        message(3, 7, 1, "x"),
        delete(&message_schema(), vec![Value::Int(3)]),
    ]);
    assert_eq!((applied.rows, applied.schema_changes), (2, 1));
    fixture.reopen();
    let applied = fixture.apply(vec![message(1, 7, 1, "c"), message(2, 8, 1, "b")]);
    assert_eq!(applied.rows, 1, "an upsert that changes nothing is no change");
    expect![[r#"
        [1,7,1,"c"]
        [2,8,1,"b"]"#]]
    .assert_eq(&fixture.rows(MESSAGES));
    let checkpoint = fixture.replica().checkpoints().remove(0);
    assert_eq!(checkpoint.position.to_string(), "i1/2/20.1.2");
    assert_eq!(checkpoint.stream_sequence, 2);
}

#[test]
fn unchanged_values_and_moved_keys() {
    let mut fixture = Fixture::new();
    let schema = message_schema();
    fixture.apply(vec![define(&schema), message(1, 7, 1, "a"), message(2, 7, 1, "b")]);
    let partial = vec![Value::Int(1), Value::Unchanged, Value::Int(9), Value::Unchanged];
    let moved = vec![Value::Int(5), Value::Int(8), Value::Int(1), "b".into()];
    fixture.apply(vec![
        upsert(&schema, partial),
        event(&schema, Operation::Update, vec![Value::Int(2)], Some(moved)),
    ]);
    expect![[r#"
        [1,7,9,"a"]
        [5,8,1,"b"]"#]]
    .assert_eq(&fixture.rows(MESSAGES));
    let truncate = event(&schema, Operation::Truncate, vec![], None);
    fixture.apply(vec![message(6, 1, 1, "c"), truncate, message(7, 1, 1, "d")]);
    expect![[r#"[7,1,1,"d"]"#]].assert_eq(&fixture.rows(MESSAGES));
}

#[test]
fn applied_groups_are_skipped_and_holes_are_gaps() {
    let mut fixture = Fixture::new();
    let late = fixture.group_at(3, false, vec![]);
    let error = fixture.replica().apply(&[late]).unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (ErrorKind::Gap, "source app: log begins at transaction 3")
    );
    fixture.apply(vec![define(&message_schema()), message(1, 7, 1, "a")]);
    let again = fixture.group_at(1, false, vec![message(1, 7, 1, "z")]);
    let next = fixture.group(vec![message(2, 7, 1, "b")]);
    let applied = fixture.replica().apply(&[again, next]).unwrap();
    assert_eq!((applied.skipped, applied.groups), (1, 1));
    let hole = fixture.group_at(5, false, vec![message(3, 7, 1, "c")]);
    let error = fixture.replica().apply(&[hole]).unwrap_err();
    assert_eq!(error.to_string(), "source app: transactions 3 to 4 are missing");
    fixture.incarnation = "i2";
    let other = fixture.group_at(1, false, vec![]);
    assert_eq!(fixture.replica().apply(&[other]).unwrap_err().kind(), ErrorKind::Gap);
    expect![[r#"
        [1,7,1,"a"]
        [2,7,1,"b"]"#]]
    .assert_eq(&fixture.rows(MESSAGES));
}

#[test]
fn a_snapshot_makes_mirrors_equal_to_the_source() {
    let mut fixture = Fixture::new();
    let (messages, users) = (message_schema(), user_schema());
    fixture.apply(vec![
        define(&messages),
        define(&users),
        message(1, 7, 1, "a"),
        message(2, 7, 1, "b"),
        user(1, "ann"),
    ]);
    fixture.incarnation = "i2";
    fixture.ordinal = 40;
    let rows = [(2, "b"), (3, "c")]
        .map(|(id, body)| read(&messages, vec![Value::Int(id), Value::Int(7), Value::Int(1), body.into()]));
    let [kept, new] = rows;
    let snapshot = fixture.snapshot(vec![define(&messages), kept, new]);
    let applied = fixture.replica().apply(&[snapshot]).unwrap();
    assert_eq!((applied.rows, applied.schema_changes), (2, 1), "one row goes, one comes, users go");
    expect![[r#"
        [2,7,1,"b"]
        [3,7,1,"c"]"#]]
    .assert_eq(&fixture.rows(MESSAGES));
    assert_eq!(fixture.replica().relations().len(), 1);
    fixture.apply(vec![message(4, 7, 1, "d")]);
}

#[test]
fn a_schema_change_keeps_the_values_that_stay() {
    let mut fixture = Fixture::new();
    fixture.apply(vec![define(&user_schema()), user(1, "ann"), user(2, "bob")]);
    let wider = schema(
        "user",
        3,
        &[
            ("id", ColumnType::Int),
            ("since", ColumnType::Int),
            ("login", ColumnType::Text),
            ("on", ColumnType::Bool),
        ],
        &[0],
    );
    let row = vec![Value::Int(2), Value::Int(2020), "bo".into(), true.into()];
    let renamed = schema("person", 4, &[("id", ColumnType::Int), ("login", ColumnType::Text)], &[1]);
    fixture.apply(vec![define(&wider), upsert(&wider, row)]);
    expect![[r#"
        [1,null,"ann",null]
        [2,2020,"bo",true]"#]]
    .assert_eq(&fixture.rows("SELECT * FROM app__user ORDER BY id"));
    let rename = Item::Schema(SchemaChange::Rename { from: "user".into(), to: renamed.clone() });
    fixture.apply(vec![rename, upsert(&renamed, vec![Value::Int(9), "ann".into()])]);
    expect![[r#"
        [9,"ann"]
        [2,"bo"]"#]]
    .assert_eq(&fixture.rows("SELECT * FROM app__person ORDER BY login"));
    fixture.apply(vec![Item::Schema(SchemaChange::Drop { relation: "person".into(), dsid: 5 })]);
    fixture.reopen();
    assert!(fixture.replica().relations().is_empty());
    expect![[r#"
        ["user","define"]
        ["user","add since, add on"]
        ["user","rename to person"]
        ["person","rename from user"]
        ["person","drop"]"#]]
    .assert_eq(&fixture.rows("SELECT relation, diff FROM __deltamesh_schema ORDER BY id"));
}

#[test]
fn a_renamed_relation_takes_rows() {
    let mut fixture = Fixture::new();
    fixture.apply(vec![define(&user_schema()), user(1, "ann")]);
    let columns = [("id", ColumnType::Int), ("login", ColumnType::Text)];
    for (from, to) in [("user", "person"), ("person", "user")] {
        let renamed = schema(to, 3, &columns, &[0]);
        let rename = Item::Schema(SchemaChange::Rename { from: from.into(), to: renamed.clone() });
        fixture.apply(vec![rename, upsert(&renamed, vec![Value::Int(2), to.into()])]);
        let found = fixture.rows(&format!("SELECT login FROM app__{to} ORDER BY id"));
        assert_eq!(found, format!("[\"ann\"]\n[\"{to}\"]"));
    }
}

/// The relation was dropped while nobody looked, and another has its name.
#[test]
fn a_relation_comes_back_with_another_key() {
    use ColumnType::{Int, Text};
    for columns in [[("id", Text), ("login", Text)], [("login", Text), ("code", Int)]] {
        let mut fixture = Fixture::new();
        fixture.apply(vec![define(&user_schema()), user(1, "ann")]);
        let other = schema("user", 3, &columns, &[usize::from(columns[0].0 == "login")]);
        let row = columns.map(|(_, kind)| if kind == Int { Value::Int(5) } else { "a".into() }).to_vec();
        let group = fixture.group_at(2, false, vec![define(&other), upsert(&other, row.clone())]);
        let error = fixture.replica().apply(&[group]).unwrap_err();
        assert_eq!(error.to_string(), "relation app.user: has another key, and its rows are missing");
        assert_eq!(error.kind(), ErrorKind::Gap);
        let snapshot = fixture.snapshot(vec![define(&other), read(&other, row)]);
        fixture.replica().apply(&[snapshot]).unwrap();
        let expected = if columns[0].0 == "id" { r#"["a","a"]"# } else { r#"["a",5]"# };
        assert_eq!(fixture.rows("SELECT * FROM app__user"), expected);
    }
}

#[test]
fn a_full_disk_leaves_everything_as_it_was() {
    let mut fixture = Fixture::new();
    fixture.apply(vec![define(&message_schema()), message(1, 7, 1, "a")]);
    fixture.limit_pages(40);
    let rows = (2..200).map(|id| message(id, 7, 1, &"x".repeat(1000))).collect::<Vec<_>>();
    let group = fixture.group(rows);
    let groups = [group];
    let error = fixture.replica().apply(&groups).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full, "{error}");
    assert_eq!(fixture.replica().checkpoints()[0].position.ordinal, 1);
    expect!["[1]"].assert_eq(&fixture.rows("SELECT count(*) FROM app__message"));
    fixture.limit_pages(100_000);
    fixture.replica().apply(&groups).unwrap();
    expect!["[199]"].assert_eq(&fixture.rows("SELECT count(*) FROM app__message"));
}

#[test]
fn rows_that_break_the_schema_are_refused() {
    let mut fixture = Fixture::new();
    fixture.apply(vec![define(&message_schema())]);
    let narrow = event(&message_schema(), Operation::Upsert, vec![Value::Int(1)], Some(vec![Value::Int(1)]));
    let unknown = upsert(&schema("other", 1, &[("id", ColumnType::Int)], &[0]), vec![Value::Int(1)]);
    for (item, reason) in [
        (narrow, "relation app.message: row has the wrong width"),
        (unknown, "app__other: relation is unknown"),
    ] {
        let group = fixture.group_at(2, false, vec![message(1, 1, 1, "a"), item]);
        let error = fixture.replica().apply(&[group]).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Decode, reason));
    }
    expect![""].assert_eq(&fixture.rows(MESSAGES));
}

/// SQL takes them for one relation.
#[test]
fn names_that_differ_in_case() {
    let mut fixture = Fixture::new();
    let upper = schema("User", 3, &[("id", ColumnType::Int), ("login", ColumnType::Text)], &[0]);
    fixture.apply(vec![define(&user_schema()), user(1, "ann")]);
    let both = fixture.group_at(2, false, vec![define(&upper)]);
    let error = fixture.replica().apply(&[both]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Gap);
    expect!["relation app.User: only case tells its name from user, and SQL takes both for one: drop or rename one of them at the source, its next snapshot mends it"].assert_eq(&error.to_string());
    let rename = Item::Schema(SchemaChange::Rename { from: "user".into(), to: upper.clone() });
    fixture.apply(vec![rename, upsert(&upper, vec![Value::Int(2), "bob".into()])]);
    expect![[r#"
        [1,"ann"]
        [2,"bob"]"#]]
    .assert_eq(&fixture.rows("SELECT * FROM app__user ORDER BY id"));
    let snapshot = fixture
        .snapshot(vec![define(&user_schema()), read(&user_schema(), vec![Value::Int(2), "bo".into()])]);
    fixture.replica().apply(&[snapshot]).unwrap();
    expect![[r#"[2,"bo"]"#]].assert_eq(&fixture.rows("SELECT * FROM app__user ORDER BY id"));
    assert_eq!(fixture.replica().relations().len(), 1);
}
