//! From messages to messages: proto in, row of the hosted database, change log, mirror, view, feed, proto out.

mod changed;
mod every_type;

use std::path::Path;
use std::time::Duration;

use deltamesh_jetstream::{Bucket, BucketEvent, BucketName, Client, Consumer, ServiceError};
use deltamesh_module::{ModuleDefinition, RelationDefinition, SourceFile, fields_of, message_from_row};
use deltamesh_replica::{Assembler, Replica as _, Retention, SqliteReplica};
use deltamesh_wire::proto::module::v1::Outcome;
use deltamesh_wire::proto::source::v1::mutation::Kind;
use deltamesh_wire::proto::source::v1::{MutateRequest, MutateResponse, Mutation};
use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use serde_json::Value as Json;

use crate::LONG;

/// A module of one proto file, and views.
fn module(proto: &str, sql: &str) -> ModuleDefinition {
    let protos = [SourceFile::new("m.proto", proto)];
    ModuleDefinition::compile("m", &protos, &[SourceFile::new("m.sql", sql)]).expect("module")
}

fn message(descriptor: MessageDescriptor, json: Json) -> DynamicMessage {
    DynamicMessage::deserialize(descriptor, json).expect("message")
}

/// Gives the service the next version of the module; an error is why it refuses.
async fn apply(client: &Client, definition: &ModuleDefinition) -> Result<(), String> {
    let bucket = Bucket::open(client, BucketName::Modules).await.expect("bucket");
    let former = bucket.get("m").await.expect("get");
    let former =
        former.map(|value| deltamesh_wire::proto::module::v1::Module::decode(value).expect("module"));
    let version = former.map_or(1, |former| former.version + 1);
    bucket.put("m", definition.to_wire(version).encode_to_vec()).await.expect("put");
    let mut watch = Bucket::open(client, BucketName::ModuleStatus).await.expect("bucket").watch();
    let verdict = async {
        loop {
            let BucketEvent::Entry(entry) = watch.next().await.expect("watch") else { continue };
            let outcome = Outcome::decode(entry.value.expect("value")).expect("outcome");
            if outcome.version == version {
                return if outcome.accepted { Ok(()) } else { Err(outcome.error) };
            }
        }
    };
    tokio::time::timeout(LONG, verdict).await.expect("a verdict")
}

async fn mutate(
    client: &Client,
    relation: &RelationDefinition,
    kind: Kind,
    messages: &[DynamicMessage],
) -> Result<MutateResponse, ServiceError> {
    let row = |message| match kind {
        Kind::Update => deltamesh_module::update_of(message),
        _ => fields_of(message),
    };
    let mutation = |message| Mutation {
        relation: relation.name.clone(),
        kind: kind.into(),
        row: Some(row(message).expect("row").into()),
    };
    let mutations = messages.iter().map(mutation).collect();
    let request = MutateRequest { mutations, ..MutateRequest::default() };
    let reply = client.request("source.app.mutate", request.encode_to_vec(), LONG).await?;
    Ok(MutateResponse::decode(reply).expect("response"))
}

/// A replica of the source `app`.
struct Chain {
    client: Client,
    consumer: Option<Consumer>,
    assembler: Assembler,
    replica: SqliteReplica,
}

impl Chain {
    fn new(client: &Client, dir: &Path) -> Self {
        let replica = SqliteReplica::open(dir.join("replica.db"), Retention::default()).expect("replica");
        let assembler = Assembler::new("app", [], dir);
        Self { client: client.clone(), consumer: None, assembler, replica }
    }

    /// Applies what comes until the replica holds the transaction.
    async fn reach(&mut self, ordinal: u64) {
        let reading = async {
            let reached = |replica: &SqliteReplica| {
                replica.checkpoints().first().is_some_and(|at| at.position.ordinal >= ordinal)
            };
            while !reached(&self.replica) {
                self.read().await;
            }
        };
        tokio::time::timeout(LONG, reading).await.expect("the change log gets there");
    }

    async fn read(&mut self) {
        let Some(consumer) = &mut self.consumer else {
            self.consumer = Consumer::open(&self.client, "CHANGES_APP", 1).await.ok();
            return tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let next = consumer.next_batch(256, 8 << 20);
        let Ok(batch) = tokio::time::timeout(Duration::from_millis(200), next).await else { return };
        for stored in batch.expect("batch") {
            if let Some(group) = self.assembler.push(&stored.payload, stored.sequence).expect("group") {
                self.replica.apply(&[group]).expect("apply");
            }
        }
    }

    /// The changes of a view that wait for the feed: operation and message.
    fn feed(&mut self, view: &str, descriptor: &MessageDescriptor) -> Vec<(String, DynamicMessage)> {
        let rows = self.replica.unpublished(10_000).expect("outbox");
        self.replica.mark_published(self.replica.last_sequence());
        let rows = rows.into_iter().filter(|row| row.view == view);
        rows.map(|row| {
            let fields: Json = serde_json::from_str(&row.row).expect("payload");
            let message = message_from_row(descriptor, fields.as_object().expect("row"));
            (row.operation, message.unwrap_or_else(|error| panic!("{error}: {fields}")))
        })
        .collect()
    }
}
