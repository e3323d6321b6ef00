//! The canonical JSON form of values, used in feeds, in `Json` columns and on the command line.
//!
//! Integers beyond ±2^53 and decimals are strings, bytes are base64 (RFC 4648 with padding), non-finite doubles are the
//! strings `NaN`, `Infinity` and `-Infinity`, as in the Protobuf JSON mapping.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Number, Value as Json};

use crate::Value;

const SAFE_INTEGER: i64 = 1 << 53;

/// The canonical JSON form. [`Value::Unchanged`] has none and reads as null.
#[must_use]
pub fn to_json(value: &Value) -> Json {
    match value {
        Value::Null | Value::Unchanged => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Int(value) if (-SAFE_INTEGER..=SAFE_INTEGER).contains(value) => Json::from(*value),
        Value::Int(value) => Json::String(value.to_string()),
        Value::Float(value) => float_to_json(*value),
        Value::Decimal(value) | Value::Text(value) => Json::String(value.clone()),
        Value::Bytes(value) => Json::String(STANDARD.encode(value)),
        Value::Array(values) => Json::Array(values.iter().map(to_json).collect()),
        Value::Document(fields) => Json::Object(
            fields.iter().map(|(name, value)| (name.clone(), to_json(value))).collect::<Map<_, _>>(),
        ),
    }
}

fn float_to_json(value: f64) -> Json {
    Number::from_f64(value).map_or_else(
        || {
            let name = if value.is_nan() {
                "NaN"
            } else if value > 0.0 {
                "Infinity"
            } else {
                "-Infinity"
            };
            Json::String(name.to_owned())
        },
        Json::Number,
    )
}

/// The value that a JSON value denotes by itself, without a column type: strings stay text.
#[must_use]
pub fn from_json(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => {
            number.as_i64().map_or_else(|| Value::Float(number.as_f64().unwrap_or(f64::NAN)), Value::Int)
        }
        Json::String(text) => Value::Text(text.clone()),
        Json::Array(values) => Value::Array(values.iter().map(from_json).collect()),
        Json::Object(fields) => {
            Value::Document(fields.iter().map(|(name, value)| (name.clone(), from_json(value))).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_form() {
        let value = Value::Document(vec![
            ("safe".into(), Value::Int(1 << 53)),
            ("big".into(), Value::Int((1 << 53) + 1)),
            ("bytes".into(), Value::Bytes(b"abc".to_vec())),
            ("nan".into(), Value::Float(f64::NAN)),
            ("list".into(), Value::Array(vec![Value::Float(1.5), Value::Null])),
        ]);
        assert_eq!(
            to_json(&value).to_string(),
            r#"{"safe":9007199254740992,"big":"9007199254740993","bytes":"YWJj","nan":"NaN","list":[1.5,null]}"#
        );
    }
}
