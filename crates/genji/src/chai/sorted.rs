//! Sorted tables of columnar blocks: Pebble's table format 7.
//!
//! A footer of 61 bytes, with a checksum of its own, names the index; the index names the data blocks, over one level or two.
//! A data block has columns for the namespaces of its keys, what follows them, sequence numbers with kinds, and values. Of
//! the keys of a namespace but the first, longer values stand in blocks of their own, which one more index names.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::Error;
use crate::chai::block::{Bits, Block, Prefixed, Slices, Uints, uint};
use crate::chunk::masked_crc;
use crate::table::{BlockFile, Entry, Handle, RangeDelete, cut};
use crate::varint::{take, take_array};

const FOOTER: usize = 61;
const MAGIC: [u8; 8] = [0xf0, 0x9f, 0xaa, 0xb3, 0xf0, 0x9f, 0xaa, 0xb3];
const VERSION: [u8; 4] = [7, 0, 0, 0];
/// How the footer says that blocks have a CRC-32C.
const CRC32C: u8 = 1;
/// Where in the footer the features of the table stand, and its checksum behind them.
const FEATURES: usize = 41;
const CHECKSUM: usize = 45;
const TWO_LEVELS: u8 = 1 << 5;
/// Features that are not read: keys of ranges, and values in other files.
const UNREADABLE: u8 = 0b0100_1110;
/// How the columns of keys are named: namespace, and what follows it.
const KEY_SCHEMA: &[u8] = b"DefaultKeySchema(leveldb.BytewiseComparator,16)";
/// The top bits of a value that stands elsewhere, where the rest is its place in a block of values.
const IN_VALUE_BLOCK: u8 = 0b10;

/// A name and a value.
type Pair = (Vec<u8>, Vec<u8>);

/// An open table.
#[derive(Debug)]
pub(crate) struct SortedTable<F = File> {
    file: BlockFile<F>,
    index: Handle,
    is_two_level: bool,
    range_deletes: Option<Handle>,
    /// Blocks of values.
    values: Vec<Handle>,
}

impl SortedTable {
    /// Opens a table and reads its footer and properties.
    pub(crate) fn open(dir: &Path, number: u64) -> Result<Self, Error> {
        Self::of_blocks(BlockFile::open(dir, number)?)
    }
}

impl<F: FileExt> SortedTable<F> {
    /// Reads footer and properties.
    pub(crate) fn of_blocks(file: BlockFile<F>) -> Result<Self, Error> {
        let Some(footer_at) = file.size.checked_sub(FOOTER as u64) else {
            return Err(file.corrupt("table is too short", 0));
        };
        let footer = file.read(footer_at, FOOTER as u64)?;
        if footer[53..] != MAGIC || footer[49..53] != VERSION || footer[0] != CRC32C {
            return Err(file.unsupported("table format is not chai's"));
        }
        let covered = [&footer[..CHECKSUM], &footer[CHECKSUM + 4..]].concat();
        if masked_crc(&covered).to_le_bytes() != footer[CHECKSUM..CHECKSUM + 4] {
            return Err(file.corrupt("table footer has wrong checksum", footer_at));
        }
        if footer[FEATURES] & UNREADABLE != 0 {
            return Err(file.unsupported("table has features that chai does not use"));
        }
        let mut input = &footer[1..FEATURES];
        let handles = Handle::take(&mut input).and_then(|meta| Ok((meta, Handle::take(&mut input)?)));
        let (meta, index) =
            handles.map_err(|error| file.corrupt("table footer is damaged", footer_at).caused_by(error))?;
        let is_two_level = footer[FEATURES] & TWO_LEVELS != 0;
        let mut table = Self { file, index, is_two_level, range_deletes: None, values: Vec::new() };
        table.read_meta(meta)?;
        Ok(table)
    }

    fn read_meta(&mut self, meta: Handle) -> Result<(), Error> {
        let mut has_schema = false;
        for (name, value) in self.pairs(meta)? {
            let mut input = value.as_slice();
            let handle = self.placed(meta, Handle::take(&mut input))?;
            match name.as_slice() {
                b"rocksdb.properties" => {
                    let is_schema =
                        |(name, value): Pair| name == b"pebble.colblk.schema" && value == KEY_SCHEMA;
                    has_schema = self.pairs(handle)?.into_iter().any(is_schema);
                }
                b"rocksdb.range_del2" => self.range_deletes = Some(handle),
                b"pebble.value_index" => {
                    let widths = self.placed(meta, take_array::<3>(&mut input))?;
                    self.values = self.value_blocks(handle, widths)?;
                }
                _ => {}
            }
        }
        if has_schema { Ok(()) } else { Err(self.file.unsupported("table keys have other columns")) }
    }

    /// Names and values of a block of two columns.
    fn pairs(&self, at: Handle) -> Result<Vec<Pair>, Error> {
        let bytes = self.file.contents(at)?;
        let read = || {
            let block = Block::new(&bytes, 0)?;
            let (names, values) = (block.slices(0, block.rows())?, block.slices(1, block.rows())?);
            let pair = |row| Ok((names.get(&bytes, row)?.to_vec(), values.get(&bytes, row)?.to_vec()));
            (0..block.rows()).map(pair).collect::<Result<_, Error>>()
        };
        self.placed(at, read())
    }

    /// The places of the blocks of values: number, offset and length in as many bytes each.
    fn value_blocks(&self, at: Handle, widths: [u8; 3]) -> Result<Vec<Handle>, Error> {
        let bytes = self.file.contents(at)?;
        let [number, offset, length] = widths.map(usize::from);
        let width = number + offset + length;
        if [number, offset, length].iter().any(|width| !(1..=8).contains(width)) || bytes.len() % width != 0 {
            return Err(self.file.corrupt("index of values is damaged", at.offset));
        }
        let place = |row: &[u8]| Handle {
            offset: uint(&row[number..number + offset]),
            length: uint(&row[number + offset..]),
        };
        Ok(bytes.chunks_exact(width).map(place).collect())
    }

    /// The same, with the place where bytes do not decode.
    fn placed<T>(&self, at: Handle, read: Result<T, Error>) -> Result<T, Error> {
        read.map_err(|error| self.file.corrupt("table block is damaged", at.offset).caused_by(error))
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
    pub(crate) fn entries(&self, prefix: Vec<u8>) -> Result<SortedEntries<'_, F>, Error> {
        let top = self.blocks_of(self.index)?;
        Ok(SortedEntries { table: self, prefix, levels: vec![top], data: None, key: Vec::new(), value: None })
    }

    /// What an index block names: a key not below the last of each block, and its place; the last first.
    fn blocks_of(&self, at: Handle) -> Result<Vec<(Vec<u8>, Handle)>, Error> {
        let bytes = self.file.contents(at)?;
        let read = || {
            let block = Block::new(&bytes, 0)?;
            let rows = block.rows();
            let last = block.slices(0, rows)?;
            let (offsets, lengths) = (block.uints(1, rows)?, block.uints(2, rows)?);
            let named = |row| {
                let (offset, length) = (offsets.get(&bytes, row)?, lengths.get(&bytes, row)?);
                Ok((last.get(&bytes, row)?.to_vec(), Handle { offset, length }))
            };
            (0..rows).rev().map(named).collect::<Result<_, Error>>()
        };
        self.placed(at, read())
    }

    /// The range deletes of the table: pieces of those that were written, cut where they overlap.
    pub(crate) fn range_deletes(&self) -> Result<Vec<RangeDelete>, Error> {
        let Some(at) = self.range_deletes else { return Ok(Vec::new()) };
        let bytes = self.file.contents(at)?;
        let read = || {
            let block = Block::new(&bytes, 4)?;
            // The ends of ranges are fewer or more than the ranges: the block says how many, and where each one's begin.
            let bounds = uint(bytes.get(..4).unwrap_or_default()) as usize;
            let (keys, firsts) = (block.slices(0, bounds)?, block.uints(1, bounds)?);
            let trailers = block.uints(2, block.rows())?;
            let mut found = Vec::new();
            for bound in 1..bounds {
                let first = firsts.get(&bytes, bound - 1)?;
                for row in first..firsts.get(&bytes, bound)? {
                    let row = usize::try_from(row).map_err(|_| Error::decode("range is damaged"))?;
                    let sequence = trailers.get(&bytes, row)? >> 8;
                    let (start, end) =
                        (keys.get(&bytes, bound - 1)?.to_vec(), keys.get(&bytes, bound)?.to_vec());
                    found.push(RangeDelete { sequence, start, end });
                }
            }
            Ok(found)
        };
        self.placed(at, read())
    }
}

/// A data block.
#[derive(Debug)]
struct Data {
    at: Handle,
    bytes: Vec<u8>,
    row: usize,
    rows: usize,
    namespaces: Prefixed,
    components: Slices,
    trailers: Uints,
    values: Slices,
    elsewhere: Bits,
}

impl Data {
    fn new(at: Handle, bytes: Vec<u8>) -> Result<Self, Error> {
        let block = Block::new(&bytes, 4)?;
        let rows = block.rows();
        let (namespaces, components) = (block.prefixed(0)?, block.slices(1, rows)?);
        let (trailers, values) = (block.uints(2, rows)?, block.slices(4, rows)?);
        let elsewhere = block.bits(5)?;
        Ok(Self { at, row: 0, rows, namespaces, components, trailers, values, elsewhere, bytes })
    }
}

/// The entries of the data blocks that may hold a namespace.
pub(crate) struct SortedEntries<'a, F = File> {
    table: &'a SortedTable<F>,
    prefix: Vec<u8>,
    /// What the index blocks on the way still name.
    levels: Vec<Vec<(Vec<u8>, Handle)>>,
    data: Option<Data>,
    key: Vec<u8>,
    /// The block of values that was read last, by its number.
    value: Option<(u64, Vec<u8>)>,
}

impl<F: FileExt> SortedEntries<'_, F> {
    /// The next entry.
    pub(crate) fn next(&mut self) -> Result<Option<Entry<'_>>, Error> {
        while self.data.as_ref().is_none_or(|data| data.row == data.rows) {
            if !self.next_block()? {
                return Ok(None);
            }
        }
        let Self { table, data: Some(data), key, value, .. } = self else { return Ok(None) };
        let row = data.row;
        data.row += 1;
        let (sequence, value) = table.placed(data.at, entry(table, data, row, key, value))?;
        Ok(Some(Entry { key, sequence, value }))
    }

    fn next_block(&mut self) -> Result<bool, Error> {
        self.data = None;
        let height = if self.table.is_two_level { 2 } else { 1 };
        while let Some(level) = self.levels.last_mut() {
            let Some((last, handle)) = level.pop() else {
                self.levels.pop();
                continue;
            };
            if cut(&last, &self.prefix) < self.prefix.as_slice() {
                continue;
            }
            // What comes behind a block that ends behind the namespace is behind it, too.
            if cut(&last, &self.prefix) > self.prefix.as_slice() {
                self.levels.iter_mut().for_each(Vec::clear);
            }
            if self.levels.len() < height {
                self.levels.push(self.table.blocks_of(handle)?);
                continue;
            }
            let data = Data::new(handle, self.table.file.contents(handle)?);
            self.data = Some(self.table.placed(handle, data)?);
            return Ok(true);
        }
        Ok(false)
    }
}

/// Sequence number and value of a row; its key goes into `key`.
fn entry<'e, F: FileExt>(
    table: &SortedTable<F>,
    data: &'e Data,
    row: usize,
    key: &mut Vec<u8>,
    held: &'e mut Option<(u64, Vec<u8>)>,
) -> Result<(u64, Option<&'e [u8]>), Error> {
    key.clear();
    data.namespaces.append(&data.bytes, row, key)?;
    key.extend_from_slice(data.components.get(&data.bytes, row)?);
    let trailer = data.trailers.get(&data.bytes, row)?;
    let stored = data.values.get(&data.bytes, row)?;
    let value = match trailer & 0xff {
        // Deleted, perhaps with a size.
        0 | 23 => None,
        // Set, perhaps over a deletion.
        1 | 18 if data.elsewhere.get(&data.bytes, row)? => Some(value_elsewhere(table, stored, held)?),
        1 | 18 => Some(stored),
        _ => return Err(Error::decode("table entry is not chai's")),
    };
    Ok((trailer >> 8, value))
}

/// A value in a block of values, which stays read.
fn value_elsewhere<'e, F: FileExt>(
    table: &SortedTable<F>,
    mut place: &[u8],
    held: &'e mut Option<(u64, Vec<u8>)>,
) -> Result<&'e [u8], Error> {
    let input = &mut place;
    let [kind] = take_array(input)?;
    if kind >> 6 != IN_VALUE_BLOCK {
        return Err(Error::decode("value is not in its table"));
    }
    let (length, number, offset) = (take(input)?, take(input)?, take(input)?);
    if held.as_ref().is_none_or(|(held, _)| *held != number) {
        let handle = usize::try_from(number).ok().and_then(|number| table.values.get(number));
        let handle = handle.ok_or_else(|| Error::decode("block of values does not exist"))?;
        *held = Some((number, table.file.contents(*handle)?));
    }
    let bytes = held.as_ref().map(|(_, bytes)| bytes.as_slice()).unwrap_or_default();
    let range = usize::try_from(offset).ok().zip(usize::try_from(length).ok());
    let value = range.and_then(|(offset, length)| bytes.get(offset..offset.checked_add(length)?));
    value.ok_or_else(|| Error::decode("value lies outside its block"))
}
