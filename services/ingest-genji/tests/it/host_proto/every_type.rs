//! Every type of field, at its bounds.

use deltamesh_ingest_genji::Mode;
use deltamesh_jetstream::Code;
use deltamesh_replica::Replica as _;
use deltamesh_testkit::GenjiHost;
use deltamesh_wire::proto::source::v1::mutation::Kind;
use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor, ReflectMessage as _, Value as Proto};
use serde_json::{Value as Json, json};

use super::{Chain, apply, message, module, mutate};
use crate::{Ingest, start};

/// Field names that are words of SQL are on purpose.
const PROTO: &str = r#"syntax = "proto3"; package p;
import "deltamesh/module/v1/options.proto"; import "google/protobuf/any.proto"; import "google/protobuf/duration.proto";
import "google/protobuf/empty.proto"; import "google/protobuf/field_mask.proto"; import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto"; import "google/protobuf/wrappers.proto";
enum Colour { COLOUR_RED = 0; COLOUR_BLUE = 1; COLOUR_BELOW = -1; }
message Inner {
  string k = 1; int64 n = 2; uint64 u = 3; optional int64 o = 4; bytes y = 5; Inner more = 6; float f = 7; Colour e = 8;
  repeated int64 r = 9; google.protobuf.Timestamp t = 10; google.protobuf.Int64Value w = 11;
}
message All {
  option (deltamesh.module.v1.relation) = { key: "id" unique: "s" index: "e" };
  int64 id = 1; bool b = 2; int32 i32 = 3; sint32 s32 = 4; sfixed32 sf32 = 5; uint32 u32 = 6; fixed32 f32 = 7;
  int64 i64 = 8; sint64 s64 = 9; sfixed64 sf64 = 10; uint64 u64 = 11; fixed64 f64 = 12; float f = 13; double d = 14;
  string s = 15; bytes y = 16; Colour e = 17;
  optional bool ob = 20; optional int32 oi = 21; optional double od = 22; optional string os = 23; optional bytes oy = 24;
  optional Colour oe = 25;
  google.protobuf.BoolValue wb = 30; google.protobuf.Int32Value wi = 31; google.protobuf.Int64Value wl = 32;
  google.protobuf.UInt32Value wu = 33; google.protobuf.UInt64Value wul = 34; google.protobuf.FloatValue wf = 35;
  google.protobuf.DoubleValue wd = 36; google.protobuf.StringValue ws = 37; google.protobuf.BytesValue wy = 38;
  google.protobuf.Timestamp t = 40; google.protobuf.Duration du = 41; google.protobuf.Struct st = 42;
  google.protobuf.Value v = 43; google.protobuf.ListValue l = 44; google.protobuf.Any any = 45;
  google.protobuf.Empty empty = 46; google.protobuf.FieldMask mask = 47;
  Inner m = 50; repeated Inner rm = 51; repeated int64 ri = 52; repeated uint64 ru = 53; repeated double rd = 54;
  repeated string rs = 55; repeated bytes ry = 56; repeated Colour re = 57; repeated bool rb = 58; repeated float rf = 59;
  repeated google.protobuf.Timestamp rt = 60; repeated google.protobuf.Value rv = 61;
  map<string, int64> msi = 70; map<int64, string> mis = 71; map<bool, Inner> mbm = 72; map<uint64, bytes> muy = 73;
  map<string, Colour> mse = 74; map<int32, double> mid = 75;
  oneof choice { string cx = 80; int64 cy = 81; Inner cm = 82; }
  string from = 90; string select = 91; int32 order = 92; bool index = 93; string camelCase = 94;
}
message Keyed {
  option (deltamesh.module.v1.relation) = { key: "y" key: "e" key: "b" key: "u" key: "d" key: "s" };
  bytes y = 1; Colour e = 2; bool b = 3; uint64 u = 4; double d = 5; string s = 6; string value = 7;
}
"#;
const SQL: &str = "CREATE MATERIALIZED VIEW all_rows AS SELECT * FROM \"all\";
    CREATE MATERIALIZED VIEW keyed_rows AS SELECT * FROM keyed;";

fn largest(all: &MessageDescriptor) -> DynamicMessage {
    let inner = json!({"k": "é\u{0}\"'\\", "n": "9223372036854775807", "u": "18446744073709551615", "o": "0", "y": "AP8=",
        "more": {"n": "-9223372036854775808", "more": {}}, "f": 1.1, "e": "COLOUR_BELOW", "r": ["9007199254740993", "1"],
        "t": "2026-11-21T12:00:00.000000001Z", "w": "9007199254740993"});
    // Genji 0.15 itself cannot look up a larger key than one of a byte where a row fills a block of a table file: it cuts the
    // key between two blocks to its first byte, and fails to compare it.
    let scalars = json!({"id": "-32", "b": true, "i32": i32::MIN, "s32": i32::MIN, "sf32": i32::MIN,
        "u32": u32::MAX, "f32": u32::MAX, "i64": "9223372036854775807", "s64": "-9223372036854775808",
        "sf64": "9007199254740993", "u64": "9223372036854775807", "f64": "9223372036854775807", "f": f64::from(f32::MAX), "d": 5e-324,
        "s": "é\u{1F600}\n\"'\\ \u{1}", "y": "AAECAwT/", "e": "COLOUR_BLUE",
        "ob": false, "oi": 0, "od": 0.0, "os": "", "oy": "", "oe": "COLOUR_RED",
        "wb": false, "wi": 0, "wl": "9223372036854775807", "wu": u32::MAX, "wul": "9223372036854775807", "wf": 0.1,
        "wd": 0.300_000_000_000_000_04, "ws": "", "wy": "",
        "from": "f", "select": "s", "order": 1, "index": true, "camelCase": "c"});
    let composed = json!({
        "t": "9999-12-31T23:59:59.999999999Z", "du": "-315576000000.999999999s",
        "st": {"a": [1, null, {"b": "x"}], "n": 1e300, "t": true}, "v": {"x": [1, "1", null]}, "l": [1, "1", false, null, {}],
        "empty": {}, "mask": "a,b.c",
        "m": inner, "rm": [inner, {}], "ri": ["9007199254740992", "9007199254740993", "-9223372036854775808"],
        "ru": ["18446744073709551615", "0"], "rd": [0.1, "NaN", "Infinity", "-Infinity"], "rs": ["", "[1]", "null"], "ry": ["", "AP8="],
        "re": ["COLOUR_BLUE", "COLOUR_BELOW"], "rb": [true, false], "rf": [0.1, -1.5], "rt": ["0001-01-01T00:00:00Z"],
        "rv": [null, 1, "1", [true]],
        "msi": {"": "9007199254740993", "a.b": "2", "z\"": "0"}, "mis": {"-9223372036854775808": "x", "9007199254740993": "y"},
        "mbm": {"true": inner, "false": {}}, "muy": {"18446744073709551615": "AP8="}, "mse": {"x": "COLOUR_BLUE"}, "mid": {"-1": 0.1},
        "cm": {"k": "in the oneof"}});
    let (Json::Object(mut json), Json::Object(composed)) = (scalars, composed) else { panic!("objects") };
    json.extend(composed);
    message(all.clone(), Json::Object(json))
}

/// The rows to write: nothing set but the key, everything at its bounds, the other bounds, and what JSON cannot say.
fn rows(all: &MessageDescriptor) -> Vec<DynamicMessage> {
    let mut unknown = message(all.clone(), json!({"id": "4", "s": "unknown", "cx": ""}));
    unknown.set_field_by_name("e", Proto::EnumNumber(77));
    unknown.set_field_by_name("re", Proto::List(vec![Proto::EnumNumber(-5)]));
    let mut any = message(all.clone(), json!({"id": "5", "s": "any"}));
    let mut packed =
        DynamicMessage::new(all.parent_pool().get_message_by_name("google.protobuf.Any").expect("any"));
    packed.set_field_by_name("type_url", Proto::String("type.googleapis.com/p.Inner".into()));
    packed.set_field_by_name("value", Proto::Bytes(vec![0x0a, 0x01, 0x61].into()));
    any.set_field_by_name("any", Proto::Message(packed));
    vec![
        message(all.clone(), json!({"id": "0"})),
        largest(all),
        message(
            all.clone(),
            json!({"id": "3", "s": "small", "t": "0001-01-01T00:00:00Z", "du": "-0.000000001s", "v": null,
            "i32": i32::MAX, "f": f64::from(f32::MIN), "d": 1.797_693_134_862_315_7e308, "cy": "0", "m": {}, "st": {}, "l": []}),
        ),
        unknown,
        any,
    ]
}

/// The rows with an edit each: a member of a oneof after another, a list emptied by its replacement.
fn edits(all: &MessageDescriptor) -> [DynamicMessage; 2] {
    [message(all.clone(), json!({"id": "-32", "s": "edited", "cy": "7"})), {
        let mut edit = largest(all);
        edit.clear_field_by_name("cm");
        edit.set_field_by_name("cy", Proto::I64(7));
        edit.set_field_by_name("s", Proto::String("edited".into()));
        edit
    }]
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_come_out_as_they_went_in() {
    let (nats, client, dir) = start().await;
    let path = dir.path().join("db");
    let definition = module(PROTO, SQL);
    let (all, keyed) =
        (definition.relation("all").expect("all"), definition.relation("keyed").expect("keyed"));
    let ingest = Ingest::start(&nats, &path, Mode::Host);
    apply(&client, &definition).await.expect("accepted");
    let mut chain = Chain::new(&client, dir.path());

    let sent = rows(&all.message);
    let answer = mutate(&client, all, Kind::Insert, &sent).await.expect("rows");
    chain.reach(answer.position.expect("position").ordinal).await;
    chain.replica.set_module("m", SQL).expect("views");
    let received = chain.feed("all_rows", &all.message);
    assert_eq!(received.len(), sent.len());
    for sent in &sent {
        let id = sent.get_field_by_name("id");
        let (_, received) = received.iter().find(|(_, row)| row.get_field_by_name("id") == id).expect("row");
        assert_same(sent, received);
    }

    // Live changes take the delta programs, not the fill.
    let keys: Vec<_> = ["", "AA==", "AAA="]
        .into_iter()
        .flat_map(|y| ["COLOUR_RED", "COLOUR_BLUE"].map(|e| (y, e)))
        .map(|(y, e)| {
            message(
                keyed.message.clone(),
                json!({"y": y, "e": e, "b": true, "u": "1", "d": -0.5, "s": "k", "value": y}),
            )
        })
        .collect();
    let answer = mutate(&client, keyed, Kind::Upsert, &keys).await.expect("keys");
    assert_eq!(answer.rows, 6);
    let [partial, edited] = edits(&all.message);
    mutate(&client, all, Kind::Update, &[without_defaults(&partial, &edited)]).await.expect("update");
    let answer = mutate(&client, keyed, Kind::Delete, &keys[..1]).await.expect("delete");
    chain.reach(answer.position.expect("position").ordinal).await;
    let rows = chain.replica.unpublished(100).expect("outbox");
    assert_eq!(rows.iter().filter(|row| row.view == "keyed_rows").count(), 7);
    for (operation, received) in chain.feed("all_rows", &all.message) {
        assert_eq!(operation, "update");
        assert_same(&edited, &received);
    }

    let huge = message(all.message.clone(), json!({"id": "9", "u64": "18446744073709551615"}));
    let error = deltamesh_module::fields_of(&huge).expect_err("refused");
    assert_eq!(error.to_string(), "field u64 exceeds a signed 64-bit integer");
    let twice = message(all.message.clone(), json!({"id": "10", "s": "any"}));
    let error = mutate(&client, all, Kind::Insert, &[twice]).await.expect_err("s is unique");
    assert_eq!(error.code, Code::FailedPrecondition, "{error}");
    ingest.stop().await;
    the_real_engine_reads_on(&path);
}

/// What an update carries: of the fields without presence all, so those of the row as it shall be.
fn without_defaults(partial: &DynamicMessage, whole: &DynamicMessage) -> DynamicMessage {
    let mut update = whole.clone();
    for field in whole.descriptor().fields().filter(|field| field.supports_presence()) {
        update.clear_field(&field);
        if partial.has_field(&field) {
            update.set_field(&field, partial.get_field(&field).into_owned());
        }
    }
    update
}

/// Compares what goes over the wire.
fn assert_same(sent: &DynamicMessage, received: &DynamicMessage) {
    for field in sent.descriptor().fields() {
        let name = field.name();
        assert_eq!(sent.has_field(&field), received.has_field(&field), "presence of {name}");
        let only = |message: &DynamicMessage| {
            let mut only = DynamicMessage::new(message.descriptor());
            if message.has_field(&field) {
                only.set_field(&field, message.get_field(&field).into_owned());
            }
            // What is packed in an Any has no JSON form here; the entries of a map have no order on the wire.
            if name == "any" {
                json!(only.encode_to_vec())
            } else {
                serde_json::to_value(&only).expect("JSON")
            }
        };
        assert_eq!(only(sent), only(received), "{name}");
    }
}

fn the_real_engine_reads_on(path: &std::path::Path) {
    let Some(mut host) = GenjiHost::start(path).expect("engine") else {
        return;
    };
    let count = |host: &mut GenjiHost, sql: &str| {
        host.query(sql).unwrap_or_else(|error| panic!("{sql}: {error}")).len()
    };
    assert_eq!(count(&mut host, "SELECT * FROM `all`"), 5);
    assert_eq!(count(&mut host, "SELECT * FROM `all` WHERE id = 5"), 1);
    assert_eq!(count(&mut host, "SELECT * FROM `all` WHERE s = 'edited'"), 1);
    assert_eq!(count(&mut host, "SELECT * FROM `all` WHERE e = 'COLOUR_BLUE'"), 1);
    assert_eq!(count(&mut host, "SELECT * FROM keyed"), 5);
    host.execute("INSERT INTO `all`(id, s) VALUES (11, 'engine')").expect("insert");
    let row = host.query("SELECT e, b, d, i32 FROM `all` WHERE id = 11").expect("defaults");
    assert!(row[0].contains("COLOUR_RED"), "{row:?}");
    host.close().expect("close");
}
