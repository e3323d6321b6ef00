//! One record of the log: a Pebble batch.
//!
//! Sequence number u64, count u32 (little-endian), then the operations: kind byte, key, and for some kinds a second
//! string. Operation `i` has sequence number `sequence + i`; log data has none.

use crate::varint::{put_string, take_array, take_string};
use crate::{Error, ErrorKind};

/// Bytes before the first operation.
pub(crate) const HEADER: usize = 12;
const DELETE: u8 = 0;
const SET: u8 = 1;
const LOG_DATA: u8 = 3;
const RANGE_DELETE: u8 = 15;
/// Sequence numbers have 56 bits: in tables they share eight bytes with the kind of the entry.
pub(crate) const SEQUENCES: u64 = 1 << 56;

/// One operation of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation<'a> {
    /// The key has this value.
    Set {
        /// The whole key.
        key: &'a [u8],
        /// The encoded value.
        value: &'a [u8],
    },
    /// The key is gone.
    Delete {
        /// The whole key.
        key: &'a [u8],
    },
    /// Every key from `start` up to but without `end` is gone.
    RangeDelete {
        /// First key.
        start: &'a [u8],
        /// Behind the last key.
        end: &'a [u8],
    },
}

/// A decoded batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch<'a> {
    /// Sequence number of the first operation.
    pub sequence: u64,
    /// The operations; the one at index `i` has sequence number `sequence + i`.
    pub operations: Vec<Operation<'a>>,
}

/// The sequence number and the operation count of a record, without decoding the operations.
///
/// # Errors
/// [`ErrorKind::Decode`] when the record is shorter than its header, or the sequence number has more than 56 bits.
pub fn header(record: &[u8]) -> Result<(u64, u32), Error> {
    let mut input = record;
    let sequence = u64::from_le_bytes(take_array(&mut input)?);
    if sequence >= SEQUENCES {
        return Err(Error::decode("sequence number is too large"));
    }
    Ok((sequence, u32::from_le_bytes(take_array(&mut input)?)))
}

/// Takes the next operation of what is left of a record; none at its end.
pub(crate) fn take_operation<'a>(input: &mut &'a [u8]) -> Result<Option<Operation<'a>>, Error> {
    while !input.is_empty() {
        let [kind] = take_array(input)?;
        let key = take_string(input)?;
        return Ok(Some(match kind {
            DELETE => Operation::Delete { key },
            SET => Operation::Set { key, value: take_string(input)? },
            RANGE_DELETE => Operation::RangeDelete { start: key, end: take_string(input)? },
            LOG_DATA => continue,
            2 | 7 | 18..=23 => {
                let reason = format!("batch operation {kind} is not genji's");
                return Err(Error::new(ErrorKind::Unsupported, reason));
            }
            _ => return Err(Error::decode("unknown batch operation")),
        }));
    }
    Ok(None)
}

impl<'a> Batch<'a> {
    /// Decodes a record.
    ///
    /// # Errors
    /// [`ErrorKind::Decode`] when the record is cut or its count is wrong, [`ErrorKind::Unsupported`] for operations that
    /// Genji never writes.
    pub fn decode(record: &'a [u8]) -> Result<Self, Error> {
        let (sequence, count) = header(record)?;
        let mut input = &record[HEADER..];
        let mut operations = Vec::with_capacity((count as usize).min(input.len()));
        while let Some(operation) = take_operation(&mut input)? {
            operations.push(operation);
        }
        if operations.len() != count as usize {
            return Err(Error::decode("batch count is wrong"));
        }
        Ok(Self { sequence, operations })
    }

    /// The sequence number after the batch.
    #[must_use]
    pub fn next_sequence(&self) -> u64 {
        self.sequence + self.operations.len() as u64
    }
}

/// Builds the record of a batch, operation by operation.
#[derive(Debug, Clone)]
pub struct BatchWriter {
    record: Vec<u8>,
    count: u32,
}

/// An end that a batch had before.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchMark {
    length: usize,
    count: u32,
}

impl Default for BatchWriter {
    fn default() -> Self {
        Self { record: vec![0; HEADER], count: 0 }
    }
}

impl BatchWriter {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a SET.
    pub fn set(&mut self, key: &[u8], value: &[u8]) {
        self.push(SET, key);
        put_string(&mut self.record, value);
    }

    /// Appends a DELETE.
    pub fn delete(&mut self, key: &[u8]) {
        self.push(DELETE, key);
    }

    /// Appends a range delete of `[start, end)`.
    pub fn delete_range(&mut self, start: &[u8], end: &[u8]) {
        self.push(RANGE_DELETE, start);
        put_string(&mut self.record, end);
    }

    fn push(&mut self, kind: u8, key: &[u8]) {
        self.record.push(kind);
        put_string(&mut self.record, key);
        self.count += 1;
    }

    /// Where the batch ends now.
    pub(crate) fn mark(&self) -> BatchMark {
        BatchMark { length: self.record.len(), count: self.count }
    }

    /// Takes back what was appended since.
    pub(crate) fn rewind(&mut self, mark: BatchMark) {
        self.record.truncate(mark.length);
        self.count = mark.count;
    }

    /// Whether nothing was appended.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many operations were appended: the batch takes as many sequence numbers.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Size of the record in bytes so far.
    #[must_use]
    pub fn size(&self) -> usize {
        self.record.len()
    }

    /// The record, starting at that sequence number.
    #[must_use]
    pub fn finish(mut self, sequence: u64) -> Vec<u8> {
        self.record[..8].copy_from_slice(&sequence.to_le_bytes());
        self.record[8..HEADER].copy_from_slice(&self.count.to_le_bytes());
        self.record
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let mut writer = BatchWriter::new();
        writer.set(b"k", b"value");
        writer.delete(b"d");
        writer.delete_range(b"\x47", b"\x48");
        let record = writer.finish(17);
        let batch = Batch::decode(&record).unwrap();
        assert_eq!((batch.sequence, batch.next_sequence()), (17, 20));
        assert_eq!(
            batch.operations,
            [
                Operation::Set { key: b"k", value: b"value" },
                Operation::Delete { key: b"d" },
                Operation::RangeDelete { start: b"\x47", end: b"\x48" },
            ]
        );
        for length in 0..record.len() {
            assert!(Batch::decode(&record[..length]).is_err(), "{length}");
        }
    }

    /// Log data has neither a sequence number nor a place in the count.
    #[test]
    fn log_data_is_passed_over() {
        let mut writer = BatchWriter::new();
        writer.delete(b"a");
        let mut record = writer.finish(8);
        record.extend_from_slice(&[LOG_DATA, 2, b'x', b'y', DELETE, 1, b'b']);
        record[8] = 2;
        let batch = Batch::decode(&record).unwrap();
        assert_eq!(batch.operations, [Operation::Delete { key: b"a" }, Operation::Delete { key: b"b" }]);
        assert_eq!(batch.next_sequence(), 10);
    }

    #[test]
    fn foreign_operations_are_refused() {
        for kind in [2, 7, 18, 19, 20, 21, 22, 23] {
            let mut record = BatchWriter::new().finish(1);
            record[8] = 1;
            record.extend_from_slice(&[kind, 1, b'k', 0]);
            assert_eq!(Batch::decode(&record).unwrap_err().kind(), ErrorKind::Unsupported);
        }
        for kind in [4, 14, 16, 24, 255] {
            let mut record = BatchWriter::new().finish(1);
            record[8] = 1;
            record.extend_from_slice(&[kind, 1, b'k', 0]);
            assert_eq!(Batch::decode(&record).unwrap_err().kind(), ErrorKind::Decode);
        }
    }
}
