//! Access to single blocks, for a search by key.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::{BlockCursor, Entry, Handle, IndexCursor, Table};
use crate::Error;

impl<F: FileExt> Table<F> {
    /// For each data block a key not below its last one, and its place.
    pub(crate) fn index(&self) -> Result<Vec<(Vec<u8>, Handle)>, Error> {
        let mut cursor = IndexCursor { top: self.block(self.index)?, second: None };
        let mut blocks = Vec::new();
        while let Some((last, handle)) = cursor.next(self)? {
            let key = self.split_key(&last, self.index)?.0.to_vec();
            blocks.push((key, handle));
        }
        Ok(blocks)
    }

    /// The entries of one data block.
    pub(crate) fn block_entries(&self, at: Handle) -> Result<BlockEntries<'_, F>, Error> {
        Ok(BlockEntries { table: self, block: self.block(at)?, at })
    }
}

/// The entries of one data block, in its order.
pub(crate) struct BlockEntries<'a, F = File> {
    table: &'a Table<F>,
    block: BlockCursor,
    at: Handle,
}

impl<F: FileExt> BlockEntries<'_, F> {
    /// The next entry.
    pub(crate) fn next(&mut self) -> Result<Option<Entry<'_>>, Error> {
        if !self.table.advance(&mut self.block, self.at)? {
            return Ok(None);
        }
        let (key, trailer) = self.table.split_key(self.block.key(), self.at)?;
        let value = match trailer & 0xff {
            0 => None,
            1 => Some(self.block.value()),
            _ => return Err(self.table.unsupported("table entry is not genji's")),
        };
        Ok(Some(Entry { key, sequence: trailer >> 8, value }))
    }
}
