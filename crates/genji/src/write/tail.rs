//! Tells a half-written end of the last log from damage in its middle.

use std::fs;
use std::path::Path;

use crate::chunk::{BLOCK, LOG_HEADER, Part, masked_crc, trailer};
use crate::{Error, batch};

/// Whether a record that must have been acknowledged, or the trailer, stands behind `offset`, where reading stopped.
///
/// Every commit is durable before the next record is written. So what begins after an unreadable place and continues the
/// sequence was preceded by something that had been durable. Later chunks of the same torn record do not count: a power
/// cut may keep the end of a large record and lose its beginning.
pub(crate) fn lost_record(path: &Path, number: u64, offset: u64, next_sequence: u64) -> Result<bool, Error> {
    let bytes = fs::read(path).map_err(|error| Error::io("read log", path, error))?;
    let trailer = trailer(number);
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    for at in start.saturating_add(1)..bytes.len().saturating_sub(LOG_HEADER - 1) {
        let rest = bytes.get(at..).unwrap_or_default();
        if rest.starts_with(&trailer) || begins_record(rest, number, BLOCK - at % BLOCK, next_sequence) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a valid first chunk of a later record starts the bytes.
fn begins_record(bytes: &[u8], number: u64, left: usize, next_sequence: u64) -> bool {
    let Some((header, _)) = bytes.split_first_chunk::<LOG_HEADER>() else { return false };
    let [c0, c1, c2, c3, l0, l1, kind, n0, n1, n2, n3] = *header;
    let begins = matches!(Part::from_log_type(kind), Some(Part::Full | Part::First));
    // The format keeps the low 32 bits of the number.
    if !begins || u32::from_le_bytes([n0, n1, n2, n3]) != number as u32 {
        return false;
    }
    let end = LOG_HEADER + usize::from(u16::from_le_bytes([l0, l1]));
    end <= left
        && bytes
            .get(6..end)
            .is_some_and(|covered| masked_crc(covered) == u32::from_le_bytes([c0, c1, c2, c3]))
        && bytes
            .get(LOG_HEADER..end)
            .is_some_and(|payload| batch::header(payload).is_ok_and(|(sequence, _)| sequence > next_sequence))
}
