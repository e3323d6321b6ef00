//! A feed message as a line.

use anyhow::Result;
use deltamesh_wire::proto::feed::v1::feed_message::Message as Kind;
use deltamesh_wire::proto::feed::v1::{Operation, RowDelta};
use prost_types::value::Kind as Proto;
use serde_json::{Map, Number, Value, json};

use crate::options::Format;
use crate::output;

/// Largest integer up to which every integer is a double of its own.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// How lines look.
#[derive(Debug, Clone, Copy)]
pub(super) enum Line {
    Json,
    Text,
}

impl Line {
    pub(super) fn of(format: Format) -> Self {
        match format {
            Format::Json => Self::Json,
            Format::Text => Self::Text,
        }
    }

    pub(super) fn print(self, message: Kind) -> Result<()> {
        match self {
            Self::Json => output::line(&as_json(message).to_string()),
            Self::Text => output::line(&as_text(message)),
        }
    }
}

/// `{"op":…,"key":…,"row":…,"cursor":…}`; `cursor` is null inside a snapshot.
fn as_json(message: Kind) -> Value {
    match message {
        Kind::SnapshotBegin(begin) => json!({ "op": "snapshot_begin", "reason": begin.reason }),
        Kind::SnapshotEnd(end) => json!({ "op": "snapshot_end", "cursor": end.cursor }),
        Kind::Progress(progress) => json!({ "op": "progress", "cursor": progress.cursor }),
        Kind::Delta(delta) => {
            let mut line = Map::new();
            line.insert("op".to_owned(), operation(&delta).into());
            line.insert("key".to_owned(), key(&delta));
            line.insert("row".to_owned(), delta.row.map(object).into());
            if let Some(before) = delta.before {
                line.insert("before".to_owned(), object(before));
            }
            let cursor = Some(delta.cursor).filter(|cursor| !cursor.is_empty());
            line.insert("cursor".to_owned(), cursor.into());
            line.insert("tx_end".to_owned(), delta.transaction_end.into());
            Value::Object(line)
        }
    }
}

fn as_text(message: Kind) -> String {
    match message {
        Kind::SnapshotBegin(begin) if begin.reason.is_empty() => "-- snapshot".to_owned(),
        Kind::SnapshotBegin(begin) => format!("-- fresh snapshot: {}", begin.reason),
        Kind::SnapshotEnd(end) => format!("-- live, cursor {}", end.cursor),
        Kind::Progress(progress) => format!("-- progress, cursor {}", progress.cursor),
        Kind::Delta(delta) => {
            let (operation, key) = (operation(&delta), key(&delta));
            let row = delta.row.map(object).unwrap_or_default();
            match delta.before.map(object) {
                Some(before) => format!("{operation:6} {key} {row} (before: {before})"),
                None => format!("{operation:6} {key} {row}"),
            }
        }
    }
}

fn operation(delta: &RowDelta) -> &'static str {
    match delta.operation() {
        Operation::Read => "read",
        Operation::Insert => "insert",
        Operation::Update => "update",
        Operation::Delete => "delete",
        Operation::Unspecified => "unknown",
    }
}

fn key(delta: &RowDelta) -> Value {
    let values = delta.key.iter().flat_map(|key| key.values.iter().cloned());
    values.map(value).collect()
}

fn object(proto: prost_types::Struct) -> Value {
    Value::Object(proto.fields.into_iter().map(|(name, field)| (name, value(field))).collect())
}

/// A protobuf number is a double; whole ones are printed as integers, as they were.
fn value(proto: prost_types::Value) -> Value {
    match proto.kind {
        None | Some(Proto::NullValue(_)) => Value::Null,
        Some(Proto::BoolValue(truth)) => truth.into(),
        Some(Proto::StringValue(text)) => text.into(),
        Some(Proto::NumberValue(number)) => integer(number).unwrap_or_else(|| number.into()),
        Some(Proto::ListValue(list)) => list.values.into_iter().map(value).collect(),
        Some(Proto::StructValue(object_)) => object(object_),
    }
}

fn integer(number: f64) -> Option<Value> {
    let whole =
        number.fract() == 0.0 && number.abs() < EXACT && !(number == 0.0 && number.is_sign_negative());
    let text = whole.then(|| format!("{number:.0}"))?;
    text.parse::<Number>().ok().map(Value::Number)
}

/// The value of a condition: JSON where it is some, else text.
pub(super) fn condition(text: &str) -> prost_types::Value {
    proto(serde_json::from_str(text).unwrap_or_else(|_| Value::from(text)))
}

fn proto(json: Value) -> prost_types::Value {
    let kind = match json {
        Value::Null => Proto::NullValue(0),
        Value::Bool(truth) => Proto::BoolValue(truth),
        Value::Number(number) => Proto::NumberValue(number.as_f64().unwrap_or_default()),
        Value::String(text) => Proto::StringValue(text),
        Value::Array(items) => {
            Proto::ListValue(prost_types::ListValue { values: items.into_iter().map(proto).collect() })
        }
        Value::Object(fields) => Proto::StructValue(prost_types::Struct {
            fields: fields.into_iter().map(|(name, field)| (name, proto(field))).collect(),
        }),
    };
    prost_types::Value { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use deltamesh_wire::proto::feed::v1::{Progress, SnapshotBegin};
    use serde_json::json;

    use super::*;

    fn list(json: Value) -> Option<prost_types::ListValue> {
        match proto(json).kind {
            Some(Proto::ListValue(list)) => Some(list),
            _ => None,
        }
    }

    fn fields(json: Value) -> Option<prost_types::Struct> {
        match proto(json).kind {
            Some(Proto::StructValue(object)) => Some(object),
            _ => None,
        }
    }

    #[test]
    fn lines() {
        let delta = RowDelta {
            operation: Operation::Update.into(),
            key: list(json!(["m1"])),
            row: fields(json!({ "n": 3, "x": 0.5, "deep": { "list": [null, true] } })),
            before: fields(json!({ "n": 2 })),
            cursor: "c".to_owned(),
            transaction_end: true,
        };
        let json = as_json(Kind::Delta(delta.clone())).to_string();
        let expected = r#"{"op":"update","key":["m1"],"row":{"deep":{"list":[null,true]},"n":3,"x":0.5},"before":{"n":2},"cursor":"c","tx_end":true}"#;
        assert_eq!(json, expected);
        let read =
            RowDelta { operation: Operation::Read.into(), cursor: String::new(), before: None, ..delta };
        assert_eq!(as_json(Kind::Delta(read))["cursor"], Value::Null);
        let mark = Kind::Progress(Progress { cursor: "d".to_owned() });
        assert_eq!(as_json(mark).to_string(), r#"{"op":"progress","cursor":"d"}"#);
        let begin = Kind::SnapshotBegin(SnapshotBegin { reason: "cursor is past retention".to_owned() });
        assert_eq!(as_text(begin), "-- fresh snapshot: cursor is past retention");
    }

    #[test]
    fn conditions_are_json_or_text() {
        assert_eq!(value(condition("7")), json!(7));
        assert_eq!(value(condition("\"7\"")), json!("7"));
        assert_eq!(value(condition("general")), json!("general"));
        assert_eq!(value(condition("-0.0")), json!(-0.0));
    }
}
