//! The tagged encoding of values, the same in rows, keys and index entries.
//!
//! 300 is `51 012C`, 'q' is `62 01 71`. Integers take the shortest form, and so do doubles without a fraction in rows;
//! in keys doubles keep their own. A descending component has the complement of its tag.

use deltamesh_change::Value;

use crate::Error;
use crate::varint::{take_array, take_string};

pub(crate) const NULL: u8 = 0x02;
const FALSE: u8 = 0x05;
const TRUE: u8 = 0x06;
const INT_MIN_TAG: u8 = 0x0C;
const INT_MAX_TAG: u8 = 0x53;
pub(crate) const DOUBLE: u8 = 0x5A;
pub(crate) const TEXT: u8 = 0x62;
pub(crate) const BYTEA: u8 = 0x67;

const SMALL_ZERO: i64 = 0x30;

/// Bytes behind the tag of a value of fixed width; none for other tags.
pub(crate) fn width(tag: u8) -> Option<usize> {
    Some(match tag {
        0x00 | NULL | FALSE | TRUE | 0x10..=0x4F => 0,
        0x0F | 0x50 => 1,
        0x0E | 0x51 => 2,
        0x0D | 0x52 => 4,
        0x0C | 0x53 | DOUBLE => 8,
        _ => return None,
    })
}

/// Whether a tag is an integer's.
pub(crate) fn is_int(tag: u8) -> bool {
    (INT_MIN_TAG..=INT_MAX_TAG).contains(&tag)
}

/// Whether a tag is a truth value's.
pub(crate) fn is_boolean(tag: u8) -> bool {
    matches!(tag, FALSE | TRUE)
}

/// Takes a value whose tag has been read already, as it is stored: doubles without a fraction are integers in rows.
pub(crate) fn take_tagged(tag: u8, input: &mut &[u8]) -> Result<Value, Error> {
    Ok(match tag {
        NULL => Value::Null,
        FALSE => Value::Bool(false),
        TRUE => Value::Bool(true),
        INT_MIN_TAG..=INT_MAX_TAG => Value::Int(take_int(tag, input)?),
        DOUBLE => Value::Float(double(u64::from_be_bytes(take_array(input)?))),
        TEXT => {
            let text = std::str::from_utf8(take_string(input)?);
            Value::Text(text.map_err(|_| Error::decode("text is not utf-8"))?.to_owned())
        }
        BYTEA => Value::Bytes(take_string(input)?.to_vec()),
        _ => return Err(Error::decode("unknown value tag")),
    })
}

/// Takes one ascending value off the front of `input`.
pub(crate) fn take(input: &mut &[u8]) -> Result<Value, Error> {
    let [tag] = take_array(input)?;
    take_tagged(tag, input)
}

/// All values of an input.
pub(crate) fn take_all(mut input: &[u8]) -> Result<Vec<Value>, Error> {
    let mut values = Vec::new();
    while !input.is_empty() {
        values.push(take(&mut input)?);
    }
    Ok(values)
}

/// Takes an integer whose tag has been read already.
pub(crate) fn take_int(tag: u8, input: &mut &[u8]) -> Result<i64, Error> {
    Ok(match tag {
        0x0C => (u64::from_be_bytes(take_array(input)?) as i64).wrapping_add(i64::MIN),
        0x0D => i64::from(u32::from_be_bytes(take_array(input)?)) - 0x8000_0000,
        0x0E => i64::from(u16::from_be_bytes(take_array(input)?)) - 0x8000,
        0x0F => i64::from(u8::from_be_bytes(take_array(input)?)) - 0x80,
        0x10..=0x4F => i64::from(tag) - SMALL_ZERO,
        0x50 => i64::from(u8::from_be_bytes(take_array(input)?)),
        0x51 => i64::from(u16::from_be_bytes(take_array(input)?)),
        0x52 => i64::from(u32::from_be_bytes(take_array(input)?)),
        0x53 => i64::try_from(u64::from_be_bytes(take_array(input)?))
            .map_err(|_| Error::decode("integer exceeds 63 bits"))?,
        _ => return Err(Error::decode("tag is not an integer")),
    })
}

/// Appends an integer in its shortest form.
pub(crate) fn put_int(out: &mut Vec<u8>, value: i64) {
    let mut tagged = |tag: u8, width: usize, bits: u64| {
        out.push(tag);
        out.extend_from_slice(&bits.to_be_bytes()[8 - width..]);
    };
    match value {
        -32..=31 => out.push((value + SMALL_ZERO) as u8),
        32..=0xff => tagged(0x50, 1, value as u64),
        0x100..=0xffff => tagged(0x51, 2, value as u64),
        0x1_0000..=0xffff_ffff => tagged(0x52, 4, value as u64),
        0x1_0000_0000.. => tagged(0x53, 8, value as u64),
        -0x80..=-33 => tagged(0x0F, 1, (value + 0x80) as u64),
        -0x8000..=-0x81 => tagged(0x0E, 2, (value + 0x8000) as u64),
        -0x8000_0000..=-0x8001 => tagged(0x0D, 4, (value + 0x8000_0000) as u64),
        _ => tagged(0x0C, 8, value.wrapping_sub(i64::MIN) as u64),
    }
}

/// The double of its sortable bits. Chai gives -0.0 the bits 0, and then reads another number.
fn double(bits: u64) -> f64 {
    match bits {
        0 => -0.0,
        bits if bits >> 63 == 1 => f64::from_bits(bits ^ (1 << 63)),
        bits => f64::from_bits(!bits),
    }
}
