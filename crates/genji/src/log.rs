//! One log file, read while the engine may be writing it.
//!
//! The engine overwrites old log files in place, so what stands behind its write position may be zeros, stale chunks of an
//! earlier log, or the middle of one. Only a chunk with the right checksum *and* this log's number counts; everything else
//! means "not written yet" until something proves otherwise: see [`LogReader::is_damaged`].

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt as _};
use std::path::{Path, PathBuf};

use crate::Error;
use crate::chunk::{BLOCK, LOG_HEADER, Part, masked_crc, trailer};
use crate::directory::log_path;

const SMALLEST_READ: usize = BLOCK;
const LARGEST_READ: usize = 8 * BLOCK;

/// What a reader finds at its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// A whole record, from and to these offsets; the position is behind it now.
    Record { start: u64, end: u64 },
    /// The trailer: the engine has finished this log.
    Finished,
    /// No whole record yet; the position stays.
    Stopped(Stop),
}

/// Where and why there is no whole record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stop {
    /// Offset of the chunk that is not there.
    pub(crate) offset: u64,
    /// Whether it looks like nothing was ever written there: end of file, zeros, or an earlier log's chunk.
    pub(crate) blank: bool,
}

/// A position in an open log.
#[derive(Debug)]
pub(crate) struct LogReader<F = File> {
    number: u64,
    path: PathBuf,
    file: F,
    offset: u64,
    /// Bytes of a chunk's header in this log: fewer at the end of a block are passed over.
    header: usize,
    window: Window,
}

/// A chunk header that belongs to this log.
struct Header {
    crc: u32,
    length: usize,
    part: Part,
    size: usize,
}

impl LogReader {
    /// Opens a log at its start.
    pub(crate) fn open(dir: &Path, number: u64) -> Result<Self, Error> {
        let path = log_path(dir, number);
        let file = File::open(&path).map_err(|error| Error::io("open log", &path, error))?;
        Ok(Self::of_file(number, path, file))
    }

    /// Whether the directory still holds this log, as far as it was read: a backup that was put back replaces it.
    pub(crate) fn is_in_place(&self) -> Result<bool, Error> {
        let named = match std::fs::metadata(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            named => named,
        };
        let look = |result: std::io::Result<std::fs::Metadata>| {
            result.map_err(|error| Error::io("look at log", &self.path, error))
        };
        let (named, open) = (look(named)?, look(self.file.metadata())?);
        Ok((named.dev(), named.ino()) == (open.dev(), open.ino()) && open.len() >= self.offset)
    }
}

impl<F: FileExt> LogReader<F> {
    /// Starts at the beginning of an open file.
    pub(crate) fn of_file(number: u64, path: PathBuf, file: F) -> Self {
        Self { number, path, file, offset: 0, header: LOG_HEADER, window: Window::default() }
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the next record into `record`, or says why there is none.
    pub(crate) fn next(&mut self, record: &mut Vec<u8>) -> Result<Step, Error> {
        let step = self.read_record(record);
        if !matches!(step, Ok(Step::Record { .. })) {
            // Bytes that did not make a record must be read afresh next time.
            self.window.forget();
        }
        step
    }

    /// What [`Self::next`] would find, without going there.
    pub(crate) fn peek(&mut self) -> Result<Step, Error> {
        let position = self.offset;
        let step = self.next(&mut Vec::new());
        self.offset = position;
        step
    }

    /// Goes back to the start of a record.
    pub(crate) fn rewind(&mut self, start: u64) {
        self.offset = start;
        self.window.forget();
    }

    fn read_record(&mut self, record: &mut Vec<u8>) -> Result<Step, Error> {
        record.clear();
        let mut at = self.offset;
        let mut inside = false;
        loop {
            let left = BLOCK - (at % BLOCK as u64) as usize;
            if left < self.header {
                at += left as u64;
                continue;
            }
            let stop = |blank| Ok(Step::Stopped(Stop { offset: at, blank }));
            let trailer = trailer(self.number);
            let Some(bytes) = self.bytes(at, LOG_HEADER)? else { return stop(true) };
            if !inside && bytes == trailer {
                return Ok(Step::Finished);
            }
            let header = match self.header(at)? {
                Ok(header) if header.size + header.length <= left => header,
                Ok(_) => return stop(false),
                Err(blank) => return stop(blank),
            };
            let size = header.size + header.length;
            let Some(bytes) = self.bytes(at + 6, size - 6)? else { return stop(false) };
            if masked_crc(bytes) != header.crc {
                return stop(false);
            }
            record.extend_from_slice(&bytes[header.size - 6..]);
            self.header = header.size;
            let end = at + size as u64;
            match (header.part, inside) {
                (Part::Full, false) | (Part::Last, true) => {
                    let start = std::mem::replace(&mut self.offset, end);
                    return Ok(Step::Record { start, end });
                }
                (Part::First, false) | (Part::Middle, true) => inside = true,
                _ => return stop(false),
            }
            at = end;
        }
    }

    /// The header at `at`, or whether the place looks blank.
    fn header(&mut self, at: u64) -> Result<Result<Header, bool>, Error> {
        let number = self.number as u32;
        let Some(&[c0, c1, c2, c3, l0, l1, kind, n0, n1, n2, n3]) =
            self.bytes(at, LOG_HEADER)?.and_then(|bytes| bytes.first_chunk::<LOG_HEADER>())
        else {
            return Ok(Err(true));
        };
        if [c0, c1, c2, c3, l0, l1, kind] == [0; 7] {
            return Ok(Err(true));
        }
        let Some((part, size)) = Part::and_header(kind) else { return Ok(Err(false)) };
        let found = u32::from_le_bytes([n0, n1, n2, n3]);
        if found != number {
            return Ok(Err(found < number));
        }
        let length = usize::from(u16::from_le_bytes([l0, l1]));
        Ok(Ok(Header { crc: u32::from_le_bytes([c0, c1, c2, c3]), length, part, size }))
    }

    fn bytes(&mut self, at: u64, length: usize) -> Result<Option<&[u8]>, Error> {
        self.window.get(&self.file, at, length).map_err(|error| Error::io("read log", &self.path, error))
    }

    /// Whether bytes of this log follow a place where no record could be read, and still none can be.
    ///
    /// The engine writes a log from front to back; so what stands before valid bytes has been written, and is damaged.
    pub(crate) fn is_damaged(&mut self, stop: Stop) -> Result<bool, Error> {
        if !self.is_followed(stop.offset + 1)? {
            return Ok(false);
        }
        // Seen after the bytes behind it: now it must be readable, or it never will be.
        self.window.forget();
        Ok(matches!(self.peek()?, Step::Stopped(again) if again.offset == stop.offset))
    }

    fn is_followed(&mut self, from: u64) -> Result<bool, Error> {
        let block = BLOCK as u64;
        let next_block = from.next_multiple_of(block);
        let length = (next_block - from) as usize;
        let rest = self.window.upto(&self.file, from, length);
        let rest = rest.map_err(|error| Error::io("read log", &self.path, error))?;
        if contains_chunk(rest, self.number) {
            return Ok(true);
        }
        let mut at = next_block;
        loop {
            let rest = self.window.upto(&self.file, at, BLOCK);
            let rest = rest.map_err(|error| Error::io("read log", &self.path, error))?;
            if is_chunk(rest, self.number) {
                return Ok(true);
            }
            if rest.len() < BLOCK {
                return Ok(false);
            }
            at += block;
        }
    }
}

/// Whether a valid chunk or the trailer of the log starts anywhere in `bytes`, which end where the block ends.
fn contains_chunk(bytes: &[u8], log: u64) -> bool {
    let number = (log as u32).to_le_bytes();
    let trailer = trailer(log);
    (0..bytes.len().saturating_sub(LOG_HEADER - 1)).any(|at| {
        let bytes = &bytes[at..];
        (bytes[7..LOG_HEADER] == number && is_chunk(bytes, log)) || bytes.starts_with(&trailer)
    })
}

/// Whether `bytes` start with a valid chunk or the trailer of the log.
fn is_chunk(bytes: &[u8], log: u64) -> bool {
    let Some(&[c0, c1, c2, c3, l0, l1, kind, n0, n1, n2, n3]) = bytes.first_chunk::<LOG_HEADER>() else {
        return false;
    };
    let header = Part::and_header(kind).filter(|_| u32::from_le_bytes([n0, n1, n2, n3]) == log as u32);
    let Some((_, size)) = header else { return bytes.starts_with(&trailer(log)) };
    let end = size + usize::from(u16::from_le_bytes([l0, l1]));
    bytes.get(6..end).is_some_and(|covered| masked_crc(covered) == u32::from_le_bytes([c0, c1, c2, c3]))
}

/// Bytes of the file that were read ahead.
#[derive(Debug, Default)]
struct Window {
    start: u64,
    buffer: Vec<u8>,
    /// How much of the buffer was read.
    filled: usize,
    size: usize,
}

impl Window {
    /// Reads afresh next time, and little at first.
    fn forget(&mut self) {
        (self.filled, self.size) = (0, 0);
    }

    /// `length` bytes at `at`, or none when the file is shorter.
    fn get(&mut self, file: &impl FileExt, at: u64, length: usize) -> std::io::Result<Option<&[u8]>> {
        let held = at.checked_sub(self.start).is_some_and(|skip| skip + length as u64 <= self.filled as u64);
        if !held {
            self.size = (self.size * 2).clamp(SMALLEST_READ, LARGEST_READ);
            self.fill(file, at, self.size.max(length))?;
        }
        let skip = (at - self.start) as usize;
        Ok(self.buffer[..self.filled].get(skip..skip + length))
    }

    /// Up to `length` bytes at `at`, read now.
    fn upto(&mut self, file: &impl FileExt, at: u64, length: usize) -> std::io::Result<&[u8]> {
        self.fill(file, at, length)?;
        Ok(&self.buffer[..self.filled])
    }

    fn fill(&mut self, file: &impl FileExt, at: u64, length: usize) -> std::io::Result<()> {
        if self.buffer.len() < length {
            self.buffer.resize(length, 0);
        }
        (self.start, self.filled) = (at, 0);
        while self.filled < length {
            match file.read_at(&mut self.buffer[self.filled..length], at + self.filled as u64) {
                Ok(0) => break,
                Ok(count) => self.filled += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.filled = 0;
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
