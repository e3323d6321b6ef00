//! The order in which Genji keeps keys inside a table file (format description §4.4), including its defect.
//!
//! Components are compared one by one. The contents of a text or blob are located in *both* keys by the width of the
//! *right* key's length, so keys whose texts lie on different sides of 128 bytes are ordered wrongly, and the order is
//! not even transitive. [`length_class`] tells such keys apart: keys of one class are ordered properly among themselves.

use std::cmp::Ordering;

const UINT8: u8 = 0xC4;
const SMALL_INT: u8 = 0x24;

/// Compares two keys as Genji's comparer does.
pub(crate) fn compare(left: &[u8], right: &[u8]) -> Ordering {
    let (mut left, mut right) = (left, right);
    loop {
        if left.is_empty() || right.is_empty() {
            return left.len().cmp(&right.len());
        }
        let (order, consumed) = compare_component(left, right);
        if order != Ordering::Equal {
            return order;
        }
        // The reference cuts both keys at the same place.
        left = from(left, consumed);
        right = from(right, consumed);
    }
}

/// Compares the first component; on equality also says how many bytes of both keys it covers.
fn compare_component(left: &[u8], right: &[u8]) -> (Ordering, usize) {
    let (Some(&tag), Some(&other)) = (left.first(), right.first()) else {
        return (left.len().cmp(&right.len()), 0);
    };
    let order = tag.cmp(&other);
    if order != Ordering::Equal
        || (SMALL_INT..UINT8).contains(&tag)
        || matches!(tag, 0x00 | 0x05 | 0x10 | 0x11)
    {
        return (order, 1);
    }
    if left.len() == 1 || right.len() == 1 {
        return ((left.len() > 1).cmp(&(right.len() > 1)), 1);
    }
    match tag {
        0x20 | 0xC7 | 0xD0 => compare_fixed(left, right, 9),
        0x21 | 0xC6 | 0xD1 => compare_fixed(left, right, 5),
        0x22 | 0xC5 => compare_fixed(left, right, 3),
        0x23 | 0xC4 => compare_fixed(left, right, 2),
        0xDA | 0xE0 => compare_bytes(left, right),
        0xE6 => compare_elements(left, right, 1),
        0xF0 => compare_elements(left, right, 2),
        _ => (from(left, 1).cmp(from(right, 1)), left.len()),
    }
}

fn compare_fixed(left: &[u8], right: &[u8], width: usize) -> (Ordering, usize) {
    (between(left, 1, width).cmp(between(right, 1, width)), width)
}

/// Both contents start where the right key's length says: the defect.
fn compare_bytes(left: &[u8], right: &[u8]) -> (Ordering, usize) {
    let (left_length, left_width) = uvarint(from(left, 1));
    let (right_length, right_width) = uvarint(from(right, 1));
    let start = 1 + right_width;
    let left_end = (1 + left_width).saturating_add(left_length);
    let right_end = start.saturating_add(right_length);
    (between(left, start, left_end).cmp(between(right, start, right_end)), left_end)
}

fn compare_elements(left: &[u8], right: &[u8], parts: usize) -> (Ordering, usize) {
    let (left_count, _) = uvarint(from(left, 1));
    let (right_count, width) = uvarint(from(right, 1));
    let mut at = 1 + width;
    for _ in 0..left_count.min(right_count).saturating_mul(parts) {
        let (order, consumed) = compare_component(from(left, at), from(right, at));
        at += consumed;
        if order != Ordering::Equal {
            return (order, at);
        }
        if consumed == 0 {
            break;
        }
    }
    (left_count.cmp(&right_count), at)
}

/// The flat components of a key with their offsets: of an array or document its head, then its elements.
pub(crate) fn components(key: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = from(key, at);
        let width = match rest.first()? {
            0x20 | 0xC7 | 0xD0 => 9,
            0x21 | 0xC6 | 0xD1 => 5,
            0x22 | 0xC5 => 3,
            0x23 | 0xC4 => 2,
            0xDA | 0xE0 => {
                let (length, width) = uvarint(from(rest, 1));
                (1 + width).saturating_add(length)
            }
            0xE6 | 0xF0 => 1 + uvarint(from(rest, 1)).1,
            _ => 1,
        };
        let start = at;
        at = start.saturating_add(width);
        Some((start, if width > rest.len() { &[] } else { between(rest, 0, width) }))
    })
}

/// The widths of the lengths of all texts and blobs in a key, in order.
///
/// Two keys of the same class are compared without the defect. Keys without a text or blob of 128 bytes or more have
/// only ones.
pub(crate) fn length_class(key: &[u8]) -> Vec<u8> {
    let mut class = Vec::new();
    for (_, component) in components(key) {
        match component.first() {
            Some(0xDA | 0xE0) => class.push(u8::try_from(uvarint(from(component, 1)).1).unwrap_or(u8::MAX)),
            Some(_) => {}
            None => {
                // A truncated key has an order of its own: it is the only one of its class.
                class.push(u8::MAX);
                class.extend_from_slice(key);
            }
        }
    }
    class
}

/// Whether a key holds a text or blob of 128 bytes or more, which Genji's comparer cannot order against shorter ones.
pub(crate) fn is_long(key: &[u8]) -> bool {
    length_class(key).iter().any(|&width| width != 1)
}

/// What keys must have in common to stand in one sorted table: nothing for keys without long texts, whatever the number of
/// their texts, else their length class.
pub(crate) fn run_class(key: &[u8]) -> Vec<u8> {
    let class = length_class(key);
    if class.iter().any(|&width| width != 1) { class } else { Vec::new() }
}

fn uvarint(bytes: &[u8]) -> (usize, usize) {
    let mut value = 0u64;
    for (index, &byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7F).checked_shl(7 * index as u32).unwrap_or(0);
        if byte < 0x80 {
            return (usize::try_from(value).unwrap_or(usize::MAX), index + 1);
        }
    }
    (0, 0)
}

fn from(bytes: &[u8], start: usize) -> &[u8] {
    bytes.get(start..).unwrap_or_default()
}

fn between(bytes: &[u8], start: usize, end: usize) -> &[u8] {
    bytes.get(start..end.min(bytes.len())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(content: &str) -> Vec<u8> {
        let mut key = vec![0x4E, 0xDA];
        if content.len() >= 128 {
            key.extend([0x80 | (content.len() & 0x7F) as u8, (content.len() >> 7) as u8]);
        } else {
            key.push(content.len() as u8);
        }
        key.extend(content.as_bytes());
        key
    }

    #[test]
    fn kinds_numbers_and_texts() {
        let ordered: [&[u8]; 12] = [
            &[0x4E],
            &[0x4E, 0x05],
            &[0x4E, 0x10],
            &[0x4E, 0x23, 0x5F],
            &[0x4E, 0x43],
            &[0x4E, 0x45],
            &[0x4E, 0xC4, 0x80],
            &[0x4E, 0xC5, 0x01, 0x00],
            &[0x4E, 0xD0, 0xBF, 0xF0, 0, 0, 0, 0, 0, 0],
            &[0x4E, 0xDA, 2, b'a', b'b', 0x45],
            &[0x4E, 0xDA, 1, b'b'],
            &[0x4E, 0xFF],
        ];
        for (index, left) in ordered.iter().enumerate() {
            for (other, right) in ordered.iter().enumerate() {
                assert_eq!(compare(left, right), index.cmp(&other), "{left:02x?} {right:02x?}");
            }
        }
    }

    #[test]
    fn the_defect_is_kept() {
        // A short left key against a long right one loses its first byte: "ab" is read as "b".
        assert_eq!(compare(&text("ab"), &text(&"b".repeat(200))), Ordering::Less);
        assert_eq!(compare(&text("az"), &text(&"b".repeat(200))), Ordering::Greater);
        // The other way round the long one is read with its last length byte, 01, in front.
        assert_eq!(compare(&text(&"b".repeat(200)), &text("az")), Ordering::Less);
        assert!(is_long(&text(&"b".repeat(200))));
        assert!(!is_long(&text(&"b".repeat(127))));
    }

    #[test]
    fn arrays_compare_elements_first() {
        assert_eq!(compare(&[0xE6, 1, 0x46], &[0xE6, 2, 0x45, 0x45]), Ordering::Greater);
        assert_eq!(compare(&[0xE6, 1, 0x45], &[0xE6, 2, 0x45, 0x45]), Ordering::Less);
    }
}
