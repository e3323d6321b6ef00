//! The file of a table: blocks with a checksum each, perhaps compressed.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::chunk::masked_crc;
use crate::directory::table_path;
use crate::varint::take;
use crate::{Error, ErrorKind};

const BLOCK_TRAILER: u64 = 5;
/// No byte of Snappy stands for more: 3 bytes copy at most 64.
const SNAPPY_RATIO: usize = 64;

/// Place of a block in its file, without the block's trailer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Handle {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

impl Handle {
    /// Takes offset and length off the front of `input`.
    pub(crate) fn take(input: &mut &[u8]) -> Result<Self, Error> {
        Ok(Self { offset: take(input)?, length: take(input)? })
    }
}

/// An open file of blocks. It stays readable when the engine unlinks it.
#[derive(Debug)]
pub(crate) struct BlockFile<F = File> {
    path: PathBuf,
    file: F,
    pub(crate) size: u64,
    /// Bytes of the blocks that were read.
    taken: AtomicU64,
}

impl BlockFile {
    /// Opens the file of a table.
    pub(crate) fn open(dir: &Path, number: u64) -> Result<Self, Error> {
        let path = table_path(dir, number);
        let file = File::open(&path).map_err(|error| Error::io("open table", &path, error))?;
        let size = file.metadata().map_err(|error| Error::io("read table size", &path, error))?.len();
        Ok(Self::new(path, file, size))
    }
}

impl<F: FileExt> BlockFile<F> {
    /// An open file of that size.
    pub(crate) fn new(path: PathBuf, file: F, size: u64) -> Self {
        Self { path, file, size, taken: AtomicU64::new(0) }
    }

    /// Bytes of the blocks that were read so far, each as often as it was.
    pub(crate) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// The decompressed bytes of a block.
    pub(crate) fn contents(&self, handle: Handle) -> Result<Vec<u8>, Error> {
        let corrupt = |reason| self.corrupt(reason, handle.offset);
        let inside = |length: &u64| handle.offset.checked_add(*length).is_some_and(|end| end <= self.size);
        let length = handle.length.checked_add(BLOCK_TRAILER).filter(inside);
        let mut bytes =
            self.read(handle.offset, length.ok_or_else(|| corrupt("block lies outside its table"))?)?;
        self.taken.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let Some((covered, crc)) = bytes.split_last_chunk::<4>() else {
            return Err(corrupt("block is too short"));
        };
        if masked_crc(covered) != u32::from_le_bytes(*crc) {
            return Err(corrupt("block has wrong checksum"));
        }
        let compression = covered.last().copied();
        bytes.truncate(bytes.len() - BLOCK_TRAILER as usize);
        match compression {
            Some(0) => Ok(bytes),
            Some(1) => {
                let length = snap::raw::decompress_len(&bytes);
                if length.is_ok_and(|length| length / SNAPPY_RATIO > bytes.len()) {
                    return Err(corrupt("block has an impossible length"));
                }
                snap::raw::Decoder::new()
                    .decompress_vec(&bytes)
                    .map_err(|error| corrupt("block does not decompress").caused_by(error))
            }
            _ => Err(self.unsupported("block has unknown compression")),
        }
    }

    /// Bytes as they stand in the file.
    pub(crate) fn read(&self, offset: u64, length: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        self.file
            .read_exact_at(&mut bytes, offset)
            .map_err(|error| Error::io("read table", &self.path, error).at(offset))?;
        Ok(bytes)
    }

    pub(crate) fn unsupported(&self, reason: &'static str) -> Error {
        Error::new(ErrorKind::Unsupported, reason).in_file(&self.path)
    }

    pub(crate) fn corrupt(&self, reason: &'static str, offset: u64) -> Error {
        Error::new(ErrorKind::Corrupt, reason).in_file(&self.path).at(offset)
    }
}
