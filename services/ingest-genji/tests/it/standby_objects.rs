//! A standby that takes over is a database that the application can go on with: same tables, constraints, indexes and
//! sequences, as the real engine sees them.

use std::path::Path;

use deltamesh_ingest_genji::Mode;
use deltamesh_jetstream::Client;
use deltamesh_testkit::GenjiHost;

use crate::standby::{Loss, Node, TABLE, execute_in_time, standby};
use crate::standby_trim::{caught_up, purge};
use crate::start;

const FIRST: &[&str] = &[
    TABLE,
    "CREATE SEQUENCE numbers START WITH 100 INCREMENT BY 5 CACHE 10",
    "CREATE TABLE note(title TEXT, stars INTEGER DEFAULT 3, at DOUBLE)",
    "CREATE TABLE loose",
    "CREATE TABLE bill(id INTEGER PRIMARY KEY DEFAULT NEXT VALUE FOR numbers, who TEXT NOT NULL UNIQUE, \
     sum DOUBLE CHECK(sum >= 0), place DOCUMENT(town TEXT, street TEXT))",
    "CREATE INDEX note_stars ON note(stars)",
    "CREATE TABLE old(a INTEGER PRIMARY KEY, b TEXT)",
    "CREATE UNIQUE INDEX ON old(b)",
    "INSERT INTO note(title, at) VALUES ('one', 1.5), ('two', 2)",
    "INSERT INTO loose(x, y) VALUES (1, [1, 'a']), ('text', {z: null})",
    "INSERT INTO bill(who, sum, place) VALUES ('ann', 10, {town: 'x', street: 'y'}), ('bob', 0.5, NULL)",
    "INSERT INTO old(a, b) VALUES (1, 'p'), (2, 'q')",
];

const SECOND: &[&str] = &[
    "ALTER TABLE old RENAME TO new",
    "ALTER TABLE note ADD FIELD mark TEXT DEFAULT 'none'",
    "CREATE INDEX ON bill(sum, who)",
    "CREATE SEQUENCE gone",
    "DROP SEQUENCE gone",
    "DROP INDEX note_stars",
    "CREATE INDEX note_title ON note(title)",
    "CREATE TABLE brief(id INTEGER PRIMARY KEY)",
    "DROP TABLE brief",
    "CREATE TABLE brief(id TEXT PRIMARY KEY, n INTEGER UNIQUE)",
    "INSERT INTO brief(id, n) VALUES ('k', 7)",
    "INSERT INTO note(title, mark) VALUES ('three', 'm')",
    "UPDATE note SET title = 'TWO' WHERE title = 'two'",
    "DELETE FROM loose WHERE x = 1",
    "INSERT INTO bill(who, sum) VALUES ('cid', 3)",
    "UPDATE new SET b = 'r' WHERE a = 2",
];

/// What the real engine says of a directory, and what it does next.
const QUESTIONS: &[&str] = &[
    "SELECT name, type, sql, docid_sequence_name, owner FROM __genji_catalog ORDER BY name",
    "SELECT name, seq FROM __genji_sequence WHERE name != '__genji_store_seq' ORDER BY name",
    "SELECT pk(), * FROM note",
    "SELECT pk(), * FROM loose",
    "SELECT * FROM bill ORDER BY id",
    "SELECT * FROM new ORDER BY a",
    "SELECT * FROM brief",
    "SELECT title FROM note WHERE title = 'TWO'",
    "SELECT who FROM bill WHERE sum = 10",
    "SELECT a FROM new WHERE b = 'r'",
    "SELECT id FROM brief WHERE n = 7",
];

const NEXT: &[&str] = &[
    "INSERT INTO note(title) VALUES ('next')",
    "INSERT INTO loose(x) VALUES ('next')",
    "INSERT INTO bill(who, sum) VALUES ('next', 1)",
    "INSERT INTO bill(who, sum) VALUES ('ann', 1)",
    "INSERT INTO new(a, b) VALUES (9, 'p')",
    "INSERT INTO brief(id, n) VALUES ('l', 7)",
    "CREATE TABLE other(id INTEGER PRIMARY KEY)",
    "INSERT INTO other(id) VALUES (1)",
];

async fn run(client: &Client, statements: &[&str]) {
    for statement in statements {
        execute_in_time(client, statement).await;
    }
}

/// Everything that the real engine answers; nothing where it is not there.
fn answers(dir: &Path) -> Option<Vec<String>> {
    let mut host = GenjiHost::start(dir).expect("engine")?;
    let mut answers = vec![];
    let mut ask = |host: &mut GenjiHost| {
        for question in QUESTIONS {
            answers.push(format!("{question}: {:#?}", host.query(question).expect(question)));
        }
    };
    ask(&mut host);
    let done: Vec<String> =
        NEXT.iter().map(|next| format!("{next}: {:?}", host.execute(next).is_ok())).collect();
    ask(&mut host);
    answers.extend(done);
    Some(answers)
}

async fn check(by_snapshot: bool) {
    let (nats, client, dir) = start().await;
    let mut writer = Node::start(&nats, dir.path().join("a"), Mode::Host);
    run(&client, FIRST).await;
    if by_snapshot {
        purge(&client, 0).await;
    }
    let mut follower = Node::start(&nats, dir.path().join("b"), Mode::Standby);
    caught_up(&client, 1).await;
    run(&client, SECOND).await;
    caught_up(&client, 2).await;
    writer.lose(Loss::Killed);
    // Answered by the standby once it is the writer; changes nothing.
    execute_in_time(&client, "DELETE FROM t WHERE id = 77").await;
    assert!(follower.program.terminate().success());
    let copy = dir.path().join("copy");
    let copied = std::process::Command::new("cp").arg("-r").arg(&writer.dir).arg(&copy).status();
    assert!(copied.expect("copy").success());
    let Some(expected) = answers(&copy) else { return };
    let found = answers(&follower.dir).expect("present");
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.len(), expected.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_has_what_the_log_defines() {
    check(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_has_what_a_snapshot_defines() {
    check(true).await;
}

/// Numbers that writers give out while they take each other's place.
#[tokio::test(flavor = "multi_thread")]
async fn no_number_is_given_out_again() {
    let (nats, client, dir) = start().await;
    let mut writer = Node::start(&nats, dir.path().join("a"), Mode::Host);
    run(&client, FIRST).await;
    let mut follower = Node::start(&nats, dir.path().join("b"), Mode::Standby);
    caught_up(&client, 0).await;
    for round in 1..=2 {
        run(&client, &["INSERT INTO note(title) VALUES ('n')", "INSERT INTO loose(x) VALUES (1)"]).await;
        let bill = format!("INSERT INTO bill(who) VALUES ('round {round}')");
        run(&client, &[&bill]).await;
        caught_up(&client, round).await;
        writer.lose(Loss::Killed);
        let bill = format!("INSERT INTO bill(who) VALUES ('behind {round}')");
        run(&client, &[&bill, "INSERT INTO note(title) VALUES ('m')"]).await;
        writer.come_back(Loss::Killed);
        standby(&client, |_| true).await;
        std::mem::swap(&mut writer, &mut follower);
    }
    caught_up(&client, 3).await;
    for node in [&mut follower, &mut writer] {
        assert!(node.program.terminate().success());
    }
    let Some(mut host) = GenjiHost::start(&writer.dir).expect("engine") else { return };
    let bills = host.query("SELECT id, who FROM bill ORDER BY id").expect("query");
    assert_eq!(bills.len(), 6, "{bills:?}");
    assert_eq!(host.query("SELECT pk() FROM note").expect("query").len(), 6);
    let mut other = GenjiHost::start(&follower.dir).expect("engine").expect("present");
    assert_eq!(other.query("SELECT id, who FROM bill ORDER BY id").expect("query"), bills);
}
