//! Views: filled, maintained, replaced, faulted, mended, dropped.

use deltamesh_change::{ColumnType, Item, Operation, SchemaChange, Value};
use deltamesh_replica::{ErrorKind, Limits};
use expect_test::expect;

use crate::fixture::*;

const FEED: &str = "CREATE MATERIALIZED VIEW feed WITH (subject = 'chat') AS
    SELECT m.id, m.chat, u.login AS sender, m.body FROM message m JOIN user u ON u.id = m.sender";
const COUNTS: &str =
    "CREATE MATERIALIZED VIEW counts AS SELECT chat, count(*) AS messages FROM message GROUP BY chat";

fn chat() -> Fixture {
    chat_in(Fixture::new())
}

fn chat_in(mut fixture: Fixture) -> Fixture {
    fixture.apply(vec![
        define(&message_schema()),
        define(&user_schema()),
        user(1, "ann"),
        message(1, 7, 1, "a"),
    ]);
    fixture
}

#[test]
fn a_view_is_filled_and_maintained() {
    let mut fixture = chat();
    fixture.replica().execute(&format!("{FEED};\n{COUNTS};")).unwrap();
    fixture.reopen();
    fixture.apply(vec![message(2, 7, 1, "b"), message(3, 8, 2, "c"), message(1, 7, 1, "A")]);
    fixture.apply(vec![user(2, "bob"), delete(&message_schema(), vec![Value::Int(2)])]);
    fixture.verify();
    expect![[r#"
        feed insert [1] {"id":1,"chat":7,"sender":"ann","body":"a"}
        counts insert [7] {"chat":7,"messages":1} !
        feed update [1] {"id":1,"chat":7,"sender":"ann","body":"A"} was {"body":"a"}
        feed insert [2] {"id":2,"chat":7,"sender":"ann","body":"b"}
        counts update [7] {"chat":7,"messages":2} was {"messages":1}
        counts insert [8] {"chat":8,"messages":1} !
        feed delete [2] {"id":2,"chat":7,"sender":"ann","body":"b"}
        feed insert [3] {"id":3,"chat":8,"sender":"bob","body":"c"}
        counts update [7] {"chat":7,"messages":1} was {"messages":2} !"#]]
    .assert_eq(&fixture.changes(0));
    let change = fixture.reader().changes_after(3, None, 1).unwrap().remove(0);
    assert_eq!(change.subject, "feed.feed.7.2");
    assert_eq!((change.position.as_str(), change.captured_us, change.dsid), ("app=i1/2/20.1.2", 1_002, 2));
}

/// Whatever is planned after it, by its own module again or by others, still reads the relation.
#[test]
fn a_view_may_have_the_name_of_its_relation() {
    let mut fixture = chat();
    let create = |columns: &str| format!("CREATE MATERIALIZED VIEW message AS SELECT {columns} FROM message");
    fixture.replica().set_module("chat", &create("*")).unwrap();
    fixture.replica().set_module("chat", &create("id, body")).unwrap();
    fixture
        .replica()
        .execute("CREATE MATERIALIZED VIEW bodies AS SELECT id, chat, body FROM message")
        .unwrap();
    fixture.apply(vec![message(2, 8, 1, "b")]);
    fixture.verify();
}

#[test]
fn a_replaced_view_feeds_its_difference() {
    let mut fixture = chat();
    fixture.apply(vec![message(2, 8, 1, "b"), message(3, 8, 1, "")]);
    let create = |condition: &str| {
        format!("CREATE MATERIALIZED VIEW long AS SELECT id, body FROM message WHERE {condition}")
    };
    assert_eq!(fixture.replica().set_module("chat", &create("body <> ''")).unwrap(), ["long"]);
    assert!(fixture.replica().set_module("chat", &create("body <> ''")).unwrap().is_empty());
    fixture.replica().set_module("chat", &create("chat = 8")).unwrap();
    fixture.verify();
    expect![[r#"
        long insert [1] {"id":1,"body":"a"}
        long insert [2] {"id":2,"body":"b"} !
        long delete [1] {"id":1,"body":"a"}
        long insert [3] {"id":3,"body":""} !"#]]
    .assert_eq(&fixture.changes(0));
    let wider =
        "CREATE MATERIALIZED VIEW long AS SELECT id, chat, body FROM message WHERE chat = 8 AND id < 3";
    fixture.replica().set_module("chat", wider).unwrap();
    fixture.apply(vec![message(2, 8, 1, "c")]);
    fixture.verify();
    expect![[r#"
        long delete [2] {"id":2,"body":"b"}
        long delete [3] {"id":3,"body":""}
        long insert [2] {"id":2,"chat":8,"body":"b"} !
        long update [2] {"id":2,"chat":8,"body":"c"} was {"body":"b"} !"#]]
    .assert_eq(&fixture.changes(4));
    fixture.replica().set_module("chat", "").unwrap();
    expect![[r#"long delete [2] {"id":2,"chat":8,"body":"c"} !"#]].assert_eq(&fixture.changes(8));
    expect![""].assert_eq(&fixture.rows("SELECT name FROM sqlite_schema WHERE name LIKE '%long%'"));
}

#[test]
fn views_on_views_follow() {
    let mut fixture = chat();
    fixture.replica().execute(COUNTS).unwrap();
    let busy = "CREATE MATERIALIZED VIEW busy AS SELECT chat FROM counts WHERE messages > 1";
    fixture.replica().execute(busy).unwrap();
    fixture.apply(vec![message(2, 7, 1, "b")]);
    fixture.verify();
    expect![[r#"
        counts insert [7] {"chat":7,"messages":1} !
        counts update [7] {"chat":7,"messages":2} was {"messages":1}
        busy insert [7] {"chat":7} !"#]]
    .assert_eq(&fixture.changes(0));
    let error = fixture.replica().execute("DROP MATERIALIZED VIEW counts").unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (ErrorKind::Conflict, "view counts: view busy depends on it")
    );
    let replaced =
        COUNTS.replace("CREATE", "CREATE OR REPLACE").replace("message GROUP", "message WHERE id > 1 GROUP");
    fixture.replica().execute(&replaced).unwrap();
    fixture.verify();
    expect![[r#"
        counts update [7] {"chat":7,"messages":1} was {"messages":2}
        busy delete [7] {"chat":7} !"#]]
    .assert_eq(&fixture.changes(3));
}

#[test]
fn refusals_change_nothing() {
    let mut fixture = chat();
    fixture.replica().execute(COUNTS).unwrap();
    let bad = format!("{FEED}; CREATE MATERIALIZED VIEW bad AS SELECT nothing FROM message");
    let error = fixture.replica().execute(&bad).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Plan);
    assert!(error.to_string().contains("nothing"), "{error}");
    assert_eq!(fixture.replica().execute(COUNTS).unwrap_err().kind(), ErrorKind::Conflict);
    let error = fixture.replica().set_module("chat", COUNTS).unwrap_err();
    assert_eq!(error.to_string(), "view counts: exists already in no module");
    let error = fixture.replica().execute("DROP MATERIALIZED VIEW nothing").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(fixture.replica().views().len(), 1);
    assert!(fixture.replica().explain("counts").unwrap().to_string().contains("counts"));
    assert!(fixture.replica().explain(FEED).unwrap().to_string().contains("app__message"));
    assert_eq!(fixture.replica().explain("nothing").unwrap_err().kind(), ErrorKind::NotFound);
    fixture.apply(vec![message(2, 7, 1, "b")]);
    fixture.verify();
}

#[test]
fn a_view_follows_its_relation() {
    let mut fixture = chat();
    fixture.replica().execute(&format!("{FEED}; {COUNTS}")).unwrap();
    fixture.replica().mark_published(2);
    let renamed = schema("user", 3, &[("id", ColumnType::Int), ("name", ColumnType::Text)], &[0]);
    fixture.apply(vec![define(&renamed), message(2, 7, 1, "b")]);
    let views = fixture.replica().views();
    assert!(views[0].fault.as_deref().unwrap().contains("login"), "{:?}", views[0].fault);
    assert_eq!(views[1].fault, None);
    expect![[r#"[1,7,"ann","a"]"#]].assert_eq(&fixture.rows("SELECT * FROM feed"));
    fixture.reopen();
    let wider = schema(
        "user",
        4,
        &[("id", ColumnType::Int), ("name", ColumnType::Text), ("login", ColumnType::Text)],
        &[0],
    );
    let row = vec![Value::Int(1), Value::Null, "ANN".into()];
    fixture.apply(vec![define(&wider), upsert(&wider, row)]);
    fixture.verify();
    expect![[r#"
        [1,7,"ANN","a"]
        [2,7,"ANN","b"]"#]]
    .assert_eq(&fixture.rows("SELECT * FROM feed ORDER BY id"));
    fixture.apply(vec![Item::Schema(SchemaChange::Drop { relation: "user".into(), dsid: 5 })]);
    assert!(fixture.replica().views()[0].fault.is_some());
    assert!(fixture.replica().repair().unwrap().is_empty());
    fixture.apply(vec![define(&wider), message(3, 7, 1, "c")]);
    fixture.verify();
    expect![""].assert_eq(&fixture.rows("SELECT * FROM feed"));
}

#[test]
fn a_view_that_fails_stops_alone() {
    let expected = expect![[r#"sums: CHECK constraint failed: typeof("total") IN ('integer', 'null')"#]];
    check_a_failing_view(chat(), &expected);
    check_a_failing_view(chat_in(Fixture::on_postgres()), &expect!["sums: bigint out of range"]);
}

fn check_a_failing_view(mut fixture: Fixture, expected: &expect_test::Expect) {
    fixture.replica().execute(COUNTS).unwrap();
    let sums =
        "CREATE MATERIALIZED VIEW sums AS SELECT chat, sum(sender) AS total FROM message GROUP BY chat";
    fixture.replica().execute(sums).unwrap();
    let applied = fixture.apply(vec![message(2, 7, i64::MAX, "b")]);
    let faults = applied.faults.iter().map(|fault| format!("{}: {}", fault.view, fault.reason));
    expected.assert_eq(&faults.collect::<Vec<_>>().join("\n"));
    expect!["[7,2]"].assert_eq(&fixture.rows("SELECT * FROM counts"));
    fixture.apply(vec![message(2, 7, 5, "b")]);
    assert_eq!(fixture.replica().repair().unwrap(), ["sums"]);
    fixture.verify();
    expect!["[7,6]"].assert_eq(&fixture.rows("SELECT * FROM sums"));
}

#[test]
fn readers_see_snapshots_and_nothing_else() {
    let mut fixture = chat();
    fixture.replica().execute(&format!("{FEED} ORDER BY m.id DESC")).unwrap();
    fixture.apply(vec![message(2, 8, 1, "b"), message(3, 7, 1, "c")]);
    let mut reader = fixture.reader();
    let mut keys = Vec::new();
    let filter = [("chat".to_owned(), serde_json::json!(7))];
    let position = reader
        .snapshot("feed", &filter, Limits::default(), &mut |rows| {
            keys.extend(rows.into_iter().map(|row| serde_json::Value::Object(row.row).to_string()));
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(position, 3);
    expect![[r#"
        {"id":3,"chat":7,"sender":"ann","body":"c"}
        {"id":1,"chat":7,"sender":"ann","body":"a"}"#]]
    .assert_eq(&keys.join("\n"));
    let mut refused = |sql: &str| {
        let result =
            reader.query(sql, &[], Limits::default(), &mut |_, _| std::ops::ControlFlow::Continue(()));
        result.unwrap_err().kind()
    };
    for sql in [
        "DELETE FROM app__message",
        "BEGIN",
        "PRAGMA query_only = OFF",
        "ATTACH 'x' AS y",
        "CREATE TEMP TABLE t(a)",
        "VACUUM",
    ] {
        assert_eq!(refused(sql), ErrorKind::Denied, "{sql}");
    }
    assert_eq!(refused("SELECT * FROM nothing"), ErrorKind::Sql);
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n";
    let limits = Limits { time: std::time::Duration::from_millis(20) };
    let result = reader.query(endless, &[], limits, &mut |_, _| std::ops::ControlFlow::Continue(()));
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Interrupted);
    assert_eq!(reader.retained_from().unwrap(), 1);
}

#[test]
fn a_view_that_is_not_stored_follows_its_relation() {
    let mut fixture = chat();
    let logins = "CREATE MATERIALIZED VIEW logins WITH (stored = never) AS SELECT id, login FROM user";
    fixture.replica().execute(logins).unwrap();
    let wider = schema(
        "user",
        3,
        &[("id", ColumnType::Int), ("login", ColumnType::Text), ("age", ColumnType::Int)],
        &[0],
    );
    fixture.apply(vec![define(&wider), upsert(&wider, vec![Value::Int(2), "bob".into(), Value::Null])]);
    fixture.verify();
    let narrow = schema("user", 4, &[("id", ColumnType::Int)], &[0]);
    fixture.apply(vec![define(&narrow)]);
    assert!(fixture.replica().views()[0].fault.is_some());
    expect![[r#"
        [1,"ann"]
        [2,"bob"]"#]]
    .assert_eq(&fixture.rows("SELECT * FROM logins"));
    fixture.apply(vec![define(&user_schema()), user(2, "bo")]);
    fixture.verify();
    expect![[r#"
        logins insert [1] {"id":1,"login":"ann"} !
        logins insert [2] {"id":2,"login":"bob"} !
        logins update [1] {"id":1,"login":null} was {"login":"ann"}
        logins update [2] {"id":2,"login":null} was {"login":"bob"}
        logins update [2] {"id":2,"login":"bo"} was {"login":null} !"#]]
    .assert_eq(&fixture.changes(0));
}

/// Its name may only differ in case from the one that the index was made for.
#[test]
fn a_relation_in_place_of_another_has_its_indexes() {
    for name in ["message", "Message"] {
        let mut fixture = chat();
        fixture.replica().execute(FEED).unwrap();
        let columns = [
            ("id", ColumnType::Int),
            ("chat", ColumnType::Int),
            ("sender", ColumnType::Int),
            ("body", ColumnType::Text),
        ];
        let (former, new) = (schema("note", 3, &columns, &[0]), schema(name, 4, &columns, &[0]));
        let rename = Item::Schema(SchemaChange::Rename { from: "message".into(), to: former });
        fixture.apply(vec![user(1, "anna")]);
        fixture.apply(vec![rename, define(&new), user(1, "ann")]);
        fixture.verify();
        let indexed =
            "SELECT DISTINCT tbl_name FROM sqlite_schema WHERE type = 'index' AND name LIKE '%sender'";
        assert_eq!(fixture.rows(indexed), format!("[\"app__{name}\"]"));
    }
}

/// Messages are looked up by sender for the changes of users only: until there is one, nobody pays for that index.
#[test]
fn an_index_for_changes_of_a_relation_is_made_with_the_first() {
    for mut fixture in [Fixture::new(), Fixture::on_postgres()] {
        fixture.apply(vec![define(&message_schema()), define(&user_schema()), user(1, "ann")]);
        fixture.replica().execute(&format!("{FEED};\n{COUNTS};")).unwrap();
        let indexes = if fixture.is_file() {
            "SELECT name FROM sqlite_schema WHERE name LIKE '%ix_app%'"
        } else {
            "SELECT indexname FROM pg_indexes WHERE schemaname = current_schema() AND indexname LIKE '%ix_app%'"
        };
        fixture.apply(vec![message(1, 7, 1, "a"), message(2, 7, 2, "b"), user(1, "ann")]);
        fixture.verify();
        assert_eq!(fixture.rows(indexes), "");
        fixture.reopen();
        fixture.apply(vec![user(2, "bob"), message(3, 7, 2, "c")]);
        fixture.verify();
        assert_eq!(fixture.rows(indexes), r#"["__deltamesh_ix_app__message_sender"]"#);
        fixture
            .replica()
            .execute(&FEED.replace("CREATE", "CREATE OR REPLACE").replace("u.login", "lower(u.login)"))
            .unwrap();
        assert_eq!(fixture.rows(indexes), r#"["__deltamesh_ix_app__message_sender"]"#);
        fixture.replica().execute("DROP MATERIALIZED VIEW feed").unwrap();
        assert_eq!(fixture.rows(indexes), "");
        fixture.replica().execute(&FEED.replace("subject =", "indexes = now, subject =")).unwrap();
        assert_eq!(fixture.rows(indexes), r#"["__deltamesh_ix_app__message_sender"]"#);
    }
}

#[test]
fn a_large_view_is_recorded_in_slices() {
    let mut fixture = Fixture::new();
    let wide = schema("pair", 1, &[("a", ColumnType::Text), ("b", ColumnType::Int)], &[0, 1]);
    let rows = (0..25_000).map(|id| upsert(&wide, vec![format!("k{}", id % 7).into(), Value::Int(id)]));
    let mut items = vec![define(&wide), define(&message_schema())];
    items.extend(rows);
    items.extend((0..20_000).map(|id| message(id, 7, 1, "a")));
    fixture.apply(items);
    let views = "CREATE MATERIALIZED VIEW pairs AS SELECT a, b FROM pair;
        CREATE MATERIALIZED VIEW bodies AS SELECT body, id FROM message";
    fixture.replica().execute(views).unwrap();
    fixture.verify();
    let counts = "SELECT view, op, count(*), count(DISTINCT key) FROM __deltamesh_changes GROUP BY 1, 2";
    expect![[r#"
        ["bodies","insert",20000,20000]
        ["pairs","insert",25000,25000]"#]]
    .assert_eq(&fixture.rows(counts));
}

/// Until a view reads it: its steps need the rows as they were, and indexes on them.
#[test]
fn rows_that_the_mirrors_have_are_stored_for_other_views_only() {
    let mut fixture = chat();
    let feed = "CREATE MATERIALIZED VIEW feed AS SELECT m.id, m.chat, m.body, u.login FROM message m JOIN user u ON u.id = m.sender";
    fixture.replica().execute(feed).unwrap();
    let kind = "SELECT type FROM sqlite_schema WHERE name = 'feed'";
    assert_eq!(fixture.rows(kind), r#"["view"]"#);
    assert_eq!(fixture.rows("SELECT * FROM feed WHERE id = 1"), r#"[1,7,"a","ann"]"#);
    fixture.reopen();
    fixture.apply(vec![message(2, 7, 1, "again"), user(1, "anna")]);
    fixture.verify();
    let before = fixture.replica().last_sequence();
    let joined = "CREATE MATERIALIZED VIEW same AS SELECT a.id, b.id AS other, a.login FROM feed a JOIN feed b ON b.chat = a.chat";
    fixture.replica().execute(joined).unwrap();
    assert_eq!(fixture.rows(kind), r#"["table"]"#);
    assert!(!fixture.changes(before).contains("feed "), "storing it changes nothing");
    fixture.apply(vec![message(3, 7, 2, "c"), user(1, "ann")]);
    fixture.verify();
    fixture
        .replica()
        .execute(&feed.replace("CREATE", "CREATE OR REPLACE").replace("m.body", "m.body AS b"))
        .unwrap();
    fixture.apply(vec![delete(&message_schema(), vec![Value::Int(2)])]);
    fixture.verify();
    fixture.replica().execute("DROP MATERIALIZED VIEW same").unwrap();
    fixture.reopen();
    assert_eq!(fixture.rows(kind), r#"["table"]"#);
    fixture.apply(vec![message(4, 8, 2, "d")]);
    fixture.verify();
}

/// So large that the view is computed again; what differs is told all the same.
#[test]
fn a_batch_that_changes_most_of_a_relation() {
    for mut fixture in [Fixture::new(), Fixture::on_postgres()] {
        fixture.apply(vec![define(&message_schema())]);
        fixture.apply((1..=6_000).map(|id| message(id, id % 3, 1, "a")).collect());
        fixture.replica().execute(COUNTS).unwrap();
        fixture.apply((1..=6_000).map(|id| message(id, 1 + id % 3 / 2, 2, "b")).collect());
        fixture.verify();
        expect![[r#"
            counts delete [0] {"chat":0,"messages":2000}
            counts update [1] {"chat":1,"messages":4000} was {"messages":2000} !"#]]
        .assert_eq(&fixture.changes(3));
    }
}

fn check_truths(mut fixture: Fixture) {
    let switch = schema("switch", 1, &[("is_on", ColumnType::Bool), ("n", ColumnType::Int)], &[0, 1]);
    let row = |is_on: bool, n: i64| upsert(&switch, vec![Value::Bool(is_on), Value::Int(n)]);
    fixture.apply(vec![define(&switch), row(true, 1), row(false, 2), row(true, 3)]);
    let sql = "CREATE MATERIALIZED VIEW by_truth AS SELECT is_on, count(*) AS c FROM switch GROUP BY is_on";
    fixture.replica().execute(sql).unwrap();
    let mut found = vec![];
    fixture
        .reader()
        .snapshot("by_truth", &[("is_on".to_owned(), true.into())], Limits::default(), &mut |page| {
            found.extend(page.into_iter().map(|row| serde_json::Value::Object(row.row).to_string()));
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(found, [r#"{"is_on":true,"c":2}"#]);
    // A page of keys at a time.
    fixture.apply(vec![event(&switch, Operation::Truncate, vec![], None)]);
    assert_eq!(fixture.rows("SELECT count(*) FROM by_truth"), "[0]");
}

#[test]
fn a_truth_value_is_a_key_and_a_filter() {
    check_truths(Fixture::new());
    check_truths(Fixture::on_postgres());
}

/// Statements that were prepared for the former types are not run any more.
#[test]
fn a_column_may_get_another_type() {
    for mut fixture in [Fixture::new(), Fixture::on_postgres()] {
        let of = |kind| schema("t", 9, &[("id", ColumnType::Int), ("v", kind)], &[0]);
        let (numbers, texts) = (of(ColumnType::Int), of(ColumnType::Text));
        fixture.apply(vec![define(&numbers), upsert(&numbers, vec![Value::Int(1), Value::Int(5)])]);
        fixture
            .replica()
            .execute("CREATE MATERIALIZED VIEW v AS SELECT v, count(*) AS n FROM t GROUP BY v")
            .unwrap();
        fixture.apply(vec![upsert(&numbers, vec![Value::Int(1), Value::Int(6)])]);
        fixture.apply(vec![define(&texts)]);
        fixture.apply(vec![upsert(&texts, vec![Value::Int(1), Value::Text("six".into())])]);
        fixture.verify();
        assert!(fixture.replica().views().iter().all(|view| view.fault.is_none()));
    }
}
