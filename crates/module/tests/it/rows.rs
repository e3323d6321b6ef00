//! Messages to rows and back.

use deltamesh_change::{Value, to_json};
use deltamesh_module::{MethodBinding, ModuleDefinition, fields_of, message_from_row};
use prost_reflect::{DynamicMessage, MessageDescriptor};
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
