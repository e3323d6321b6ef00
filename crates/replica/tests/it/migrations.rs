//! Migrations on both replicas: applied once each, and what they make stays through changes of schemas and views.

use deltamesh_change::{ColumnType, Value};
use deltamesh_replica::{ErrorKind, Migration};
use expect_test::{Expect, expect};

use crate::fixture::{Fixture, define, message, message_schema, schema, upsert, user, user_schema};

const COUNTS: &str =
    "CREATE MATERIALIZED VIEW counts AS SELECT chat, count(*) AS messages FROM message GROUP BY chat";

fn on_both(check: impl Fn(Fixture)) {
    for mut fixture in [Fixture::new(), Fixture::on_postgres()] {
        let schemas = vec![define(&message_schema()), define(&user_schema())];
        fixture.apply(schemas);
        fixture.apply(vec![user(1, "ann"), message(1, 7, 1, "a")]);
        fixture.replica().set_module("chat", COUNTS).unwrap();
        check(fixture);
    }
}

fn files(texts: &[&str]) -> Vec<Migration> {
    let file = |(number, sql): (usize, &&str)| Migration {
        path: format!("migrations/{}_m.sql", number + 1),
        sql: (*sql).to_owned(),
    };
    texts.iter().enumerate().map(file).collect()
}

/// Applies all of them; gives the paths of those that were not applied before.
fn migrate(fixture: &mut Fixture, texts: &[&str]) -> String {
    let files = files(texts);
    let mut done = Vec::new();
    while let Some(migrated) = fixture.replica().migrate("chat", &files).unwrap() {
        done.push(migrated.path);
    }
    done.join(" ")
}

fn refusal(fixture: &mut Fixture, texts: &[&str]) -> String {
    fixture.replica().migrate("chat", &files(texts)).unwrap_err().to_string()
}

const COUNTRY: &str = "CREATE TABLE country (code TEXT PRIMARY KEY, name TEXT);
    INSERT INTO country VALUES ('at', 'Austria');";
const READS: &str = "CREATE VIEW busy AS SELECT chat, messages, name FROM counts, country WHERE messages > 1;
    CREATE VIEW busiest AS SELECT max(messages) AS most FROM busy;
    CREATE INDEX by_sender ON app__message (sender, id DESC) WHERE body IS NOT NULL;
    CREATE INDEX by_messages ON counts (messages);";

#[test]
fn each_is_applied_once() {
    on_both(|mut fixture| {
        assert_eq!(migrate(&mut fixture, &[COUNTRY]), "migrations/1_m.sql");
        assert_eq!(migrate(&mut fixture, &[COUNTRY, READS]), "migrations/2_m.sql");
        fixture.reopen();
        assert_eq!(migrate(&mut fixture, &[COUNTRY, READS]), "");
        // An earlier version of the module.
        assert_eq!(migrate(&mut fixture, &[COUNTRY]), "");
        fixture.apply(vec![message(2, 7, 1, "b")]);
        assert_eq!(fixture.rows("SELECT * FROM busy"), r#"[7,2,"Austria"]"#);
        let sql = "SELECT module, number, name, applied_us > 0, took_us > 0 FROM __deltamesh_migrations ORDER BY id";
        let truth = if fixture.is_file() { "1,1" } else { "true,true" };
        let line = |number| format!(r#"["chat",{number},"migrations/{number}_m.sql",{truth}]"#);
        assert_eq!(fixture.rows(sql), format!("{}\n{}", line(1), line(2)));
        expect!["migrations/1_m.sql: 1:1: was applied with another text: put that back (column sql of __deltamesh_migrations), and write the change as a further migration"]
            .assert_eq(&refusal(&mut fixture, &["CREATE TABLE other (a INTEGER)", READS]));
        fixture.verify();
    });
}

#[test]
fn one_that_fails_changes_nothing() {
    let check = |last: &str, expected: Expect| {
        on_both(|mut fixture| {
            migrate(&mut fixture, &[COUNTRY]);
            expected.assert_eq(&refusal(&mut fixture, &[COUNTRY, &format!("{READS}\n{last}")]));
            assert_eq!(migrate(&mut fixture, &[COUNTRY, READS]), "migrations/2_m.sql");
            fixture.apply(vec![message(2, 7, 1, "b")]);
            fixture.verify();
        });
    };
    check(
        "UPDATE country SET name = ",
        expect!["migrations/2_m.sql: 5:1: Expected: an expression, found: EOF"],
    );
    check(
        "UPDATE counts SET messages = 0",
        expect![
            "migrations/2_m.sql: 5:1: table counts: is a materialized view, which always equals its SQL: nothing else writes it"
        ],
    );
    check(
        "DELETE FROM message",
        expect!["migrations/2_m.sql: 5:1: table message: was made by no migration of this replica"],
    );
    check(
        "CREATE TABLE counts (a INTEGER)",
        expect!["migrations/2_m.sql: 5:1: name counts: exists already, as a materialized view"],
    );
    check(
        "CREATE UNIQUE INDEX one ON counts (messages)",
        expect![
            "migrations/2_m.sql: 5:1: index one: a unique index could refuse rows of the source; leave UNIQUE out"
        ],
    );
    check(
        "CREATE INDEX one ON nothing (messages)",
        expect!["migrations/2_m.sql: 5:1: index one: there is no table nothing"],
    );
    check(
        "CREATE MATERIALIZED VIEW bad AS\n  SELECT nothing FROM message",
        expect!["migrations/2_m.sql: 6:10: no column nothing"],
    );
}

/// The tables below are built anew; SQLite would leave the views as they are, PostgreSQL would refuse.
#[test]
fn what_they_made_outlives_changes_below() {
    on_both(|mut fixture| {
        migrate(&mut fixture, &[COUNTRY, READS]);
        let wider = schema(
            "message",
            3,
            &[
                ("id", ColumnType::Int),
                ("chat", ColumnType::Int),
                ("sender", ColumnType::Int),
                ("body", ColumnType::Text),
                ("read", ColumnType::Bool),
            ],
            &[0],
        );
        let row = vec![Value::Int(2), Value::Int(7), Value::Int(1), "b".into(), Value::Bool(true)];
        fixture.apply(vec![define(&wider), upsert(&wider, row)]);
        fixture
            .replica()
            .set_module("chat", &COUNTS.replace("FROM message", "FROM message WHERE id > 0"))
            .unwrap();
        assert_eq!(fixture.replica().missing(), []);
        assert_eq!(fixture.rows("SELECT * FROM busiest"), "[2]");
        let indexes = if fixture.is_file() {
            "SELECT name FROM sqlite_schema WHERE name IN ('by_sender', 'by_messages') ORDER BY 1"
        } else {
            "SELECT indexname FROM pg_indexes WHERE schemaname = current_schema() AND indexname LIKE 'by%' ORDER BY 1"
        };
        assert_eq!(fixture.rows(indexes), "[\"by_messages\"]\n[\"by_sender\"]");
        fixture.verify();
    });
}

#[test]
fn what_names_what_is_gone_is_a_fault_of_its_own() {
    on_both(|mut fixture| {
        migrate(&mut fixture, &[COUNTRY, READS]);
        let missing = |fixture: &mut Fixture| {
            let missing = fixture.replica().missing();
            missing.into_iter().map(|(name, _)| name).collect::<Vec<_>>().join(" ")
        };
        fixture.replica().set_module("chat", "").unwrap();
        assert_eq!(missing(&mut fixture), "busy busiest by_messages");
        fixture.apply(vec![message(2, 7, 1, "b")]);
        fixture.reopen();
        assert_eq!(missing(&mut fixture), "busy busiest by_messages");
        fixture.replica().set_module("chat", COUNTS).unwrap();
        fixture.replica().repair().unwrap();
        assert_eq!(missing(&mut fixture), "");
        assert_eq!(fixture.rows("SELECT * FROM busiest"), "[2]");
        let error =
            fixture.replica().execute("CREATE MATERIALIZED VIEW busy AS SELECT id FROM user").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert_eq!(error.to_string(), "name busy: exists already, made by chat/migrations/2_m.sql");
    });
}

#[test]
fn they_create_replace_and_drop_materialized_views() {
    on_both(|mut fixture| {
        let logins = "CREATE MATERIALIZED VIEW logins WITH (stored = always) AS SELECT id, login FROM user;
            CREATE INDEX by_login ON logins (lower(login));
            CREATE VIEW first_login AS SELECT min(login) AS login FROM logins;
            CREATE OR REPLACE MATERIALIZED VIEW logins WITH (stored = always) AS SELECT id, login FROM user WHERE id > 1;
            CREATE VIEW last_login AS SELECT max(login) AS login FROM first_login";
        migrate(&mut fixture, &[logins]);
        fixture.apply(vec![user(2, "bob")]);
        assert_eq!(fixture.rows("SELECT * FROM last_login"), r#"["bob"]"#);
        let drop = "DROP VIEW last_login; DROP VIEW first_login; DROP MATERIALIZED VIEW logins; DROP INDEX IF EXISTS nothing";
        migrate(&mut fixture, &[logins, drop]);
        // The index went with its view.
        assert_eq!(fixture.replica().missing().len(), 1);
        migrate(&mut fixture, &[logins, drop, "DROP INDEX by_login"]);
        assert_eq!(fixture.replica().missing(), []);
        assert_eq!(fixture.replica().views().len(), 1);
    });
}
