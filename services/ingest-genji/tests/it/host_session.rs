//! Sessions of a hosted source: transactions over several requests.

use std::time::Duration;

use deltamesh_change::Value;
use deltamesh_ingest_genji::{Limits, Mode};
use deltamesh_jetstream::{Client, Code, ServiceError};
use deltamesh_testkit::GenjiHost;
use deltamesh_wire::proto::change::v1::Field;
use deltamesh_wire::proto::source::v1::mutation::Kind;
use deltamesh_wire::proto::source::v1::{ExecuteRequest, MutateRequest, MutateResponse, Mutation};
use prost::Message as _;

use crate::program::Program;
use crate::sql::Sql;
use crate::standby::standby;
use crate::{Ingest, LONG, Mirror, read_until, start};

fn check_refused<T: std::fmt::Debug>(result: Result<T, ServiceError>, code: Code, reason: &str) {
    let error = result.expect_err(reason);
    assert_eq!((error.code, error.message.as_str()), (code, reason));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_transaction_after_the_other() {
    let (nats, client, dir) = start().await;
    let ingest = Ingest::start(&nats, dir.path(), Mode::Host);
    let sql = Sql::new(&client);
    sql.insist("", "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)").await.expect("table");
    let first = sql.begin().await;
    let inserted =
        sql.run(&first, "INSERT INTO t (id, name) VALUES (1, 'a'), (2, 'b') RETURNING id, name").await;
    let inserted = inserted.expect("insert");
    assert_eq!((inserted.rows, inserted.position), (2, None));
    assert_eq!(inserted.documents, [r#"{"id":1,"name":"a"}"#, r#"{"id":2,"name":"b"}"#]);
    // Who comes now waits: a write and another transaction.
    let write = sql.ask("UPDATE t SET name = 'c' WHERE id = 2").await;
    let second = sql.ask("BEGIN").await;
    assert_eq!(sql.run(&first, "UPDATE t SET name = 'x' WHERE id = 2").await.expect("update").rows, 1);
    let committed = sql.run(&first, "COMMIT").await.expect("commit").position.expect("changes");
    let written = write.take().await.expect("waits");
    assert_eq!(written.rows, 1);
    assert!(written.position.expect("change").ordinal > committed.ordinal);
    // The answer may have been lost, so it is given again.
    assert_eq!(sql.run(&first, "COMMIT").await.expect("again").position, Some(committed));
    let reason = "session was committed: begin another";
    check_refused(sql.run(&first, "ROLLBACK").await, Code::FailedPrecondition, reason);
    check_refused(sql.run(&first, "SELECT 1").await, Code::FailedPrecondition, reason);

    let second = second.take().await.expect("waits").session;
    assert_eq!(sql.run(&second, "DELETE FROM t").await.expect("delete").rows, 2);
    assert_eq!(sql.rows(&second, "SELECT * FROM t").await, Vec::<String>::new());
    sql.run(&second, "ROLLBACK").await.expect("rollback");
    sql.run(&second, "ROLLBACK").await.expect("again");
    let reason = "session was rolled back by its ROLLBACK; begin again";
    check_refused(sql.run(&second, "COMMIT").await, Code::Aborted, reason);
    check_refused(sql.run(&second, "DELETE FROM t").await, Code::Aborted, reason);
    assert_eq!(sql.rows("", "SELECT * FROM t").await, [r#"{"id":1,"name":"a"}"#, r#"{"id":2,"name":"c"}"#]);
    let mut mirror = Mirror::new(&client);
    read_until(&mut mirror, |mirror| mirror.rows("t") == 2).await;
    ingest.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_select_does_not_wait_for_a_session() {
    let (nats, client, dir) = start().await;
    let ingest = Ingest::start(&nats, dir.path(), Mode::Host);
    let sql = Sql::new(&client);
    sql.insist("", "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)").await.expect("table");
    sql.run("", "CREATE SEQUENCE s").await.expect("sequence");
    sql.run("", "INSERT INTO t (id, name) VALUES (1, 'a')").await.expect("insert");
    let session = sql.begin().await;
    sql.run(&session, "INSERT INTO t (id, name) VALUES (2, 'b')").await.expect("insert");
    sql.run(&session, "UPDATE t SET name = 'x' WHERE id = 1").await.expect("update");
    assert_eq!(sql.rows("", "SELECT * FROM t").await, [r#"{"id":1,"name":"a"}"#]);
    assert_eq!(sql.rows("", "SELECT count(*) FROM t").await, [r#"{"COUNT(*)":1}"#]);
    check_refused(sql.run("", "SELECT * FROM u").await, Code::NotFound, "no table u");
    // It takes a value, so it waits.
    let next = sql.ask("SELECT NEXT VALUE FOR s").await;
    assert_eq!(sql.rows(&session, "SELECT name FROM t").await, [r#"{"name":"x"}"#, r#"{"name":"b"}"#]);
    sql.run(&session, "COMMIT").await.expect("commit");
    assert_eq!(next.take().await.expect("waits").documents.len(), 1);
    assert_eq!(sql.rows("", "SELECT id FROM t").await, [r#"{"id":1}"#, r#"{"id":2}"#]);
    ingest.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_sessions_refuse() {
    let (nats, client, dir) = start().await;
    let ingest = Ingest::start(&nats, dir.path(), Mode::Host);
    let sql = Sql::new(&client);
    sql.insist("", "CREATE TABLE t (id INTEGER PRIMARY KEY)").await.expect("table");
    let check = async |session: &str, statement: &str, code, reason: &str| {
        check_refused(sql.run(session, statement).await, code, reason);
    };
    let needed = "COMMIT and ROLLBACK need the session that BEGIN answered";
    check("", "COMMIT", Code::FailedPrecondition, needed).await;
    check("", "ROLLBACK", Code::FailedPrecondition, needed).await;
    check("nobody", "COMMIT", Code::NotFound, "no session has this name: BEGIN answers one").await;
    let own = "table __deltamesh_commits is written by the host only";
    check("", "DELETE FROM __deltamesh_commits", Code::PermissionDenied, own).await;
    check("", "ALTER TABLE t RENAME TO __deltamesh_commits", Code::PermissionDenied, own).await;

    let session = sql.begin().await;
    let reason = "a session has one transaction: send BEGIN without a session";
    check(&session, "BEGIN", Code::FailedPrecondition, reason).await;
    // A refused statement ends nothing.
    sql.run(&session, "INSERT INTO t (id) VALUES (1)").await.expect("insert");
    let reason = "table t has a row of this key";
    check(&session, "INSERT INTO t (id) VALUES (1)", Code::AlreadyExists, reason).await;
    sql.run(&session, "COMMIT").await.expect("commit");

    let reader = sql.run("", "BEGIN READ ONLY").await.expect("begin").session;
    assert_eq!(sql.rows(&reader, "SELECT * FROM t").await, [r#"{"id":1}"#]);
    check(&reader, "DELETE FROM t", Code::Unimplemented, "the transaction is read-only").await;
    sql.run(&reader, "COMMIT").await.expect("commit");
    sql.run(&reader, "COMMIT").await.expect("again");
    let reason = "session was committed and had changed nothing; begin again";
    check(&reader, "SELECT 1", Code::Aborted, reason).await;
    ingest.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_have_names_or_places() {
    let (nats, client, dir) = start().await;
    let ingest = Ingest::start(&nats, dir.path(), Mode::Host);
    let sql = Sql::new(&client);
    sql.insist("", "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, data BLOB, big INTEGER)")
        .await
        .expect("table");
    let values = [Value::Int(1), "a".into(), Value::Bytes(vec![0, 255]), Value::Int(i64::MAX)];
    let insert = "INSERT INTO t (id, name, data, big) VALUES (?, ?, ?, ?)";
    assert_eq!(sql.run_with(insert, &values).await.expect("insert").rows, 1);
    let field = |name: &str, value: Value| Field { name: name.to_owned(), value: Some(value.into()) };
    let named = ExecuteRequest {
        statement: "SELECT * FROM t WHERE name = $name AND id = $id".to_owned(),
        named: vec![field("id", Value::Int(1)), field("name", "a".into())],
        ..ExecuteRequest::default()
    };
    let both = ExecuteRequest { parameters: vec![Value::Int(1).into()], ..named.clone() };
    let found = sql.send(named).await.expect("select");
    assert_eq!(found.documents, [r#"{"id":1,"name":"a","data":"AP8=","big":"9223372036854775807"}"#]);
    let reason = "parameters are all positional or all named";
    check_refused(sql.send(both).await, Code::InvalidArgument, reason);
    ingest.stop().await;
}

async fn mutate(client: &Client, request: MutateRequest) -> Result<MutateResponse, ServiceError> {
    let reply = client.request("source.app.mutate", request.encode_to_vec(), LONG).await?;
    Ok(MutateResponse::decode(reply).expect("response"))
}

fn mutation(kind: Kind, row: &[(&str, Value)]) -> Mutation {
    let row: Vec<_> = row.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    Mutation { relation: "t".to_owned(), kind: kind.into(), row: Some(row.into()) }
}

#[tokio::test(flavor = "multi_thread")]
async fn mutations_return_their_rows() {
    let (nats, client, dir) = start().await;
    let ingest = Ingest::start(&nats, dir.path(), Mode::Host);
    let sql = Sql::new(&client);
    sql.insist("", "CREATE TABLE t (name TEXT, age INTEGER DEFAULT 7)").await.expect("table");
    let session = sql.begin().await;
    let insert = vec![mutation(Kind::Insert, &[("name", "a".into())])];
    let request =
        MutateRequest { mutations: insert, session: session.clone(), returning: true, ..Default::default() };
    let answer = mutate(&client, request).await.expect("insert");
    assert_eq!((answer.rows, answer.position), (1, None));
    let row: Vec<(String, Value)> = answer.documents[0].clone().try_into().expect("row");
    let expected = [("__docid", Value::Int(1)), ("name", "a".into()), ("age", Value::Int(7))];
    assert_eq!(row, expected.map(|(name, value)| (name.to_owned(), value)));
    sql.run(&session, "COMMIT").await.expect("commit");

    let id = ("__docid", Value::Int(1));
    let mutations = vec![
        mutation(Kind::Update, &[id.clone(), ("age", Value::Int(8))]),
        mutation(Kind::Delete, std::slice::from_ref(&id)),
        mutation(Kind::Delete, &[id]),
    ];
    let request = MutateRequest { mutations, returning: true, ..Default::default() };
    let answer = mutate(&client, request).await.expect("two changes");
    assert_eq!(answer.rows, 2);
    let fields: Vec<usize> = answer.documents.iter().map(|row| row.fields.len()).collect();
    assert_eq!(fields, [3, 0, 0]);
    let own = Mutation { relation: "__deltamesh_commits".to_owned(), ..Default::default() };
    let request = MutateRequest { mutations: vec![own], ..Default::default() };
    let reason = "table __deltamesh_commits is written by the host only";
    check_refused(mutate(&client, request).await, Code::PermissionDenied, reason);
    ingest.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn results_come_in_pages() {
    let (nats, client, dir) = start().await;
    let ingest = Ingest::start(&nats, dir.path(), Mode::Host);
    let sql = Sql::new(&client);
    sql.insist("", "CREATE TABLE t (id INTEGER PRIMARY KEY, body TEXT)").await.expect("table");
    let text = Value::from("x".repeat(10_000));
    let session = sql.begin().await;
    for id in 0..200 {
        let request = ExecuteRequest {
            statement: "INSERT INTO t (id, body) VALUES (?, ?)".to_owned(),
            parameters: vec![Value::Int(id).into(), text.clone().into()],
            session: session.clone(),
            ..ExecuteRequest::default()
        };
        sql.send(request).await.expect("insert");
    }
    let rows = sql.rows(&session, "SELECT id, body FROM t").await;
    sql.run(&session, "COMMIT").await.expect("commit");
    assert_eq!(rows.len(), 200);
    assert!(rows[199].starts_with(r#"{"id":199,"body":"xxx"#), "{}", &rows[199][..20]);

    let first = sql.run("", "SELECT * FROM t").await.expect("select");
    let second = sql.fetch(&first.next).await.expect("page");
    assert_eq!(sql.fetch(&first.next).await.expect("again"), second);
    sql.fetch(&second.next).await.expect("page");
    assert_eq!(sql.fetch(&first.next).await.expect_err("given up").code, Code::NotFound);
    // A row that no message can carry is not written either.
    let large = [Value::Int(1000), "x".repeat(700_000).into()];
    let insert = "INSERT INTO t (id, body) VALUES (?, ?) RETURNING *, body AS more";
    let error = sql.run_with(insert, &large).await.expect_err("too large");
    assert_eq!(error.code, Code::ResourceExhausted, "{error}");
    assert_eq!(sql.rows("", "SELECT COUNT(*) FROM t").await, [r#"{"COUNT(*)":200}"#]);
    ingest.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_session_is_rolled_back() {
    let (nats, client, dir) = start().await;
    let limits = Limits { session_idle: Duration::from_millis(300), ..Limits::default() };
    let ingest = Ingest::start_with(&nats, dir.path(), Mode::Host, limits);
    let sql = Sql::new(&client);
    sql.insist("", "CREATE TABLE t (id INTEGER PRIMARY KEY)").await.expect("table");
    let session = sql.begin().await;
    sql.run(&session, "INSERT INTO t (id) VALUES (1)").await.expect("insert");
    // Waits until the session has had its time.
    sql.run("", "INSERT INTO t (id) VALUES (2)").await.expect("insert");
    let reason = "session was rolled back: it had no statement for 300ms; begin again";
    check_refused(sql.run(&session, "INSERT INTO t (id) VALUES (3)").await, Code::Aborted, reason);
    check_refused(sql.run(&session, "COMMIT").await, Code::Aborted, reason);
    sql.run(&session, "ROLLBACK").await.expect("is rolled back");
    assert_eq!(sql.rows("", "SELECT * FROM t").await, [r#"{"id":2}"#]);
    ingest.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_is_refused_in_time() {
    let (nats, client, dir) = start().await;
    let limits = Limits {
        session_total: Duration::from_millis(2500),
        session_wait: Duration::from_millis(200),
        session_waiting: 1,
        ..Limits::default()
    };
    let ingest = Ingest::start_with(&nats, dir.path(), Mode::Host, limits);
    let sql = Sql::new(&client);
    sql.insist("", "CREATE TABLE t (id INTEGER PRIMARY KEY)").await.expect("table");
    let session = sql.begin().await;
    let one = sql.ask("INSERT INTO t (id) VALUES (1)").await;
    let other = sql.ask("INSERT INTO t (id) VALUES (2)").await;
    let reason = "another session has its transaction open: waited 200ms, try again";
    check_refused(one.take().await, Code::DeadlineExceeded, reason);
    let reason = "another session has its transaction open, and too many wait for it";
    check_refused(other.take().await, Code::ResourceExhausted, reason);
    // Statements do not keep it open for ever.
    let mut number = 10;
    let error = loop {
        number += 1;
        let insert = format!("INSERT INTO t (id) VALUES ({number})");
        if let Err(error) = sql.run(&session, &insert).await {
            break error;
        }
    };
    let reason = "session was rolled back: it was open for 2.5s; begin again";
    check_refused(Err::<(), _>(error), Code::Aborted, reason);
    assert_eq!(sql.rows("", "SELECT * FROM t").await, Vec::<String>::new());
    ingest.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_rolls_back() {
    let (nats, client, dir) = start().await;
    let path = dir.path().join("db");
    let mut host = Program::start(&nats, &path, Mode::Host);
    let sql = Sql::new(&client);
    sql.insist("", "CREATE TABLE t (id INTEGER PRIMARY KEY)").await.expect("table");
    let session = sql.begin().await;
    sql.run(&session, "INSERT INTO t (id) VALUES (1)").await.expect("insert");
    let waits = sql.ask("INSERT INTO t (id) VALUES (2)").await;
    // Comes behind it.
    sql.run(&session, "SELECT 1").await.expect("select");
    assert!(host.terminate().success());
    waits.take().await.expect("is run when the session is gone");
    let _host = Program::start(&nats, &path, Mode::Host);
    assert_eq!(sql.insist("", "SELECT * FROM t").await.expect("rows").documents, [r#"{"id":2}"#]);
    let reason = "session is not open and was not committed: its host was started again, or another host has taken over; \
                  begin again";
    check_refused(sql.run(&session, "COMMIT").await, Code::Aborted, reason);
}

/// The answer of a COMMIT is lost with the host, before, while or after it takes effect; the next host knows.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_commit_is_asked_for_again() {
    let (nats, client, dir) = start().await;
    let path = dir.path().join("db");
    let sql = Sql::new(&client);
    let mut host = Program::start(&nats, &path, Mode::Host);
    sql.insist("", "CREATE TABLE t (id INTEGER PRIMARY KEY)").await.expect("table");
    let mut expected = vec![];
    for round in 0..8 {
        let session = sql.insist("", "BEGIN").await.expect("begin").session;
        sql.run(&session, &format!("INSERT INTO t (id) VALUES ({round})")).await.expect("insert");
        let commit = {
            let (sql, session) = (sql.clone(), session.clone());
            tokio::spawn(async move { sql.run(&session, "COMMIT").await })
        };
        // Nothing at first, then ever more of the commit.
        tokio::time::sleep(Duration::from_micros(round * 500)).await;
        host.kill();
        commit.abort();
        host = Program::start(&nats, &path, Mode::Host);
        match sql.insist(&session, "COMMIT").await {
            Ok(answer) => {
                assert!(answer.position.is_some());
                expected.push(format!(r#"{{"id":{round}}}"#));
            }
            Err(error) => assert_eq!(error.code, Code::Aborted, "{error}"),
        }
        assert_eq!(sql.rows("", "SELECT * FROM t").await, expected);
    }
    assert!(host.terminate().success());
    if let Some(mut engine) = GenjiHost::start(&path).expect("engine") {
        assert_eq!(engine.query("SELECT id FROM t").expect("query").len(), expected.len());
    }
}

/// The host is lost for good, and its standby knows what was committed.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_asked_for_a_commit() {
    let (nats, client, dir) = start().await;
    let sql = Sql::new(&client);
    let mut host = Program::start(&nats, &dir.path().join("a"), Mode::Host);
    sql.insist("", "CREATE TABLE t (id INTEGER PRIMARY KEY)").await.expect("table");
    let _standby = Program::start(&nats, &dir.path().join("b"), Mode::Standby);
    standby(&client, |_| true).await;
    let first = sql.begin().await;
    sql.run(&first, "INSERT INTO t (id) VALUES (1)").await.expect("insert");
    sql.run(&first, "COMMIT").await.expect("commit");
    let second = sql.begin().await;
    sql.run(&second, "INSERT INTO t (id) VALUES (2)").await.expect("insert");
    let lost = tokio::spawn({
        let (sql, second) = (sql.clone(), second.clone());
        async move { sql.run(&second, "COMMIT").await }
    });
    host.kill();
    lost.abort();
    sql.insist(&first, "COMMIT").await.expect("is in the change log");
    let mut expected = vec![r#"{"id":1}"#];
    match sql.insist(&second, "COMMIT").await {
        Ok(_) => expected.push(r#"{"id":2}"#),
        Err(error) => assert_eq!(error.code, Code::Aborted, "{error}"),
    }
    let third = sql.begin().await;
    assert_eq!(sql.rows(&third, "SELECT * FROM t").await, expected);
    sql.run(&third, "INSERT INTO t (id) VALUES (3)").await.expect("insert");
    sql.run(&third, "COMMIT").await.expect("commit");
}

/// A statement that changes no relation has nothing to wait for in the change log.
#[tokio::test(flavor = "multi_thread")]
async fn definitions_without_rows_are_answered() {
    let (nats, client, dir) = start().await;
    let ingest = Ingest::start(&nats, dir.path(), Mode::Host);
    let sql = Sql::new(&client);
    sql.insist("", "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER)").await.expect("table");
    for statement in
        ["CREATE SEQUENCE s", "SELECT NEXT VALUE FOR s", "CREATE INDEX i ON t (n)", "DROP INDEX i"]
    {
        sql.run("", statement).await.expect(statement);
    }
    ingest.stop().await;
}
