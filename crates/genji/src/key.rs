//! Keys: a namespace, then the encoded key values, without separators.
//!
//! `4E C5012C` is row 300 of namespace 10; `52 45 DA0178` is row (1, "x") of namespace 14.

use deltamesh_change::Value;

use crate::Error;
use crate::value::{self, INT_MAX_TAG, INT_MIN_TAG};
use crate::varint::take_array;

/// Table `__genji_catalog`.
pub const CATALOG: i64 = 1;
/// Table `__genji_sequence`.
pub const SEQUENCE: i64 = 2;
/// Before-images of a transaction that was spilled to the log in parts.
pub const ROLLBACK: i64 = 3;
/// The first namespace of a user's table or index.
pub const FIRST_USER: i64 = 10;
/// From here on: temporary trees of sorts and unions.
pub const FIRST_TRANSIENT: i64 = 9_223_372_036_837_998_591;

/// A key taken apart; the components stay encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key<'a> {
    /// The namespace of the table or index.
    pub namespace: i64,
    /// The encoded components behind the namespace.
    pub components: &'a [u8],
}

/// Splits a key behind its namespace.
///
/// # Errors
/// [`crate::ErrorKind::Decode`] when the key does not start with an integer.
#[inline]
pub fn split(key: &[u8]) -> Result<Key<'_>, Error> {
    let mut input = key;
    let [tag] = take_array(&mut input)?;
    if !(INT_MIN_TAG..=INT_MAX_TAG).contains(&tag) {
        return Err(Error::decode("key has no namespace"));
    }
    let namespace = value::take_int(tag, &mut input)?;
    Ok(Key { namespace, components: input })
}

impl Key<'_> {
    /// Decodes the components as they are stored.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Decode`] when a component is not a value.
    pub fn values(&self) -> Result<Vec<Value>, Error> {
        let mut input = self.components;
        let mut values = Vec::new();
        while !input.is_empty() {
            values.push(value::decode(&mut input)?);
        }
        Ok(values)
    }
}

/// The encoded namespace: what every key in it starts with.
#[must_use]
pub fn prefix(namespace: i64) -> Vec<u8> {
    let mut out = Vec::with_capacity(16);
    value::put_int(&mut out, namespace);
    out
}

/// Encodes a key.
///
/// # Errors
/// [`crate::ErrorKind::Type`] for values that Genji does not have.
pub fn encode(namespace: i64, values: &[Value]) -> Result<Vec<u8>, Error> {
    let mut out = prefix(namespace);
    for component in values {
        value::encode(&mut out, component)?;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(namespace: i64, values: &[Value], expected: &[u8]) {
        assert_eq!(encode(namespace, values).unwrap(), expected);
        let key = split(expected).unwrap();
        assert_eq!((key.namespace, key.values().unwrap().as_slice()), (namespace, values));
    }

    #[test]
    fn keys_as_genji_writes_them() {
        check(10, &[Value::Int(300)], &[0x4E, 0xC5, 0x01, 0x2C]);
        check(14, &[Value::Int(1), Value::from("x")], &[0x52, 0x45, 0xDA, 0x01, 0x78]);
        assert!(split(&[]).is_err());
        assert!(split(&[0xDA, 0x01, 0x78]).is_err());
        assert_eq!(split(&prefix(FIRST_TRANSIENT + 1)).unwrap().namespace, FIRST_TRANSIENT + 1);
    }
}
