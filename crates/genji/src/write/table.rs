//! Writes a sorted table file (format description §12): blocks of about 4 KiB, Snappy where it gains, one index level.

use std::cmp::Ordering;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::filter::{self, Filter};
use super::order;
use crate::chunk::masked_crc;
use crate::varint;

const BLOCK_SIZE: usize = 4096;
const RESTART_INTERVAL: usize = 16;
const MAGIC: [u8; 8] = 0x88e2_41b7_85f4_cff7_u64.to_le_bytes();
const FOOTER_SIZE: usize = 53;

/// Kind byte of an internal key: the key is gone.
pub(crate) const KIND_DELETE: u8 = 0;
/// Kind byte of an internal key: the key has a value.
pub(crate) const KIND_SET: u8 = 1;

/// What a finished table holds, as the manifest describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableSummary {
    pub(crate) number: u64,
    pub(crate) size: u64,
    /// First and last internal key (user key and trailer).
    pub(crate) smallest: Vec<u8>,
    pub(crate) largest: Vec<u8>,
    pub(crate) smallest_sequence: u64,
    pub(crate) largest_sequence: u64,
}

/// Appends an internal key's trailer: sequence number and kind.
pub(crate) fn internal_key(user_key: &[u8], sequence: u64, kind: u8) -> Vec<u8> {
    let mut key = Vec::with_capacity(user_key.len() + 8);
    key.extend_from_slice(user_key);
    key.extend_from_slice(&(sequence << 8 | u64::from(kind)).to_le_bytes());
    key
}

/// Builds one table; keys must arrive strictly increasing under [`order::compare`].
pub(crate) struct TableBuilder {
    out: BufWriter<File>,
    offset: u64,
    data: BlockBuilder,
    index: BlockBuilder,
    last_key: Vec<u8>,
    summary: TableSummary,
    counts: Counts,
    hashes: Vec<u64>,
}

#[derive(Default)]
struct Counts {
    entries: u64,
    deleted: u64,
    blocks: u64,
    raw_keys: u64,
    raw_values: u64,
}

impl TableBuilder {
    pub(crate) fn create(path: &Path, number: u64) -> io::Result<Self> {
        let out = BufWriter::with_capacity(1 << 18, File::create(path)?);
        Ok(Self {
            out,
            offset: 0,
            data: BlockBuilder::new(RESTART_INTERVAL),
            index: BlockBuilder::new(1),
            last_key: Vec::new(),
            summary: TableSummary {
                number,
                size: 0,
                smallest: Vec::new(),
                largest: Vec::new(),
                smallest_sequence: u64::MAX,
                largest_sequence: 0,
            },
            counts: Counts::default(),
            hashes: Vec::new(),
        })
    }

    /// Bytes written so far, without the block that is being filled.
    pub(crate) fn written(&self) -> u64 {
        self.offset
    }

    /// Adds an entry. `None` is a deletion.
    pub(crate) fn add(&mut self, user_key: &[u8], sequence: u64, value: Option<&[u8]>) -> io::Result<()> {
        if self.counts.entries > 0 {
            let previous = self.last_key.get(..self.last_key.len().saturating_sub(8)).unwrap_or_default();
            if order::compare(previous, user_key) != Ordering::Less {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "table keys out of order"));
            }
        }
        let kind = if value.is_some() { KIND_SET } else { KIND_DELETE };
        let value = value.unwrap_or_default();
        let key = internal_key(user_key, sequence, kind);
        if self.counts.entries == 0 {
            self.summary.smallest.clone_from(&key);
        }
        self.data.add(&key, value);
        filter::put_hashes(&mut self.hashes, user_key);
        self.counts.entries += 1;
        self.counts.deleted += u64::from(kind == KIND_DELETE);
        self.counts.raw_keys += key.len() as u64;
        self.counts.raw_values += value.len() as u64;
        self.summary.smallest_sequence = self.summary.smallest_sequence.min(sequence);
        self.summary.largest_sequence = self.summary.largest_sequence.max(sequence);
        self.last_key = key;
        if self.data.len() >= BLOCK_SIZE {
            self.finish_data_block()?;
        }
        Ok(())
    }

    /// Writes the remaining blocks and the footer, and makes the file durable.
    pub(crate) fn finish(mut self) -> io::Result<(TableSummary, Filter)> {
        self.finish_data_block()?;
        let data_size = self.offset;
        let index_block = self.index.finish();
        let index = self.write_block(index_block)?;
        let properties_block = self.properties(data_size, index.1);
        let properties = self.write_block(properties_block)?;
        let mut metaindex = BlockBuilder::new(1);
        metaindex.add(b"rocksdb.properties", &handle(properties));
        let metaindex_block = metaindex.finish();
        let metaindex = self.write_block(metaindex_block)?;
        let mut footer = vec![1];
        footer.extend(handle(metaindex));
        footer.extend(handle(index));
        footer.resize(FOOTER_SIZE - 12, 0);
        footer.extend_from_slice(&2u32.to_le_bytes());
        footer.extend_from_slice(&MAGIC);
        self.out.write_all(&footer)?;
        self.out.flush()?;
        self.out.get_ref().sync_all()?;
        self.summary.size = self.offset + footer.len() as u64;
        self.summary.largest = self.last_key;
        Ok((self.summary, Filter::new(&self.hashes)))
    }

    fn finish_data_block(&mut self) -> io::Result<()> {
        if self.data.is_empty() {
            return Ok(());
        }
        let block = self.data.finish();
        let written = self.write_block(block)?;
        self.index.add(&self.last_key, &handle(written));
        self.counts.blocks += 1;
        Ok(())
    }

    /// Writes a block and its trailer; returns its offset and length without the trailer.
    fn write_block(&mut self, block: Vec<u8>) -> io::Result<(u64, u64)> {
        let compressed = snap::raw::Encoder::new().compress_vec(&block).map_err(io::Error::other)?;
        // Pebble's own rule: worth it from one eighth.
        let (mut stored, kind) =
            if compressed.len() < block.len() - block.len() / 8 { (compressed, 1u8) } else { (block, 0) };
        let length = stored.len() as u64;
        stored.push(kind);
        let crc = masked_crc(&stored);
        stored.extend_from_slice(&crc.to_le_bytes());
        self.out.write_all(&stored)?;
        let start = self.offset;
        self.offset += stored.len() as u64;
        Ok((start, length))
    }

    fn properties(&self, data_size: u64, index_size: u64) -> Vec<u8> {
        let number = |value: u64| {
            let mut bytes = Vec::new();
            varint::put(&mut bytes, value);
            bytes
        };
        let mut block = BlockBuilder::new(usize::MAX);
        // In name order, as every block is.
        block.add(b"rocksdb.block.based.table.index.type", &0u32.to_le_bytes());
        block.add(b"rocksdb.block.based.table.prefix.filtering", b"0");
        block.add(b"rocksdb.block.based.table.whole.key.filtering", b"0");
        block.add(b"rocksdb.comparator", b"leveldb.BytewiseComparator");
        block.add(b"rocksdb.compression", b"Snappy");
        block.add(b"rocksdb.data.size", &number(data_size));
        block.add(b"rocksdb.deleted.keys", &number(self.counts.deleted));
        block.add(b"rocksdb.index.size", &number(index_size + 5));
        block.add(b"rocksdb.merge.operator", b"pebble.concatenate");
        block.add(b"rocksdb.num.data.blocks", &number(self.counts.blocks));
        block.add(b"rocksdb.num.entries", &number(self.counts.entries));
        block.add(b"rocksdb.num.range-deletions", &number(0));
        block.add(b"rocksdb.raw.key.size", &number(self.counts.raw_keys));
        block.add(b"rocksdb.raw.value.size", &number(self.counts.raw_values));
        block.finish()
    }
}

fn handle((offset, length): (u64, u64)) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(20);
    varint::put(&mut bytes, offset);
    varint::put(&mut bytes, length);
    bytes
}

/// One block: prefix-compressed entries, then restart offsets and their count.
struct BlockBuilder {
    bytes: Vec<u8>,
    restarts: Vec<u32>,
    interval: usize,
    since_restart: usize,
    last_key: Vec<u8>,
}

impl BlockBuilder {
    fn new(interval: usize) -> Self {
        Self { bytes: Vec::new(), restarts: Vec::new(), interval, since_restart: 0, last_key: Vec::new() }
    }

    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn len(&self) -> usize {
        self.bytes.len() + 4 * self.restarts.len() + 4
    }

    fn add(&mut self, key: &[u8], value: &[u8]) {
        let shared = if self.restarts.is_empty() || self.since_restart == self.interval {
            self.restarts.push(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
            self.since_restart = 0;
            0
        } else {
            self.last_key.iter().zip(key).take_while(|(left, right)| left == right).count()
        };
        self.since_restart += 1;
        varint::put(&mut self.bytes, shared as u64);
        varint::put(&mut self.bytes, (key.len() - shared) as u64);
        varint::put(&mut self.bytes, value.len() as u64);
        self.bytes.extend_from_slice(key.get(shared..).unwrap_or_default());
        self.bytes.extend_from_slice(value);
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
    }

    /// The finished block; the builder is empty again.
    fn finish(&mut self) -> Vec<u8> {
        if self.restarts.is_empty() {
            self.restarts.push(0);
        }
        let mut block = std::mem::take(&mut self.bytes);
        for restart in &self.restarts {
            block.extend_from_slice(&restart.to_le_bytes());
        }
        block.extend_from_slice(&u32::try_from(self.restarts.len()).unwrap_or(u32::MAX).to_le_bytes());
        self.restarts.clear();
        self.since_restart = 0;
        self.last_key.clear();
        block
    }
}
