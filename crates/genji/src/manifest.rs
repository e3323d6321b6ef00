//! The manifest: which tables are live, and from which log on the rest is found.
//!
//! A manifest is a file of records in legacy chunks, each a version edit of tagged fields. It only grows between two opens
//! of the database, so a cut tail means that the engine is writing it.

use std::collections::BTreeMap;
use std::path::Path;

use crate::batch::SEQUENCES;
use crate::chunk::{BLOCK, LEGACY_HEADER, Part, masked_crc};
use crate::directory::{current_manifest, manifest_path};
use crate::varint::{take, take_array, take_bytes, take_string};
use crate::{Error, ErrorKind};

/// The state that a manifest describes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Version {
    /// Number of the manifest itself.
    pub(crate) manifest: u64,
    /// Logs from this number on hold what the tables do not.
    pub(crate) min_log: u64,
    /// Upper bound of the sequence numbers assigned at the time of the last edit.
    pub(crate) last_sequence: u64,
    /// The same when the current host process opened the database.
    pub(crate) opened_at: u64,
    /// Live tables by (level, number).
    pub(crate) tables: BTreeMap<(u32, u64), TableMeta>,
}

/// What the manifest says about a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableMeta {
    /// Smallest user key.
    pub(crate) smallest: Vec<u8>,
    /// Largest user key.
    pub(crate) largest: Vec<u8>,
}

impl Version {
    /// Reads the manifest that `CURRENT` names, to its last whole record.
    pub(crate) fn read(dir: &Path) -> Result<Self, Error> {
        let manifest = current_manifest(dir)?;
        let path = manifest_path(dir, manifest);
        let bytes = std::fs::read(&path).map_err(|error| Error::io("read manifest", &path, error))?;
        Self::decode(manifest, &bytes).map_err(|error| error.in_file(&path))
    }

    /// The state that the bytes of a manifest describe.
    pub(crate) fn decode(manifest: u64, bytes: &[u8]) -> Result<Self, Error> {
        let mut version = Self { manifest, ..Self::default() };
        let mut edits = 0;
        for record in records(bytes) {
            let (offset, record) = record?;
            version.apply(&record).map_err(|error| {
                let kind =
                    if error.kind() == ErrorKind::Unsupported { error.kind() } else { ErrorKind::Corrupt };
                Error::new(kind, "manifest edit cannot be read").at(offset).caused_by(error)
            })?;
            edits += 1;
            if edits <= 2 {
                // A fresh database names its first log in a second edit; nothing is assigned before that.
                version.opened_at = version.last_sequence;
            }
        }
        if version.min_log == 0 && version.tables.is_empty() {
            // Of a fresh store, newer engines say nothing before its first flush: every log counts.
            version.min_log = 1;
        }
        if version.min_log == 0 {
            return Err(Error::new(ErrorKind::Corrupt, "manifest names no log"));
        }
        Ok(version)
    }

    fn apply(&mut self, mut record: &[u8]) -> Result<(), Error> {
        let input = &mut record;
        let mut added = Vec::new();
        while !input.is_empty() {
            match take(input)? {
                1 => {
                    if take_string(input)? != b"leveldb.BytewiseComparator" {
                        return Err(Error::new(ErrorKind::Unsupported, "tables have an unknown order"));
                    }
                }
                2 => self.min_log = take(input)?,
                3 | 9 => {
                    take(input)?;
                }
                4 => self.last_sequence = take_sequence(input)?,
                5 => {
                    take(input)?;
                    take_string(input)?;
                }
                6 => {
                    let level = level(take(input)?)?;
                    self.tables.remove(&(level, take(input)?));
                }
                tag @ (7 | 100 | 102 | 103) => {
                    let table = NewTable::take(tag, input)?;
                    added.push(((level(table.level)?, table.number), table.meta));
                }
                _ => return Err(Error::new(ErrorKind::Unsupported, "manifest edit has an unknown tag")),
            }
        }
        // A moved table is deleted on one level and added on another in the same edit.
        self.tables.extend(added);
        Ok(())
    }
}

fn take_sequence(input: &mut &[u8]) -> Result<u64, Error> {
    match take(input)? {
        sequence @ ..SEQUENCES => Ok(sequence),
        _ => Err(Error::decode("sequence number is too large")),
    }
}

fn level(number: u64) -> Result<u32, Error> {
    u32::try_from(number).map_err(|_| Error::decode("level is too large"))
}

/// A table as an edit adds it.
pub(crate) struct NewTable {
    pub(crate) level: u64,
    pub(crate) number: u64,
    /// Bytes of the file.
    pub(crate) size: u64,
    /// Smallest and largest user key.
    pub(crate) meta: TableMeta,
    /// 0 where the edit does not tell it.
    pub(crate) largest_sequence: u64,
}

impl NewTable {
    /// Takes the entry whose tag was read: 7, 100, 102 or 103.
    pub(crate) fn take(tag: u64, input: &mut &[u8]) -> Result<Self, Error> {
        let (level, number) = (take(input)?, take(input)?);
        if tag == 102 {
            take(input)?;
        }
        let size = take(input)?;
        let smallest = user_key(take_string(input)?)?;
        let largest = user_key(take_string(input)?)?;
        let mut largest_sequence = 0;
        if tag != 7 {
            take(input)?;
            largest_sequence = take(input)?;
        }
        if tag == 103 {
            loop {
                match take(input)? {
                    1 => break,
                    // The bit marks custom fields that a reader must not ignore.
                    custom if custom & 64 != 0 => {
                        return Err(Error::new(ErrorKind::Unsupported, "table has an unknown property"));
                    }
                    _ => take_string(input)?,
                };
            }
        }
        Ok(Self { level, number, size, meta: TableMeta { smallest, largest }, largest_sequence })
    }
}

fn user_key(internal: &[u8]) -> Result<Vec<u8>, Error> {
    internal
        .split_last_chunk::<8>()
        .map(|(key, _)| key.to_vec())
        .ok_or_else(|| Error::decode("internal key is too short"))
}

/// The records of a manifest with their offsets.
pub(crate) fn records(bytes: &[u8]) -> impl Iterator<Item = Result<(u64, Vec<u8>), Error>> {
    Records { bytes, at: 0 }
}

struct Records<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Iterator for Records<'_> {
    type Item = Result<(u64, Vec<u8>), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.at;
        let mut record = Vec::new();
        loop {
            let left = BLOCK - self.at % BLOCK;
            if left < LEGACY_HEADER {
                self.at += left;
                continue;
            }
            match chunk(self.bytes.get(self.at..)?, left) {
                Ok(None) => return None,
                Ok(Some((part, payload))) => {
                    record.extend_from_slice(payload);
                    self.at += LEGACY_HEADER + payload.len();
                    if matches!(part, Part::Full | Part::Last) {
                        return Some(Ok((start as u64, record)));
                    }
                }
                Err(error) => {
                    let at = std::mem::replace(&mut self.at, usize::MAX - BLOCK);
                    return Some(Err(error.at(at as u64)));
                }
            }
        }
    }
}

/// The chunk at the front of `bytes`, if it is written to its end.
fn chunk(mut bytes: &[u8], left: usize) -> Result<Option<(Part, &[u8])>, Error> {
    if bytes.len() < LEGACY_HEADER || bytes[..LEGACY_HEADER] == [0; LEGACY_HEADER] {
        return Ok(None);
    }
    let damaged = |reason| Error::new(ErrorKind::Corrupt, reason);
    let crc = u32::from_le_bytes(take_array(&mut bytes)?);
    let length = usize::from(u16::from_le_bytes(take_array(&mut bytes)?));
    if length > left - LEGACY_HEADER {
        return Err(damaged("manifest chunk crosses its block"));
    }
    let Some(covered) = bytes.get(..length + 1) else { return Ok(None) };
    if masked_crc(covered) != crc {
        return Err(damaged("manifest chunk has wrong checksum"));
    }
    let part =
        Part::from_legacy_type(covered[0]).ok_or_else(|| damaged("manifest chunk has unknown type"))?;
    Ok(Some((part, take_bytes(&mut &covered[1..], length as u64)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::{Form, RecordWriter};

    fn directory(records: &[&[u8]], damage: Option<usize>) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = Vec::new();
        let mut writer = RecordWriter::new(Form::Legacy, 0);
        records.iter().for_each(|record| writer.append(record, &mut bytes));
        if let Some(at) = damage {
            bytes[at] ^= 1;
        }
        std::fs::write(dir.path().join("CURRENT"), "MANIFEST-000001\n").unwrap();
        std::fs::write(manifest_path(dir.path(), 1), bytes).unwrap();
        dir
    }

    #[test]
    fn edits_apply_in_order() {
        let fresh = b"\x01\x1aleveldb.BytewiseComparator\x03\x02\x04\x00";
        let add = b"\x02\x04\x67\x00\x05\x10\x09\x45\x00\x00\x00\x00\x00\x00\x00\x00\x09\x46\x00\x00\x00\x00\x00\x00\x00\x00\x01\x02\x06\x01\x00\x01\x04\x07";
        let moved = b"\x06\x00\x05\x67\x06\x05\x10\x09\x45\x00\x00\x00\x00\x00\x00\x00\x00\x09\x46\x00\x00\x00\x00\x00\x00\x00\x00\x01\x02\x01";
        let dir = directory(&[fresh, b"\x02\x02\x03\x03", add, moved], None);
        let version = Version::read(dir.path()).unwrap();
        assert_eq!((version.min_log, version.last_sequence, version.opened_at), (4, 7, 0));
        assert_eq!(version.tables.keys().collect::<Vec<_>>(), [&(6, 5)]);
        assert_eq!(version.tables[&(6, 5)], TableMeta { smallest: vec![0x45], largest: vec![0x46] });
    }

    /// Edits fill several blocks, one of them lies in two; a cut last one is being written.
    #[test]
    fn edits_of_several_blocks() {
        let edits: Vec<Vec<u8>> = (1..=4000u64)
            .map(|log| {
                let mut edit = vec![2];
                crate::varint::put(&mut edit, log);
                edit.extend_from_slice(&[5, 1]);
                crate::varint::put_string(&mut edit, b"a compaction pointer");
                edit
            })
            .collect();
        let dir = directory(&edits.iter().map(Vec::as_slice).collect::<Vec<_>>(), None);
        let path = manifest_path(dir.path(), 1);
        let bytes = std::fs::read(&path).unwrap();
        assert!(bytes.len() > 3 * BLOCK);
        assert_eq!(Version::read(dir.path()).unwrap().min_log, 4000);
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert_eq!(Version::read(dir.path()).unwrap().min_log, 3999);
    }

    /// A tag that Genji never writes, and a comparer of another engine.
    #[test]
    fn other_engines_are_refused() {
        for edit in [&b"\x02\x02\x68\x00"[..], b"\x01\x05other\x02\x02"] {
            let dir = directory(&[edit], None);
            assert_eq!(Version::read(dir.path()).unwrap_err().kind(), ErrorKind::Unsupported);
        }
    }

    #[test]
    fn damage_names_file_and_offset() {
        let dir = directory(&[b"\x02\x02\x03\x03", b"\x02\x04"], Some(14));
        let error = Version::read(dir.path()).unwrap_err();
        assert_eq!((error.kind(), error.offset()), (ErrorKind::Corrupt, Some(11)));
        assert!(error.file().is_some());
    }
}
