//! Views that are filled beside the flow of changes.

use deltamesh_replica::{ErrorKind, Filling, Limits};
use expect_test::expect;

use crate::fixture::*;

const FEED: &str = "CREATE MATERIALIZED VIEW feed WITH (stored = always) AS
    SELECT m.id, u.login, m.body FROM message m JOIN user u ON u.id = m.sender";
const COUNTS: &str = "CREATE MATERIALIZED VIEW counts AS
    SELECT chat, count(*) AS messages, max(id) AS last FROM message GROUP BY chat";
const ALL: &str =
    "CREATE MATERIALIZED VIEW everything AS SELECT count(*) AS messages, max(id) AS last FROM message";
const BOTH: &str =
    "CREATE MATERIALIZED VIEW both AS SELECT id, body FROM message UNION ALL SELECT id, login FROM user";
const PAIRS: &str =
    "CREATE MATERIALIZED VIEW pairs AS SELECT chat, count(DISTINCT sender) AS senders FROM message
    WHERE sender IN (SELECT id FROM user) GROUP BY chat";

/// Read from the mirrors.
const NAMED: &str =
    "CREATE MATERIALIZED VIEW named AS SELECT m.id, u.login FROM message m JOIN user u ON u.id = m.sender";
/// The others compute groups again.
const FIRST: &str = "CREATE MATERIALIZED VIEW first AS SELECT id, chat, body FROM message QUALIFY row_number() OVER (PARTITION BY chat ORDER BY id) <= 2";
const FORMER: &str = "CREATE MATERIALIZED VIEW former AS SELECT id, lag(body) OVER (PARTITION BY sender ORDER BY id) AS body FROM message";
const OUTER: &str = "CREATE MATERIALIZED VIEW outer_ AS SELECT m.id, u.login FROM message m LEFT JOIN user u ON u.id = m.sender";
const MEAN: &str = "CREATE MATERIALIZED VIEW mean AS SELECT u.login, avg(m.id * 0.5) AS mean FROM message m JOIN user u ON u.id = m.sender GROUP BY u.login";

const VIEWS: [&str; 10] = [FEED, COUNTS, PAIRS, ALL, BOTH, NAMED, FIRST, FORMER, OUTER, MEAN];

fn chat(mut fixture: Fixture) -> Fixture {
    let mut items = vec![define(&message_schema()), define(&user_schema()), user(1, "ann"), user(2, "bob")];
    items.extend((1..=10).map(|id| message(id * 10, id % 3, 1 + id % 2, "a")));
    fixture.apply(items);
    fixture.fill_in_slices(10, 4);
    fixture
}

/// Compares every view with its SQL over what it was fed with.
fn check(fixture: &mut Fixture) {
    let views = fixture.replica().views();
    for verified in fixture.reader().verify(&views, Limits::default()).unwrap() {
        assert_eq!((verified.missing, verified.extra), (0, 0), "view {}", verified.view);
    }
}

fn fill(fixture: &mut Fixture) -> Filling {
    let filling = fixture.replica().fill().unwrap();
    check(fixture);
    filling
}

/// Changes in front of the bound, behind it, and of the other relation, come in between; and restarts.
#[test]
fn changes_flow_while_views_are_filled() {
    for mut fixture in [chat(Fixture::new()), chat(Fixture::on_postgres())] {
        fixture.replica().execute(&VIEWS.join("; ")).unwrap();
        assert!(fixture.reader().views().unwrap().is_empty(), "not shown before they are complete");
        check(&mut fixture);
        let gone = |id: i64| delete(&message_schema(), vec![id.into()]);
        let steps = [
            vec![message(5, 1, 1, "new"), message(35, 2, 2, "new"), message(20, 2, 2, "moved")],
            vec![message(95, 1, 2, "new"), message(100, 1, 1, "b"), gone(40), gone(90)],
            vec![user(2, "Bob"), delete(&user_schema(), vec![1.into()]), message(105, 7, 2, "last")],
            vec![user(1, "ann"), gone(10), message(60, 2, 1, "c")],
        ];
        let mut settled = vec![];
        for step in steps {
            settled.extend(fill(&mut fixture).settled);
            fixture.apply(step);
            check(&mut fixture);
            fixture.reopen();
            check(&mut fixture);
        }
        while fixture.replica().views().iter().any(|view| view.filling.is_some()) {
            settled.extend(fill(&mut fixture).settled);
        }
        let names = VIEWS.map(|view| view.split(' ').nth(3).unwrap());
        assert_eq!(settled, names);
        fixture.reopen();
        fixture.apply(vec![message(1, 1, 1, "after"), gone(20)]);
        fixture.verify();
        assert_eq!(fixture.replica().fill().unwrap(), Filling::default());
        let left = fixture.rows(if fixture.is_file() {
            "SELECT name FROM sqlite_schema WHERE name LIKE '%\\_\\_deltamesh\\_fed%' ESCAPE '\\' OR name LIKE '%bound%'"
        } else {
            "SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relname LIKE '%deltamesh_fed%'"
        });
        assert_eq!(left, "");
    }
}

#[test]
fn the_feed_has_the_rows_slice_by_slice() {
    let mut fixture = chat(Fixture::new());
    fixture.replica().execute(COUNTS).unwrap();
    fill(&mut fixture);
    fixture.apply(vec![message(10, 0, 1, "a"), message(100, 9, 1, "a")]);
    while fill(&mut fixture).goes_on {}
    expect![[r#"
        counts insert [0] {"chat":0,"messages":1,"last":30}
        counts insert [1] {"chat":1,"messages":2,"last":40}
        counts insert [2] {"chat":2,"messages":1,"last":20} !
        counts update [0] {"chat":0,"messages":2,"last":30} was {"messages":1}
        counts update [1] {"chat":1,"messages":1,"last":40} was {"messages":2} !
        counts update [0] {"chat":0,"messages":3,"last":60} was {"messages":2,"last":30}
        counts update [1] {"chat":1,"messages":2,"last":70} was {"messages":1,"last":40}
        counts update [2] {"chat":2,"messages":3,"last":80} was {"messages":1,"last":20} !
        counts update [0] {"chat":0,"messages":4,"last":90} was {"messages":3,"last":60}
        counts insert [9] {"chat":9,"messages":1,"last":100} !"#]]
    .assert_eq(&fixture.changes(0));
}

/// What ends a fill otherwise.
#[test]
fn a_filling_view_is_replaced_dropped_and_follows_its_relation() {
    for mut fixture in [chat(Fixture::new()), chat(Fixture::on_postgres())] {
        fixture.replica().execute(&format!("{FEED}; {COUNTS}")).unwrap();
        fill(&mut fixture);
        assert_eq!(fixture.replica().execute(COUNTS).unwrap_err().kind(), ErrorKind::Conflict);
        let replaced =
            FEED.replace("CREATE", "CREATE OR REPLACE").replace("m.sender", "m.sender AND m.id > 20");
        fixture.replica().execute(&replaced).unwrap();
        check(&mut fixture);
        fixture.replica().execute("DROP MATERIALIZED VIEW feed").unwrap();
        fill(&mut fixture);
        let columns = [("id", INT), ("chat", INT), ("sender", INT), ("body", TEXT), ("more", TEXT)];
        fixture.apply(vec![define(&schema("message", 3, &columns, &[0]))]);
        fixture.verify();
        assert!(!fixture.replica().fill().unwrap().goes_on);
    }
}

const INT: deltamesh_change::ColumnType = deltamesh_change::ColumnType::Int;
const TEXT: deltamesh_change::ColumnType = deltamesh_change::ColumnType::Text;
