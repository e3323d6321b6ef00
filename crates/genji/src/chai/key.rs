//! Keys: a namespace, then the key values, each ascending or descending.

use crate::Error;
use crate::chai::value;
use crate::engine::Cleared;
use crate::key::{FIRST_TRANSIENT, FIRST_USER, Key};
use crate::varint::take_array;

/// Splits a key behind its namespace.
pub(crate) fn split(key: &[u8]) -> Result<Key<'_>, Error> {
    let mut input = key;
    let [tag] = take_array(&mut input)?;
    let namespace = value::take_int(tag, &mut input).map_err(|_| Error::decode("key has no namespace"))?;
    Ok(Key { namespace, components: input })
}

/// The encoded namespace: what every key in it starts with.
pub(crate) fn prefix(namespace: i64) -> Vec<u8> {
    let mut out = Vec::with_capacity(16);
    value::put_int(&mut out, namespace);
    out
}

/// What a range delete takes away, if Chai writes such: a whole namespace when a table or index is dropped, and at each
/// open a range of no key, or of temporary trees only.
pub(crate) fn cleared(start: &[u8], end: &[u8]) -> Option<Cleared> {
    let bound = |key| split(key).ok().filter(|key| key.components.is_empty()).map(|key| key.namespace);
    match (bound(start)?, bound(end)?) {
        (first, end) if first == end || first >= FIRST_TRANSIENT => Some(Cleared::Nothing),
        (first @ FIRST_USER.., end) if first.checked_add(1) == Some(end) => Some(Cleared::Space(first)),
        _ => None,
    }
}
