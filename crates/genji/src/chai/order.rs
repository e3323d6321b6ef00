//! The order of keys: component by component, a text or bytea by its contents, descending ones the other way round.
//!
//! Chai's own comparer has the fault of Genji's: it cuts texts in the wrong place where lengths stand on different sides of
//! 128 bytes. It then mostly fails to flush, for good; what is in its tables need not keep this order, though.

use std::cmp::Ordering;

use crate::chai::value::{BYTEA, TEXT, width};
use crate::varint::take_string;

/// The first tag of descending components.
const DESCENDING: u8 = 0x80;

/// Compares two keys. Total: bytes that are no components are compared as they stand.
pub(crate) fn compare(left: &[u8], right: &[u8]) -> Ordering {
    let (mut left, mut right) = (left, right);
    while let (Some((&tag, left_rest)), Some((&right_tag, right_rest))) =
        (left.split_first(), right.split_first())
    {
        if tag != right_tag {
            return tag.cmp(&right_tag);
        }
        (left, right) = (left_rest, right_rest);
        let is_descending = tag >= DESCENDING;
        let order = contents(if is_descending { !tag } else { tag }, &mut left, &mut right);
        if order.is_ne() {
            return if is_descending { order.reverse() } else { order };
        }
    }
    left.len().cmp(&right.len())
}

/// Compares what stands behind equal tags, and takes it off.
fn contents(tag: u8, left: &mut &[u8], right: &mut &[u8]) -> Ordering {
    if let TEXT | BYTEA = tag {
        let (mut left_rest, mut right_rest) = (*left, *right);
        if let (Ok(one), Ok(other)) = (take_string(&mut left_rest), take_string(&mut right_rest)) {
            (*left, *right) = (left_rest, right_rest);
            return one.cmp(other);
        }
    }
    let width = width(tag).unwrap_or(usize::MAX);
    let (one, left_rest) = left.split_at(width.min(left.len()));
    let (other, right_rest) = right.split_at(width.min(right.len()));
    (*left, *right) = (left_rest, right_rest);
    one.cmp(other)
}
