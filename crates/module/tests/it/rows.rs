//! Messages to rows and back.

use deltamesh_change::{Value, to_json};
use deltamesh_module::{MethodBinding, ModuleDefinition, fields_of, message_from_row};
use prost_reflect::{DynamicMessage, MessageDescriptor, Value as Proto};
use serde_json::{Map, Value as Json, json};

use crate::{CHATPB, compile};

const ALL: &str = r#"syntax = "proto3"; package p;
import "google/protobuf/timestamp.proto"; import "google/protobuf/duration.proto";
import "google/protobuf/struct.proto"; import "google/protobuf/wrappers.proto";
enum Colour { COLOUR_RED = 0; COLOUR_BLUE = 1; }
message Inner { string k = 1; optional int64 n = 2; }
message All {
  bool b = 1; int32 i = 2; uint64 u = 3; double d = 4; string s = 5; bytes y = 6; Colour e = 7;
  google.protobuf.Timestamp t = 8; google.protobuf.Duration n = 9; google.protobuf.Int64Value w = 10;
  google.protobuf.Struct st = 11; Inner m = 12; repeated Inner r = 13; map<string, int32> p = 14; optional int32 o = 15;
}"#;

fn all() -> MessageDescriptor {
    let module = compile(ALL, "").unwrap();
    module.pool.get_message_by_name("p.All").unwrap()
}

fn message(descriptor: MessageDescriptor, json: Json) -> DynamicMessage {
    DynamicMessage::deserialize(descriptor, json).unwrap()
}

/// Compares what goes over the wire.
fn assert_same(a: &DynamicMessage, b: &DynamicMessage) {
    let json = |message: &DynamicMessage| serde_json::to_value(message).unwrap();
    assert_eq!(json(a), json(b));
}

fn row(message: &DynamicMessage) -> Map<String, Json> {
    fields_of(message).unwrap().iter().map(|(name, value)| (name.clone(), to_json(value))).collect()
}

#[test]
fn every_type_there_and_back() {
    let sent = message(
        all(),
        json!({"b": true, "i": -7, "u": "9007199254740993", "d": 1.5, "s": "é", "y": "AP8=", "e": "COLOUR_BLUE",
            "t": "2026-11-21T12:00:00.5Z", "n": "1.5s", "w": "0", "st": {"a": [1, null]}, "m": {"k": "x"},
            "r": [{"k": "y", "n": "3"}], "p": {"b": 2, "a": 1}, "o": 0}),
    );
    let row = row(&sent);
    assert_eq!(
        Json::Object(row.clone()),
        json!({"b": true, "i": -7, "u": "9007199254740993", "d": 1.5, "s": "é", "y": "AP8=", "e": "COLOUR_BLUE",
            "t": "2026-11-21T12:00:00.500000000Z", "n": "1.500s", "w": 0, "st": {"a": [1.0, null]}, "m": {"k": "x", "n": null},
            "r": [{"k": "y", "n": 3}], "p": {"a": 1, "b": 2}, "o": 0})
    );
    assert_same(&message_from_row(&all(), &row).unwrap(), &sent);
}

#[test]
fn nested_integers_are_exact() {
    let proto = r#"syntax = "proto3"; package p; import "google/protobuf/struct.proto";
        message In { int64 i = 1; uint64 u = 2; optional fixed64 f = 3; }
        message A { In m = 1; repeated int64 r = 2; map<uint64, uint64> p = 3; google.protobuf.Value v = 4; repeated google.protobuf.Value l = 5; }"#;
    let descriptor = compile(proto, "").unwrap().pool.get_message_by_name("p.A").unwrap();
    let sent = message(
        descriptor.clone(),
        json!({"m": {"i": "-9007199254740993", "u": "18446744073709551615", "f": "0"},
            "r": ["9007199254740992", "9223372036854775807"], "p": {"18446744073709551615": "9007199254740993"},
            "v": null, "l": ["1", 1, {"a": [true]}, null]}),
    );
    let row = row(&sent);
    assert_eq!(
        Json::Object(row.clone()),
        json!({"m": {"i": "-9007199254740993", "u": "18446744073709551615", "f": 0},
            "r": [9_007_199_254_740_992_i64, "9223372036854775807"], "p": {"18446744073709551615": "9007199254740993"},
            "v": "null", "l": ["\"1\"", "1.0", "{\"a\":[true]}", "null"]})
    );
    assert_same(&message_from_row(&descriptor, &row).unwrap(), &sent);
    // As a source that has only doubles within arrays gives it back.
    let read = json!({"r": [9_007_199_254_740_992.0, "9223372036854775807"]});
    let read = message_from_row(&descriptor, read.as_object().unwrap()).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap()["r"], json!(["9007199254740992", "9223372036854775807"]));
}

#[test]
fn doubles_are_exact() {
    let proto = r#"syntax = "proto3"; package p; message A { repeated double d = 1; repeated float f = 2; }"#;
    let descriptor = compile(proto, "").unwrap().pool.get_message_by_name("p.A").unwrap();
    let mut seed = 88_172_645_463_325_252_u64;
    let mut random = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let bits: Vec<u64> = (0..10_000).map(|_| random()).collect();
    let list = |values: Vec<Proto>| Proto::List(values);
    let mut sent = DynamicMessage::new(descriptor.clone());
    sent.set_field_by_name("d", list(bits.iter().map(|bits| Proto::F64(f64::from_bits(*bits))).collect()));
    let half = |bits: &u64| Proto::F32(f32::from_bits(u32::try_from(bits >> 32).unwrap()));
    sent.set_field_by_name("f", list(bits.iter().map(half).collect()));
    let text = Json::Object(row(&sent)).to_string();
    let read: Json = serde_json::from_str(&text).unwrap();
    let read = message_from_row(&descriptor, read.as_object().unwrap()).unwrap();
    assert_same(&read, &sent);
}

#[test]
fn an_update_leaves_absent_fields_and_clears_the_other_members() {
    let proto = r#"syntax = "proto3"; package p;
        message A { string id = 1; optional string a = 2; optional string b = 3; oneof c { string x = 4; int64 y = 5; } oneof d { string z = 6; } }"#;
    let descriptor = compile(proto, "").unwrap().pool.get_message_by_name("p.A").unwrap();
    let written = message(descriptor, json!({"id": "1", "b": "", "y": "0"}));
    let mut expected: Vec<(String, Value)> = vec![
        ("id".into(), "1".into()),
        ("b".into(), "".into()),
        ("x".into(), Value::Null),
        ("y".into(), Value::Int(0)),
    ];
    assert_eq!(deltamesh_module::update_of(&written).unwrap(), expected);
    expected.remove(1);
    expected.insert(1, ("a".into(), Value::Null));
    assert_eq!(
        deltamesh_module::named_of(&written, |name| ["id", "a", "y"].contains(&name)).unwrap(),
        expected
    );
}

#[test]
fn absent_is_null_only_where_presence_is_tracked() {
    let row = row(&message(all(), json!({})));
    assert_eq!(
        Json::Object(row.clone()),
        json!({"b": false, "i": 0, "u": 0, "d": 0.0, "s": "", "y": "", "e": "COLOUR_RED", "t": null, "n": null, "w": null,
            "st": null, "m": null, "r": [], "p": {}, "o": null})
    );
    assert_same(&message_from_row(&all(), &row).unwrap(), &message(all(), json!({})));
}

#[test]
fn rows_of_a_replica() {
    let row =
        json!({"__docid": 4, "b": 1, "u": "12", "i": 3.0, "m": "{\"k\":\"x\"}", "r": "[]", "unknown": [1]});
    let expected = message(all(), json!({"b": true, "u": "12", "i": 3, "m": {"k": "x"}}));
    assert_same(&message_from_row(&all(), row.as_object().unwrap()).unwrap(), &expected);
}

#[test]
fn values_that_do_not_fit() {
    let check = |row: Json, expected: &str| {
        assert_eq!(message_from_row(&all(), row.as_object().unwrap()).unwrap_err().to_string(), expected);
    };
    check(json!({"i": 1_i64 << 40}), "field i is out of range");
    check(json!({"i": "x"}), "field i needs an integer");
    check(json!({"b": 2}), "field b needs a truth value");
    check(json!({"m": {"n": "x"}}), "field m.n needs an integer");
    check(json!({"y": "?"}), "field y needs base64 text");
    check(json!({"t": "yesterday"}), "field t has not the form of its type");
    check(json!({"r": 1}), "field r needs an array");
    let huge = message(all(), json!({"u": "18446744073709551615"}));
    assert_eq!(fields_of(&huge).unwrap_err().to_string(), "field u exceeds a signed 64-bit integer");
    let nan = message(all(), json!({"d": "NaN"}));
    assert_eq!(fields_of(&nan).unwrap_err().to_string(), "field d is NaN, which no column holds");
}

fn chat() -> ModuleDefinition {
    compile(CHATPB, "").unwrap()
}

#[test]
fn channel_filters_by_its_name() {
    let module = chat();
    let join = module.methods.iter().find(|method| method.name == "JoinChannel").unwrap();
    let MethodBinding::Feed { filters, .. } = &join.binding else { panic!("not a feed") };
    let check = |request: Json, row: Json, expected: bool| {
        let request = message(join.input.clone(), request);
        let filter = filters[0].resolve(&request).unwrap().unwrap();
        assert_eq!(filter.accepts(row.as_object().unwrap()), expected, "{row}");
    };
    let row = json!({"sender": "a", "channel": {"name": "x", "senders_name": "b"}, "message": "hi"});
    check(json!({"name": "x", "sendersName": "c"}), row.clone(), true);
    check(json!({"name": "y"}), row.clone(), false);
    check(json!({}), row, false);
    check(json!({}), json!({"channel": {"name": ""}}), true);
    check(json!({"name": "x"}), json!({"channel": null}), false);
}

#[test]
fn numbers_and_truth_values_compare_by_value() {
    let accepts = |value: Json, found: Json| {
        let filter = deltamesh_module::Filter { path: vec!["c".into()], value };
        filter.accepts(json!({"c": found}).as_object().unwrap())
    };
    assert!(accepts(json!(1), json!(1.0)) && accepts(json!(true), json!(1)) && accepts(json!("7"), json!(7)));
    assert!(
        !accepts(json!(1), json!(2)) && !accepts(json!(true), json!(0)) && !accepts(json!(null), json!(0))
    );
    assert!(!accepts(json!(9_007_199_254_740_992_i64), json!(9_007_199_254_740_993_i64)));
    assert_eq!(Value::Null, Value::default());
}
