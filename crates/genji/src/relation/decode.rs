//! Stored values read by their declared type.
//!
//! Total: bytes that do not fit the declaration are an error, never a panic and never a guess.

use deltamesh_change::Value;

use crate::Error;
use crate::catalog::{DocumentDefinition, FieldType};
use crate::value::{self, Integers, MAX_DEPTH};
use crate::varint::take_array;

type Fields = Vec<(String, Value)>;

/// The declared fields in order, and the undeclared ones, of a whole stored row.
pub(crate) fn take_row(definition: &DocumentDefinition, bytes: &[u8]) -> Result<(Vec<Value>, Fields), Error> {
    let mut declared = Vec::with_capacity(definition.fields.len());
    let extra = append_row(definition, bytes, &mut declared)?;
    Ok((declared, extra))
}

/// Appends the declared fields in order to `row`, and returns the undeclared ones.
///
/// A row written before ALTER TABLE ADD FIELD is shorter than the definition: its missing fields are not appended. Where
/// undeclared fields are allowed, the shorter form shows in that their document stands where the new field would, so the
/// declaration is shortened until the bytes fit exactly.
pub(super) fn append_row(
    definition: &DocumentDefinition,
    bytes: &[u8],
    row: &mut Vec<Value>,
) -> Result<Fields, Error> {
    let (start, declared) = (row.len(), definition.fields.len());
    let whole = append_declared(definition, declared, bytes, row);
    if whole.is_ok() || !definition.extra {
        return whole;
    }
    for count in (0..declared).rev() {
        row.truncate(start);
        if let Ok(extra) = append_declared(definition, count, bytes, row) {
            return Ok(extra);
        }
    }
    whole
}

fn append_declared(
    definition: &DocumentDefinition,
    count: usize,
    mut bytes: &[u8],
    row: &mut Vec<Value>,
) -> Result<Fields, Error> {
    let input = &mut bytes;
    for field in &definition.fields[..count] {
        if input.is_empty() && !definition.extra {
            break;
        }
        take_typed(&field.field_type, input, 0, |value| row.push(value))?;
    }
    let extra = if definition.extra { take_extra(input, 0)? } else { Vec::new() };
    if input.is_empty() { Ok(extra) } else { Err(Error::decode("row is longer than its definition")) }
}

fn take_extra(input: &mut &[u8], depth: usize) -> Result<Fields, Error> {
    match input.split_first() {
        Some((&value::DOCUMENT, rest)) => {
            *input = rest;
            value::take_fields(input, depth, Integers::Doubles)
        }
        _ => Err(Error::decode("undeclared fields are missing")),
    }
}

/// Takes a value of a declared type and gives it to `put`.
fn take_typed<R>(
    field_type: &FieldType,
    input: &mut &[u8],
    depth: usize,
    put: impl FnOnce(Value) -> R,
) -> Result<R, Error> {
    let tag = input.first().copied().ok_or_else(|| Error::decode("row is cut"))?;
    match field_type {
        FieldType::Document(definition) if tag == value::ARRAY => {
            take_document(definition, input, depth).map(put)
        }
        _ if !fits(field_type, tag) => Err(Error::decode("value does not fit its field")),
        FieldType::Integer => value::decode_to(input, depth, Integers::Kept, put),
        _ => value::decode_to(input, depth, Integers::Doubles, put),
    }
}

/// Appends a value of a key, for a field of that type. A key holds what the row reads as: its doubles are stored as
/// doubles, so integers are integers, and a document has its fields by name.
pub(super) fn append_key_value(
    field_type: &FieldType,
    input: &mut &[u8],
    key: &mut Vec<Value>,
) -> Result<(), Error> {
    let tag = input.first().copied().ok_or_else(|| Error::decode("key is cut"))?;
    let integers = match field_type {
        _ if !fits(field_type, tag) => return Err(Error::decode("value does not fit its field")),
        FieldType::Double => Integers::Doubles,
        _ => Integers::Kept,
    };
    value::decode_to(input, 0, integers, |value| key.push(value))
}

fn fits(field_type: &FieldType, tag: u8) -> bool {
    let is_integer = (value::INT_MIN_TAG..=value::INT_MAX_TAG).contains(&tag);
    match field_type {
        _ if tag == value::NULL => true,
        FieldType::Any => true,
        FieldType::Integer => is_integer,
        FieldType::Double => tag == value::DOUBLE || is_integer,
        FieldType::Text => tag == value::TEXT,
        FieldType::Blob => tag == value::BLOB,
        FieldType::Boolean => matches!(tag, value::FALSE | value::TRUE),
        FieldType::Array => tag == value::ARRAY,
        FieldType::Document(_) => tag == value::DOCUMENT,
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
        let value = take_typed(&field.field_type, input, depth + 1, |value| value)?;
        if !value.is_null() {
            fields.push((field.name.clone(), value));
        }
    }
    if definition.extra {
        fields.extend(take_extra(input, depth + 1)?);
    }
    Ok(Value::Document(fields))
}
