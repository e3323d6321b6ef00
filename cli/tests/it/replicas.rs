//! Several view-builders on one NATS server, each with its replica, its views and its gateway.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deltamesh_jetstream::{Client, connect};
use deltamesh_testkit::{NatsServer, free_port};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::life::execute;
use crate::mesh::{Mesh, command, deltamesh, eventually};

const WITHIN: Duration = Duration::from_secs(30);

/// The programs, each killed with SIGKILL when dropped.
struct Fleet {
    nats: NatsServer,
    dir: tempfile::TempDir,
}

struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Fleet {
    fn start(&self, program: &str, arguments: &[&str]) -> Program {
        let path = deltamesh().with_file_name(program);
        let mut command = Command::new(deltamesh());
        command.arg("supervised").arg(std::process::id().to_string()).arg(path);
        command.args(arguments).args(["--nats", &self.nats.url()]).env("DELTAMESH_LOG", "warn");
        Program(command.spawn().unwrap())
    }

    fn view_builder(&self, replica: &str, more: &[&str]) -> Program {
        let replica = self.replica(replica);
        self.start("view-builder", &[&["--replica", &replica, "--source", "app"], more].concat())
    }

    fn replica(&self, name: &str) -> String {
        format!("{name}=sqlite:{}", self.dir.path().join(format!("{name}.db")).display())
    }

    /// A command of `deltamesh`; nothing where it fails.
    fn try_say(&self, arguments: &[&str]) -> Option<String> {
        let output = command().args(["--nats", &self.nats.url()]).args(arguments).output().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    }

    fn rows(&self, replica: &str, select: &str) -> Option<Value> {
        let said = self.try_say(&["sql", "--replica", replica, "--format", "json", select])?;
        Some(serde_json::from_str(&said).unwrap())
    }

    /// Applies a module of one view.
    fn apply(&self, module: &str, sql: &str) {
        let dir = self.dir.path().join(module);
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("views.sql"), sql).unwrap();
        eventually(&format!("module {module} is accepted"), || {
            self.try_say(&["module", "apply", dir.to_str().unwrap()])
        });
    }
}

/// Writes until stopped: new rows, changed rows, deleted rows.
async fn write(client: Client, stop: Arc<AtomicBool>, turn: Arc<Mutex<()>>) {
    let mut id = 0;
    while !stop.load(Ordering::Relaxed) {
        let _turn = turn.lock().await;
        id += 1;
        let (room, person) = (id % 5, id % 7);
        let row = format!(
            "INSERT INTO message (id, room, person, body) VALUES ({id}, {room}, {person}, 'text {id}')"
        );
        execute(&client, &row).await;
        if id % 3 == 0 {
            execute(&client, &format!("UPDATE message SET room = {person} WHERE id = {}", id - 2)).await;
        }
        if id % 4 == 0 {
            execute(&client, &format!("DELETE FROM message WHERE id = {}", id - 3)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_replica_has_its_views_and_equals_its_sql() {
    let fleet = Fleet { nats: NatsServer::start().unwrap(), dir: tempfile::tempdir().unwrap() };
    let source = format!("app=genji:{}?mode=host", fleet.dir.path().join("db").display());
    let _host = fleet.start("ingest-genji", &["--source", &source]);
    let _a = fleet.view_builder("a", &["--module", "rooms"]);
    let b = fleet.view_builder("b", &["--module", "people"]);
    let client = connect(&fleet.nats.url(), "test").await.unwrap();
    let status = || fleet.try_say(&["status", "--json"]).filter(|status| status.contains("ingest-genji"));
    eventually("the host is there", status);
    execute(
        &client,
        "CREATE TABLE message (id INTEGER PRIMARY KEY, room INTEGER, person INTEGER, body TEXT)",
    )
    .await;
    let counted = |view: &str, by: &str| {
        format!(
            "CREATE MATERIALIZED VIEW {view} AS SELECT {by}, count(*) AS messages FROM message GROUP BY {by}"
        )
    };
    fleet.apply("rooms", &counted("per_room", "room"));
    fleet.apply("people", &counted("per_person", "person"));

    let stop = Arc::new(AtomicBool::new(false));
    let turn = Arc::new(Mutex::new(()));
    let writing = tokio::spawn(write(client.clone(), Arc::clone(&stop), Arc::clone(&turn)));
    let arrives = |replica: &str| {
        eventually(&format!("replica {replica} follows"), || {
            let rows = fleet.rows(replica, "SELECT count(*) AS n FROM app__message")?;
            rows[0]["n"].as_u64().filter(|rows| *rows > 20)
        });
    };
    arrives("b");
    drop(b);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let _b = fleet.view_builder("b", &["--module", "people"]);
    // What happened before is in no stream any more: the third one begins with a snapshot.
    arrives("a");
    let between = turn.lock().await;
    client.request("$JS.API.STREAM.PURGE.CHANGES_APP", r#"{"keep":1}"#, WITHIN).await.unwrap();
    drop(between);
    let _c = fleet.view_builder("c", &["--module", "none"]);
    eventually("replica c takes a view", || {
        let view = "CREATE MATERIALIZED VIEW long AS SELECT id, body, room FROM message WHERE id % 2 = 0";
        fleet.try_say(&["view", "create", "--replica", "c", view])
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.store(true, Ordering::Relaxed);
    writing.await.unwrap();
    settled(&fleet);
    served(&fleet);
}

/// All replicas have the same rows, and each its own view, which equals its SQL.
fn settled(fleet: &Fleet) {
    let mirror = |replica: &str| fleet.rows(replica, "SELECT * FROM app__message ORDER BY id");
    // Nothing is written any more: what two have in common twice in a row is all there is.
    let same = || {
        let first = mirror("a")?;
        let is_same = [mirror("b")?, mirror("c")?, mirror("a")?].iter().all(|other| *other == first);
        is_same.then_some(first)
    };
    eventually("the replicas have the same rows", same);
    for (replica, view) in [("a", "per_room"), ("b", "per_person"), ("c", "long")] {
        let views = fleet.rows(replica, "SELECT name FROM __deltamesh_views").unwrap();
        assert_eq!(views, json!([{ "name": view }]), "{replica}");
        let verified = fleet.try_say(&["verify", "--replica", replica]);
        assert_eq!(verified, Some(format!("{view}: equal to its SQL\n")), "{replica}");
    }
    let status: Value = serde_json::from_str(&fleet.try_say(&["status", "--json"]).unwrap()).unwrap();
    assert_eq!(status["faults"], json!([]));
}

/// The gateway of a replica serves its views, by cursor too, and no others.
fn served(fleet: &Fleet) {
    let http = format!("127.0.0.1:{}", free_port().unwrap());
    let arguments = ["--replica", &fleet.replica("b"), "--http", &http, "--nid", "b"];
    let _gateway = fleet.start("feed-gateway", &arguments);
    let script = "DECLARE c CURSOR FOR TAIL per_person; FETCH ALL FROM c; FETCH ALL FROM c";
    let answer = eventually("the gateway answers", || post(&http, script));
    let rows = answer["rows"].as_array().unwrap();
    let people = fleet.rows("b", "SELECT count(*) AS n FROM per_person").unwrap();
    let read = rows.iter().filter(|row| row[0] == "read").count();
    assert_eq!(Some(read as u64), people[0]["n"].as_u64());
    assert_eq!(rows.last().unwrap()[0], "progress");
    let log = post(&http, "DECLARE c CURSOR FOR TAIL per_person AS OF 0; FETCH ALL FROM c").unwrap();
    let mut counts = std::collections::BTreeMap::new();
    for change in log["rows"].as_array().unwrap() {
        let messages = if change[0] == "delete" { 0 } else { change[2]["messages"].as_u64().unwrap() };
        counts.insert(change[1].to_string(), messages);
    }
    let total = fleet.rows("b", "SELECT count(*) AS n FROM app__message").unwrap();
    assert_eq!(Some(counts.values().sum::<u64>()), total[0]["n"].as_u64(), "the log adds up to the rows");
    assert_eq!(
        post(&http, "DECLARE c CURSOR FOR TAIL per_room").unwrap()["message"],
        "view per_room does not exist"
    );
}

/// The answer of `POST /v1/query`; nothing where nobody listens.
fn post(address: &str, sql: &str) -> Option<Value> {
    let mut stream = TcpStream::connect(address).ok()?;
    let body = json!({ "sql": sql }).to_string();
    let head = format!(
        "POST /v1/query HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
}

/// `up` starts them all: a module goes to the replica that keeps it, and the gateway there serves it.
#[test]
fn up_divides_modules_among_replicas() {
    let dir = tempfile::tempdir().unwrap();
    let source = format!("app=genji:{}?mode=host", dir.path().join("db").display());
    let at = |file: &str| dir.path().join(file).display().to_string();
    let proto = "syntax = \"proto3\"; package p; import \"deltamesh/module/v1/options.proto\";\n\
        message Note { option (deltamesh.module.v1.relation) = { key: \"id\" }; int64 id = 1; int64 room = 2; }";
    for (module, file, text) in [
        ("notes", "notes.proto", proto),
        ("notes", "views.sql", "CREATE MATERIALIZED VIEW all_notes AS SELECT id, room FROM note"),
        (
            "rooms",
            "views.sql",
            "CREATE MATERIALIZED VIEW per_room AS SELECT room, count(*) AS n FROM note GROUP BY room",
        ),
        ("rooms", "migrations/0001_index.sql", "CREATE INDEX by_n ON per_room (n)"),
    ] {
        let path = dir.path().join(module).join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let (a, b) = (format!("a=sqlite:{}", at("a.db")), format!("b=sqlite:{}", at("b.db")));
    let (notes, rooms) = (at("notes"), at("rooms"));
    let replicas =
        ["--replica", &a, "--replica", &b, "--keep", "a=notes", "--keep", "b=rooms", "--retain", "12h"];
    let modules = ["--source", &source, "--module", &notes, "--module", &rooms];
    let mesh = Mesh::start(dir.path(), &[&replicas[..], &modules].concat());
    let served = mesh.ready["replicas"].as_array().unwrap();
    assert_eq!((&served[0]["nid"], &served[1]["nid"]), (&json!("deltamesh"), &json!("b")));
    assert_eq!(mesh.ready["http"], served[0]["http"]);
    assert_ne!(mesh.ready["http"], served[1]["http"]);
    let views = |replica: &str| -> Value {
        let select = "SELECT name FROM __deltamesh_views UNION ALL SELECT name FROM __deltamesh_migrations";
        serde_json::from_str(&mesh.say(&["sql", "--replica", replica, "--format", "json", select])).unwrap()
    };
    assert_eq!(views("a"), json!([{"name": "all_notes"}]));
    assert_eq!(views("b"), json!([{"name": "per_room"}, {"name": "migrations/0001_index.sql"}]));
    let http = served[1]["http"].as_str().unwrap().strip_prefix("http://").unwrap();
    let rows = eventually("the second gateway answers", || post(http, "SELECT count(*) AS n FROM per_room"));
    assert_eq!(rows["rows"], json!([[0]]));
    let status: Value = serde_json::from_str(&mesh.say(&["status", "--json"])).unwrap();
    assert_eq!(status["faults"], json!([]));
    assert_eq!(mesh.stop().code(), Some(0));
}
