//! Records that are kept until their transaction ends: in memory, and in a file without a name once they are too many.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Mode, OFlags};

use crate::Error;

/// Bytes of records kept in memory.
pub(crate) const IN_MEMORY: usize = 16 << 20;

/// Records in order.
#[derive(Debug, Default)]
pub(crate) struct Spool {
    memory: VecDeque<Vec<u8>>,
    bytes: usize,
    /// The records before those in memory, each behind its length.
    file: Option<Spooled>,
}

#[derive(Debug)]
struct Spooled {
    file: File,
    /// Records that were not taken yet.
    left: u64,
    /// Where the next is read, and where the next is written.
    read: u64,
    written: u64,
}

impl Spool {
    pub(crate) fn is_empty(&self) -> bool {
        self.memory.is_empty() && self.file.as_ref().is_none_or(|spooled| spooled.left == 0)
    }

    /// Whether the records are more than are kept in memory.
    pub(crate) fn is_in_file(&self) -> bool {
        self.file.is_some()
    }

    /// The records, if all are in memory.
    pub(crate) fn in_memory(&self) -> impl Iterator<Item = &[u8]> {
        self.memory.iter().map(Vec::as_slice)
    }

    /// Adds a record behind the others. After an error it is not among them.
    pub(crate) fn push(&mut self, record: Vec<u8>) -> Result<(), Error> {
        let dir = std::env::temp_dir();
        if self.file.is_some() || self.bytes + record.len() > IN_MEMORY {
            let waiting = self.memory.iter().map(Vec::as_slice);
            let all = waiting.chain(std::iter::once(record.as_slice()));
            write_all(&mut self.file, &dir, all)
                .map_err(|error| Error::io("keep log records in", &dir, error))?;
            self.memory.clear();
            self.bytes = 0;
        } else {
            self.bytes += record.len();
            self.memory.push_back(record);
        }
        Ok(())
    }

    /// Takes the first record.
    pub(crate) fn take(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let Some(spooled) = self.file.as_mut().filter(|spooled| spooled.left > 0) else {
            return Ok(self.memory.pop_front());
        };
        let record = spooled.take();
        record.map(Some).map_err(|error| Error::io("read log records kept in", &std::env::temp_dir(), error))
    }
}

/// Writes records behind those of the file, which is made if there is none.
fn write_all<'a>(
    spooled: &mut Option<Spooled>,
    dir: &Path,
    records: impl Iterator<Item = &'a [u8]>,
) -> io::Result<()> {
    if spooled.is_none() {
        *spooled = Some(Spooled { file: nameless(dir)?, left: 0, read: 0, written: 0 });
    }
    let Some(spooled) = spooled else { return Ok(()) };
    // What an earlier failure left behind the end is written over.
    spooled.file.seek(SeekFrom::Start(spooled.written))?;
    let (mut count, mut length) = (0, 0);
    for record in records {
        spooled.file.write_all(&(record.len() as u64).to_le_bytes())?;
        spooled.file.write_all(record)?;
        count += 1;
        length += 8 + record.len() as u64;
    }
    spooled.left += count;
    spooled.written += length;
    Ok(())
}

impl Spooled {
    fn take(&mut self) -> io::Result<Vec<u8>> {
        self.file.seek(SeekFrom::Start(self.read))?;
        let mut length = [0; 8];
        self.file.read_exact(&mut length)?;
        let length = u64::from_le_bytes(length);
        let mut record = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        self.file.read_exact(&mut record)?;
        self.read += 8 + length;
        self.left -= 1;
        Ok(record)
    }
}

/// A file that vanishes with its last descriptor, for this user alone.
fn nameless(dir: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    if let Ok(descriptor) = rustix::fs::open(dir, flags, Mode::RUSR | Mode::WUSR) {
        return Ok(File::from(descriptor));
    }
    // Not every file system has files without a name.
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = dir.join(format!("deltamesh-{}-{number}.spool", std::process::id()));
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_in_order() {
        let mut spool = Spool::default();
        for number in 0..5u8 {
            spool.push(vec![number; IN_MEMORY / 3]).unwrap();
            assert_eq!(spool.is_in_file(), number >= 3);
        }
        for number in 0..5u8 {
            assert_eq!(spool.take().unwrap().unwrap(), vec![number; IN_MEMORY / 3]);
        }
        assert!(spool.is_empty() && spool.take().unwrap().is_none());
    }
}
