//! Views that are replaced beside the flow of changes.

use deltamesh_change::ColumnType;
use deltamesh_replica::{ErrorKind, Filling, Limits};
use expect_test::expect;

use crate::fixture::*;
use crate::oracle::{Rows, replay, stored};

/// Views by name: as they are, and as they are to be.
const VIEWS: [(&str, &str, &str); 8] = [
    (
        "counts",
        "SELECT chat, count(*) AS messages, max(id) AS last FROM message GROUP BY chat",
        "SELECT chat, count(*) AS messages, min(id) AS last FROM message WHERE id > 20 GROUP BY chat",
    ),
    (
        "feed",
        "SELECT m.id, u.login, m.body FROM message m JOIN user u ON u.id = m.sender WHERE m.chat > 0",
        "SELECT m.id, u.login, m.body FROM message m JOIN user u ON u.id = m.sender WHERE m.chat < 2",
    ),
    (
        "named",
        "SELECT id, body FROM message",
        "SELECT m.id, u.login FROM message m JOIN user u ON u.id = m.sender",
    ),
    ("both", "SELECT id FROM message", "SELECT id, body FROM message UNION ALL SELECT id, login FROM user"),
    (
        "former",
        "SELECT id, lag(body) OVER (PARTITION BY sender ORDER BY id) AS body FROM message",
        "SELECT id, lead(body) OVER (PARTITION BY sender ORDER BY id) AS body FROM message",
    ),
    (
        "pairs",
        "SELECT chat, count(DISTINCT sender) AS senders FROM message GROUP BY chat",
        "SELECT chat, count(DISTINCT body) AS senders, 1 AS more FROM message WHERE sender IN (SELECT id FROM user) GROUP BY chat",
    ),
    // Over one that is replaced.
    (
        "busy",
        "SELECT chat FROM counts WHERE messages > 2",
        "SELECT chat, last FROM counts WHERE messages > 1",
    ),
    // In one transaction.
    (
        "place",
        "SELECT id, row_number() OVER (ORDER BY id) AS n FROM message",
        "SELECT id, row_number() OVER (ORDER BY id DESC) AS n FROM message",
    ),
];

fn statement(name: &str, sql: &str) -> String {
    format!("CREATE OR REPLACE MATERIALIZED VIEW {name} AS {sql};")
}

fn chat(mut fixture: Fixture) -> Fixture {
    let mut items = vec![define(&message_schema()), define(&user_schema()), user(1, "ann"), user(2, "bob")];
    items.extend((1..=10).map(|id| message(id * 10, id % 3, 1 + id % 2, "a")));
    fixture.apply(items);
    fixture
}

/// Compares every view with its SQL, and with what its feed says.
fn check(fixture: &mut Fixture) {
    let views = fixture.replica().views();
    for verified in fixture.reader().verify(&views, Limits::default()).unwrap() {
        assert_eq!((verified.missing, verified.extra), (0, 0), "view {}", verified.view);
    }
    let (mut reader, mut fed) = (fixture.reader(), Rows::new());
    replay(&mut reader, 0, &mut fed);
    let shown = reader.views().unwrap();
    fed.retain(|(name, _), _| shown.iter().any(|view| view.definition.name == *name));
    assert_eq!(fed, stored(&mut reader, &shown));
}

fn fill(fixture: &mut Fixture) -> Filling {
    let filling = fixture.replica().fill().unwrap();
    check(fixture);
    filling
}

fn fill_all(fixture: &mut Fixture) {
    while fill(fixture).goes_on {}
}

/// The SQL of each view as readers see it.
fn definitions(fixture: &Fixture) -> Vec<(String, String)> {
    let views = fixture.reader().views().unwrap().into_iter();
    views
        .map(|view| (view.definition.name, view.definition.sql.split_once(" AS ").unwrap().1.to_owned()))
        .collect()
}

/// Changes in front of the bound, behind it, and of the other relation, come in between; and restarts.
#[test]
fn changes_flow_while_views_are_replaced() {
    for mut fixture in [chat(Fixture::new()), chat(Fixture::on_postgres())] {
        let [former, next] = [
            |view: &(&str, &str, &str)| statement(view.0, view.1),
            |view: &(&str, &str, &str)| statement(view.0, view.2),
        ]
        .map(|of| VIEWS.iter().map(of).collect::<String>());
        fixture.replica().set_module("m", &former).unwrap();
        check(&mut fixture);
        fixture.fill_in_slices(10, 4);
        // There and back: the names of tables take turns.
        let turns = [(&former, &next), (&next, &former), (&former, &next)];
        let turns = if fixture.is_file() { &turns[..] } else { &turns[..2] };
        for (begin, end) in turns {
            let before = definitions(&fixture);
            assert!(fixture.replica().set_module("m", begin).unwrap().is_empty());
            fixture.replica().set_module("m", end).unwrap();
            let gone = |id: i64| delete(&message_schema(), vec![id.into()]);
            let steps = [
                vec![message(5, 1, 1, "new"), message(35, 2, 2, "new"), gone(90), message(20, 2, 2, "moved")],
                vec![user(2, "Bob"), delete(&user_schema(), vec![1.into()]), message(105, 7, 2, "last")],
                vec![user(1, "ann"), gone(10), message(60, 2, 1, "c")],
            ];
            for step in steps {
                fill(&mut fixture);
                fixture.apply(step);
                fixture.reopen();
                check(&mut fixture);
            }
            assert!(fixture.replica().views().iter().any(|view| view.replacement.is_some()));
            let mut turn = 0;
            while fill(&mut fixture).goes_on {
                turn += 1;
                if turn % 3 == 0 {
                    let chat = turn % 4;
                    let again = message(turn % 11 * 10, chat, 1 + turn % 2, "later");
                    fixture.apply(vec![message(200 + turn, chat, 1, "new"), again, gone(turn % 13 * 10)]);
                    check(&mut fixture);
                }
            }
            fixture.verify();
            assert_ne!(definitions(&fixture), before);
            assert!(fixture.replica().views().iter().all(|view| view.replacement.is_none()));
        }
        fixture.reopen();
        fixture.apply(vec![message(1, 1, 1, "after"), delete(&message_schema(), vec![20.into()])]);
        check(&mut fixture);
        let left = fixture.rows(if fixture.is_file() {
            "SELECT name FROM sqlite_schema WHERE name LIKE '%!_!_1!_%' ESCAPE '!' AND name LIKE '%!_!_2!_%' ESCAPE '!' OR name LIKE '%next%' OR name LIKE '%bound%'"
        } else {
            "SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND (relname LIKE '%next%' OR relname LIKE '%bound%')"
        });
        assert_eq!(left, "");
    }
}

/// Three chats, two of which the replacement counts otherwise.
#[test]
fn the_feed_has_what_differs_at_the_end() {
    let mut fixture = chat(Fixture::new());
    let counts = |sql: &str| {
        statement("counts", &format!("SELECT chat, count(*) AS messages FROM message {sql} GROUP BY chat"))
    };
    fixture.replica().execute(&counts("")).unwrap();
    fixture.fill_in_slices(10, 4);
    let before = fixture.replica().last_sequence();
    fixture.replica().execute(&counts("WHERE chat > 0 AND id <> 40")).unwrap();
    fill(&mut fixture);
    fixture.apply(vec![message(110, 2, 1, "a")]);
    let progress = fixture.replica().views().remove(0).progress().unwrap();
    assert_eq!((progress.rows, progress.total), (4, 10));
    fill_all(&mut fixture);
    fixture.apply(vec![message(120, 0, 1, "a"), message(120, 1, 1, "b")]);
    expect![[r#"
        counts update [2] {"chat":2,"messages":4} was {"messages":3} !
        counts delete [0] {"chat":0,"messages":3}
        counts update [1] {"chat":1,"messages":3} was {"messages":4} !
        counts update [1] {"chat":1,"messages":4} was {"messages":3} !"#]]
    .assert_eq(&fixture.changes(before));
}

#[test]
fn what_is_begun_is_given_up_replaced_and_dropped() {
    for mut fixture in [chat(Fixture::new()), chat(Fixture::on_postgres())] {
        let all = |name: &str, sql: &str| statement(name, &format!("SELECT id, body FROM {sql}"));
        let [one, over] = [all("one", "message WHERE chat > 0"), all("over", "one WHERE id > 10")];
        fixture.replica().execute(&(one.clone() + &over)).unwrap();
        fixture.fill_in_slices(10, 4);
        let begun = |fixture: &mut Fixture| {
            let views = fixture.replica().views().into_iter().filter(|view| view.replacement.is_some());
            views.map(|view| view.definition.name).collect::<Vec<_>>().join(" ")
        };
        // Another one, and then that which it is.
        for sql in ["message WHERE chat > 1", "message WHERE id < 50"] {
            assert_eq!(fixture.replica().execute(&all("one", sql)).unwrap(), ["one"]);
            fill(&mut fixture);
            assert_eq!(begun(&mut fixture), "one over");
        }
        assert!(fixture.replica().execute(&all("one", "message WHERE id < 50")).unwrap().is_empty());
        fixture.replica().execute(&one).unwrap();
        assert_eq!(begun(&mut fixture), "");
        // A view that is made over what is to be waits for it.
        fixture.replica().execute(&all("one", "message WHERE chat > 1")).unwrap();
        fixture.replica().execute(&all("another", "one WHERE id > 20")).unwrap();
        assert_eq!(fixture.reader().views().unwrap().len(), 2);
        let refused = |fixture: &mut Fixture, sql: &str| fixture.replica().execute(sql).unwrap_err();
        assert_eq!(refused(&mut fixture, "DROP MATERIALIZED VIEW one").kind(), ErrorKind::Conflict);
        let error = refused(&mut fixture, &statement("one", "SELECT id FROM message"));
        assert!(error.reason().starts_with("view over depends on it: "), "{error}");
        fixture.replica().execute("DROP MATERIALIZED VIEW over; DROP MATERIALIZED VIEW another").unwrap();
        fill(&mut fixture);
        // The relation gets a column; the view follows it, and what is to replace it.
        let columns = [("id", INT), ("chat", INT), ("sender", INT), ("body", TEXT), ("more", TEXT)];
        fixture.apply(vec![define(&schema("message", 3, &columns, &[0]))]);
        fill(&mut fixture);
        assert_eq!(begun(&mut fixture), "one");
        fixture.replica().execute("DROP MATERIALIZED VIEW one").unwrap();
        assert!(!fill(&mut fixture).goes_on);
        assert_eq!(fixture.rows("SELECT name FROM __deltamesh_views"), "");
    }
}

#[test]
fn a_module_changes_a_view_below_another() {
    let mut fixture = chat(Fixture::new());
    let busy = statement("busy", VIEWS[6].1);
    let counts = |sql: &str| statement("counts", sql) + &busy;
    fixture.replica().set_module("m", &counts(VIEWS[0].1)).unwrap();
    assert_eq!(fixture.rows("SELECT chat FROM busy ORDER BY chat"), "[0]\n[1]\n[2]");
    let fewer = "SELECT chat, count(*) AS messages FROM message WHERE id > 20 GROUP BY chat";
    assert_eq!(fixture.replica().set_module("m", &counts(fewer)).unwrap(), ["counts"]);
    assert_eq!(fixture.rows("SELECT chat FROM busy ORDER BY chat"), "[0]\n[1]");
    check(&mut fixture);
}

const INT: ColumnType = ColumnType::Int;
const TEXT: ColumnType = ColumnType::Text;

/// The rows of views that are read from the mirror become tables then; the view that is served stays.
#[test]
fn a_column_is_added_while_views_are_replaced() {
    for fixture in [Fixture::new(), Fixture::on_postgres()] {
        let mut fixture = chat(fixture);
        fixture.fill_in_slices(1, 3);
        for (name, is, _) in [VIEWS[1], VIEWS[2]] {
            fixture.replica().execute(&statement(name, is)).unwrap();
            while fixture.replica().fill().unwrap().goes_on {}
        }
        for (name, _, to_be) in [VIEWS[1], VIEWS[2]] {
            fixture.replica().execute(&statement(name, to_be)).unwrap();
        }
        let served = "SELECT count(*) FROM named WHERE body = 'a'";
        assert_eq!(fixture.rows(served), "[10]");
        let columns = message_schema().columns.clone();
        let columns = columns.iter().map(|column| (column.name.as_str(), column.column_type));
        let columns: Vec<_> = columns.chain([("more", ColumnType::Int)]).collect();
        fixture.apply(vec![define(&schema("message", 9, &columns, &[0]))]);
        fixture.verify();
        assert_eq!(fixture.rows(served), "[10]");
        while fixture.replica().fill().unwrap().goes_on {}
        fixture.verify();
        assert_eq!(fixture.rows("SELECT count(*) FROM named WHERE login = 'ann'"), "[5]");
    }
}
