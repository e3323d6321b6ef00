//! Mends the checksums of mutated files, so that what stands behind them is reached.

use crate::chunk::{BLOCK, LEGACY_HEADER, LOG_HEADER, Part, masked_crc};
use crate::varint::take;

const FOOTER: usize = 53;
const SORTED_FOOTER: usize = 61;
const TRAILER: usize = 5;

/// Gives every chunk of a log its number and checksum. There is so much room left in the first block.
pub fn log(bytes: &mut [u8], number: u32, room: usize) {
    let (first, rest) = bytes.split_at_mut(room.min(bytes.len()));
    for part in [first, rest] {
        let header = |kind| Part::and_header(kind).map_or(LOG_HEADER, |(_, header)| header);
        chunks(part, header, |chunk| {
            chunk[7..LOG_HEADER].copy_from_slice(&number.to_le_bytes());
        });
    }
}

/// Gives every chunk of a manifest its checksum.
pub fn manifest(bytes: &mut [u8]) {
    chunks(bytes, |_| LEGACY_HEADER, |_| {});
}

/// Mends chunks, whose type says how long their header is.
fn chunks(bytes: &mut [u8], header: impl Fn(u8) -> usize, prepare: impl Fn(&mut [u8])) {
    for block in bytes.chunks_mut(BLOCK) {
        let mut at = 0;
        while let Some(rest) = block.get_mut(at..).filter(|rest| rest.len() >= LOG_HEADER) {
            let header = header(rest[6]);
            let length = usize::from(u16::from_le_bytes([rest[4], rest[5]]));
            let Some(chunk) = rest.get_mut(..header + length) else { break };
            // Zeros are no chunk, and the trailer of a log has no checksum.
            if chunk[..7] != [0; 7] && !(length == 0 && chunk[..4] == [0; 4]) {
                prepare(chunk);
                let crc = masked_crc(&chunk[6..]);
                chunk[..4].copy_from_slice(&crc.to_le_bytes());
            }
            at += header + length;
        }
    }
}

/// Gives the blocks of a table that its footer and indexes name their checksums.
pub fn table(bytes: &mut [u8]) {
    let Some(footer) = bytes.len().checked_sub(FOOTER) else { return };
    let mut input = &bytes[footer + 1..footer + 41];
    let handles: Vec<_> =
        std::iter::from_fn(|| Some((take(&mut input).ok()?, take(&mut input).ok()?))).collect();
    let mut named: Vec<(u64, u64)> = handles.into_iter().take(2).collect();
    // Index blocks name others: two levels, a few blocks of each.
    for _ in 0..3 {
        let mut next = Vec::new();
        for handle in named.drain(..).take(16) {
            if let Some(contents) = block(bytes, handle) {
                next.extend(values(contents).take(16));
            }
        }
        named = next;
    }
}

/// Mends a block and returns its contents.
fn block(bytes: &mut [u8], (offset, length): (u64, u64)) -> Option<&[u8]> {
    let (start, length) = (usize::try_from(offset).ok()?, usize::try_from(length).ok()?);
    let end = start.checked_add(length)?;
    let whole = bytes.get_mut(start..end.checked_add(TRAILER)?)?;
    let (covered, crc) = whole.split_at_mut(length + 1);
    crc.copy_from_slice(&masked_crc(covered).to_le_bytes());
    Some(&covered[..length])
}

/// What the entries of a block name, read as block handles.
fn values(contents: &[u8]) -> impl Iterator<Item = (u64, u64)> {
    let mut input = contents;
    std::iter::from_fn(move || {
        let (_shared, unshared, length) =
            (take(&mut input).ok()?, take(&mut input).ok()?, take(&mut input).ok()?);
        input = input.get(usize::try_from(unshared).ok()?..)?;
        let (mut value, rest) = input.split_at_checked(usize::try_from(length).ok()?)?;
        input = rest;
        Some((take(&mut value).unwrap_or(u64::MAX), take(&mut value).unwrap_or(u64::MAX)))
    })
}

/// Gives the footer of a columnar table its checksum, and the blocks that it names theirs.
pub fn sorted(bytes: &mut [u8]) {
    let Some(footer) = bytes.len().checked_sub(SORTED_FOOTER) else { return };
    let (blocks, end) = bytes.split_at_mut(footer);
    let crc = masked_crc(&[&end[..45], &end[49..]].concat());
    end[45..49].copy_from_slice(&crc.to_le_bytes());
    let mut input = &end[1..41];
    let handles = std::iter::from_fn(|| Some((take(&mut input).ok()?, take(&mut input).ok()?)));
    for handle in handles.take(2) {
        block(blocks, handle);
    }
}
