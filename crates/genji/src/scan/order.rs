//! The order of keys as Genji means it.
//!
//! Genji's own comparer cuts a text or blob in the wrong place where the lengths of two stand on different sides of 128
//! bytes. Where they do not, its order is this one; so tables are merged by this order, once they are known to keep it.

use std::cmp::Ordering;

use crate::value::{ARRAY, BLOB, DOCUMENT, MAX_DEPTH, TEXT};
use crate::varint::take;

/// Compares two keys component by component. Total: bytes that are no components are compared as they stand.
pub(crate) fn compare(left: &[u8], right: &[u8]) -> Ordering {
    let (mut left, mut right) = (left, right);
    while let (Some(_), Some(_)) = (left.first(), right.first()) {
        let order = component(&mut left, &mut right, 0);
        if order.is_ne() {
            return order;
        }
    }
    left.len().cmp(&right.len())
}

/// Compares the first components and takes them off where they are equal.
fn component(left: &mut &[u8], right: &mut &[u8], depth: usize) -> Ordering {
    let (Some((tag, left_rest)), Some((right_tag, right_rest))) = (left.split_first(), right.split_first())
    else {
        return left.len().cmp(&right.len());
    };
    if tag != right_tag {
        return tag.cmp(right_tag);
    }
    (*left, *right) = (left_rest, right_rest);
    match *tag {
        TEXT | BLOB => contents(left, right),
        ARRAY if depth < MAX_DEPTH => elements(left, right, 1, depth),
        DOCUMENT if depth < MAX_DEPTH => elements(left, right, 2, depth),
        tag => fixed(left, right, width(tag)),
    }
}

fn fixed(left: &mut &[u8], right: &mut &[u8], width: usize) -> Ordering {
    let (one, left_rest) = left.split_at(width.min(left.len()));
    let (other, right_rest) = right.split_at(width.min(right.len()));
    (*left, *right) = (left_rest, right_rest);
    one.cmp(other)
}

/// Bytes behind the tag of a value of fixed width; all that is left behind an unknown tag.
fn width(tag: u8) -> usize {
    match tag {
        0x20 | 0xC7 | 0xD0 => 8,
        0x21 | 0xC6 => 4,
        0x22 | 0xC5 => 2,
        0x23 | 0xC4 => 1,
        0x00 | 0x05 | 0x10 | 0x11 | 0x24..=0xC3 => 0,
        _ => usize::MAX,
    }
}

/// Contents first, then what they were cut from: two cut texts of equal contents differ in their lengths.
fn contents(left: &mut &[u8], right: &mut &[u8]) -> Ordering {
    let (whole, other_whole) = (*left, *right);
    let (Ok(length), Ok(other_length)) = (take(left), take(right)) else {
        (*left, *right) = (&[], &[]);
        return whole.cmp(other_whole);
    };
    let as_width = |length: u64| usize::try_from(length).unwrap_or(usize::MAX);
    let (one, left_rest) = left.split_at(as_width(length).min(left.len()));
    let (other, right_rest) = right.split_at(as_width(other_length).min(right.len()));
    (*left, *right) = (left_rest, right_rest);
    one.cmp(other).then(length.cmp(&other_length))
}

fn elements(left: &mut &[u8], right: &mut &[u8], parts: u64, depth: usize) -> Ordering {
    let (whole, other_whole) = (*left, *right);
    let (Ok(count), Ok(other_count)) = (take(left), take(right)) else {
        (*left, *right) = (&[], &[]);
        return whole.cmp(other_whole);
    };
    for _ in 0..count.min(other_count).saturating_mul(parts) {
        if left.is_empty() || right.is_empty() {
            break;
        }
        let order = component(left, right, depth + 1);
        if order.is_ne() {
            return order;
        }
    }
    count.cmp(&other_count)
}

#[cfg(test)]
mod tests {
    use deltamesh_change::Value;
    use proptest::prelude::*;

    use super::*;
    use crate::key;

    fn check(values: &[Value]) {
        let keys: Vec<_> =
            values.iter().map(|value| key::encode(10, std::slice::from_ref(value)).unwrap()).collect();
        for (index, left) in keys.iter().enumerate() {
            for (other, right) in keys.iter().enumerate() {
                assert_eq!(compare(left, right), index.cmp(&other), "{index} {other}");
            }
        }
    }

    #[test]
    fn values_in_order() {
        check(&[
            Value::Null,
            Value::Bool(false),
            Value::Int(i64::MIN),
            Value::Int(-129),
            Value::Int(-1),
            Value::Int(300),
            Value::Float(-1.5),
            Value::Float(2.0),
            Value::from(""),
            Value::from("a"),
            Value::Text("a".repeat(200)),
            Value::from("b"),
            Value::Bytes(vec![1]),
            Value::Array(vec![]),
            Value::Array(vec![Value::from("a"), Value::from("b")]),
            Value::Array(vec![Value::from("b")]),
        ]);
    }

    proptest! {
        /// Equal only where the bytes are, so that no two keys are taken for one.
        #[test]
        fn total(mut keys in prop::collection::vec(prop::collection::vec(0xD9u8..0xF2, 0..6), 3)) {
            for key in &keys {
                prop_assert_eq!(compare(key, key), Ordering::Equal);
            }
            prop_assert_eq!(compare(&keys[0], &keys[1]), compare(&keys[1], &keys[0]).reverse());
            keys.sort_by(|left, right| compare(left, right));
            prop_assert!(compare(&keys[0], &keys[2]).is_le());
        }
    }
}
