//! Rows to messages.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value as Proto};
use serde_json::{Map, Value as Json};

use crate::ConvertError;
use crate::field::{WellKnown, well_known};

/// The message that has the row's values in the fields of the same names. Columns that are no fields are left out, NULL leaves a
/// field unset.
///
/// # Errors
/// [`ConvertError`] naming the field that cannot hold the column's value.
pub fn message_from_row(
    descriptor: &MessageDescriptor,
    row: &Map<String, Json>,
) -> Result<DynamicMessage, ConvertError> {
    let mut message = DynamicMessage::new(descriptor.clone());
    for (name, value) in row {
        let Some(field) = descriptor.get_field_by_name(name) else { continue };
        if value.is_null() {
            continue;
        }
        message.set_field(&field, field_value(&field, value)?);
    }
    Ok(message)
}

fn field_value(field: &FieldDescriptor, json: &Json) -> Result<Proto, ConvertError> {
    let wrong = |reason| ConvertError::new(field.name(), reason);
    let kind = field.kind();
    if field.is_map() {
        let Kind::Message(entry) = &kind else { return Err(wrong("is no map")) };
        let parsed = nested(json);
        let entries = parsed.as_ref().and_then(Json::as_object).ok_or_else(|| wrong("needs a document"))?;
        let keys = entry.map_entry_key_field().kind();
        let values = entry.map_entry_value_field();
        let item = |(key, value): (&String, &Json)| {
            let key = map_key(&keys, key).ok_or_else(|| wrong("has a key of another type"))?;
            Ok((key, single(&values, value).map_err(|error| error.within(field.name()))?))
        };
        return entries.iter().map(item).collect::<Result<_, _>>().map(Proto::Map);
    }
    if field.is_list() {
        let parsed = nested(json);
        let items = parsed.as_ref().and_then(Json::as_array).ok_or_else(|| wrong("needs an array"))?;
        return items.iter().map(|item| single(field, item)).collect::<Result<_, _>>().map(Proto::List);
    }
    single(field, json)
}

/// A document or array; a replica that holds it as text hands it over as that text.
fn nested(json: &Json) -> Option<Json> {
    match json {
        Json::String(text) => serde_json::from_str(text).ok(),
        other => Some(other.clone()),
    }
}

fn single(field: &FieldDescriptor, json: &Json) -> Result<Proto, ConvertError> {
    let wrong = |reason| ConvertError::new(field.name(), reason);
    let out_of_range = || wrong("is out of range");
    Ok(match &field.kind() {
        Kind::Bool => Proto::Bool(truth(json).ok_or_else(|| wrong("needs a truth value"))?),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
            let value = integer(json).ok_or_else(|| wrong("needs an integer"))?;
            Proto::I32(i32::try_from(value).map_err(|_| out_of_range())?)
        }
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
            let value = integer(json).ok_or_else(|| wrong("needs an integer"))?;
            Proto::I64(i64::try_from(value).map_err(|_| out_of_range())?)
        }
        Kind::Uint32 | Kind::Fixed32 => {
            let value = integer(json).ok_or_else(|| wrong("needs an integer"))?;
            Proto::U32(u32::try_from(value).map_err(|_| out_of_range())?)
        }
        Kind::Uint64 | Kind::Fixed64 => {
            let value = integer(json).ok_or_else(|| wrong("needs an integer"))?;
            Proto::U64(u64::try_from(value).map_err(|_| out_of_range())?)
        }
        Kind::Double => Proto::F64(float(json).ok_or_else(|| wrong("needs a number"))?),
        #[allow(clippy::cast_possible_truncation)] // The field has no more precision.
        Kind::Float => Proto::F32(float(json).ok_or_else(|| wrong("needs a number"))? as f32),
        Kind::String => Proto::String(text(json)),
        Kind::Bytes => {
            let encoded = json.as_str().ok_or_else(|| wrong("needs base64 text"))?;
            Proto::Bytes(STANDARD.decode(encoded).map_err(|_| wrong("needs base64 text"))?.into())
        }
        Kind::Enum(values) => {
            let number = match json {
                Json::String(name) => {
                    values.get_value_by_name(name).map(|value| value.number()).or_else(|| name.parse().ok())
                }
                other => integer(other).and_then(|number| i32::try_from(number).ok()),
            };
            Proto::EnumNumber(number.ok_or_else(|| wrong("names no value of its enum"))?)
        }
        Kind::Message(message) => Proto::Message(message_value(field.name(), message, json)?),
    })
}

fn message_value(
    name: &str,
    message: &MessageDescriptor,
    json: &Json,
) -> Result<DynamicMessage, ConvertError> {
    match well_known(message) {
        None => {
            let parsed = nested(json);
            let row = parsed
                .as_ref()
                .and_then(Json::as_object)
                .ok_or_else(|| ConvertError::new(name, "needs a document"))?;
            message_from_row(message, row).map_err(|error| error.within(name))
        }
        Some(WellKnown::Wrapper) => {
            let mut wrapper = DynamicMessage::new(message.clone());
            if let Some(field) = message.get_field(1) {
                let value = single(&field, json).map_err(|error| ConvertError::new(name, error.reason))?;
                wrapper.set_field(&field, value);
            }
            Ok(wrapper)
        }
        Some(known) => {
            let parsed = match known {
                WellKnown::Struct | WellKnown::List | WellKnown::Value => nested(json),
                WellKnown::Timestamp | WellKnown::Duration | WellKnown::Wrapper => Some(json.clone()),
            };
            let value = parsed.ok_or_else(|| ConvertError::new(name, "needs JSON"))?;
            DynamicMessage::deserialize(message.clone(), value)
                .map_err(|_| ConvertError::new(name, "has not the form of its type"))
        }
    }
}

fn truth(json: &Json) -> Option<bool> {
    match json {
        Json::Bool(value) => Some(*value),
        other => match integer(other)? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        },
    }
}

/// An integer, also as text and as a number without fraction.
fn integer(json: &Json) -> Option<i128> {
    match json {
        Json::Number(number) => {
            number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from)).or_else(|| {
                #[allow(clippy::cast_possible_truncation)] // At most 2^53 and without fraction, so exact.
                number
                    .as_f64()
                    .filter(|value| value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0)
                    .map(|value| value as i128)
            })
        }
        Json::String(text) => text.parse().ok(),
        _ => None,
    }
}

fn float(json: &Json) -> Option<f64> {
    match json {
        Json::Number(number) => number.as_f64(),
        Json::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            other => other.parse().ok(),
        },
        _ => None,
    }
}

/// Text; a value of another type in its canonical JSON form.
fn text(json: &Json) -> String {
    match json {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn map_key(kind: &Kind, text: &str) -> Option<MapKey> {
    Some(match kind {
        Kind::Bool => MapKey::Bool(text.parse().ok()?),
        Kind::String => MapKey::String(text.to_owned()),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => MapKey::I32(text.parse().ok()?),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => MapKey::I64(text.parse().ok()?),
        Kind::Uint32 | Kind::Fixed32 => MapKey::U32(text.parse().ok()?),
        Kind::Uint64 | Kind::Fixed64 => MapKey::U64(text.parse().ok()?),
        _ => return None,
    })
}
