//! The entries of one block: keys share prefixes with the key before.

use crate::Error;
use crate::varint::{take, take_bytes};

/// A position in a decompressed block.
#[derive(Debug)]
pub(super) struct BlockCursor {
    bytes: Vec<u8>,
    at: usize,
    end: usize,
    key: Vec<u8>,
    value: (usize, usize),
}

impl BlockCursor {
    /// Before the first entry.
    pub(super) fn new(bytes: Vec<u8>) -> Result<Self, Error> {
        let restarts = bytes.last_chunk::<4>().map(|count| u64::from(u32::from_le_bytes(*count)));
        let end = restarts
            .and_then(|count| (bytes.len() as u64).checked_sub(4 * (count + 1)))
            .ok_or_else(|| Error::decode("restarts exceed block"))?;
        Ok(Self { at: 0, end: end as usize, key: Vec::new(), value: (0, 0), bytes })
    }

    /// Goes to the next entry, if there is one.
    pub(super) fn advance(&mut self) -> Result<bool, Error> {
        let mut input = &self.bytes[self.at..self.end];
        if input.is_empty() {
            return Ok(false);
        }
        let (shared, unshared, length) = (take(&mut input)?, take(&mut input)?, take(&mut input)?);
        if shared > self.key.len() as u64 {
            return Err(Error::decode("key shares too much"));
        }
        self.key.truncate(shared as usize);
        self.key.extend_from_slice(take_bytes(&mut input, unshared)?);
        let start = self.end - input.len();
        take_bytes(&mut input, length)?;
        self.at = self.end - input.len();
        self.value = (start, self.at);
        Ok(true)
    }

    /// The key of the entry.
    pub(super) fn key(&self) -> &[u8] {
        &self.key
    }

    /// The value of the entry.
    pub(super) fn value(&self) -> &[u8] {
        &self.bytes[self.value.0..self.value.1]
    }
}
