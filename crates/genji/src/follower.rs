//! Follows the logs of a directory from one to the next, and proves that nothing is missing between two records.
//!
//! Sequence numbers are contiguous over the whole life of a database, so a hole in what was read is exact. Every log is
//! opened as soon as it appears: an open descriptor outlives unlinking. Nothing outlives recycling but reading in time;
//! therefore [`Follower::fill`] takes everything that is there, up to the read-ahead limit.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::batch;
use crate::directory;
use crate::log::{LogReader, Step, Stop};
use crate::manifest::Version;
use crate::{Error, ErrorKind};

/// What may be taken out of the queue before the logs are looked at again, in bytes: far less than the engine writes before it
/// recycles one.
const LOOK_AFTER: usize = 256 << 10;

/// One record of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) log: u64,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) sequence: u64,
    /// Sequence number after the record.
    pub(crate) next_sequence: u64,
    /// Whether another host process has opened the database since the record before.
    pub(crate) new_process: bool,
    pub(crate) bytes: Vec<u8>,
}

/// Which sequence number the next record must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    Exactly(u64),
    /// Nothing was read yet; the tables hold everything before the first log.
    AtMost(u64),
}

/// The log before the current one, until the first record of the current one proves that it was read to its end.
#[derive(Debug)]
struct Left {
    reader: LogReader,
    /// None when it ended in the trailer.
    stop: Option<Stop>,
}

/// Reads records in order, ahead of who takes them.
#[derive(Debug)]
pub(crate) struct Follower {
    dir: PathBuf,
    /// Open logs, ascending; the first is being read.
    readers: VecDeque<LogReader>,
    left: Option<Left>,
    newest: u64,
    /// The time of the directory when its logs were listed.
    listed: Option<SystemTime>,
    /// How often new logs were looked for.
    looks: u32,
    /// The log of the last record.
    last_log: u64,
    expected: Expected,
    queue: VecDeque<Record>,
    queued: usize,
    /// Bytes that were taken out of the queue since the logs were looked at.
    taken: usize,
    limit: usize,
    scratch: Vec<u8>,
    idle: u32,
    /// Offset in the active log that is known to be damaged.
    damaged: Option<u64>,
    reread: bool,
}

impl Follower {
    /// Follows the logs from that one on, whose first record has at most that sequence number. No limit yet.
    pub(crate) fn open(dir: &Path, first_log: u64, most: u64) -> Result<Self, Error> {
        Ok(Self {
            dir: dir.to_owned(),
            readers: VecDeque::from([LogReader::open(dir, first_log)?]),
            left: None,
            newest: first_log,
            listed: None,
            looks: 0,
            last_log: first_log,
            expected: Expected::AtMost(most),
            queue: VecDeque::new(),
            queued: 0,
            taken: 0,
            limit: usize::MAX,
            scratch: Vec::new(),
            idle: 0,
            damaged: None,
            reread: false,
        })
    }

    pub(crate) fn expected(&self) -> Expected {
        self.expected
    }

    pub(crate) fn expect(&mut self, sequence: u64) {
        self.expected = Expected::Exactly(sequence);
    }

    /// How many bytes to read ahead at most, about.
    pub(crate) fn limit(&mut self, bytes: usize) {
        self.limit = bytes;
    }

    /// The place of a record that cannot be used, although its checksum is right.
    pub(crate) fn unusable(&self, record: &Record, error: Error) -> Error {
        let path = directory::log_path(&self.dir, record.log);
        if error.kind() == ErrorKind::Unsupported {
            return error.in_file(&path).at(record.start);
        }
        Error::new(ErrorKind::Corrupt, "log record is no batch")
            .in_file(&path)
            .at(record.start)
            .caused_by(error)
    }

    /// The records in the queue, in order.
    pub(crate) fn queued(&self) -> impl Iterator<Item = &Record> {
        self.queue.iter()
    }

    pub(crate) fn front(&self) -> Option<&Record> {
        self.queue.front()
    }

    pub(crate) fn pop(&mut self) -> Option<Record> {
        let record = self.queue.pop_front()?;
        self.queued -= record.bytes.len();
        self.taken += record.bytes.len();
        Some(record)
    }

    /// Whether the logs should be looked at before the next record is taken.
    pub(crate) fn is_due(&self) -> bool {
        self.queue.is_empty() || self.taken >= LOOK_AFTER
    }

    /// Reads everything that is there, up to the limit.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] and [`ErrorKind::Io`] can be tried again; [`ErrorKind::Gap`] and [`ErrorKind::Rewound`]
    /// are final. What was read before the error is in the queue.
    pub(crate) fn fill(&mut self) -> Result<(), Error> {
        self.taken = 0;
        while self.queued < self.limit {
            let Some(reader) = self.readers.front_mut() else { return self.discover() };
            let mut bytes = std::mem::take(&mut self.scratch);
            let step = reader.next(&mut bytes);
            self.scratch = bytes;
            let goes_on = match step? {
                Step::Record { start, end } => self.accept(start, end)?,
                Step::Finished => self.turn(None)?,
                Step::Stopped(stop) => self.turn(Some(stop))?,
            };
            if !goes_on {
                break;
            }
        }
        Ok(())
    }

    /// Queues the record in `scratch`, if it continues the one before.
    fn accept(&mut self, start: u64, end: u64) -> Result<bool, Error> {
        let Some(reader) = self.readers.front_mut() else { return Ok(false) };
        let (log, path) = (reader.number(), reader.path().to_owned());
        let (sequence, count) = match batch::header(&self.scratch) {
            Ok(header) => header,
            Err(error) => {
                reader.rewind(start);
                let corrupt = Error::new(ErrorKind::Corrupt, "log record is no batch");
                return Err(corrupt.in_file(&path).at(start).caused_by(error));
            }
        };
        let fits = match self.expected {
            Expected::Exactly(next) => sequence.cmp(&next),
            Expected::AtMost(most) => sequence.cmp(&most).max(std::cmp::Ordering::Equal),
        };
        if fits.is_ne() {
            reader.rewind(start);
        }
        match fits {
            std::cmp::Ordering::Equal => {}
            std::cmp::Ordering::Less => {
                let rewound = Error::new(ErrorKind::Rewound, "sequence numbers go backwards");
                return Err(rewound.in_file(&path).at(start));
            }
            std::cmp::Ordering::Greater => return self.missed(start).map(|()| true),
        }
        let next_sequence = sequence + u64::from(count);
        let new_process = self.last_log != log && self.is_new_process(log)?;
        self.last_log = log;
        self.expected = Expected::Exactly(next_sequence);
        self.left = None;
        self.idle = 0;
        self.damaged = None;
        self.reread = false;
        let is_snug = self.scratch.capacity() - self.scratch.len() <= self.scratch.len() / 4;
        let bytes = if is_snug { std::mem::take(&mut self.scratch) } else { self.scratch.clone() };
        self.queued += bytes.len();
        self.queue.push_back(Record { log, start, end, sequence, next_sequence, new_process, bytes });
        Ok(true)
    }

    /// The record at `start` of the current log comes too late: the log before is damaged, or records are lost.
    ///
    /// Goes back to the log before if it can be read on now.
    fn missed(&mut self, start: u64) -> Result<(), Error> {
        let gap = Error::new(ErrorKind::Gap, "log records were missed");
        let gap = match self.readers.front() {
            Some(reader) => gap.in_file(reader.path()).at(start),
            None => gap,
        };
        if let Some(mut left) = self.left.take() {
            let step = left.reader.peek()?;
            if matches!(step, Step::Record { .. }) {
                self.readers.push_front(left.reader);
                return Ok(());
            }
            let stop = left.stop.filter(|stop| !stop.blank && left.reader.path().exists());
            let path = left.reader.path().to_owned();
            let number = left.reader.number();
            self.left = Some(left);
            if let Some(stop) = stop {
                return Err(self.corrupt(number, &path, stop.offset));
            }
        }
        Err(gap)
    }

    /// The current log has no further record now. Returns whether to read on, perhaps in the next log.
    fn turn(&mut self, stop: Option<Stop>) -> Result<bool, Error> {
        self.discover()?;
        let is_active = self.readers.len() == 1;
        let Some(reader) = self.readers.front_mut() else { return Ok(false) };
        if let Some(stop) = stop {
            if !is_active && !self.reread {
                // The engine finished this log before it made the next, perhaps after the last look.
                self.reread = true;
                return Ok(true);
            }
            self.idle = self.idle.saturating_add(1);
            let look = !is_active
                || self.damaged == Some(stop.offset)
                || self.idle == 2
                || self.idle.is_multiple_of(64);
            if look && reader.is_damaged(stop)? {
                self.damaged = Some(stop.offset);
                let (number, path) = (reader.number(), reader.path().to_owned());
                return Err(self.corrupt(number, &path, stop.offset));
            }
        }
        if is_active {
            self.check_history()?;
            return Ok(false);
        }
        self.reread = false;
        let reader = self.readers.pop_front();
        if self.left.is_none() {
            self.left = reader.map(|reader| Left { reader, stop });
        }
        Ok(true)
    }

    /// An engine never takes back its newest log. Where it is gone and no later one is there, or another file has its
    /// name, the directory was replaced.
    fn check_history(&mut self) -> Result<(), Error> {
        let Some(reader) = self.readers.front().filter(|reader| reader.number() == self.newest) else {
            return Ok(());
        };
        if reader.is_in_place()? {
            return Ok(());
        }
        let path = reader.path().to_owned();
        // The engine may have opened the database again since the logs were listed.
        self.discover()?;
        if self.readers.len() > 1 {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Rewound, "newest log is gone or replaced").in_file(&path))
    }

    /// Opens the logs that appeared.
    fn discover(&mut self) -> Result<(), Error> {
        self.looks = self.looks.wrapping_add(1);
        let changed = directory::changed(&self.dir);
        // Not every file system keeps the time of a directory.
        if changed.is_some() && changed == self.listed && !self.looks.is_multiple_of(64) {
            return Ok(());
        }
        for number in directory::list(&self.dir)?.logs {
            if number <= self.newest {
                continue;
            }
            match LogReader::open(&self.dir, number) {
                Ok(reader) => self.readers.push_back(reader),
                // Recycled or unlinked already: if it held anything, the sequence numbers will tell.
                Err(error) if error.is_missing_file() => {}
                Err(error) => return Err(error),
            }
            self.newest = number;
        }
        self.listed = changed;
        Ok(())
    }

    /// Whether a host process opened the database between the last record and the log of that number.
    ///
    /// A process writes its manifest right after its first log, with the next file number.
    fn is_new_process(&self, log: u64) -> Result<bool, Error> {
        let manifests = directory::list(&self.dir)?.manifests;
        Ok(manifests
            .iter()
            .any(|&manifest| manifest > self.last_log.saturating_add(1) && manifest <= log.saturating_add(1)))
    }

    /// Whether the host process of the last record is gone: another has opened the database since.
    pub(crate) fn host_was_replaced(&self) -> Result<bool, Error> {
        self.is_new_process(self.newest)
    }

    /// A damaged log, unless the engine has no more use for it.
    fn corrupt(&self, log: u64, path: &Path, offset: u64) -> Error {
        match Version::read(&self.dir) {
            Ok(version) if version.min_log > log => {
                Error::new(ErrorKind::Gap, "damaged log was flushed meanwhile").in_file(path).at(offset)
            }
            _ => Error::new(ErrorKind::Corrupt, "log record is damaged").in_file(path).at(offset),
        }
    }
}

#[cfg(test)]
mod tests;
