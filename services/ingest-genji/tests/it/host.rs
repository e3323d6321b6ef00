use deltamesh_change::{SourcePosition, Value};
use deltamesh_ingest_genji::Mode;
use deltamesh_jetstream::{Bucket, BucketEvent, BucketName, Client, Code, ServiceError};
use deltamesh_testkit::GenjiHost;
use deltamesh_wire::proto::module::v1::{Module, Outcome, SourceFile};
use deltamesh_wire::proto::source::v1::mutation::Kind;
use deltamesh_wire::proto::source::v1::{ExecuteRequest, MutateRequest, MutateResponse, Mutation};
use prost::Message as _;

use crate::program::Program;
use crate::{Ingest, LONG, Mirror, read_until, start};

const PROTO: &str = r#"syntax = "proto3";
package notes;
import "deltamesh/module/v1/options.proto";
message Note {
  option (deltamesh.module.v1.relation) = { key: "note_id" unique: "title" index: "author" };
  string note_id = 1;
  string title = 2;
  string author = 3;
  int64 stars = 4;
}
"#;

async fn apply(client: &Client, version: u64, proto: &str) -> Outcome {
    let file = SourceFile { path: "notes.proto".into(), text: proto.into() };
    let module = Module { name: "notes".into(), version, protos: vec![file], ..Module::default() };
    let bucket = Bucket::open(client, BucketName::Modules).await.expect("bucket");
    bucket.put("notes", module.encode_to_vec()).await.expect("put");
    let mut watch = Bucket::open(client, BucketName::ModuleStatus).await.expect("bucket").watch();
    let verdict = async {
        loop {
            let event = watch.next().await.expect("watch");
            let BucketEvent::Entry(entry) = event else { continue };
            assert_eq!(entry.key, "notes.ingest-genji.app");
            let outcome = Outcome::decode(entry.value.expect("value")).expect("outcome");
            if outcome.version == version {
                return outcome;
            }
        }
    };
    tokio::time::timeout(LONG, verdict).await.expect("a verdict")
}

fn note(kind: Kind, fields: &[(&str, Value)]) -> Mutation {
    let row: Vec<_> = fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    Mutation { relation: "note".into(), kind: kind.into(), row: Some(row.into()) }
}

async fn mutate(client: &Client, mutations: Vec<Mutation>) -> Result<MutateResponse, ServiceError> {
    let request = MutateRequest { mutations, ..Default::default() };
    let reply = client.request("source.app.mutate", request.encode_to_vec(), LONG).await?;
    Ok(MutateResponse::decode(reply).expect("response"))
}

async fn execute(client: &Client, sql: &str, parameters: &[Value]) -> Result<MutateResponse, ServiceError> {
    let parameters = parameters.iter().cloned().map(Into::into).collect();
    let request = ExecuteRequest { statement: sql.to_owned(), parameters, ..Default::default() };
    let reply = client.request("source.app.execute", request.encode_to_vec(), LONG).await?;
    Ok(MutateResponse::decode(reply).expect("response"))
}

fn position(response: MutateResponse) -> SourcePosition {
    response.position.expect("something changed").into()
}

async fn bad_mutations_are_refused(client: &Client) {
    let check = async |mutations, code| {
        let error = mutate(client, mutations).await.expect_err("refused");
        assert_eq!(error.code, code, "{error}");
    };
    check(vec![note(Kind::Insert, &[("note_id", "a".into())])], Code::AlreadyExists).await;
    check(vec![note(Kind::Update, &[("note_id", "z".into())])], Code::NotFound).await;
    check(vec![note(Kind::Upsert, &[("note_id", "c".into()), ("no", "x".into())])], Code::NotFound).await;
    check(vec![note(Kind::Upsert, &[("note_id", "c".into()), ("stars", "x".into())])], Code::InvalidArgument)
        .await;
    check(
        vec![note(Kind::Delete, &[("note_id", "a".into())]), note(Kind::Insert, &[("note_id", "b".into())])],
        Code::AlreadyExists,
    )
    .await;
}

async fn bad_modules_are_refused(client: &Client) {
    let other_type = PROTO.replace("int64 stars", "string stars");
    let refused = apply(client, 3, &other_type).await;
    let reason = "notes.proto:9:3: field stars was int64, and string does not hold all of its values";
    assert!(refused.error.starts_with(reason), "{}", refused.error);
    let broken = apply(client, 4, "syntax = \"proto3\";\nmessage {").await;
    assert!(broken.error.starts_with("notes.proto:2:"), "{}", broken.error);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mutation_is_in_the_log_before_its_answer() {
    let (nats, client, dir) = start().await;
    let path = dir.path().join("db");
    let mut ingest = Program::start(&nats, &path, Mode::Host);
    let outcome = apply(&client, 1, PROTO).await;
    assert!(outcome.accepted, "{}", outcome.error);
    let mut mirror = Mirror::new(&client);

    let first = mutate(
        &client,
        vec![
            note(Kind::Insert, &[("note_id", "a".into()), ("title", "A".into()), ("stars", Value::Int(1))]),
            note(Kind::Upsert, &[("note_id", "b".into()), ("title", "B".into())]),
        ],
    );
    let first = first.await.expect("two rows");
    assert_eq!(first.rows, 2);
    let first = position(first);
    while mirror.position.ordinal < first.ordinal {
        mirror.read().await;
    }
    assert_eq!(mirror.rows("note"), 2);
    assert_eq!(mirror.relations["note"][r#"["a"]"#], r#"["a","A","",1]"#);

    bad_mutations_are_refused(&client).await;
    let updated = execute(&client, "UPDATE note SET stars = ? WHERE note_id = 'a'", &[Value::Int(5)]).await;
    let updated = position(updated.expect("update"));
    assert!(updated.ordinal > first.ordinal);
    let error = execute(&client, "SELEC 1", &[]).await.expect_err("no SQL");
    assert_eq!(error.code, Code::InvalidArgument, "{error}");
    let nothing =
        mutate(&client, vec![note(Kind::Delete, &[("note_id", "z".into())])]).await.expect("nothing");
    assert_eq!((nothing.position, nothing.rows), (None, 0));
    ingest.kill();

    // What was answered is there after a restart, and the log continues.
    let mut ingest = Program::start(&nats, &path, Mode::Host);
    let added = PROTO.replace("int64 stars = 4;", "int64 stars = 4;\n  bool pinned = 5;");
    assert!(apply(&client, 2, &added).await.accepted);
    let last = mutate(&client, vec![note(Kind::Delete, &[("note_id", "b".into())])]).await.expect("delete");
    let last = position(last);
    assert_eq!(last.incarnation, first.incarnation);
    while mirror.position.ordinal < last.ordinal {
        mirror.read().await;
    }
    let notes: Vec<_> = mirror.relations["note"].values().collect();
    assert_eq!(notes, [r#"["a","A","",5,false]"#]);

    bad_modules_are_refused(&client).await;
    assert!(ingest.terminate().success());

    // The real engine opens what was written.
    if let Some(mut host) = GenjiHost::start(&path).expect("engine") {
        let rows = host.query("SELECT * FROM note").expect("query");
        assert_eq!(rows.len(), 1);
        host.execute("INSERT INTO note(note_id, title) VALUES ('g', 'G')").expect("insert");
        assert!(
            host.execute("INSERT INTO note(note_id, title) VALUES ('h', 'G')").is_err(),
            "title is unique"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_at_once() {
    let (nats, client, dir) = start().await;
    let ingest = Ingest::start(&nats, dir.path(), Mode::Host);
    assert!(apply(&client, 1, PROTO).await.accepted);
    let writers: Vec<_> = (0..300)
        .map(|number| {
            let client = client.clone();
            tokio::spawn(async move {
                let id = Value::from(format!("n{number}"));
                // Every tenth is refused, and must not take its neighbours with it.
                let kind = if number % 10 == 0 { Kind::Update } else { Kind::Insert };
                let row = [("note_id", id.clone()), ("title", id)];
                mutate(&client, vec![note(kind, &row)]).await.is_ok()
            })
        })
        .collect();
    let mut accepted = 0;
    for writer in writers {
        accepted += usize::from(writer.await.expect("writer"));
    }
    assert_eq!(accepted, 270);
    let mut mirror = Mirror::new(&client);
    read_until(&mut mirror, |mirror| mirror.rows("note") == 270).await;
    ingest.stop().await;
}
