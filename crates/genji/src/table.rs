//! Sorted tables: block-based, RocksDB format version 2.
//!
//! A footer of 53 bytes names the index; the index names the data blocks, over one level or two. Blocks may be
//! Snappy-compressed and carry a checksum each. An entry's key is the user key, then sequence number and kind in 8 bytes.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::chunk::masked_crc;
use crate::directory::table_path;
use crate::varint::take;
use crate::{Error, ErrorKind};

mod block;
mod seek;

use block::BlockCursor;

const FOOTER: u64 = 53;
const MAGIC: [u8; 8] = [0xf7, 0xcf, 0xf4, 0x85, 0xb7, 0x41, 0xe2, 0x88];
const BLOCK_TRAILER: u64 = 5;
/// No byte of Snappy stands for more: 3 bytes copy at most 64.
const SNAPPY_RATIO: usize = 64;

/// Place of a block in its file, without the block's trailer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Handle {
    offset: u64,
    length: u64,
}

impl Handle {
    fn take(input: &mut &[u8]) -> Result<Self, Error> {
        Ok(Self { offset: take(input)?, length: take(input)? })
    }
}

/// An open table. It stays readable when the engine unlinks it.
#[derive(Debug)]
pub(crate) struct Table<F = File> {
    path: PathBuf,
    file: F,
    size: u64,
    index: Handle,
    two_level: bool,
    range_deletes: Option<Handle>,
}

/// One version of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) sequence: u64,
    /// None: deleted by this version.
    pub(crate) value: Option<&'a [u8]>,
}

/// A deleted range of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RangeDelete {
    pub(crate) sequence: u64,
    pub(crate) start: Vec<u8>,
    pub(crate) end: Vec<u8>,
}

impl Table {
    /// Opens a table and reads its footer and properties.
    pub(crate) fn open(dir: &Path, number: u64) -> Result<Self, Error> {
        let path = table_path(dir, number);
        let file = File::open(&path).map_err(|error| Error::io("open table", &path, error))?;
        let size = file.metadata().map_err(|error| Error::io("read table size", &path, error))?.len();
        Self::of_file(path, file, size)
    }
}

impl<F: FileExt> Table<F> {
    /// Reads footer and properties of an open file of that size.
    pub(crate) fn of_file(path: PathBuf, file: F, size: u64) -> Result<Self, Error> {
        let index = Handle { offset: 0, length: 0 };
        let mut table = Self { path, file, size, index, two_level: false, range_deletes: None };
        let Some(footer_at) = size.checked_sub(FOOTER) else {
            return Err(table.corrupt("table is too short", 0));
        };
        let footer = table.read(footer_at, FOOTER)?;
        if footer[45..] != MAGIC || footer[41..45] != [2, 0, 0, 0] || footer[0] != 1 {
            return Err(table.corrupt("table footer is unknown", footer_at));
        }
        let mut input = &footer[1..41];
        let handles = Handle::take(&mut input).and_then(|meta| Ok((meta, Handle::take(&mut input)?)));
        let (meta, index) =
            handles.map_err(|error| table.corrupt("table footer is damaged", footer_at).caused_by(error))?;
        table.index = index;
        table.read_meta(meta)?;
        Ok(table)
    }

    fn read_meta(&mut self, meta: Handle) -> Result<(), Error> {
        let mut cursor = self.block(meta)?;
        let mut properties = None;
        while self.advance(&mut cursor, meta)? {
            let handle = self.handle(cursor.value(), meta)?;
            match cursor.key() {
                b"rocksdb.properties" => properties = Some(handle),
                b"rocksdb.range_del2" => self.range_deletes = Some(handle),
                b"rocksdb.range_del" if self.range_deletes.is_none() => self.range_deletes = Some(handle),
                _ => {}
            }
        }
        let Some(properties) = properties else { return Ok(()) };
        let mut cursor = self.block(properties)?;
        while self.advance(&mut cursor, properties)? {
            if cursor.key() == b"rocksdb.block.based.table.index.type" {
                self.two_level = match cursor.value() {
                    [0, 0, 0, 0] => false,
                    [2, 0, 0, 0] => true,
                    _ => return Err(self.unsupported("table index is not genji's")),
                };
            }
        }
        Ok(())
    }

    /// The entries whose keys start with `prefix` (a whole namespace), and perhaps others near them.
    pub(crate) fn entries(&self, prefix: Vec<u8>) -> Result<Entries<'_, F>, Error> {
        let index = IndexCursor { top: self.block(self.index)?, second: None };
        Ok(Entries {
            table: self,
            prefix,
            index,
            data: None,
            at: self.index,
            before: Vec::new(),
            finished: false,
        })
    }

    /// The range deletes of the table.
    pub(crate) fn range_deletes(&self) -> Result<Vec<RangeDelete>, Error> {
        let Some(handle) = self.range_deletes else { return Ok(Vec::new()) };
        let mut cursor = self.block(handle)?;
        let mut found = Vec::new();
        while self.advance(&mut cursor, handle)? {
            let (key, trailer) = self.split_key(cursor.key(), handle)?;
            let (start, end) = (key.to_vec(), cursor.value().to_vec());
            found.push(RangeDelete { sequence: trailer >> 8, start, end });
        }
        Ok(found)
    }

    fn split_key<'k>(&self, internal: &'k [u8], at: Handle) -> Result<(&'k [u8], u64), Error> {
        let (key, trailer) = internal
            .split_last_chunk::<8>()
            .ok_or_else(|| self.corrupt("table key is too short", at.offset))?;
        Ok((key, u64::from_le_bytes(*trailer)))
    }

    fn handle(&self, mut bytes: &[u8], at: Handle) -> Result<Handle, Error> {
        Handle::take(&mut bytes)
            .map_err(|error| self.corrupt("block handle is damaged", at.offset).caused_by(error))
    }

    fn advance(&self, cursor: &mut BlockCursor, at: Handle) -> Result<bool, Error> {
        cursor.advance().map_err(|error| self.corrupt("block entry is damaged", at.offset).caused_by(error))
    }

    fn block(&self, handle: Handle) -> Result<BlockCursor, Error> {
        let corrupt = |reason| self.corrupt(reason, handle.offset);
        let inside = |length: &u64| handle.offset.checked_add(*length).is_some_and(|end| end <= self.size);
        let length = handle.length.checked_add(BLOCK_TRAILER).filter(inside);
        let mut bytes =
            self.read(handle.offset, length.ok_or_else(|| corrupt("block lies outside its table"))?)?;
        let Some((covered, crc)) = bytes.split_last_chunk::<4>() else {
            return Err(corrupt("block is too short"));
        };
        if masked_crc(covered) != u32::from_le_bytes(*crc) {
            return Err(corrupt("block has wrong checksum"));
        }
        let compression = covered.last().copied();
        bytes.truncate(bytes.len() - BLOCK_TRAILER as usize);
        let contents = match compression {
            Some(0) => bytes,
            Some(1) => {
                let length = snap::raw::decompress_len(&bytes);
                if length.is_ok_and(|length| length / SNAPPY_RATIO > bytes.len()) {
                    return Err(corrupt("block has an impossible length"));
                }
                snap::raw::Decoder::new()
                    .decompress_vec(&bytes)
                    .map_err(|error| corrupt("block does not decompress").caused_by(error))?
            }
            _ => {
                return Err(self.unsupported("block has unknown compression"));
            }
        };
        BlockCursor::new(contents).map_err(|error| corrupt("block has no restarts").caused_by(error))
    }

    fn read(&self, offset: u64, length: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        self.file
            .read_exact_at(&mut bytes, offset)
            .map_err(|error| Error::io("read table", &self.path, error).at(offset))?;
        Ok(bytes)
    }

    fn unsupported(&self, reason: &'static str) -> Error {
        Error::new(ErrorKind::Unsupported, reason).in_file(&self.path)
    }

    fn corrupt(&self, reason: &'static str, offset: u64) -> Error {
        Error::new(ErrorKind::Corrupt, reason).in_file(&self.path).at(offset)
    }
}

/// Walks the index of a table.
struct IndexCursor {
    top: BlockCursor,
    second: Option<BlockCursor>,
}

impl IndexCursor {
    /// The next data block and a key not below its last.
    fn next<F: FileExt>(&mut self, table: &Table<F>) -> Result<Option<(Vec<u8>, Handle)>, Error> {
        loop {
            let inner = self.second.is_some();
            let cursor = self.second.as_mut().unwrap_or(&mut self.top);
            if table.advance(cursor, table.index)? {
                let handle = table.handle(cursor.value(), table.index)?;
                if inner || !table.two_level {
                    return Ok(Some((cursor.key().to_vec(), handle)));
                }
                self.second = Some(table.block(handle)?);
            } else if self.second.take().is_none() {
                return Ok(None);
            }
        }
    }
}

/// The entries of the data blocks that may hold a namespace.
///
/// Only the order of whole namespaces is relied upon: integers sort as bytes. Inside one, Genji's order is not total.
pub(crate) struct Entries<'a, F = File> {
    table: &'a Table<F>,
    prefix: Vec<u8>,
    index: IndexCursor,
    data: Option<BlockCursor>,
    at: Handle,
    before: Vec<u8>,
    finished: bool,
}

impl<F: FileExt> Entries<'_, F> {
    /// The next entry.
    pub(crate) fn next(&mut self) -> Result<Option<Entry<'_>>, Error> {
        loop {
            if let Some(data) = &mut self.data {
                if self.table.advance(data, self.at)? {
                    break;
                }
                self.data = None;
            }
            if !self.next_block()? {
                return Ok(None);
            }
        }
        let Some(data) = &self.data else { return Ok(None) };
        let (key, trailer) = self.table.split_key(data.key(), self.at)?;
        let value = match trailer & 0xff {
            0 => None,
            1 => Some(data.value()),
            _ => {
                return Err(self.table.unsupported("table entry is not genji's"));
            }
        };
        Ok(Some(Entry { key, sequence: trailer >> 8, value }))
    }

    fn next_block(&mut self) -> Result<bool, Error> {
        while !self.finished {
            let Some((last, handle)) = self.index.next(self.table)? else { break };
            let starts_behind =
                !self.before.is_empty() && cut(&self.before, &self.prefix) > self.prefix.as_slice();
            let ends_before = cut(&last, &self.prefix) < self.prefix.as_slice();
            self.before = last;
            if starts_behind {
                break;
            }
            if !ends_before {
                self.data = Some(self.table.block(handle)?);
                self.at = handle;
                return Ok(true);
            }
        }
        self.finished = true;
        Ok(false)
    }
}

/// Whether a table with these bounds can hold keys of a namespace.
pub(crate) fn may_hold(smallest: &[u8], largest: &[u8], prefix: &[u8]) -> bool {
    cut(smallest, prefix) <= prefix && cut(largest, prefix) >= prefix
}

/// As much of the key as a namespace's prefix is long.
fn cut<'k>(key: &'k [u8], prefix: &[u8]) -> &'k [u8] {
    &key[..key.len().min(prefix.len())]
}

#[cfg(test)]
pub(crate) mod tests;
