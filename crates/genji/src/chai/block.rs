//! Columnar blocks: the values of one column stand together.
//!
//! A header (version, columns u16, rows u32; then kind u8 and place u32 for each column) may have a header of the block's use
//! before it. The columns follow, and one byte. Places count from the first byte of the block, and integers wider than a
//! byte are aligned to their width. Total: what does not fit into the block is an error.

use crate::Error;

const VERSION: u8 = 1;
const HEADER: usize = 7;
const COLUMN_HEADER: usize = 5;

/// Kinds of columns, as the header names them.
const BITS: u8 = 1;
const UINTS: u8 = 2;
const SLICES: u8 = 3;
const PREFIXED: u8 = 4;

fn damaged() -> Error {
    Error::decode("columnar block is damaged")
}

fn aligned(at: usize, width: usize) -> usize {
    at.next_multiple_of(width.max(1))
}

/// A little-endian integer of 0 to 8 bytes.
pub(super) fn uint(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// A block with its header read.
#[derive(Debug)]
pub(super) struct Block<'b> {
    bytes: &'b [u8],
    /// Kind and place of each column, and the end of the last.
    columns: Vec<(u8, usize)>,
    rows: usize,
}

impl<'b> Block<'b> {
    /// Reads the header behind `own` bytes of the block's use.
    pub(super) fn new(bytes: &'b [u8], own: usize) -> Result<Self, Error> {
        let header = bytes.get(own..own + HEADER).ok_or_else(damaged)?;
        if header[0] != VERSION {
            return Err(Error::decode("columnar block has unknown version"));
        }
        let count = usize::from(u16::from_le_bytes([header[1], header[2]]));
        let rows = uint(&header[3..]) as usize;
        let start = own + HEADER;
        let headers = bytes.get(start..start + count * COLUMN_HEADER).ok_or_else(damaged)?;
        let mut columns: Vec<(u8, usize)> =
            headers.chunks(COLUMN_HEADER).map(|header| (header[0], uint(&header[1..]) as usize)).collect();
        columns.push((0, bytes.len() - 1));
        // Each row takes a byte somewhere, or all are equal: then their number is bounded here.
        if rows > bytes.len().saturating_mul(64) {
            return Err(damaged());
        }
        Ok(Self { bytes, columns, rows })
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// The bytes up to the end of a column of that kind, and where it begins.
    fn column(&self, index: usize, kind: u8) -> Result<(&'b [u8], usize), Error> {
        match self.columns.get(index..index + 2) {
            Some(&[(found, start), (_, end)]) if found == kind && start <= end => {
                Ok((self.bytes.get(..end).ok_or_else(damaged)?, start))
            }
            _ => Err(Error::decode("columnar block has other columns")),
        }
    }

    pub(super) fn uints(&self, index: usize, rows: usize) -> Result<Uints, Error> {
        let (bytes, start) = self.column(index, UINTS)?;
        Uints::new(bytes, start, rows).map(|(uints, _)| uints)
    }

    pub(super) fn slices(&self, index: usize, rows: usize) -> Result<Slices, Error> {
        let (bytes, start) = self.column(index, SLICES)?;
        Slices::new(bytes, start, rows)
    }

    pub(super) fn prefixed(&self, index: usize) -> Result<Prefixed, Error> {
        let (bytes, start) = self.column(index, PREFIXED)?;
        let shift = u32::from(*bytes.get(start).ok_or_else(damaged)?);
        let bundle = 1_usize.checked_shl(shift).filter(|_| shift < 16).ok_or_else(damaged)?;
        let slices = Slices::new(bytes, start + 1, self.rows + self.rows.div_ceil(bundle))?;
        Ok(Prefixed { bundle, slices })
    }

    pub(super) fn bits(&self, index: usize) -> Result<Bits, Error> {
        let (bytes, start) = self.column(index, BITS)?;
        match bytes.get(start) {
            Some(0) => {
                let at = aligned(start + 1, 8);
                let end = at + self.rows.div_ceil(64) * 8;
                if end > bytes.len() { Err(damaged()) } else { Ok(Bits(Some(at))) }
            }
            Some(1) => Ok(Bits(None)),
            _ => Err(damaged()),
        }
    }
}

/// Integers of one width, over a base.
#[derive(Debug, Clone, Copy)]
pub(super) struct Uints {
    base: u64,
    at: usize,
    width: usize,
    rows: usize,
}

impl Uints {
    /// The integers at `start`, which end in `bytes`, and their end.
    fn new(bytes: &[u8], start: usize, rows: usize) -> Result<(Self, usize), Error> {
        if rows == 0 {
            return Ok((Self { base: 0, at: start, width: 0, rows }, start));
        }
        let encoding = *bytes.get(start).ok_or_else(damaged)?;
        let (width, mut at) = (usize::from(encoding & 0x7f), start + 1);
        let mut base = 0;
        if encoding & 0x80 != 0 {
            base = uint(bytes.get(at..at + 8).ok_or_else(damaged)?);
            at += 8;
        }
        if !matches!(width, 0 | 1 | 2 | 4 | 8) {
            return Err(damaged());
        }
        let at = aligned(at, width);
        let end = rows.checked_mul(width).and_then(|size| size.checked_add(at)).ok_or_else(damaged)?;
        if end > bytes.len() { Err(damaged()) } else { Ok((Self { base, at, width, rows }, end)) }
    }

    pub(super) fn get(&self, bytes: &[u8], row: usize) -> Result<u64, Error> {
        let at = self.at + row * self.width;
        let value = bytes.get(at..at + self.width).filter(|_| row < self.rows).ok_or_else(damaged)?;
        Ok(self.base.wrapping_add(uint(value)))
    }
}

/// Strings of bytes, by their ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slices {
    offsets: Uints,
    data: usize,
}

impl Slices {
    fn new(bytes: &[u8], start: usize, count: usize) -> Result<Self, Error> {
        let offsets = if count == 0 { 0 } else { count + 1 };
        let (offsets, data) = Uints::new(bytes, start, offsets)?;
        Ok(Self { offsets, data })
    }

    /// The bytes between two ends.
    fn between<'b>(&self, bytes: &'b [u8], start: usize, end: usize) -> Result<&'b [u8], Error> {
        let place = |offset: usize| self.data.checked_add(offset).ok_or_else(damaged);
        bytes.get(place(start)?..place(end)?).ok_or_else(damaged)
    }

    fn end(&self, bytes: &[u8], index: usize) -> Result<usize, Error> {
        usize::try_from(self.offsets.get(bytes, index)?).map_err(|_| damaged())
    }

    pub(super) fn get<'b>(&self, bytes: &'b [u8], index: usize) -> Result<&'b [u8], Error> {
        self.between(bytes, self.end(bytes, index)?, self.end(bytes, index + 1)?)
    }
}

/// Strings of bytes in ascending order: what all begin with, then in bundles what each of the bundle begins with, and the
/// rest of each. An empty rest means that the string is the one before, within its bundle.
#[derive(Debug, Clone, Copy)]
pub(super) struct Prefixed {
    bundle: usize,
    slices: Slices,
}

impl Prefixed {
    /// Appends the string of a row.
    pub(super) fn append(&self, bytes: &[u8], row: usize, out: &mut Vec<u8>) -> Result<(), Error> {
        out.extend_from_slice(self.slices.between(bytes, 0, self.slices.end(bytes, 0)?)?);
        let bundle = row / self.bundle * (self.bundle + 1);
        out.extend_from_slice(self.slices.get(bytes, bundle)?);
        let mut index = 1 + row + row / self.bundle;
        let mut rest = self.slices.get(bytes, index)?;
        while rest.is_empty() && index > bundle + 1 {
            index -= 1;
            rest = self.slices.get(bytes, index)?;
        }
        out.extend_from_slice(rest);
        Ok(())
    }
}

/// A bit a row; none set where there is no place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bits(Option<usize>);

impl Bits {
    pub(super) fn get(&self, bytes: &[u8], row: usize) -> Result<bool, Error> {
        let Some(at) = self.0 else { return Ok(false) };
        Ok(bytes.get(at + row / 8).ok_or_else(damaged)? >> (row % 8) & 1 == 1)
    }
}
