//! The test kit starts, kills and restarts real servers.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::net::TcpStream;

use deltamesh_testkit::{GenjiHost, NatsServer, PostgresServer, free_port};

#[test]
fn a_killed_server_comes_back_at_its_port() {
    let mut nats = NatsServer::start().unwrap();
    let (url, pid) = (nats.url(), nats.pid());
    let address = url.trim_start_matches("nats://").to_owned();
    TcpStream::connect(&address).unwrap();
    nats.kill().unwrap();
    TcpStream::connect(&address).unwrap_err();
    nats.restart().unwrap();
    assert_eq!(nats.url(), url);
    assert_ne!(nats.pid(), pid);
    TcpStream::connect(&address).unwrap();
}

#[test]
fn ports_differ() {
    assert_ne!(free_port().unwrap(), free_port().unwrap());
}

#[test]
fn a_database_outlives_its_killed_host() {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("db");
    let Some(mut host) = GenjiHost::start(&db).unwrap() else { return };
    host.execute("CREATE TABLE t (a INTEGER PRIMARY KEY)").unwrap();
    host.execute("INSERT INTO t (a) VALUES (1)").unwrap();
    let refused = host.execute("SELEC").unwrap_err().to_string();
    assert!(refused.starts_with("found SELEC"), "{refused}");
    host.kill().unwrap();
    let mut host = GenjiHost::start(&db).unwrap().unwrap();
    assert_eq!(host.query("SELECT a FROM t").unwrap(), [r#"{"a": 1}"#]);
    host.close().unwrap();
}

#[test]
fn postgres_answers_and_comes_back() {
    let mut server = PostgresServer::start().unwrap();
    server.psql("CREATE TABLE t(a int); INSERT INTO t VALUES (7)").unwrap();
    server.restart().unwrap();
    assert_eq!(server.psql("SELECT a FROM t").unwrap(), "7");
    assert_ne!(server.fresh_schema(), server.fresh_schema());
}
