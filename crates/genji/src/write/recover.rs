//! Brings a directory into memory: bootstrap of an empty one, replay of the logs of an existing one, and the files of a
//! new host process (format description §1, §15).

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::HostOptions;
use super::edit::{LiveFile, ManifestWriter, VersionEdit, VersionState, sync_directory};
use super::flush::{FinishedLogs, Numbers, open_tables, write_tables};
use super::log::LogWriter;
use super::lookup::LiveTable;
use super::store::Store;
use super::sync::SyncQueue;
use super::tail::lost_record;
use super::version::VersionLog;
use crate::batch::Batch;
use crate::directory::{list, log_path, manifest_path};
use crate::log::{LogReader, Step};
use crate::{Error, ErrorKind};

/// The files of a host process, and what the next ones are called.
pub(crate) struct Files {
    pub(crate) directory: PathBuf,
    pub(crate) log: LogWriter,
    pub(crate) versions: Arc<VersionLog>,
    pub(crate) sync: Arc<SyncQueue>,
    /// Sequence number of the next operation.
    pub(crate) next_sequence: u64,
    /// What a log is expected to hold.
    log_bytes: u64,
}

/// An opened directory.
pub(crate) struct Recovered {
    pub(crate) files: Files,
    pub(crate) store: Store,
    /// The logs of hosts before, as far as they are kept.
    pub(crate) logs: FinishedLogs,
}

/// Opens the directory; whoever calls holds its lock.
pub(crate) fn recover(directory: &Path, options: &HostOptions) -> Result<Recovered, Error> {
    if directory.join("CURRENT").exists() { reopen(directory, options) } else { create(directory, options) }
}

fn create(directory: &Path, options: &HostOptions) -> Result<Recovered, Error> {
    let listing = list(directory)?;
    if let Some(log) = listing.logs.first() {
        let reason = "directory has logs but no current manifest";
        return Err(Error::new(ErrorKind::Corrupt, reason).in_file(&log_path(directory, *log)));
    }
    let path = manifest_path(directory, 1);
    let failed = |error| Error::io("create manifest", &path, error);
    let mut manifest = ManifestWriter::create(directory, 1).map_err(failed)?;
    let first =
        VersionEdit { comparer: true, next_file: Some(2), last_sequence: Some(0), ..VersionEdit::default() };
    manifest.append(&first).map_err(failed)?;
    let second = VersionEdit { min_log: Some(2), next_file: Some(3), ..VersionEdit::default() };
    manifest.append(&second).map_err(failed)?;
    manifest.make_current(directory).map_err(failed)?;
    let log = create_log(directory, 2, log_bytes(options))?;
    let files = Files {
        directory: directory.to_owned(),
        log,
        // 3 is the number that the engine gives its options file.
        versions: Arc::new(VersionLog::new(directory, manifest, 4, 0)),
        sync: Arc::default(),
        next_sequence: 1,
        log_bytes: log_bytes(options),
    };
    let logs = FinishedLogs::new(options.retained_log_bytes);
    Ok(Recovered { files, store: Store::default(), logs })
}

/// A memtable and a tenth, as Pebble has it.
fn log_bytes(options: &HostOptions) -> u64 {
    let memtable = options.memtable_bytes as u64;
    memtable + memtable / 10
}

fn create_log(directory: &Path, number: u64, expected: u64) -> Result<LogWriter, Error> {
    let path = log_path(directory, number);
    LogWriter::create(&path, number, expected)
        .and_then(|log| sync_directory(directory).map(|()| log))
        .map_err(|error| Error::io("create log", &path, error))
}

fn reopen(directory: &Path, options: &HostOptions) -> Result<Recovered, Error> {
    let mut version = VersionState::read(directory)?;
    let mut store = Store::default();
    let tables: Result<Vec<_>, _> =
        version.files.values().map(|file| LiveTable::open(directory, file.clone()).map(Arc::new)).collect();
    store.add_tables(tables?);
    let mut numbers = Numbers { next: highest_number(directory)?.max(version.next_file - 1) + 1 };
    remove_orphans(directory, &version)?;
    let mut next_sequence = version.last_sequence + 1;
    let logs: Vec<u64> = list(directory)?.logs;
    let (obsolete, live): (Vec<u64>, Vec<u64>) = logs.into_iter().partition(|&log| log < version.min_log);
    let mut added = Vec::new();
    let mut first_record = true;
    for (index, &log) in live.iter().enumerate() {
        let last = index + 1 == live.len();
        let mut replay = Replay { store: &mut store, next: &mut next_sequence, first: &mut first_record };
        replay.log(directory, log, last, |store| {
            flush_full(directory, store, &mut numbers, options.memtable_bytes, &mut added)
        })?;
    }
    next_sequence = next_sequence.max(version.last_sequence + 1);
    let written = write_tables(directory, &store.memtable, store.tables(), || numbers.take())?;
    added.extend(written.iter().map(|table| table.file.clone()));
    adopt_files(&mut version, added);
    let (log_number, manifest_number) = (numbers.take(), numbers.take());
    // The engine's own options file would take the next.
    numbers.take();
    let edit = VersionEdit {
        comparer: true,
        min_log: Some(log_number),
        next_file: Some(numbers.next),
        last_sequence: Some(next_sequence - 1),
        deleted: Vec::new(),
        added: version.files.values().cloned().collect(),
    };
    let path = manifest_path(directory, manifest_number);
    let failed = |error| Error::io("write manifest", &path, error);
    sync_directory(directory).map_err(failed)?;
    let mut manifest = ManifestWriter::create(directory, manifest_number).map_err(failed)?;
    manifest.append(&edit).map_err(failed)?;
    manifest.make_current(directory).map_err(failed)?;
    let log = create_log(directory, log_number, log_bytes(options))?;
    store.adopt(open_tables(directory, written)?);
    remove_manifests(directory, manifest_number)?;
    let files = Files {
        directory: directory.to_owned(),
        log,
        versions: Arc::new(VersionLog::new(directory, manifest, numbers.next, next_sequence - 1)),
        sync: Arc::default(),
        next_sequence,
        log_bytes: log_bytes(options),
    };
    let mut logs = FinishedLogs::new(options.retained_log_bytes);
    obsolete.into_iter().chain(live).try_for_each(|log| logs.retire(directory, log))?;
    Ok(Recovered { files, store, logs })
}

fn adopt_files(version: &mut VersionState, added: Vec<LiveFile>) {
    version.files.extend(added.into_iter().map(|file| ((file.level, file.number), file)));
}

/// While logs are replayed: empties a full memtable into tables that the manifest will name later.
fn flush_full(
    directory: &Path,
    store: &mut Store,
    numbers: &mut Numbers,
    limit: usize,
    added: &mut Vec<LiveFile>,
) -> Result<(), Error> {
    if store.memtable.bytes() < limit {
        return Ok(());
    }
    let written = write_tables(directory, &store.memtable, store.tables(), || numbers.take())?;
    added.extend(written.iter().map(|table| table.file.clone()));
    store.adopt(open_tables(directory, written)?);
    Ok(())
}

/// Where replayed records go, and which one must come next.
struct Replay<'a> {
    store: &'a mut Store,
    next: &'a mut u64,
    first: &'a mut bool,
}

impl Replay<'_> {
    /// Replays a log. Only the last one may end without a trailer, and only in bytes that were never acknowledged.
    fn log(
        &mut self,
        directory: &Path,
        number: u64,
        last: bool,
        mut flush: impl FnMut(&mut Store) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let path = log_path(directory, number);
        let mut reader = LogReader::open(directory, number)?;
        let mut record = Vec::new();
        loop {
            match reader.next(&mut record)? {
                Step::Record { start, .. } => {
                    self.record(&record).map_err(|error| match error.kind() {
                        ErrorKind::Decode => {
                            let reason = "log record cannot be read";
                            Error::new(ErrorKind::Corrupt, reason).in_file(&path).at(start).caused_by(error)
                        }
                        _ => error,
                    })?;
                    flush(self.store)?;
                }
                Step::Finished => return Ok(()),
                Step::Stopped(stop) => {
                    let damaged = if last {
                        lost_record(&path, number, stop.offset, *self.next)?
                    } else {
                        // Without a trailer it may still end where the file ends.
                        fs::metadata(&path).map_err(|error| Error::io("read log size", &path, error))?.len()
                            > stop.offset
                    };
                    if damaged {
                        return Err(Error::new(ErrorKind::Corrupt, "log is damaged")
                            .in_file(&path)
                            .at(stop.offset));
                    }
                    return Ok(());
                }
            }
        }
    }

    fn record(&mut self, record: &[u8]) -> Result<(), Error> {
        let batch = Batch::decode(record)?;
        // The manifest's number may be ahead of the first log that is left to replay; after that there are no jumps.
        if !*self.first && batch.sequence != *self.next {
            return Err(Error::decode("sequence numbers have a gap"));
        }
        *self.first = false;
        self.store.apply(&batch)?;
        *self.next = batch.next_sequence();
        Ok(())
    }
}

/// The highest number of any numbered file.
fn highest_number(directory: &Path) -> Result<u64, Error> {
    let failed = |error| Error::io("list database directory", directory, error);
    let mut highest = 0;
    for entry in fs::read_dir(directory).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let Some(name) = name.to_str() else { continue };
        let stem = name.strip_prefix("MANIFEST-").or(name.strip_prefix("OPTIONS-"));
        let stem = stem.or(name.strip_suffix(".log")).or(name.strip_suffix(".sst"));
        if let Some(number) = stem.and_then(|stem| stem.parse().ok()) {
            highest = u64::max(highest, number);
        }
    }
    Ok(highest)
}

/// Removes tables that no version names: left over from a flush that was cut short.
fn remove_orphans(directory: &Path, version: &VersionState) -> Result<(), Error> {
    let failed = |error| Error::io("remove unused table", directory, error);
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".sst")?.parse::<u64>().ok());
        if number.is_some_and(|number| version.files.values().all(|file| file.number != number)) {
            fs::remove_file(entry.path()).map_err(failed)?;
        }
    }
    Ok(())
}

/// Removes manifests before the previous one.
fn remove_manifests(directory: &Path, current: u64) -> Result<(), Error> {
    let older: Vec<u64> = list(directory)?.manifests.into_iter().filter(|&number| number < current).collect();
    let keep = older.len().saturating_sub(1);
    for &number in older.iter().take(keep) {
        let path = manifest_path(directory, number);
        fs::remove_file(&path).map_err(|error| Error::io("remove old manifest", &path, error))?;
    }
    Ok(())
}

impl Files {
    /// Ends the log, durably, and starts the next; returns the numbers of both.
    pub(crate) fn rotate(&mut self) -> Result<(u64, u64), Error> {
        let finished = self.log.number();
        let path = log_path(&self.directory, finished);
        let result = self.log.finish();
        self.sync.finished(&result);
        result.map_err(|error| Error::io("finish log", &path, error))?;
        let number = self.versions.take_number();
        self.log = create_log(&self.directory, number, self.log_bytes)?;
        Ok((finished, number))
    }

    /// Ends the log for good.
    pub(crate) fn close(mut self) -> Result<(), Error> {
        let path = log_path(&self.directory, self.log.number());
        let result = self.log.finish();
        self.sync.finished(&result);
        result.map_err(|error| Error::io("finish log", &path, error))
    }
}
