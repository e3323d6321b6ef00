//! Writes the manifest (format description §11): version edits, and the file that `CURRENT` names.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use super::table::TableSummary;
use crate::chunk::{Form, RecordWriter};
use crate::directory::{current_manifest, manifest_path};
use crate::manifest::{NewTable, TableMeta, records};
use crate::varint::{self, put_string, take, take_string};
use crate::{Error, ErrorKind};

const COMPARER: &[u8] = b"leveldb.BytewiseComparator";

/// One change of the set of live files and of the counters.
#[derive(Debug, Clone, Default)]
pub(crate) struct VersionEdit {
    /// Whether to name the comparer: the first edit of a manifest does.
    pub(crate) comparer: bool,
    pub(crate) min_log: Option<u64>,
    pub(crate) next_file: Option<u64>,
    pub(crate) last_sequence: Option<u64>,
    /// Level and number of tables that are no longer live.
    pub(crate) deleted: Vec<(u64, u64)>,
    /// New tables.
    pub(crate) added: Vec<LiveFile>,
}

/// A table of the version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LiveFile {
    pub(crate) level: u64,
    pub(crate) number: u64,
    /// Smallest and largest user key.
    pub(crate) smallest: Vec<u8>,
    pub(crate) largest: Vec<u8>,
    pub(crate) largest_sequence: u64,
    /// Bytes of the file.
    pub(crate) size: u64,
    /// The fields of its entry in an edit, tag first, as they were read.
    entry: Vec<u8>,
}

impl LiveFile {
    /// A table that was just written.
    pub(crate) fn written(level: u64, table: &TableSummary) -> Self {
        let mut entry = Vec::new();
        varint::put(&mut entry, 100);
        varint::put(&mut entry, level);
        varint::put(&mut entry, table.number);
        varint::put(&mut entry, table.size);
        put_string(&mut entry, &table.smallest);
        put_string(&mut entry, &table.largest);
        varint::put(&mut entry, table.smallest_sequence);
        varint::put(&mut entry, table.largest_sequence);
        Self {
            level,
            number: table.number,
            smallest: user_key(&table.smallest),
            largest: user_key(&table.largest),
            largest_sequence: table.largest_sequence,
            size: table.size,
            entry,
        }
    }

    /// The same table on another level.
    pub(crate) fn on_level(&self, level: u64) -> Self {
        let mut moved = Self { level, ..self.clone() };
        // Tag and level stand first, a byte each.
        if let (Some(byte), Ok(level)) = (moved.entry.get_mut(1), u8::try_from(level)) {
            *byte = level;
        }
        moved
    }

    /// Takes the entry of a new file whose tag was read.
    fn take(tag: u64, input: &mut &[u8]) -> Result<Self, Error> {
        let whole = *input;
        let NewTable { level, number, size, meta: TableMeta { smallest, largest }, largest_sequence } =
            NewTable::take(tag, input)?;
        let mut entry = Vec::new();
        varint::put(&mut entry, tag);
        entry.extend_from_slice(whole.get(..whole.len() - input.len()).unwrap_or_default());
        Ok(Self { level, number, smallest, largest, largest_sequence, size, entry })
    }
}

fn user_key(internal: &[u8]) -> Vec<u8> {
    internal.get(..internal.len().saturating_sub(8)).unwrap_or_default().to_vec()
}

/// What the manifest of a directory says, with all that a new manifest has to repeat.
#[derive(Debug, Default)]
pub(crate) struct VersionState {
    pub(crate) min_log: u64,
    pub(crate) next_file: u64,
    pub(crate) last_sequence: u64,
    pub(crate) files: BTreeMap<(u64, u64), LiveFile>,
}

impl VersionState {
    /// Reads the manifest that `CURRENT` names, to its last whole record.
    pub(crate) fn read(directory: &Path) -> Result<Self, Error> {
        let path = manifest_path(directory, current_manifest(directory)?);
        let bytes = std::fs::read(&path).map_err(|error| Error::io("read manifest", &path, error))?;
        let mut version = Self::default();
        for record in records(&bytes) {
            let (offset, record) = record.map_err(|error| error.in_file(&path))?;
            version.apply(&record).map_err(|error| {
                let kind =
                    if error.kind() == ErrorKind::Unsupported { error.kind() } else { ErrorKind::Corrupt };
                Error::new(kind, "manifest edit cannot be read").in_file(&path).at(offset).caused_by(error)
            })?;
        }
        if version.min_log == 0 {
            return Err(Error::new(ErrorKind::Corrupt, "manifest names no log").in_file(&path));
        }
        Ok(version)
    }

    fn apply(&mut self, mut record: &[u8]) -> Result<(), Error> {
        let input = &mut record;
        let mut added = Vec::new();
        while !input.is_empty() {
            match take(input)? {
                1 if take_string(input)? == COMPARER => {}
                2 => self.min_log = take(input)?,
                3 => self.next_file = take(input)?,
                4 => self.last_sequence = take(input)?,
                5 => {
                    take(input)?;
                    take_string(input)?;
                }
                6 => {
                    self.files.remove(&(take(input)?, take(input)?));
                }
                9 => {
                    take(input)?;
                }
                tag @ (7 | 100 | 102 | 103) => added.push(LiveFile::take(tag, input)?),
                _ => return Err(Error::new(ErrorKind::Unsupported, "manifest edit has an unknown tag")),
            }
        }
        // A moved table is deleted on one level and added on another in the same edit.
        self.files.extend(added.into_iter().map(|file| ((file.level, file.number), file)));
        Ok(())
    }
}

impl VersionEdit {
    /// The edit's bytes, fields in the order that Pebble writes them.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if self.comparer {
            varint::put(&mut bytes, 1);
            put_string(&mut bytes, COMPARER);
        }
        for (tag, value) in [(2, self.min_log), (3, self.next_file), (4, self.last_sequence)] {
            if let Some(value) = value {
                varint::put(&mut bytes, tag);
                varint::put(&mut bytes, value);
            }
        }
        for (level, number) in &self.deleted {
            for field in [6, *level, *number] {
                varint::put(&mut bytes, field);
            }
        }
        for file in &self.added {
            bytes.extend_from_slice(&file.entry);
        }
        bytes
    }
}

/// The manifest that is being appended to.
pub(crate) struct ManifestWriter {
    file: File,
    number: u64,
    chunks: RecordWriter,
}

impl ManifestWriter {
    /// Creates the manifest file; `CURRENT` does not name it yet.
    pub(crate) fn create(directory: &Path, number: u64) -> io::Result<Self> {
        let path = manifest_path(directory, number);
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
        Ok(Self { file, number, chunks: RecordWriter::new(Form::Legacy, 0) })
    }

    /// Number of the file.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Appends an edit durably.
    pub(crate) fn append(&mut self, edit: &VersionEdit) -> io::Result<()> {
        let mut bytes = Vec::new();
        self.chunks.append(&edit.encode(), &mut bytes);
        self.file.write_all(&bytes)?;
        self.file.sync_data()
    }

    /// Points `CURRENT` at this manifest, by rename, durably.
    pub(crate) fn make_current(&self, directory: &Path) -> io::Result<()> {
        let temporary = directory.join(format!("CURRENT.{:06}.dbtmp", self.number));
        let mut file = File::create(&temporary)?;
        file.write_all(format!("MANIFEST-{:06}\n", self.number).as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, directory.join("CURRENT"))?;
        sync_directory(directory)
    }
}

/// Makes created, renamed and removed names of a directory durable.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_of_a_fresh_database() {
        let mut expected = vec![0x01, 0x1a];
        expected.extend_from_slice(COMPARER);
        expected.extend_from_slice(&[0x03, 0x02, 0x04, 0x00]);
        let first = VersionEdit {
            comparer: true,
            next_file: Some(2),
            last_sequence: Some(0),
            ..VersionEdit::default()
        };
        assert_eq!(first.encode(), expected);
        let second = VersionEdit { min_log: Some(2), next_file: Some(3), ..VersionEdit::default() };
        assert_eq!(second.encode(), [2, 2, 3, 3]);
    }
}
