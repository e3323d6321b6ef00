//! A mesh in one process: a real nats-server, a SQLite replica fed by a stand-in for source and view-builder, and the gateway.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser as _;
use deltamesh_change::{
    ChangeEvent, EnginePosition, Item, Operation, RelationSchema, SchemaChange, SourcePosition, Value,
};
use deltamesh_feed_gateway::{Gateway, Options, SERVICE};
use deltamesh_jetstream::{
    Bucket, BucketName, Client, FeedPublisher, Headers, Message, Request, Requests, StatusBoard, connect,
    ensure_feed,
};
use deltamesh_module::{ModuleDefinition, RelationDefinition, SourceFile};
use deltamesh_nats_grpc::{CallOptions, Client as RpcClient, ClientOptions};
use deltamesh_replica::{Group, Items, OutboxRow, Replica as _, Retention, SqliteReplica};
use deltamesh_testkit::NatsServer;
use deltamesh_wire::proto::module::v1::{Module, Outcome};
use deltamesh_wire::proto::source::v1::{MutateRequest, MutateResponse, mutation};
use deltamesh_wire::{header, subject};
use prost::Message as _;
use tempfile::TempDir;
use tokio::sync::Mutex;

/// The chat service of many tutorials, without any annotation.
pub(crate) const CHATPB: &str = r#"syntax="proto3"; option go_package="./chatpb"; package chatpb;
service ChatService { rpc JoinChannel(Channel) returns (stream Message) {} rpc SendMessage(stream Message) returns (MessageAck) {} }
message Channel { string name=1; string senders_name=2; }
message Message { string sender=1; Channel channel=2; string message=3; }
message MessageAck { string status=1; }
"#;

/// Everything that runs.
pub(crate) struct World {
    pub(crate) nats: NatsServer,
    pub(crate) client: Client,
    pub(crate) path: PathBuf,
    pub(crate) gateway: Gateway,
    pub(crate) rpc: RpcClient,
    source: Arc<Mutex<Source>>,
    versions: u64,
    _dir: TempDir,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::keeping(Retention::default()).await
    }

    /// A mesh whose replica keeps that much of its change log.
    pub(crate) async fn keeping(retention: Retention) -> Self {
        let nats = NatsServer::start().unwrap();
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("replica.db");
        let client = connect(&nats.url(), "world").await.unwrap();
        let replica = SqliteReplica::open(&path, retention).unwrap();
        ensure_feed(&client, "main", &["none".to_owned()], 1).await.unwrap();
        let publisher = FeedPublisher::open(&client, "main").await.unwrap();
        let source = Source {
            client: client.clone(),
            replica,
            publisher,
            ordinal: 0,
            docids: 0,
            aside: false,
            schemas: HashMap::new(),
        };
        let source = Arc::new(Mutex::new(source));
        let requests = Requests::subscribe(&client, "source.app.mutate", None).await.unwrap();
        // A thread of its own: publishing is not a future that can move between threads.
        let (runtime, answering) = (tokio::runtime::Handle::current(), Arc::clone(&source));
        std::thread::spawn(move || runtime.block_on(answer(requests, answering)));
        let gateway = gateway(&nats, &path, "node1").await;
        let rpc = RpcClient::new(client.nats().clone(), "node1", ClientOptions::default()).await.unwrap();
        Self { nats, client, path, gateway, rpc, source, versions: 0, _dir: dir }
    }

    /// Applies a module everywhere and waits until the gateway says what it made of it.
    pub(crate) async fn module(&mut self, name: &str, proto: &str, sql: &str) -> Outcome {
        let protos = [SourceFile::new("m.proto", proto)];
        let sql = [SourceFile::new("m.sql", sql)];
        let stored = match ModuleDefinition::compile(name, &protos, &sql) {
            Ok(module) => {
                self.source.lock().await.module(&module).await;
                module.to_wire(self.versions + 1)
            }
            Err(_) => Module {
                name: name.to_owned(),
                version: self.versions + 1,
                protos: vec![deltamesh_wire::proto::module::v1::SourceFile {
                    path: "m.proto".into(),
                    text: proto.into(),
                }],
                ..Module::default()
            },
        };
        self.versions += 1;
        let bucket = Bucket::open(&self.client, BucketName::Modules).await.unwrap();
        bucket.put(name, stored.encode_to_vec()).await.unwrap();
        let outcomes = Bucket::open(&self.client, BucketName::ModuleStatus).await.unwrap();
        within(async {
            loop {
                let outcome = outcomes.get(&format!("{name}.feed-gateway.node1")).await.unwrap();
                let outcome = outcome.map(|outcome| Outcome::decode(outcome).unwrap());
                if let Some(outcome) = outcome.filter(|outcome| outcome.version == self.versions) {
                    return outcome;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
    }

    /// A relation `item(id, room, text)` and its view `items`.
    pub(crate) async fn items(&mut self) {
        let proto = r#"syntax = "proto3"; package items.v1; import "deltamesh/module/v1/options.proto";
            message Item {
              option (deltamesh.module.v1.relation).key = "id";
              int64 id = 1; string room = 2; string text = 3;
            }
            message Ack { string status = 1; string position = 2; }
            message InRoom { string room = 1; string cursor = 2; }
            message Event { string operation = 1; Item row = 2; string cursor = 3; string reason = 4; }
            message Id { int64 id = 1; }
            service Items {
              rpc Put(Item) returns (Ack);
              rpc PutBack(Item) returns (Item);
              rpc PutIn(Item) returns (Event);
              rpc Watch(InRoom) returns (stream Event) { option (deltamesh.module.v1.method).feed.view = "items"; }
              rpc Get(Id) returns (Item) { option (deltamesh.module.v1.method).query.sql = "SELECT * FROM items WHERE id = :id"; }
            }"#;
        let outcome = self
            .module("items", proto, "CREATE MATERIALIZED VIEW items AS SELECT id, room, text FROM item")
            .await;
        assert_eq!(outcome.error, "");
    }

    /// Writes one item as the source does, past the gateway.
    pub(crate) async fn put(&self, id: i64, room: &str, text: &str) {
        let row = vec![Value::Int(id), room.into(), text.into()];
        self.source.lock().await.write("item", vec![Value::Int(id)], Some(row)).await;
    }

    /// From now on changes are published aside, as where another replica has the subjects, or no longer.
    pub(crate) async fn publish_aside(&self, aside: bool) {
        self.source.lock().await.aside = aside;
    }

    /// Deletes one item.
    pub(crate) async fn delete(&self, id: i64) {
        self.source.lock().await.write("item", vec![Value::Int(id)], None).await;
    }
}

/// A gateway over the replica in that file.
pub(crate) async fn gateway(nats: &NatsServer, path: &std::path::Path, nid: &str) -> Gateway {
    let replica = format!("sqlite:{}", path.display());
    let arguments =
        ["feed-gateway", "--replica", &replica, "--nats", &nats.url(), "--http", "127.0.0.1:0", "--nid", nid];
    Gateway::start(&Options::try_parse_from(arguments).unwrap(), StatusBoard::new(SERVICE, nid))
        .await
        .unwrap()
}

/// Nothing here takes this long; a test that hangs fails instead.
pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), work).await.expect("takes too long")
}

/// Default options of a call.
pub(crate) fn plain() -> CallOptions {
    CallOptions::default()
}

/// Source and view-builder in one.
struct Source {
    client: Client,
    replica: SqliteReplica,
    publisher: FeedPublisher,
    ordinal: u64,
    docids: i64,
    /// Whether another replica has the subjects of the feeds.
    aside: bool,
    schemas: HashMap<String, Arc<RelationSchema>>,
}

impl Source {
    async fn module(&mut self, module: &ModuleDefinition) {
        let mut items = Vec::new();
        for relation in &module.relations {
            let schema = Arc::new(relation.schema(1));
            if self.schemas.insert(relation.name.clone(), Arc::clone(&schema)).is_none() {
                items.push(Item::Schema(SchemaChange::Define(schema)));
            }
        }
        self.apply(items).await;
        let sql: String =
            module.sql.iter().map(|file| format!("{};\n", file.text.trim().trim_end_matches(';'))).collect();
        self.replica.set_module(&module.name, &sql).unwrap();
        let views: Vec<String> = self.replica.views().into_iter().map(|view| view.definition.name).collect();
        ensure_feed(&self.client, "main", &views, 1).await.unwrap();
        self.publish().await;
    }

    async fn write(&mut self, relation: &str, key: Vec<Value>, after: Option<Vec<Value>>) {
        let schema = Arc::clone(&self.schemas[relation]);
        let operation = if after.is_some() { Operation::Upsert } else { Operation::Delete };
        self.apply(vec![Item::Row(ChangeEvent { schema, operation, key, before: None, after })]).await;
    }

    async fn apply(&mut self, items: Vec<Item>) -> SourcePosition {
        self.ordinal += 1;
        let engine = EnginePosition { sequence: self.ordinal, ..EnginePosition::default() };
        let position = SourcePosition { incarnation: "i1".to_owned(), ordinal: self.ordinal, engine };
        let group = Group {
            source: "app".to_owned(),
            first_ordinal: self.ordinal,
            position: position.clone(),
            captured_us: i64::try_from(deltamesh_jetstream::now_us()).unwrap(),
            stream_sequence: self.ordinal,
            snapshot: false,
            items: Items::Memory(items),
        };
        self.replica.apply(&[group]).unwrap();
        self.publish().await;
        position
    }

    async fn publish(&mut self) {
        let rows = self.replica.unpublished(10_000).unwrap();
        let Some(first) = rows.first().map(|row| row.sequence) else { return };
        let mut messages: Vec<Message> = rows.into_iter().map(message).collect();
        if self.aside {
            for message in &mut messages {
                message.subject = subject::aside("main", &message.subject);
            }
        }
        let published = self.publisher.publish(first, messages).await.unwrap();
        self.replica.mark_published(published);
        // Nothing else is waiting.
        self.replica.rest().unwrap();
    }

    /// Only upserts and deletes.
    async fn mutate(&mut self, request: &Request) -> MutateResponse {
        let request = MutateRequest::decode(request.payload.clone()).unwrap();
        let mut items = Vec::new();
        let rows = u64::try_from(request.mutations.len()).unwrap();
        let mut documents = Vec::new();
        for mutation in request.mutations {
            let schema = Arc::clone(&self.schemas[&mutation.relation]);
            let fields: Vec<(String, Value)> = mutation.row.clone().unwrap().try_into().unwrap();
            let mut row: Vec<Value> = schema
                .columns
                .iter()
                .map(|column| {
                    fields
                        .iter()
                        .find(|(name, _)| name == &column.name)
                        .map_or(Value::Null, |(_, value)| value.clone())
                })
                .collect();
            if schema.columns[0].name == RelationDefinition::DOCID {
                self.docids += 1;
                row[0] = Value::Int(self.docids);
            }
            if request.returning {
                let columns = schema.columns.iter().map(|column| column.name.clone());
                documents.push(columns.zip(row.clone()).collect::<Vec<_>>().into());
            }
            let key = schema.key.iter().map(|&index| row[index].clone()).collect();
            let delete = mutation.kind() == mutation::Kind::Delete;
            let operation = if delete { Operation::Delete } else { Operation::Upsert };
            let after = (!delete).then_some(row);
            items.push(Item::Row(ChangeEvent { schema, operation, key, before: None, after }));
        }
        let position = self.apply(items).await;
        MutateResponse { source: "app".to_owned(), position: Some((&position).into()), rows, documents }
    }
}

async fn answer(mut requests: Requests, source: Arc<Mutex<Source>>) {
    while let Some(request) = requests.next().await {
        let response = source.lock().await.mutate(&request).await;
        request.reply(response.encode_to_vec()).await.unwrap();
    }
}

fn message(row: OutboxRow) -> Message {
    let mut headers = Headers::new().with(header::OPERATION, row.operation).with(header::KEY, row.key);
    if let Some(before) = row.before {
        headers = headers.with(header::BEFORE, before);
    }
    if !row.position.is_empty() {
        headers = headers.with(header::POSITION, row.position);
    }
    if row.transaction_end {
        headers = headers.with(header::TRANSACTION_END, "1");
    }
    if row.captured_us > 0 {
        headers = headers.with(header::CAPTURED, row.captured_us.to_string());
    }
    Message { subject: row.subject, headers, payload: row.row.into() }
}

/// Every subject of a view's feed.
pub(crate) fn feed_of(view: &str) -> String {
    subject::feed_view(view)
}
