//! The tagged encoding of values, the same in rows, keys and index entries.
//!
//! `[1, "abc"]` is `E6 02 45 DA 03 616263`: an array of two, the small integer `0x44 + 1`, a text of three bytes.
//! Integers take the shortest form; all fixed-width forms sort as bytes.

use deltamesh_change::Value;

use crate::Error;
use crate::varint::{put, put_string, take, take_array, take_string};

pub(crate) const NULL: u8 = 0x05;
pub(crate) const FALSE: u8 = 0x10;
pub(crate) const TRUE: u8 = 0x11;
pub(crate) const INT_MIN_TAG: u8 = 0x20;
pub(crate) const INT_MAX_TAG: u8 = 0xC7;
pub(crate) const DOUBLE: u8 = 0xD0;
pub(crate) const TEXT: u8 = 0xDA;
pub(crate) const BLOB: u8 = 0xE0;
pub(crate) const ARRAY: u8 = 0xE6;
pub(crate) const DOCUMENT: u8 = 0xF0;

const SMALL_ZERO: i64 = 0x44;
/// Elements that room is made for at once: a count of damaged bytes may claim as many as there are bytes.
const AT_ONCE: usize = 64;
/// Nesting beyond this is refused, so that damaged bytes cannot exhaust the stack.
pub(crate) const MAX_DEPTH: usize = 200;

/// Appends an integer in its shortest form.
pub(crate) fn put_int(out: &mut Vec<u8>, value: i64) {
    let mut tagged = |tag: u8, width: usize, bits: u64| {
        out.push(tag);
        out.extend_from_slice(&bits.to_be_bytes()[8 - width..]);
    };
    match value {
        -32..=127 => out.push((value + SMALL_ZERO) as u8),
        128..=0xff => tagged(0xC4, 1, value as u64),
        0x100..=0xffff => tagged(0xC5, 2, value as u64),
        0x1_0000..=0xffff_ffff => tagged(0xC6, 4, value as u64),
        0x1_0000_0000.. => tagged(0xC7, 8, value as u64),
        -0x80..=-33 => tagged(0x23, 1, (value + 0x80) as u64),
        -0x8000..=-0x81 => tagged(0x22, 2, (value + 0x8000) as u64),
        -0x8000_0000..=-0x8001 => tagged(0x21, 4, (value + 0x8000_0000) as u64),
        _ => tagged(0x20, 8, value.wrapping_sub(i64::MIN) as u64),
    }
}

/// Appends a double. -0.0 takes the form that Genji gives it, which reads back as NaN.
pub(crate) fn put_double(out: &mut Vec<u8>, value: f64) {
    let bits = value.to_bits();
    let sortable = if value >= 0.0 { bits ^ (1 << 63) } else { !bits };
    out.push(DOUBLE);
    out.extend_from_slice(&sortable.to_be_bytes());
}

/// Appends a text.
pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    out.push(TEXT);
    put_string(out, text.as_bytes());
}

/// Appends a blob.
pub(crate) fn put_blob(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(BLOB);
    put_string(out, bytes);
}

/// Appends the head of an array of `count` elements; the elements follow.
pub(crate) fn put_array_head(out: &mut Vec<u8>, count: usize) {
    out.push(ARRAY);
    put(out, count as u64);
}

/// Appends the head of a document of `count` fields; (text name, value) pairs follow.
pub(crate) fn put_document_head(out: &mut Vec<u8>, count: usize) {
    out.push(DOCUMENT);
    put(out, count as u64);
}

/// Appends any value.
///
/// # Errors
/// [`crate::ErrorKind::Type`] for decimals and unchanged values, which Genji does not have.
pub fn encode(out: &mut Vec<u8>, value: &Value) -> Result<(), Error> {
    match value {
        Value::Null => out.push(NULL),
        Value::Bool(value) => out.push(if *value { TRUE } else { FALSE }),
        Value::Int(value) => put_int(out, *value),
        Value::Float(value) => put_double(out, *value),
        Value::Text(text) => put_text(out, text),
        Value::Bytes(bytes) => put_blob(out, bytes),
        Value::Array(values) => {
            put_array_head(out, values.len());
            for value in values {
                encode(out, value)?;
            }
        }
        Value::Document(fields) => {
            put_document_head(out, fields.len());
            for (name, value) in fields {
                put_text(out, name);
                encode(out, value)?;
            }
        }
        Value::Decimal(_) | Value::Unchanged => {
            return Err(Error::new(crate::ErrorKind::Type, format!("genji cannot store {}", value.kind())));
        }
    }
    Ok(())
}

/// Takes one value off the front of `input`, as it is stored: integers stay integers.
///
/// # Errors
/// [`crate::ErrorKind::Decode`] when the bytes are not a value.
pub fn decode(input: &mut &[u8]) -> Result<Value, Error> {
    decode_nested(input, 0, Integers::Kept)
}

/// How integers read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Integers {
    /// As they are stored.
    Kept,
    /// As the doubles that they are the compact form of, outside INTEGER fields.
    Doubles,
}

/// Takes one value that stands so deep in others.
pub(crate) fn decode_nested(input: &mut &[u8], depth: usize, integers: Integers) -> Result<Value, Error> {
    decode_to(input, depth, integers, |value| value)
}

/// Takes one value that stands so deep in others, and gives it to `put`: made where it is to stay, because moving it there
/// costs as much as decoding it.
pub(crate) fn decode_to<R>(
    input: &mut &[u8],
    depth: usize,
    integers: Integers,
    put: impl FnOnce(Value) -> R,
) -> Result<R, Error> {
    if depth > MAX_DEPTH {
        return Err(Error::decode("value is nested too deep"));
    }
    let [tag] = take_array(input)?;
    Ok(match tag {
        INT_MIN_TAG..=INT_MAX_TAG if integers == Integers::Kept => put(Value::Int(take_int(tag, input)?)),
        INT_MIN_TAG..=INT_MAX_TAG | DOUBLE => put(Value::Float(take_double(tag, input)?)),
        TEXT => put(Value::Text(take_utf8(input)?.to_owned())),
        _ => put(take_other(tag, input, depth, integers)?),
    })
}

/// Takes a value that is neither number nor text.
fn take_other(tag: u8, input: &mut &[u8], depth: usize, integers: Integers) -> Result<Value, Error> {
    Ok(match tag {
        NULL => Value::Null,
        FALSE => Value::Bool(false),
        TRUE => Value::Bool(true),
        BLOB => Value::Bytes(take_string(input)?.to_vec()),
        ARRAY => Value::Array(take_elements(input, depth, integers)?),
        DOCUMENT => Value::Document(take_fields(input, depth, integers)?),
        _ => return Err(Error::decode("unknown value tag")),
    })
}

/// Takes a double, or the integer that is its compact form.
fn take_double(tag: u8, input: &mut &[u8]) -> Result<f64, Error> {
    if tag != DOUBLE {
        return Ok(take_int(tag, input)? as f64);
    }
    let bits = u64::from_be_bytes(take_array(input)?);
    Ok(f64::from_bits(if bits >> 63 == 1 { bits ^ (1 << 63) } else { !bits }))
}

/// Takes the elements of an array whose tag has been read already.
fn take_elements(input: &mut &[u8], depth: usize, integers: Integers) -> Result<Vec<Value>, Error> {
    let count = take_count(input)?;
    let mut values = Vec::with_capacity(count.min(AT_ONCE));
    for _ in 0..count {
        decode_to(input, depth + 1, integers, |value| values.push(value))?;
    }
    Ok(values)
}

/// Takes the fields of a document whose tag has been read already.
pub(crate) fn take_fields(
    input: &mut &[u8],
    depth: usize,
    integers: Integers,
) -> Result<Vec<(String, Value)>, Error> {
    let count = take_count(input)?;
    let mut fields = Vec::with_capacity(count.min(AT_ONCE));
    for _ in 0..count {
        fields.push((take_name(input)?, decode_nested(input, depth + 1, integers)?));
    }
    Ok(fields)
}

/// Takes an integer whose tag has been read already.
#[inline]
pub(crate) fn take_int(tag: u8, input: &mut &[u8]) -> Result<i64, Error> {
    Ok(match tag {
        0x20 => (u64::from_be_bytes(take_array(input)?) as i64).wrapping_add(i64::MIN),
        0x21 => i64::from(u32::from_be_bytes(take_array(input)?)) - 0x8000_0000,
        0x22 => i64::from(u16::from_be_bytes(take_array(input)?)) - 0x8000,
        0x23 => i64::from(u8::from_be_bytes(take_array(input)?)) - 0x80,
        0x24..=0xC3 => i64::from(tag) - SMALL_ZERO,
        0xC4 => i64::from(u8::from_be_bytes(take_array(input)?)),
        0xC5 => i64::from(u16::from_be_bytes(take_array(input)?)),
        0xC6 => i64::from(u32::from_be_bytes(take_array(input)?)),
        0xC7 => i64::try_from(u64::from_be_bytes(take_array(input)?))
            .map_err(|_| Error::decode("integer exceeds 63 bits"))?,
        _ => return Err(Error::decode("tag is not an integer")),
    })
}

/// Takes the element count of an array or document. Never more than bytes are left, as each element takes one.
pub(crate) fn take_count(input: &mut &[u8]) -> Result<usize, Error> {
    let count = take(input)?;
    usize::try_from(count)
        .ok()
        .filter(|&count| count <= input.len())
        .ok_or_else(|| Error::decode("element count exceeds value"))
}

/// Takes the name of a document's field: a text value.
fn take_name(input: &mut &[u8]) -> Result<String, Error> {
    match take_array(input)? {
        [TEXT] => take_utf8(input).map(str::to_owned),
        _ => Err(Error::decode("field name is not text")),
    }
}

fn take_utf8<'a>(input: &mut &'a [u8]) -> Result<&'a str, Error> {
    let bytes = take_string(input)?;
    std::str::from_utf8(bytes).map_err(|_| Error::decode("text is not utf-8"))
}

#[cfg(test)]
mod tests;
