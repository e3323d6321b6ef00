//! Schema changes of the real engine, in order with the rows.

use deltamesh_ingest_genji::Mode;
use deltamesh_testkit::GenjiHost;

use crate::tap::dump;
use crate::{Ingest, Mirror, read_until, start};

/// Runs the statements beside a running tap and checks the order of schema changes, then the rows of each table.
async fn check(statements: &[&str], expected: &str, tables: &[(&str, &[&str])]) {
    let (nats, client, dir) = start().await;
    let Some(mut host) = GenjiHost::start(dir.path()).expect("engine") else { return };
    let ingest = Ingest::start(&nats, dir.path(), Mode::Tap);
    host.execute("CREATE TABLE first(id INT PRIMARY KEY)").expect("create");
    let mut mirror = Mirror::new(&client);
    read_until(&mut mirror, |mirror| mirror.relations.contains_key("first")).await;
    mirror.changes.clear();
    let snapshots = mirror.snapshots;
    for line in statements {
        host.execute(line).expect(line);
    }
    host.execute("CREATE TABLE last(id INT PRIMARY KEY)").expect("create");
    read_until(&mut mirror, |mirror| mirror.relations.contains_key("last")).await;
    assert_eq!(mirror.changes.join(" "), format!("{expected} +last(1)").trim_start());
    assert_eq!(mirror.snapshots, snapshots);
    for (table, columns) in tables {
        assert_eq!(mirror.columns(table), *columns);
        assert_eq!(mirror.dump(table, columns), dump(&mut host, table, columns), "{table}");
    }
    let relations: Vec<_> = mirror.relations.keys().map(String::as_str).collect();
    let mut names: Vec<_> = tables.iter().map(|(table, _)| *table).chain(["first", "last"]).collect();
    names.sort_unstable();
    assert_eq!(relations, names);
    ingest.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn create_alter_rename_drop() {
    check(
        &[
            "CREATE TABLE t(id INT PRIMARY KEY, a TEXT)",
            "INSERT INTO t(id, a) VALUES (1, 'x')",
            "DELETE FROM t",
            "ALTER TABLE t ADD FIELD b INT",
            "INSERT INTO t(id, a, b) VALUES (2, 'y', 5)",
            "ALTER TABLE t RENAME TO u",
            "INSERT INTO u(id, a, b) VALUES (3, 'z', 6)",
            "CREATE TABLE t(id TEXT PRIMARY KEY)",
            "INSERT INTO t(id) VALUES ('k')",
            "DROP TABLE t",
        ],
        "+t(2) +t(3) t>u +t(1) -t",
        &[("u", &["id", "a", "b"])],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn drop_and_create_again() {
    check(
        &[
            "CREATE TABLE t(id INT PRIMARY KEY, a TEXT)",
            "INSERT INTO t(id, a) VALUES (1, 'x')",
            "DROP TABLE t",
            "CREATE TABLE t(id TEXT PRIMARY KEY, n INT)",
            "INSERT INTO t(id, n) VALUES ('one', 1)",
        ],
        "+t(2) -t +t(2)",
        &[("t", &["id", "n"])],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inside_a_transaction() {
    check(
        &[
            "CREATE TABLE t(id INT PRIMARY KEY, a TEXT)",
            "INSERT INTO t(id, a) VALUES (1, 'x')",
            "BEGIN",
            "INSERT INTO t(id, a) VALUES (2, 'y')",
            "DROP TABLE t",
            "CREATE TABLE t(id TEXT PRIMARY KEY, n INT)",
            "INSERT INTO t(id, n) VALUES ('one', 1)",
            "CREATE TABLE gone(id INT PRIMARY KEY)",
            "INSERT INTO gone(id) VALUES (1)",
            "DROP TABLE gone",
            "ALTER TABLE t RENAME TO u",
            "INSERT INTO u(id, n) VALUES ('two', 2)",
            "COMMIT",
            "INSERT INTO u(id, n) VALUES ('three', 3)",
        ],
        "+t(2) -t +t(2) +gone(1) -gone t>u",
        &[("u", &["id", "n"])],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rolled_back_changes_leave_nothing() {
    check(
        &[
            "CREATE TABLE t(id INT PRIMARY KEY, a TEXT)",
            "BEGIN",
            "INSERT INTO t(id, a) VALUES (1, 'x')",
            "ALTER TABLE t ADD FIELD b INT",
            "CREATE TABLE gone(id INT PRIMARY KEY)",
            "ROLLBACK",
            "INSERT INTO t(id, a) VALUES (2, 'y')",
        ],
        "+t(2)",
        &[("t", &["id", "a"])],
    )
    .await;
}
