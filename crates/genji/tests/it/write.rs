//! Databases written here, alone and in turns with the real engine.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use std::path::Path;

use anyhow::Result;
use deltamesh_change::{Value, to_json};
use deltamesh_genji::{Database, ErrorKind, HostOptions};
use deltamesh_testkit::GenjiHost;
use serde_json::Value as Json;

mod alternate;
mod capture;
mod differential;
mod foreign;
mod random_sql;
mod recovery;
mod sql;

/// Options under which a few rows already fill the memtable.
fn small() -> HostOptions {
    HostOptions { memtable_bytes: 4096, ..HostOptions::default() }
}

fn open(dir: &Path) -> Database {
    Database::open(dir, &HostOptions::default()).unwrap()
}

fn run(database: &Database, statements: &[&str]) {
    for statement in statements {
        database.execute(statement, &[]).unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
}

/// Numbers as doubles, so that both engines' texts of the same value are equal.
fn normal(json: Json) -> Json {
    match json {
        Json::Number(number) => number.as_f64().map_or(Json::Null, Json::from),
        Json::Array(items) => items.into_iter().map(normal).collect(),
        Json::Object(fields) => fields.into_iter().map(|(name, value)| (name, normal(value))).collect(),
        other => other,
    }
}

fn sorted(rows: impl Iterator<Item = Json>) -> Vec<String> {
    let mut rows: Vec<String> = rows.map(|row| normal(row).to_string()).collect();
    rows.sort();
    rows
}

/// The rows of a table as this crate reads them.
fn ours(database: &Database, table: &str) -> Vec<String> {
    sorted(database.scan(table).unwrap().into_iter().map(|(_, row)| to_json(&Value::Document(row))))
}

/// The rows of a query as the real engine returns them.
fn theirs(host: &mut GenjiHost, select: &str) -> Vec<String> {
    let rows = host.query(select).unwrap_or_else(|error| panic!("{select}: {error}"));
    sorted(rows.iter().map(|row| serde_json::from_str(row).unwrap()))
}

const TABLES: [&str; 6] = [
    "CREATE TABLE user (id INTEGER PRIMARY KEY, email TEXT UNIQUE, age INTEGER, bio ANY)",
    "CREATE TABLE pair (a INTEGER, b TEXT, c BLOB, d DOUBLE DEFAULT 1.5, PRIMARY KEY (a, b))",
    "CREATE TABLE log",
    "CREATE TABLE nest (k DOCUMENT(x INTEGER PRIMARY KEY, y TEXT), l ARRAY, m DOCUMENT, f BOOL NOT NULL, ...)",
    "CREATE INDEX user_age ON user (age, bio)",
    "CREATE INDEX ON nest (k.y)",
];

const ROWS: [&str; 7] = [
    "INSERT INTO user (id, email, age, bio) VALUES (1, 'a@x', 30, 7), (2, 'b@x', NULL, 'text'), (300, NULL, 30, [1, 2])",
    "INSERT INTO pair (a, b, c) VALUES (1, 'x', 'YWJj'), (-70000, '', NULL)",
    "INSERT INTO pair VALUES {a: 1, b: 'y', d: 7}",
    "INSERT INTO log VALUES {r: 3, s: {t: null}}, {}",
    "INSERT INTO nest VALUES {k: {x: 5, y: 'five'}, l: [1, 2.5, 'x'], m: {q: [1]}, f: true, more: 1}",
    "UPDATE user SET age = 31, bio = NULL WHERE id = 1",
    "DELETE FROM pair WHERE b = '' AND a = -70000",
];

#[test]
fn rows_survive_a_clean_close_and_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = Vec::new();
    for round in 0..3 {
        let database = open(dir.path());
        if round == 0 {
            run(&database, &TABLES);
            run(&database, &ROWS);
        } else {
            assert_eq!(ours(&database, "user"), expected);
            run(&database, &["DELETE FROM user WHERE id = 300", "INSERT INTO log VALUES {again: true}"]);
        }
        expected = ours(&database, "user");
        assert_eq!(ours(&database, "log").len(), 2 + round);
        if round == 0 {
            database.close().unwrap();
        }
    }
}

#[test]
fn the_real_engine_goes_on() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let database = open(dir.path());
    run(&database, &TABLES);
    run(&database, &ROWS);
    let tables = ["user", "pair", "log", "nest"];
    let before: Vec<_> = tables.map(|table| ours(&database, table)).into();
    database.close()?;

    let Some(mut host) = GenjiHost::start(dir.path())? else { return Ok(()) };
    let after: Vec<_> = tables.map(|table| theirs(&mut host, &format!("SELECT * FROM {table}"))).into();
    assert_eq!(before, after);
    assert_eq!(theirs(&mut host, "SELECT id FROM user WHERE email = 'b@x'"), [r#"{"id":2.0}"#]);
    assert_eq!(theirs(&mut host, "SELECT id FROM user WHERE age = 30"), [r#"{"id":300.0}"#]);
    assert_eq!(theirs(&mut host, "SELECT a FROM pair WHERE a = 1 AND b = 'y'"), [r#"{"a":1.0}"#]);
    assert_eq!(theirs(&mut host, "SELECT f FROM nest WHERE k.y = 'five'"), [r#"{"f":true}"#]);
    assert!(host.execute("INSERT INTO user (id, email) VALUES (9, 'a@x')").is_err());
    host.execute("INSERT INTO user (id, email) VALUES (9, 'i@x')")?;
    host.execute("INSERT INTO log VALUES {src: 'engine'}")?;
    host.execute("CREATE TABLE later (id INTEGER PRIMARY KEY, v TEXT UNIQUE)")?;
    host.execute("INSERT INTO later (id, v) VALUES (1, 'one')")?;
    host.execute("DELETE FROM nest")?;
    let before: Vec<_> = ["user", "log", "nest", "later"]
        .map(|table| theirs(&mut host, &format!("SELECT * FROM {table}")))
        .into();
    host.kill()?;

    let database = open(dir.path());
    let after: Vec<_> = ["user", "log", "nest", "later"].map(|table| ours(&database, table)).into();
    assert_eq!(before, after);
    let taken = database.execute("INSERT INTO later (id, v) VALUES (2, 'one')", &[]).unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::Constraint);
    run(&database, &["INSERT INTO later (id, v) VALUES (2, 'two')", "INSERT INTO log VALUES {src: 'us'}"]);
    Ok(())
}

#[test]
fn one_host_at_a_time() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let database = open(dir.path());
    let second = Database::open(dir.path(), &HostOptions::default()).err().map(|error| error.kind());
    assert_eq!(second, Some(ErrorKind::Locked));
    if deltamesh_testkit::reference("genjihost").is_some() {
        assert!(GenjiHost::start(dir.path()).is_err());
    }
    database.close()?;
    let Some(host) = GenjiHost::start(dir.path())? else { return Ok(()) };
    assert!(Database::open(dir.path(), &HostOptions::default()).is_err());
    host.close()?;
    open(dir.path());
    Ok(())
}

#[test]
fn typed_rows() {
    let dir = tempfile::tempdir().unwrap();
    let database = open(dir.path());
    run(&database, &TABLES);
    let row =
        |id: i64, email: &str| vec![("id".to_owned(), Value::Int(id)), ("email".to_owned(), email.into())];
    let mut transaction = database.begin();
    assert_eq!(transaction.insert("user", &row(1, "a")).unwrap(), [Value::Int(1)]);
    assert_eq!(transaction.insert("user", &row(1, "b")).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(transaction.insert("user", &row(2, "a")).unwrap_err().kind(), ErrorKind::Constraint);
    transaction.upsert("user", &row(1, "c")).unwrap();
    transaction.upsert("user", &row(3, "a")).unwrap();
    let age = [("id".to_owned(), Value::Int(3)), ("age".to_owned(), "44".into())];
    assert!(transaction.update("user", &age).unwrap());
    assert!(!transaction.delete("user", &row(9, "")).unwrap());
    let first = transaction.commit().unwrap().unwrap();
    let expected = [r#"{"id":1.0,"email":"c"}"#, r#"{"id":3.0,"email":"a","age":44.0}"#];
    assert_eq!(ours(&database, "user"), expected);

    // Nothing changed, and nothing kept of a transaction that was dropped.
    let mut transaction = database.begin();
    transaction.upsert("user", &row(1, "c")).unwrap();
    assert_eq!(transaction.commit().unwrap(), None);
    let mut transaction = database.begin();
    transaction.delete("user", &row(1, "")).unwrap();
    drop(transaction);
    assert_eq!(ours(&database, "user"), expected);
    let executed = database.execute("DELETE FROM user WHERE id = ?", &[Value::Int(1)]).unwrap();
    // Row and two index entries.
    assert_eq!((executed.rows, executed.position.unwrap().sequence), (1, first.sequence + 3));
}

fn check_error(sql: &str, expected: &str) {
    let dir = tempfile::tempdir().unwrap();
    let database = open(dir.path());
    run(&database, &TABLES);
    let before = database.position().unwrap();
    let error = database.execute(sql, &[]).unwrap_err();
    assert_eq!(error.to_string(), expected, "{sql}");
    assert_eq!(database.position().unwrap(), before);
}

#[test]
fn refusals_name_place_and_reason() {
    check_error("INSERT INTO user (id) VALUE (1)", "expected VALUES at line 1, column 23");
    check_error("INSERT INTO user (id, age) VALUES (1)", "1 values for 2 fields at line 1, column 35");
    check_error("INSERT INTO user (id) VALUES (?)", "parameter was not given at line 1, column 31");
    check_error("INSERT INTO user (id, q) VALUES (1, 2)", "field q is not declared");
    check_error("INSERT INTO user (id, age) VALUES (1, 'x')", "text does not fit field age (INTEGER)");
    check_error("INSERT INTO user (age) VALUES (1)", "field id must not be null");
    check_error("INSERT INTO user (id, bio) VALUES (1, {a: 1})", "field bio cannot hold a document");
    check_error("INSERT INTO nowhere (id) VALUES (1)", "no table nowhere");
    check_error(
        "INSERT INTO __genji_catalog (name) VALUES ('x')",
        "table __genji_catalog belongs to the engine",
    );
    check_error(
        "DELETE FROM user WHERE COUNT(*) = 1",
        "WHERE holds a function over rows at line 1, column 24",
    );
    check_error("UPDATE user SET age = 1 WHERE id = ?", "parameter was not given at line 1, column 36");
    check_error("UPDATE user UNSET id", "key field id cannot be unset");
    check_error(
        "SELECT id, COUNT(*) + 1 FROM user",
        "a function over rows must stand alone at line 1, column 12",
    );
    check_error("DROP SEQUENCE log_seq", "table log needs sequence log_seq");
    check_error("CREATE TABLE t (a INTEGER DEFAULT 'x')", "default of field a is of another type");
    check_error("CREATE TABLE t (a BOOL CHECK (b))", "table t declares no field b");
    check_error("CREATE TABLE t (text TEXT)", "expected a name, found a keyword at line 1, column 17");
    check_error("CREATE TABLE t (`a b` TEXT)", "field name a b is not plain");
    check_error("CREATE TABLE user", "user exists already");
    check_error("CREATE INDEX ON user (nope)", "table user declares no field nope");
    check_error("DROP INDEX user_email_idx", "a unique constraint needs index user_email_idx");
    let long = format!("INSERT INTO user (id, email) VALUES (1, '{}')", "x".repeat(128));
    check_error(&long, "text or blob of 128 bytes or more in a key or index");
}

#[test]
fn definitions_are_stored_as_the_engine_stores_them() -> Result<()> {
    let statements = [
        "CREATE TABLE t",
        "CREATE TABLE a(id INT PRIMARY KEY, name VARCHAR(20) NOT NULL, x, n (q TEXT, r INTEGER DEFAULT 3), u TEXT UNIQUE, d DOUBLE DEFAULT 1.5, c TEXT DEFAULT 'a \"b', ...)",
        "CREATE TABLE b(a INTEGER, b TEXT, c BYTES, e BOOL DEFAULT false, PRIMARY KEY(a, b), UNIQUE(c, a))",
        "CREATE TABLE c(d DOCUMENT(a INTEGER PRIMARY KEY UNIQUE, b DOCUMENT), e ARRAY, i INTEGER DEFAULT -5)",
        "CREATE TABLE `odd name`(a REAL, CONSTRAINT foo UNIQUE (a))",
        "CREATE INDEX ON a(name)",
        "CREATE UNIQUE INDEX ni ON a(n.q, x)",
        "CREATE INDEX ON a(name)",
        "DROP TABLE b",
        "ALTER TABLE c RENAME TO c2",
        "ALTER TABLE a ADD FIELD z DOUBLE DEFAULT 2",
        "DROP INDEX ni",
    ];
    let (mine, real) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let Some(mut host) = GenjiHost::start(real.path())? else { return Ok(()) };
    let database = open(mine.path());
    for statement in statements {
        host.execute(statement)?;
        database.execute(statement, &[])?;
    }
    let catalog = "SELECT * FROM __genji_catalog";
    let expected = host.query(catalog)?;
    host.close()?;
    database.close()?;
    let Some(mut host) = GenjiHost::start(mine.path())? else { return Ok(()) };
    assert_eq!(host.query(catalog)?, expected);
    Ok(())
}

/// The real engine stores such names bare and then cannot open its database; stored in backquotes it can.
#[test]
fn keywords_as_names() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let database = open(dir.path());
    run(
        &database,
        &[
            "CREATE TABLE `order` (`key` INTEGER PRIMARY KEY, `value` TEXT UNIQUE, d DOCUMENT(`text` TEXT))",
            "CREATE INDEX `index` ON `order` (d.`text`)",
            "INSERT INTO `order` (`key`, `value`, d) VALUES (1, 'a', {`text`: 'x'})",
            "UPDATE `order` SET `value` = 'b' WHERE `key` = 1",
        ],
    );
    drop(database);
    let Some(mut host) = GenjiHost::start(dir.path())? else { return Ok(()) };
    host.execute("INSERT INTO `order` VALUES {`key`: 2, `value`: 'a', d: {`text`: 'y'}}")?;
    assert!(host.execute("INSERT INTO `order` VALUES {`key`: 3, `value`: 'b'}").is_err());
    assert_eq!(theirs(&mut host, "SELECT `key` FROM `order` WHERE d.`text` = 'y'"), [r#"{"key":2.0}"#]);
    host.close()?;
    let database = open(dir.path());
    assert_eq!(ours(&database, "order").len(), 2);
    run(&database, &["DROP TABLE `order`"]);
    Ok(())
}

#[test]
fn columns_of_the_relation_name_rows() {
    let dir = tempfile::tempdir().unwrap();
    let database = open(dir.path());
    run(&database, &TABLES);
    let field = |name: &str, value: Value| (name.to_owned(), value);
    let mut transaction = database.begin();
    let extra = Value::Document(vec![("more".into(), Value::Int(1))]);
    let row = [field("k.x", Value::Int(5)), field("f", true.into()), field("__extra", extra)];
    assert_eq!(transaction.insert("nest", &row).unwrap(), [Value::Int(5)]);
    assert!(transaction.update("nest", &[field("k.x", Value::Int(5)), field("f", false.into())]).unwrap());
    let docid = transaction.insert("log", &[field("a", Value::Int(1))]).unwrap();
    assert_eq!(docid, [Value::Int(1)]);
    let row = [field("__docid", Value::Int(1)), field("b", "x".into()), field("a", Value::Unchanged)];
    assert!(transaction.update("log", &row).unwrap());
    assert_eq!(
        transaction.insert("log", &[field("__docid", Value::Int(9))]).unwrap_err().kind(),
        ErrorKind::Unsupported
    );
    transaction.commit().unwrap();
    assert_eq!(ours(&database, "nest"), [r#"{"k":{"x":5.0},"f":false,"more":1.0}"#]);
    assert_eq!(ours(&database, "log"), [r#"{"a":1.0,"b":"x"}"#]);
    let mut transaction = database.begin();
    assert!(transaction.delete("log", &[field("__docid", Value::Int(1))]).unwrap());
    assert!(transaction.delete("nest", &[field("k.x", Value::Int(5))]).unwrap());
    transaction.commit().unwrap();
    assert_eq!(ours(&database, "nest").len() + ours(&database, "log").len(), 0);
}

#[test]
fn definitions_that_fail_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let database = open(dir.path());
    run(&database, &TABLES);
    run(&database, &ROWS);
    let before = (database.tables(), database.position().unwrap());
    for (sql, kind) in [
        ("CREATE UNIQUE INDEX twice ON pair (a)", ErrorKind::Constraint),
        ("ALTER TABLE user ADD FIELD must TEXT NOT NULL", ErrorKind::Constraint),
        ("ALTER TABLE user ADD FIELD age TEXT", ErrorKind::AlreadyExists),
        ("ALTER TABLE user RENAME TO log", ErrorKind::AlreadyExists),
        ("CREATE TABLE x (a INTEGER, UNIQUE (b))", ErrorKind::NotFound),
        ("DROP TABLE nowhere", ErrorKind::NotFound),
    ] {
        let mut transaction = database.begin();
        assert_eq!(transaction.execute(sql, &[]).unwrap_err().kind(), kind, "{sql}");
        assert_eq!(transaction.commit().unwrap(), None, "{sql}");
        assert_eq!((database.tables(), database.position().unwrap()), before, "{sql}");
    }
}

/// The real engine cannot read rows that lack an added field; here they get it.
#[test]
fn an_added_field_reaches_old_rows() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let database = open(dir.path());
    run(
        &database,
        &[
            "CREATE TABLE t (id INTEGER PRIMARY KEY, ...)",
            "INSERT INTO t VALUES {id: 1, late: 7, other: 'x'}",
            "ALTER TABLE t ADD FIELD late INTEGER NOT NULL DEFAULT 3",
            "INSERT INTO t (id) VALUES (2)",
        ],
    );
    let expected = [r#"{"id":1.0,"late":7.0,"other":"x"}"#, r#"{"id":2.0,"late":3.0}"#];
    assert_eq!(ours(&database, "t"), expected);
    database.close()?;
    let Some(mut host) = GenjiHost::start(dir.path())? else { return Ok(()) };
    assert_eq!(theirs(&mut host, "SELECT * FROM t"), expected);
    Ok(())
}

#[test]
fn threads_take_turns() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::open(dir.path(), &small()).unwrap();
    run(&database, &["CREATE TABLE log"]);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| (0..40).for_each(|_| run(&database, &["INSERT INTO log VALUES {a: 1}"])));
        }
        scope.spawn(|| (0..40).for_each(|_| assert!(ours(&database, "log").len() <= 120)));
    });
    let keys: Vec<_> = database.scan("log").unwrap().into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, (1..=120).map(|docid| vec![Value::Int(docid)]).collect::<Vec<_>>());
}
