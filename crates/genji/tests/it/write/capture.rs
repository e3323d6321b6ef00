//! What a tail sees of a database that is hosted here.

use deltamesh_change::{EnginePosition, Item, Operation, SchemaChange};
use deltamesh_genji::{Database, HostOptions, ReadOptions, Snapshot, Tail};

use super::{open, run, small};

/// The next transaction as text, and its position.
fn next(tail: &mut Tail) -> (String, EnginePosition) {
    let transaction = tail.poll().unwrap().expect("a transaction");
    let items = transaction.items.iter().map(|item| match item {
        Item::Row(event) => {
            let mark = if event.operation == Operation::Delete { '-' } else { '+' };
            let key: Vec<String> =
                event.key.iter().map(|value| deltamesh_change::to_json(value).to_string()).collect();
            format!("{mark}{}({})", event.schema.relation, key.join(","))
        }
        Item::Schema(SchemaChange::Define(schema)) => format!("define {}", schema.relation),
        Item::Schema(SchemaChange::Rename { from, to }) => format!("rename {from} {}", to.relation),
        Item::Schema(SchemaChange::Drop { relation, .. }) => format!("drop {relation}"),
    });
    (items.collect::<Vec<_>>().join(" "), transaction.position)
}

#[test]
fn the_tail_stands_where_the_writer_says() {
    let dir = tempfile::tempdir().unwrap();
    let database = open(dir.path());
    let mut tail = Snapshot::open(dir.path(), &ReadOptions::default()).unwrap().into_tail();
    let mut check = |sql: &str, expected: &str| {
        let position = database.execute(sql, &[]).unwrap().position.unwrap();
        assert_eq!(next(&mut tail), (expected.to_owned(), position), "{sql}");
    };
    check("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT UNIQUE)", "define t");
    check("INSERT INTO t (id, v) VALUES (1, 'a'), (2, 'b')", "+t(1) +t(2)");
    check("UPDATE t SET v = 'c' WHERE id = 1", "+t(1)");
    check("DELETE FROM t WHERE id = 2", "-t(2)");
    check("CREATE TABLE log", "define log");
    check("INSERT INTO log VALUES {a: 1}", "+log(1)");
    check("ALTER TABLE t RENAME TO u", "rename t u");
    check("ALTER TABLE u ADD FIELD w INTEGER", "define u +u(1)");
    check("DROP TABLE u", "-u(1) drop u");
}

/// Logs are kept beyond flushes and reopens, so a reader that resumes finds its place.
#[test]
fn a_tail_resumes_over_flushes_and_reopens() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = 0;
    let mut position = None;
    for round in 0..4 {
        let database = Database::open(dir.path(), &small()).unwrap();
        if round == 0 {
            run(&database, &["CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)"]);
        }
        let mut tail = match position {
            None => Snapshot::open(dir.path(), &ReadOptions::default()).unwrap().into_tail(),
            Some(position) => Tail::resume(dir.path(), position, &ReadOptions::default()).unwrap(),
        };
        while let Some(transaction) = tail.poll().unwrap() {
            position = Some(transaction.position);
            expected -= transaction.items.len();
        }
        assert_eq!(expected, 0, "round {round}");
        for id in 0..50 {
            let sql = format!("INSERT INTO t (id, v) VALUES ({}, '{}')", round * 50 + id, "v".repeat(200));
            database.execute(&sql, &[]).unwrap();
            if id < 25 {
                position = Some(tail.poll().unwrap().unwrap().position);
            } else {
                expected += 1;
            }
        }
        if round == 1 {
            database.close().unwrap();
        }
    }
    let options = HostOptions { retained_log_bytes: 0, ..HostOptions::default() };
    drop(Database::open(dir.path(), &options).unwrap());
}
