//! Stored values read by their declared type.
//!
//! Total: bytes that do not fit the declaration are an error, never a panic and never a guess.

use deltamesh_change::Value;

use crate::Error;
use crate::catalog::{DocumentDefinition, FieldType};
use crate::value::{self, MAX_DEPTH};
use crate::varint::take_array;

type Fields = Vec<(String, Value)>;

/// The declared fields in order, and the undeclared ones, of a whole stored row.
///
/// A row written before ALTER TABLE ADD FIELD is shorter than the definition: its missing fields read as NULL. Where
/// undeclared fields are allowed, the shorter form shows in that their document stands where the new field would, so the
/// declaration is shortened until the bytes fit exactly.
pub(crate) fn take_row(definition: &DocumentDefinition, bytes: &[u8]) -> Result<(Vec<Value>, Fields), Error> {
    let declared = definition.fields.len();
    let whole = take_declared(definition, declared, bytes);
    if whole.is_ok() || !definition.extra {
        return whole;
    }
    (0..declared).rev().find_map(|count| take_declared(definition, count, bytes).ok()).map_or(whole, Ok)
}

fn take_declared(
    definition: &DocumentDefinition,
    count: usize,
    mut bytes: &[u8],
) -> Result<(Vec<Value>, Fields), Error> {
    let input = &mut bytes;
    let mut values = Vec::with_capacity(definition.fields.len());
    for field in &definition.fields[..count] {
        if input.is_empty() && !definition.extra {
            break;
        }
        values.push(take_typed(&field.field_type, input, 0)?);
    }
    let extra = if definition.extra { take_extra(input, 0)? } else { Vec::new() };
    if input.is_empty() {
        Ok((values, extra))
    } else {
        Err(Error::decode("row is longer than its definition"))
    }
}

fn take_extra(input: &mut &[u8], depth: usize) -> Result<Fields, Error> {
    match input.first() {
        Some(&value::DOCUMENT) => match undeclared(value::decode_nested(input, depth)?) {
            Value::Document(fields) => Ok(fields),
            _ => Err(Error::decode("undeclared fields are no document")),
        },
        _ => Err(Error::decode("undeclared fields are missing")),
    }
}

/// Takes a value of a declared type.
pub(super) fn take_typed(field_type: &FieldType, input: &mut &[u8], depth: usize) -> Result<Value, Error> {
    let tag = input.first().copied().ok_or_else(|| Error::decode("row is cut"))?;
    let fits = match field_type {
        _ if tag == value::NULL => true,
        FieldType::Any => true,
        FieldType::Integer => (value::INT_MIN_TAG..=value::INT_MAX_TAG).contains(&tag),
        FieldType::Double => tag == value::DOUBLE || (value::INT_MIN_TAG..=value::INT_MAX_TAG).contains(&tag),
        FieldType::Text => tag == value::TEXT,
        FieldType::Blob => tag == value::BLOB,
        FieldType::Boolean => matches!(tag, value::FALSE | value::TRUE),
        FieldType::Array => tag == value::ARRAY,
        FieldType::Document(_) => matches!(tag, value::ARRAY | value::DOCUMENT),
    };
    if !fits {
        return Err(Error::decode("value does not fit its field"));
    }
    match field_type {
        FieldType::Document(definition) if tag == value::ARRAY => take_document(definition, input, depth),
        FieldType::Integer => value::decode_nested(input, depth),
        _ => value::decode_nested(input, depth).map(undeclared),
    }
}

/// Takes a nested declared document: positional, with a count. Declared fields that are NULL are absent.
fn take_document(definition: &DocumentDefinition, input: &mut &[u8], depth: usize) -> Result<Value, Error> {
    if depth > MAX_DEPTH {
        return Err(Error::decode("document is nested too deep"));
    }
    let _: [u8; 1] = take_array(input)?;
    let count = value::take_count(input)?;
    let declared = if definition.extra { count.checked_sub(1) } else { Some(count) };
    let declared = declared.and_then(|declared| definition.fields.get(..declared));
    let declared = declared.ok_or_else(|| Error::decode("document does not fit its definition"))?;
    let mut fields = Fields::with_capacity(count);
    for field in declared {
        let value = take_typed(&field.field_type, input, depth + 1)?;
        if !value.is_null() {
            fields.push((field.name.clone(), value));
        }
    }
    if definition.extra {
        fields.extend(take_extra(input, depth + 1)?);
    }
    Ok(Value::Document(fields))
}

/// A value outside INTEGER fields: integers are only the compact form of doubles there.
fn undeclared(value: Value) -> Value {
    match value {
        Value::Int(value) => Value::Float(value as f64),
        Value::Array(values) => Value::Array(values.into_iter().map(undeclared).collect()),
        Value::Document(fields) => {
            Value::Document(fields.into_iter().map(|(name, value)| (name, undeclared(value))).collect())
        }
        other => other,
    }
}
