//! Sorted tables: block-based, RocksDB format version 2.
//!
//! A footer of 53 bytes names the index; the index names the data blocks, over one level or two. Blocks may be
//! Snappy-compressed and carry a checksum each. An entry's key is the user key, then sequence number and kind in 8 bytes.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::Error;

mod block;
mod file;
mod seek;

use block::BlockCursor;
pub(crate) use file::{BlockFile, Handle};

const FOOTER: u64 = 53;
const MAGIC: [u8; 8] = [0xf7, 0xcf, 0xf4, 0x85, 0xb7, 0x41, 0xe2, 0x88];

/// An open table. It stays readable when the engine unlinks it.
#[derive(Debug)]
pub(crate) struct Table<F = File> {
    file: BlockFile<F>,
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
        Self::of_blocks(BlockFile::open(dir, number)?)
    }
}

impl<F: FileExt> Table<F> {
    /// Reads footer and properties.
    pub(crate) fn of_blocks(file: BlockFile<F>) -> Result<Self, Error> {
        let size = file.size;
        let index = Handle { offset: 0, length: 0 };
        let mut table = Self { file, index, two_level: false, range_deletes: None };
        let Some(footer_at) = size.checked_sub(FOOTER) else {
            return Err(table.corrupt("table is too short", 0));
        };
        let footer = table.file.read(footer_at, FOOTER)?;
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

    /// Bytes of blocks that were read so far.
    pub(crate) fn taken(&self) -> u64 {
        self.file.taken()
    }

    /// Size of the file in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.file.size
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
        let contents = self.file.contents(handle)?;
        BlockCursor::new(contents)
            .map_err(|error| self.corrupt("block has no restarts", handle.offset).caused_by(error))
    }

    fn unsupported(&self, reason: &'static str) -> Error {
        self.file.unsupported(reason)
    }

    fn corrupt(&self, reason: &'static str, offset: u64) -> Error {
        self.file.corrupt(reason, offset)
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
pub(crate) fn cut<'k>(key: &'k [u8], prefix: &[u8]) -> &'k [u8] {
    &key[..key.len().min(prefix.len())]
}

#[cfg(test)]
pub(crate) mod tests;
