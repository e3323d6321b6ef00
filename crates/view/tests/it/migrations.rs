//! What a migration may say, and what is said about the rest.

use deltamesh_view::{MigrationAction, parse_migration};
use expect_test::{Expect, expect};

/// Each line is a migration; shows what it does, or the refusal.
fn check(lines: &str, expected: Expect) {
    let shown = lines.lines().map(str::trim).filter(|line| !line.is_empty()).map(|line| {
        let steps = match parse_migration(line) {
            Ok(steps) => steps,
            Err(error) => return error.to_string(),
        };
        let action = |action: MigrationAction| match action {
            MigrationAction::View(_) => "materialized view".to_owned(),
            MigrationAction::Create { object, name, sql } => {
                format!("create {} {name}: {sql}", object.word())
            }
            MigrationAction::Index(index) => {
                let only = index.only_own.map(|reason| format!(" ({reason})")).unwrap_or_default();
                format!("{}{only}", index.on("rows of it"))
            }
            MigrationAction::Drop { object, name, if_exists } => {
                format!("drop {} {name}, maybe: {if_exists}", object.word())
            }
            MigrationAction::Change { table, sql } => format!("change {table}: {sql}"),
        };
        steps.into_iter().map(|step| action(step.action)).collect::<Vec<_>>().join("; ")
    });
    expected.assert_eq(&(shown.collect::<Vec<_>>().join("\n") + "\n"));
}

#[test]
fn objects_of_ones_own() {
    check(
        "CREATE MATERIALIZED VIEW v AS SELECT 1; DROP MATERIALISED VIEW IF EXISTS w;
         CREATE TABLE country (code TEXT PRIMARY KEY, name TEXT NOT NULL DEFAULT upper('x'));
         CREATE TABLE copy AS SELECT code, count(*) AS n FROM country GROUP BY code
         INSERT INTO country VALUES ('at', 'Austria') ON CONFLICT (code) DO NOTHING; -- the end
         UPDATE country SET name = 'x;' WHERE code IN (SELECT id FROM app__user)
         DELETE FROM country WHERE lower(code) = 'at'
         ALTER TABLE country ADD COLUMN area INTEGER
         CREATE VIEW long AS SELECT * FROM app__message WHERE octet_length(body) > 10
         CREATE INDEX by_chat ON app__message (chat, id DESC) WHERE body IS NOT NULL AND chat > 3
         CREATE INDEX by_login ON app__user (lower(login))
         CREATE UNIQUE INDEX one ON per_chat (chat)
         DROP INDEX IF EXISTS by_chat",
        expect![[r#"
            materialized view; materialized view
            create TABLE country: CREATE TABLE country (code TEXT PRIMARY KEY, name TEXT NOT NULL DEFAULT upper('x'))
            create TABLE copy: CREATE TABLE copy AS SELECT code, count(*) AS n FROM country GROUP BY code
            change country: INSERT INTO country VALUES ('at', 'Austria') ON CONFLICT(code) DO NOTHING
            change country: UPDATE country SET name = 'x;' WHERE code IN (SELECT id FROM app__user)
            change country: DELETE FROM country WHERE lower(code) = 'at'
            change country: ALTER TABLE country ADD COLUMN area INTEGER
            create VIEW long: CREATE VIEW long AS SELECT * FROM app__message WHERE octet_length(body) > 10
            CREATE INDEX by_chat ON "rows of it"(chat, id DESC) WHERE body IS NOT NULL AND chat > 3
            CREATE INDEX by_login ON "rows of it"(lower(login))
            CREATE UNIQUE INDEX one ON "rows of it"(chat) (a unique index could refuse rows of the source; leave UNIQUE out)
            drop INDEX by_chat, maybe: true
        "#]],
    );
}

#[test]
fn what_the_replica_maintains_is_not_written() {
    check(
        "UPDATE app__message SET body = ''
         DELETE FROM __deltamesh_changes
         INSERT INTO \"app__message\" VALUES (1)
         DROP TABLE main.country
         ALTER TABLE app__message DROP COLUMN body
         CREATE UNIQUE INDEX one ON app__message (chat)
         CREATE INDEX one ON app__message (1 / chat)
         CREATE INDEX one ON app__message (chat) WHERE abs(chat) > 3
         CREATE INDEX one ON __deltamesh_changes (view)
         CREATE VIEW v AS WITH gone AS (DELETE FROM app__message RETURNING id) SELECT * FROM gone
         CREATE TABLE t (id INTEGER REFERENCES app__message (id))
         INSERT INTO t SELECT pg_terminate_backend(1)
         INSERT INTO t SELECT * FROM dblink('x')
         CREATE TRIGGER t AFTER INSERT ON app__message BEGIN SELECT 1; END
         CREATE FUNCTION f() RETURNS integer AS 'SELECT 1' LANGUAGE sql
         SELECT 1
         PRAGMA user_version = 7
         COMMIT
         CREATE TABLE IF NOT EXISTS t (a INTEGER)
         CREATE TABLE Big (a INTEGER)
         CREATE TABL t (a INTEGER)
         CREATE TABLE t (a INTEGER); UPDATE t SET a = ",
        expect![[r#"
            1:1: app__message is named like a mirror, which has the rows of its source and no others
            1:1: __deltamesh_changes is the replica's own; only the view-builder writes it
            1:1: app__message is named like a mirror, which has the rows of its source and no others
            1:1: write the last part of main.country alone
            1:1: app__message is named like a mirror, which has the rows of its source and no others
            1:1: a unique index could refuse rows of the source; leave UNIQUE out
            1:1: an expression could fail for a row; index columns, or lower(column)
            1:1: the condition could fail for a row; compare columns with literals
            1:1: __deltamesh_changes is the replica's own
            1:1: a query cannot change rows on the way; write two statements
            1:1: a reference could refuse changes of the rows that it points to; leave it out, or check it in a view
            1:1: the function pg_terminate_backend is possible in a view only
            1:1: a function in FROM is possible in a view only
            1:1: a trigger could stop the replica's transactions; make a materialized view, or read __deltamesh_changes
            1:1: what a function does cannot be checked; write the expression in a view
            1:1: a migration creates, changes and drops tables, views and indexes of its own, and materialized views
            1:1: settings of the database are not those of a migration; leave the statement out
            1:1: a migration is one transaction already; leave the statement out
            1:1: a migration is applied once; leave IF NOT EXISTS out
            1:1: Big: a name has up to 60 lower-case letters, digits and _
            1:8: expected: an object type after create, found: tabl
            1:29: Expected: an expression, found: EOF
        "#]],
    );
}
