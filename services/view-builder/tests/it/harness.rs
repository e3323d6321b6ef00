//! A NATS server, a source that publishes by hand, and the service in this process.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use clap::Parser as _;
use deltamesh_change::{
    ChangeEvent, Column, ColumnType, EnginePosition, Operation, RelationSchema, SchemaChange, SourcePosition,
    Value,
};
use deltamesh_jetstream::{
    Client, Consumer, Headers, Message, Publisher, StatusBoard, StreamJournal, connect, ensure_changes,
};
use deltamesh_testkit::{NatsServer, PostgresServer};
use deltamesh_view_builder::{Error, Options, SERVICE, run};
use deltamesh_wire::proto::change::v1::{Changes, TransactionRows};
use deltamesh_wire::{header, subject};
use prost::Message as _;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub(crate) const WAIT: Duration = Duration::from_secs(60);

/// A row event of the relation `message(id, chat, body)`.
#[derive(Clone)]
pub(crate) enum Row {
    Put(i64, i64, &'static str),
    Delete(i64),
}

pub(crate) struct Harness {
    pub(crate) nats: NatsServer,
    pub(crate) client: Client,
    dir: tempfile::TempDir,
    /// Where the replica is, if it is no file.
    pub(crate) postgres: Option<PostgresServer>,
    /// Who is asked.
    pub(crate) replica: &'static str,
    publisher: Publisher,
    pub(crate) ordinal: u64,
    service: Option<Service>,
}

struct Service {
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), Error>>,
}

/// On a busy machine a server that has just started may not answer as soon as one request wants.
async fn make_stream(client: &Client) {
    let deadline = tokio::time::Instant::now() + WAIT;
    while let Err(error) = ensure_changes(client, "app").await {
        assert!(tokio::time::Instant::now() < deadline, "{error}");
    }
}

impl Harness {
    pub(crate) async fn new() -> Self {
        let nats = NatsServer::start().unwrap();
        let client = connect(&nats.url(), "test").await.unwrap();
        make_stream(&client).await;
        let journal = StreamJournal::open(&client, "CHANGES_APP").await.unwrap();
        let publisher = Publisher::open(journal).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        Self { nats, client, dir, postgres: None, replica: "main", publisher, ordinal: 0, service: None }
    }

    pub(crate) async fn on_postgres() -> Self {
        Self { postgres: Some(PostgresServer::start().unwrap()), ..Self::new().await }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("replica.db")
    }

    fn options(&self) -> Options {
        Options::parse_from(self.command_line())
    }

    /// The service as a process of its own.
    pub(crate) fn spawn(&self) -> Process {
        Process::start(self.command_line())
    }

    /// One with a replica of that name, in a file or in the server.
    pub(crate) fn spawn_replica(&self, name: &str, on_postgres: bool) -> Process {
        let place = match &self.postgres {
            Some(server) if on_postgres => format!("{}?schema={name}", server.url()),
            _ => format!("sqlite:{}", self.dir.path().join(name).display()),
        };
        let mut command_line = self.command_line();
        command_line[1] = format!("--replica={name}={place}");
        Process::start(command_line)
    }

    fn command_line(&self) -> [String; 5] {
        [
            env!("CARGO_BIN_EXE_view-builder").to_owned(),
            match &self.postgres {
                Some(server) => format!("--replica={}?schema=app", server.url()),
                None => format!("--replica=sqlite:{}", self.path().display()),
            },
            "--source=app".to_owned(),
            "--fill-beside=1000".to_owned(),
            format!("--nats={}", self.nats.url()),
        ]
    }

    /// A service with a replica of its own, a file beside this one.
    pub(crate) fn another(&self, name: &str) -> impl Future<Output = Result<(), Error>> + use<> {
        let place = format!("--replica={name}=sqlite:{}", self.dir.path().join(name).display());
        let nats = format!("--nats={}", self.nats.url());
        let options = Options::parse_from(["view-builder", &place, "--source=app", &nats]);
        run(options, StatusBoard::new(SERVICE, name), std::future::pending())
    }

    /// A second service on the same replica.
    pub(crate) async fn run_another(&self) -> Result<(), Error> {
        run(self.options(), board(), std::future::pending()).await
    }

    pub(crate) fn start(&mut self) {
        let options = self.options();
        let (stop, stopped) = oneshot::channel();
        let service = run(options, board(), async {
            stopped.await.ok();
        });
        self.service = Some(Service { stop, ended: tokio::spawn(service) });
    }

    /// Drains the service.
    pub(crate) async fn stop(&mut self) {
        let Service { stop, ended } = self.service.take().unwrap();
        stop.send(()).unwrap();
        tokio::time::timeout(WAIT, ended).await.unwrap().unwrap().unwrap();
    }

    /// A source transaction with these rows; a snapshot begins with the schema.
    pub(crate) async fn publish(&mut self, snapshot: bool, rows: &[Row]) {
        self.publish_together(&[(snapshot, rows)]).await;
    }

    /// Source transactions that arrive at once, as far as it can be had.
    pub(crate) async fn publish_together(&mut self, transactions: &[(bool, &[Row])]) {
        for (snapshot, rows) in transactions {
            self.ordinal += 1;
            let changes = self.changes(*snapshot, rows);
            self.publisher.publish(changes).await.unwrap();
        }
        self.publisher.flush().await.unwrap();
    }

    fn changes(&self, snapshot: bool, rows: &[Row]) -> Vec<Message> {
        let schema = message_schema();
        let position = SourcePosition {
            incarnation: "i1".into(),
            ordinal: self.ordinal,
            engine: EnginePosition { sequence: self.ordinal, log: 1, offset: 0 },
        };
        let part = |end| Changes {
            relation: "message".into(),
            dsid: 1,
            first_ordinal: self.ordinal,
            position: Some((&position).into()),
            end,
            snapshot,
            captured_us: 1,
            transactions: vec![],
            schema: None,
            objects: vec![],
        };
        let row = |row: &Row| {
            let (operation, key, after) = match row.clone() {
                Row::Put(id, chat, body) => {
                    let operation = if snapshot { Operation::Read } else { Operation::Upsert };
                    (operation, id, Some(vec![id.into(), chat.into(), body.into()]))
                }
                Row::Delete(id) => (Operation::Delete, id, None),
            };
            let key = vec![Value::Int(key)];
            ChangeEvent { schema: schema.clone(), operation, key, before: None, after }.into()
        };
        let rows = TransactionRows { ordinal: self.ordinal, rows: rows.iter().map(row).collect() };
        let mut messages = Vec::new();
        if snapshot {
            let define = SchemaChange::Define(schema.clone());
            let changes = Changes { schema: Some((&define).into()), ..part(false) };
            messages.push(message(subject::changes_schema("app", "message"), &changes));
        }
        let changes = Changes { transactions: vec![rows], ..part(true) };
        messages.push(message(subject::changes("app", "message"), &changes));
        messages
    }

    /// Asks the service, until it is there.
    pub(crate) async fn ask(&self, operation: &str, payload: &str) -> Result<String, String> {
        let subject = subject::replica_request(self.replica, operation);
        let deadline = tokio::time::Instant::now() + WAIT;
        loop {
            match self.client.request(&subject, payload.to_owned(), WAIT).await {
                Ok(reply) => return Ok(String::from_utf8(reply.to_vec()).unwrap()),
                Err(error) if error.code as u8 == 14 && tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => return Err(error.message),
            }
        }
    }

    /// Rows of a SELECT, one line each.
    pub(crate) async fn rows(&self, sql: &str) -> Result<String, String> {
        let subject = subject::replica_request(self.replica, "sql");
        let mut replies = self.client.request_many(&subject, sql.to_owned()).await.unwrap();
        let mut lines = Vec::new();
        loop {
            let page = replies.next(WAIT).await.map_err(|error| error.message)?.ok_or("answer ends early")?;
            if page.is_empty() {
                return Ok(lines.join("\n"));
            }
            let page: serde_json::Value = serde_json::from_slice(&page).unwrap();
            lines.extend(page["rows"].as_array().unwrap().iter().map(ToString::to_string));
        }
    }

    /// Waits until a SELECT gives these rows.
    pub(crate) async fn wait_rows(&self, sql: &str, expected: &str) {
        self.wait_rows_for(sql, expected, WAIT).await;
    }

    pub(crate) async fn wait_rows_for(&self, sql: &str, expected: &str, wait: Duration) {
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            let rows = self.rows(sql).await;
            if rows.as_deref() == Ok(expected) {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{sql}: {rows:?}, expected {expected}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The messages of the feed stream up to a position, as lines.
    pub(crate) async fn feed(&self, last: u64) -> String {
        let mut lines = Vec::new();
        let mut consumer = loop {
            match Consumer::open(&self.client, &subject::feed_stream(self.replica), 1).await {
                Ok(consumer) => break consumer,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        while consumer.next_sequence() <= last {
            let batch = tokio::time::timeout(WAIT, consumer.next_batch(1000, 1 << 20)).await;
            for stored in batch.expect("feed message in time").unwrap() {
                let end = stored.headers.get(header::TRANSACTION_END).map_or("", |_| " !");
                let operation = stored.headers.get(header::OPERATION).unwrap();
                let row = String::from_utf8(stored.payload.to_vec()).unwrap();
                lines.push(format!("{} {} {operation} {row}{end}", stored.sequence, stored.subject));
            }
        }
        lines.join("\n")
    }

    /// The parts that are faulted, one line each.
    pub(crate) async fn faults(&self) -> String {
        let status =
            deltamesh_jetstream::gather_status(&self.client, Duration::from_millis(300)).await.unwrap();
        let faults = status.into_iter().flat_map(|status| status.faults);
        faults.map(|fault| format!("{}: {}", fault.part, fault.reason)).collect::<Vec<_>>().join("\n")
    }
}

/// A service in a process of its own, which ends with the test.
pub(crate) struct Process(Child);

impl Process {
    fn start([program, arguments @ ..]: [String; 5]) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }

    /// Ends it as a power cut does.
    pub(crate) fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn board() -> StatusBoard {
    StatusBoard::new(SERVICE, "main")
}

pub(crate) fn message_schema() -> Arc<RelationSchema> {
    Arc::new(RelationSchema {
        relation: "message".into(),
        dsid: 1,
        columns: vec![
            Column::new("id", ColumnType::Int, false),
            Column::new("chat", ColumnType::Int, true),
            Column::new("body", ColumnType::Text, true),
        ],
        key: vec![0],
    })
}

fn message(subject: String, changes: &Changes) -> Message {
    Message { subject, headers: Headers::new(), payload: changes.encode_to_vec().into() }
}
