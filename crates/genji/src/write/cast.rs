//! Turns a value into another type by Genji's rules for assignment.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use deltamesh_change::{Value, from_json};

use crate::catalog::FieldType;

/// The value as that type; NULL stays NULL, and `None` is what cannot be cast.
pub(crate) fn to(value: &Value, to: &FieldType) -> Option<Value> {
    if value.is_null() {
        return Some(Value::Null);
    }
    match to {
        FieldType::Any => Some(value.clone()),
        FieldType::Integer => to_integer(value),
        FieldType::Double => to_double(value),
        FieldType::Text => to_text(value),
        FieldType::Blob => to_blob(value),
        FieldType::Boolean => to_boolean(value),
        FieldType::Array => to_array(value),
        FieldType::Document(_) => to_document(value),
    }
}

/// Casts to INTEGER: doubles and texts with a fraction are cut off.
pub(crate) fn to_integer(value: &Value) -> Option<Value> {
    match value {
        Value::Int(_) => Some(value.clone()),
        Value::Bool(value) => Some(Value::Int(i64::from(*value))),
        Value::Float(value) => cut(*value),
        Value::Text(text) => text.parse().map(Value::Int).ok().or_else(|| text.parse().ok().and_then(cut)),
        _ => None,
    }
}

fn cut(value: f64) -> Option<Value> {
    // Bounds are exact: 2^63 is not an integer of 64 bits, -2^63 is.
    (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0)
        .contains(&value)
        .then_some(Value::Int(value as i64))
}

/// Casts to DOUBLE.
pub(crate) fn to_double(value: &Value) -> Option<Value> {
    match value {
        Value::Float(_) => Some(value.clone()),
        Value::Int(value) => Some(Value::Float(*value as f64)),
        Value::Text(text) => text.parse().map(Value::Float).ok(),
        _ => None,
    }
}

/// Casts to BOOLEAN: the texts that Go's `strconv.ParseBool` knows, and integers.
pub(crate) fn to_boolean(value: &Value) -> Option<Value> {
    match value {
        Value::Bool(_) => Some(value.clone()),
        Value::Int(value) => Some(Value::Bool(*value != 0)),
        Value::Text(text) => match text.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(Value::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(Value::Bool(false)),
            _ => None,
        },
        _ => None,
    }
}

/// Casts to BLOB: texts are base64.
pub(crate) fn to_blob(value: &Value) -> Option<Value> {
    match value {
        Value::Bytes(_) => Some(value.clone()),
        Value::Text(text) => STANDARD.decode(text).map(Value::Bytes).ok(),
        _ => None,
    }
}

/// Casts to TEXT: blobs become base64, everything else Genji's JSON.
pub(crate) fn to_text(value: &Value) -> Option<Value> {
    match value {
        Value::Text(_) => Some(value.clone()),
        Value::Decimal(text) => Some(Value::Text(text.clone())),
        Value::Bytes(bytes) => Some(Value::Text(STANDARD.encode(bytes))),
        Value::Null | Value::Unchanged => None,
        other => {
            let mut text = String::new();
            put_json(&mut text, other);
            Some(Value::Text(text))
        }
    }
}

/// Casts to ARRAY: texts are JSON arrays.
pub(crate) fn to_array(value: &Value) -> Option<Value> {
    match value {
        Value::Array(_) => Some(value.clone()),
        Value::Text(text) => parsed(text).filter(|value| matches!(value, Value::Array(_))),
        _ => None,
    }
}

/// Casts to DOCUMENT: texts are JSON objects.
pub(crate) fn to_document(value: &Value) -> Option<Value> {
    match value {
        Value::Document(_) => Some(value.clone()),
        Value::Text(text) => parsed(text).filter(|value| matches!(value, Value::Document(_))),
        _ => None,
    }
}

fn parsed(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok().map(|json| from_json(&json))
}

/// A double as Genji prints it: shortest form, with an exponent below 1e-6 and from 1e15.
pub(crate) fn double_text(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    if value == 0.0 || (1e-6..1e15).contains(&value.abs()) {
        return value.to_string();
    }
    let text = format!("{value:e}");
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let (sign, exponent) =
                exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
            format!("{digits}e{sign}{exponent:0>2}")
        }
        None => text,
    }
}

/// A text in double quotes with the escapes of Go's `strconv.Quote`.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for next in text.chars() {
        match next {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            next if next.is_control() && (next as u32) < 0x80 => {
                out.push_str(&format!("\\x{:02x}", next as u32))
            }
            next if next.is_control() => out.push_str(&format!("\\u{:04x}", next as u32)),
            next => out.push(next),
        }
    }
    out.push('"');
    out
}

fn put_json(out: &mut String, value: &Value) {
    match value {
        Value::Null | Value::Unchanged => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Int(value) => out.push_str(&value.to_string()),
        Value::Float(value) => out.push_str(&double_text(*value)),
        Value::Text(text) | Value::Decimal(text) => out.push_str(&quote(text)),
        Value::Bytes(bytes) => {
            out.push('"');
            out.push_str(&STANDARD.encode(bytes));
            out.push('"');
        }
        Value::Array(values) => {
            out.push('[');
            for (index, value) in values.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                put_json(out, value);
            }
            out.push(']');
        }
        Value::Document(fields) => {
            out.push('{');
            for (index, (name, value)) in fields.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                out.push_str(&quote(name));
                out.push_str(": ");
                put_json(out, value);
            }
            out.push('}');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn casts_follow_the_reference() {
        assert_eq!(to_integer(&Value::Float(5.9)), Some(Value::Int(5)));
        assert_eq!(to_integer(&"5.7".into()), Some(Value::Int(5)));
        assert_eq!(to_integer(&Value::Float(1e300)), None);
        assert_eq!(to_integer(&Value::Float(f64::NAN)), None);
        assert_eq!(to_boolean(&"f".into()), Some(Value::Bool(false)));
        assert_eq!(to_boolean(&Value::Float(0.5)), None);
        assert_eq!(to_blob(&"YWJj".into()), Some(Value::Bytes(b"abc".to_vec())));
        assert_eq!(to_array(&"{\"a\": 1}".into()), None);
        let nested = Value::Array(vec![
            Value::Int(1),
            Value::Document(vec![("a".into(), Value::Float(1e21)), ("b".into(), "x\"".into())]),
        ]);
        assert_eq!(to_text(&nested), Some(r#"[1, {"a": 1e+21, "b": "x\""}]"#.into()));
        assert_eq!(to_text(&Value::Float(1e-7)), Some("1e-07".into()));
        assert_eq!(to_text(&Value::Float(3.0)), Some("3".into()));
    }
}
