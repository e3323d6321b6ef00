//! Chunks: how a record is laid into 32 KiB blocks of a log or manifest.
//!
//! A chunk is checksum, length, type, in logs also the log's number, then payload; it never crosses a block boundary. A
//! record is one full chunk, or first, middle…, last. Logs use the recyclable form, because the engine overwrites old log
//! files in place and the number tells new bytes from stale ones; manifests use the legacy form.

/// Bytes in a block.
pub(crate) const BLOCK: usize = 32 * 1024;
/// Header bytes of the recyclable form.
pub(crate) const LOG_HEADER: usize = 11;
/// Header bytes of the recyclable form in which newer engines add how far they had synced.
pub(crate) const SYNCED_HEADER: usize = LOG_HEADER + 8;
/// Header bytes of the legacy form.
pub(crate) const LEGACY_HEADER: usize = 7;

/// Which part of a record a chunk holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Full,
    First,
    Middle,
    Last,
}

impl Part {
    fn legacy_type(self) -> u8 {
        match self {
            Self::Full => 1,
            Self::First => 2,
            Self::Middle => 3,
            Self::Last => 4,
        }
    }

    /// The part that a legacy type byte (1 to 4) names.
    pub(crate) fn from_legacy_type(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Full,
            2 => Self::First,
            3 => Self::Middle,
            4 => Self::Last,
            _ => return None,
        })
    }

    /// The part that a recyclable type byte (5 to 8) names.
    pub(crate) fn from_log_type(byte: u8) -> Option<Self> {
        byte.checked_sub(4).and_then(Self::from_legacy_type)
    }

    /// The part that the type byte of a log's chunk names, and the length of such a chunk's header: types 9 to 12 have the
    /// longer one.
    pub(crate) fn and_header(byte: u8) -> Option<(Self, usize)> {
        let recyclable = Self::from_log_type(byte).map(|part| (part, LOG_HEADER));
        recyclable.or_else(|| Some((byte.checked_sub(8).and_then(Self::from_legacy_type)?, SYNCED_HEADER)))
    }
}

/// Whether chunks carry the number of their log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Manifests.
    Legacy,
    /// Logs: with the low 32 bits of the file's number.
    Recyclable(u32),
}

impl Form {
    pub(crate) fn header(self) -> usize {
        match self {
            Self::Legacy => LEGACY_HEADER,
            Self::Recyclable(_) => LOG_HEADER,
        }
    }
}

/// The masked CRC-32C that Pebble stores.
pub(crate) fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xA282_EAD8)
}

/// The trailer of a finished log: an empty chunk of the next number, with checksum 0.
pub(crate) fn trailer(log: u64) -> [u8; LOG_HEADER] {
    let mut bytes = [0; LOG_HEADER];
    bytes[6] = 5;
    bytes[7..].copy_from_slice(&(log as u32).wrapping_add(1).to_le_bytes());
    bytes
}

/// Lays records into chunks, from any offset of a file on.
#[derive(Debug, Clone)]
pub(crate) struct RecordWriter {
    form: Form,
    in_block: usize,
}

impl RecordWriter {
    /// Continues a file of that form at that offset.
    pub(crate) fn new(form: Form, offset: u64) -> Self {
        Self { form, in_block: (offset % BLOCK as u64) as usize }
    }

    /// Appends the chunks of a record to `out`; they belong at the offset where the last call ended.
    pub(crate) fn append(&mut self, record: &[u8], out: &mut Vec<u8>) {
        let header = self.form.header();
        let mut rest = record;
        let mut first = true;
        loop {
            if BLOCK - self.in_block < header {
                out.resize(out.len() + BLOCK - self.in_block, 0);
                self.in_block = 0;
            }
            let (payload, after) = rest.split_at(rest.len().min(BLOCK - self.in_block - header));
            let part = match (first, after.is_empty()) {
                (true, true) => Part::Full,
                (true, false) => Part::First,
                (false, false) => Part::Middle,
                (false, true) => Part::Last,
            };
            self.emit(part, payload, out);
            rest = after;
            first = false;
            if rest.is_empty() {
                return;
            }
        }
    }

    fn emit(&mut self, part: Part, payload: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&(payload.len() as u16).to_le_bytes());
        match self.form {
            Form::Legacy => out.push(part.legacy_type()),
            Form::Recyclable(log) => {
                out.push(part.legacy_type() + 4);
                out.extend_from_slice(&log.to_le_bytes());
            }
        }
        out.extend_from_slice(payload);
        let crc = masked_crc(&out[start + 6..]);
        out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
        self.in_block += self.form.header() + payload.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_row_transaction_as_genji_writes_it() {
        let mut record = 17u64.to_le_bytes().to_vec();
        record.extend_from_slice(&[1, 0, 0, 0, 1, 2, 0x4f, 0x47, 6, 0xf0, 1, 0xda, 1, 0x72, 0x47]);
        let mut out = Vec::new();
        RecordWriter::new(Form::Recyclable(2), 0).append(&record, &mut out);
        assert_eq!(out[..11], [0x96, 0x26, 0xdc, 0xb7, 0x17, 0, 5, 2, 0, 0, 0]);
        assert_eq!(out[11..], record);
        assert_eq!(trailer(2), [0, 0, 0, 0, 0, 0, 5, 3, 0, 0, 0]);
    }

    #[test]
    fn chunks_stay_inside_blocks() {
        let record = vec![7u8; 2 * BLOCK];
        for offset in [0, 100, BLOCK - 12, BLOCK - 11, BLOCK - 10, BLOCK - 1] {
            let mut out = Vec::new();
            RecordWriter::new(Form::Recyclable(9), offset as u64).append(&record, &mut out);
            let zeros = if BLOCK - offset < LOG_HEADER { BLOCK - offset } else { 0 };
            let chunks = (offset + zeros + record.len()).div_ceil(BLOCK - LOG_HEADER);
            assert!(out.len() >= record.len() + zeros + (chunks - 1) * LOG_HEADER, "{offset}");
        }
    }
}
