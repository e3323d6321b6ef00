//! A changed proto alters the table, and rows from before it stay readable; or it is refused: where, why, and what to do.

use std::fmt::Write as _;

use deltamesh_ingest_genji::Mode;
use deltamesh_module::ModuleDefinition;
use deltamesh_replica::Replica as _;
use deltamesh_testkit::GenjiHost;
use deltamesh_wire::proto::source::v1::mutation::Kind;
use serde_json::json;

use super::{Chain, apply, message, module, mutate};
use crate::{Ingest, start};

const SQL: &str = "CREATE MATERIALIZED VIEW notes AS SELECT * FROM note;";

/// A module of the relation `note`; its fields begin in line 5.
fn notes(fields: &str) -> ModuleDefinition {
    keyed("key: \"id\"", fields)
}

fn keyed(options: &str, fields: &str) -> ModuleDefinition {
    let proto = format!(
        "syntax = \"proto3\"; package p; import \"google/protobuf/timestamp.proto\";\n\
         import \"deltamesh/module/v1/options.proto\";\n\
         message Inner {{ string k = 1; }} enum Colour {{ RED = 0; BLUE = 1; }}\n\
         message Note {{ option (deltamesh.module.v1.relation) = {{ {options} }};\n{fields}\n}}"
    );
    module(&proto, SQL)
}

const FIRST: &str = "string id = 1;\nstring title = 2;\nint64 stars = 3;";
const GAINED: &str = "string id = 1;\nint64 stars = 3;\nreserved \"title\";\nbool b = 4; int32 i = 5; double d = 6; string s = 7;\n\
    bytes y = 8; Colour e = 9; optional Colour oe = 10; Inner m = 11; repeated int64 r = 12; map<string, Inner> p = 13;\n\
    google.protobuf.Timestamp t = 14; oneof c { string x = 15; int64 z = 16; }";

#[tokio::test(flavor = "multi_thread")]
async fn rows_from_before_a_changed_proto_stay_readable() {
    let (nats, client, dir) = start().await;
    let path = dir.path().join("db");
    let ingest = Ingest::start(&nats, &path, Mode::Host);
    let first = notes(FIRST);
    apply(&client, &first).await.expect("accepted");
    let note = first.relation("note").expect("note");
    let row = message(note.message.clone(), json!({"id": "a", "title": "A", "stars": "5"}));
    let before = mutate(&client, note, Kind::Insert, &[row]).await.expect("row");
    let mut chain = Chain::new(&client, dir.path());
    chain.reach(before.position.expect("position").ordinal).await;
    chain.replica.set_module("m", SQL).expect("view");
    assert_eq!(chain.feed("notes", &note.message).len(), 1);

    let gained = notes(GAINED);
    apply(&client, &gained).await.expect("accepted");
    let note = gained.relation("note").expect("note");
    let full = json!({"id": "b", "stars": "1", "b": true, "i": 1, "d": 0.5, "s": "s", "y": "AA==", "e": "BLUE", "oe": "RED",
        "m": {"k": "k"}, "r": ["1"], "p": {"a": {}}, "t": "2026-11-21T12:00:00Z", "z": "0"});
    let full = message(note.message.clone(), full);
    let after = mutate(&client, note, Kind::Insert, std::slice::from_ref(&full)).await.expect("row");
    chain.reach(after.position.expect("position").ordinal).await;
    chain.replica.set_module("m", SQL).expect("view");
    chain.feed("notes", &note.message);
    // As a new subscriber gets them: old rows have what the proto says of fields that are not set.
    chain.replica.set_module("m", "").expect("no view");
    chain.replica.mark_published(chain.replica.last_sequence());
    chain.replica.set_module("m", SQL).expect("view");
    let mut read = chain.feed("notes", &note.message);
    read.retain(|(operation, _)| operation == "insert");
    read.sort_by_key(|(_, row)| row.get_field_by_name("id").expect("id").to_string());
    let read: Vec<_> = read.iter().map(|(_, row)| serde_json::to_value(row).expect("JSON")).collect();
    assert_eq!(read, [json!({"id": "a", "stars": "5"}), serde_json::to_value(&full).expect("JSON")]);
    ingest.stop().await;

    let Some(mut host) = GenjiHost::start(&path).expect("engine") else {
        return;
    };
    let row = host.query("SELECT id, title, stars, b, e, oe, s FROM note WHERE id = 'a'").expect("row");
    assert_eq!(
        row,
        [r#"{"id": "a", "title": "A", "stars": 5, "b": false, "e": "RED", "oe": null, "s": ""}"#]
    );
    host.execute("INSERT INTO note(id, title) VALUES ('c', 'C')").expect("insert");
    host.close().expect("close");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_lose_values_is_refused() {
    let (nats, client, dir) = start().await;
    let ingest = Ingest::start(&nats, dir.path(), Mode::Host);
    apply(&client, &notes(FIRST)).await.expect("accepted");
    let versions = [
        notes("string id = 1;\nstring headline = 2;\nint64 stars = 3;"),
        notes("string id = 1;\nstring title = 2;"),
        notes("string id = 1;\nstring title = 2;\nstring stars = 3;"),
        notes("string id = 1;\nstring title = 2;\nint32 stars = 3;"),
        notes("string id = 1;\nstring title = 2;\noptional int64 stars = 3;"),
        keyed("key: \"title\"", FIRST),
    ];
    let mut with_former = String::new();
    for version in &versions {
        let refusal = apply(&client, version).await.expect_err("refused");
        let _ = writeln!(with_former, "{refusal}");
    }
    expect_same(
        &with_former,
        "\
m.proto:6:1: field 2 was title, and rows hold it under that name, which Genji cannot change: keep the name title; or give headline a number of its own and write `reserved \"title\";`
m.proto:4:1: field stars is gone, and rows hold it: put it back, or write `reserved \"stars\";`
m.proto:7:1: field stars was int64, and string does not hold all of its values: keep the type, or add a field of another name
m.proto:7:1: field stars was int64, and int32 does not hold all of its values: keep the type, or add a field of another name
m.proto:7:1: relation note: field stars may be absent, the table's is NOT NULL: a table's field keeps that; leave out `optional`, or add a field of another name
m.proto:4:1: relation note: its key is (title), the table's is (id): a table keeps its key; give the relation another name
",
    );
    ingest.stop().await;

    // Where the former version was never seen, the table itself is what is compared.
    let ingest = Ingest::start(&nats, dir.path(), Mode::Host);
    let mut without = String::new();
    for version in &versions[..3] {
        let refusal = apply(&client, version).await.expect_err("refused");
        let _ = writeln!(without, "{refusal}");
    }
    expect_same(
        &without,
        "\
m.proto:6:1: relation note: field title of the table is not in message Note (headline is new: if it is title renamed, that Genji cannot do): put it back, or write `reserved \"title\";` to leave its values unread
m.proto:4:1: relation note: field stars of the table is not in message Note: put it back, or write `reserved \"stars\";` to leave its values unread
m.proto:7:1: relation note: field stars is TEXT, the table's is INTEGER: a table's field keeps its type; keep it in the proto, or add a field of another name
",
    );
    // Uniqueness comes and goes.
    apply(&client, &keyed("key: \"id\" unique: \"title\"", FIRST)).await.expect("accepted");
    let first = notes(FIRST);
    let note = first.relation("note").expect("note");
    let row = |id: &str| message(note.message.clone(), json!({"id": id, "title": "same"}));
    mutate(&client, note, Kind::Insert, &[row("a")]).await.expect("row");
    mutate(&client, note, Kind::Insert, &[row("b")]).await.expect_err("title is unique");
    apply(&client, &first).await.expect("accepted");
    mutate(&client, note, Kind::Insert, &[row("b")]).await.expect("title is free");
    let unique = keyed("key: \"id\" unique: \"title\"", FIRST);
    let refusal = apply(&client, &unique).await.expect_err("rows are equal");
    assert!(refusal.starts_with("m.proto:6:1: relation note: "), "{refusal}");
    ingest.stop().await;
}

fn expect_same(lines: &str, expected: &str) {
    for (line, expected) in lines.lines().zip(expected.lines()) {
        assert_eq!(line, expected);
    }
    assert_eq!(lines.lines().count(), expected.lines().count());
}
