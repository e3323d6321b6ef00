//! What a change costs, by counts of both databases.

use deltamesh_replica::Limits;
use expect_test::{Expect, expect};

use crate::fixture::*;

/// Two users, the second of whom writes little; 30 messages in chats of 20, 9 and 1.
fn chat(mut fixture: Fixture) -> Fixture {
    let mut items = vec![define(&message_schema()), define(&user_schema()), user(1, "ann"), user(2, "bob")];
    items.extend((1..=30).map(|id| message(id, i64::from(id > 20) + i64::from(id > 29), 1 + id / 28, "")));
    fixture.apply(items);
    fixture
}

/// The costs alone, equal on both.
fn check(view: &str, expected: &Expect) {
    let costs = [Fixture::new(), Fixture::on_postgres()].map(|fixture| costs(view, chat(fixture)));
    assert_eq!(costs[0], costs[1]);
    expected.assert_eq(&costs[0]);
}

fn costs(view: &str, mut fixture: Fixture) -> String {
    fixture.replica().execute(view).unwrap();
    let name = view.split_whitespace().nth(3).unwrap();
    let explain = fixture.replica().explain(name).unwrap();
    let counts = fixture.reader().count(&explain.lookups(), Limits::default()).unwrap();
    let text = explain.estimated(&counts).to_string();
    let costs = text.lines().filter(|line| line.starts_with("cost ") || is_detail(line));
    costs.filter(|line| !line.contains("statements")).collect::<Vec<_>>().join("\n")
}

fn is_detail(line: &str) -> bool {
    ["  rows", "  because", "  unknown"].iter().any(|word| line.starts_with(word))
}

#[test]
fn a_join_costs_its_partners() {
    check(
        "CREATE MATERIALIZED VIEW feed AS SELECT m.id, u.login FROM message m JOIN user u ON u.id = m.sender",
        &expect![[r#"
            cost of a changed row of app__message
              rows read: 1, for an update at most twice that; rows written: up to 1
            cost of a changed row of app__user
              rows read: 15 (most 27), for an update at most twice that; rows written: up to 15 (most 27)
              because app__message has 15 (most 27) of its 30 rows for a value of sender"#]],
    );
}

#[test]
fn a_group_with_a_condition_costs_its_rows() {
    check(
        "CREATE MATERIALIZED VIEW busy AS SELECT chat, count(*) AS n FROM message GROUP BY chat HAVING count(*) > 2",
        &expect![[r#"
            cost of a changed row of app__message
              rows read: 17 (most 21), for an update at most twice that; rows written: up to 1
              because app__message has 16 (most 20) of its 30 rows for a value of chat"#]],
    );
}

#[test]
fn counts_cost_their_group() {
    check(
        "CREATE MATERIALIZED VIEW counts AS SELECT u.login, count(*) AS n FROM message m JOIN user u ON u.id = m.sender GROUP BY u.login",
        &expect![[r#"
            cost of a changed row of app__message
              rows read: 2, for an update at most twice that; rows written: up to 1
            cost of a changed row of app__user
              rows read: 16 (most 28), for an update at most twice that; rows written: up to 1
              because app__message has 15 (most 27) of its 30 rows for a value of sender"#]],
    );
}

#[test]
fn what_is_read_as_a_whole_is_said() {
    check(
        "CREATE MATERIALIZED VIEW pairs AS SELECT m.id, u.id AS user FROM message m JOIN user u ON u.id < m.sender",
        &expect![[r#"
            cost of a changed row of app__message
              rows read: 2, for an update at most twice that; rows written: up to 2
              because no equality leads to app__user: all 2 rows are read
            cost of a changed row of app__user
              rows read: 30, for an update at most twice that; rows written: up to 30
              because no equality leads to app__message: all 30 rows are read"#]],
    );
    check(
        "CREATE MATERIALIZED VIEW numbered AS SELECT id, row_number() OVER (ORDER BY id) AS n FROM message",
        &expect![[r#"
            cost of a changed row of app__message
              rows read: 60, for an update at most twice that; rows written: up to 30
              because all 30 rows of app__message are read
              because all 30 rows of numbered are read"#]],
    );
}

#[test]
fn parts_pass_their_changes_on() {
    check(
        "CREATE MATERIALIZED VIEW quiet AS SELECT u.id, u.login FROM user u WHERE NOT EXISTS (SELECT 1 FROM message m WHERE m.sender = u.id)",
        &expect![[r#"
            cost of a changed row of app__user
              rows read: 3, for an update at most twice that; rows written: up to 1
            cost of a changed row of app__message
              rows read: 5, for an update at most twice that; rows written: up to 1"#]],
    );
    check(
        "CREATE MATERIALIZED VIEW newest AS SELECT id, chat FROM message ORDER BY id DESC LIMIT 5",
        &expect![[r#"
            cost of a changed row of app__message
              rows read: 10, for an update at most twice that; rows written: up to 2
              because the first 5 rows are read again and compared"#]],
    );
}
