//! Appends records to a write-ahead log (format description §2).

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FallocateFlags, fallocate};

use crate::chunk::{self, BLOCK, Form, LOG_HEADER, RecordWriter};

/// One log file that is being written, from its beginning to its trailer.
pub(crate) struct LogWriter {
    file: Arc<File>,
    number: u64,
    offset: u64,
    chunks: RecordWriter,
    buffer: Vec<u8>,
}

impl LogWriter {
    /// Creates the log; it must not exist. Room for `expected` bytes is taken at once: flushing a file whose blocks are there
    /// costs half as much.
    pub(crate) fn create(path: &Path, number: u64, expected: u64) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).open(path)?;
        // Without it the log is slower and nothing else; a full disk shows when the log is written.
        fallocate(&file, FallocateFlags::KEEP_SIZE, 0, expected.max(1)).ok();
        // The format keeps the low 32 bits of the number.
        let chunks = RecordWriter::new(Form::Recyclable(number as u32), 0);
        Ok(Self { file: Arc::new(file), number, offset: 0, chunks, buffer: Vec::new() })
    }

    /// Number of the file.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Byte offset behind the last record.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Writes a record to the file, not yet durably.
    pub(crate) fn append(&mut self, record: &[u8]) -> io::Result<()> {
        self.buffer.clear();
        self.chunks.append(record, &mut self.buffer);
        self.write_buffer()
    }

    /// The open file, for whoever flushes it.
    pub(crate) fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Ends the log with its trailer, durably.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        self.buffer.clear();
        let left = BLOCK - (self.offset % BLOCK as u64) as usize;
        if left < LOG_HEADER {
            self.buffer.resize(left, 0);
        }
        self.buffer.extend_from_slice(&chunk::trailer(self.number));
        self.write_buffer()?;
        self.file.sync_all()
    }

    fn write_buffer(&mut self) -> io::Result<()> {
        self.file.as_ref().write_all(&self.buffer)?;
        self.offset += self.buffer.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(records: &[&[u8]]) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("000002.log");
        let mut log = LogWriter::create(&path, 2, 1 << 16).unwrap();
        for record in records {
            log.append(record).unwrap();
        }
        let offset = log.offset();
        log.finish().unwrap();
        let bytes = std::fs::read(path).unwrap();
        assert!(offset <= bytes.len() as u64);
        bytes
    }

    #[test]
    fn a_record_and_the_trailer() {
        let record = [
            0x11, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0x01, 0x02, 0x4f, 0x47, 0x06, 0xf0, 0x01, 0xda, 0x01,
            0x72, 0x47,
        ];
        let bytes = written(&[&record]);
        assert_eq!(bytes[..11], [0x96, 0x26, 0xdc, 0xb7, 0x17, 0, 5, 2, 0, 0, 0]);
        assert_eq!(bytes[11..34], record);
        assert_eq!(bytes[34..], [0, 0, 0, 0, 0, 0, 5, 3, 0, 0, 0]);
    }

    #[test]
    fn records_span_blocks_and_padding() {
        // The first leaves 5 bytes in its block: padding, then a record of three chunks.
        let bytes = written(&[&vec![1; BLOCK - LOG_HEADER - 5], &vec![2; 2 * BLOCK]]);
        assert_eq!(bytes[BLOCK - 5..BLOCK], [0; 5]);
        assert_eq!(bytes[BLOCK + 6], 6);
        assert_eq!(bytes[2 * BLOCK + 6], 7);
        assert_eq!(bytes[3 * BLOCK + 6], 8);
    }
}
