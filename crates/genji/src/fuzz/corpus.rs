//! Inputs to start from: files of the real engine that are part of the project, and of our own writer.

use std::path::{Path, PathBuf};

use super::{LOG, chai, log_base};
use crate::batch::{Batch, Operation};
use crate::catalog::CatalogEntry;
use crate::chunk::{Form, RecordWriter, trailer};
use crate::engine::Engine;
use crate::log::{LogReader, Step};
use crate::table::tests::of_index_type;
use crate::write::{Database, HostOptions};
use crate::{directory, key};

/// Longer records and documents are left out: short inputs are mutated in more of their places.
const LONGEST: usize = 6000;
/// Bytes of records in the log of an input, about.
const LOG_LENGTH: usize = 1000;
/// First bytes of log inputs: at the start of a block, and at some places near its end.
const LOG_MODES: [u8; 4] = [0x01, 0x03, 0x0B, 0x41];

/// Inputs of each target.
#[derive(Default)]
pub(super) struct Corpus {
    pub(super) logs: Vec<Vec<u8>>,
    pub(super) records: Vec<Vec<u8>>,
    pub(super) manifests: Vec<Vec<u8>>,
    pub(super) tables: Vec<Vec<u8>>,
    pub(super) documents: Vec<Vec<u8>>,
    pub(super) catalog: Vec<Vec<u8>>,
    pub(super) chai: Vec<Vec<u8>>,
}

impl Corpus {
    pub(super) fn collect() -> Self {
        let own = tempfile::tempdir().unwrap();
        write(own.path());
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/genji");
        let mut directories: Vec<PathBuf> =
            std::fs::read_dir(fixtures).unwrap().map(|entry| entry.unwrap().path().join("db")).collect();
        directories.sort();
        directories.push(own.path().to_owned());
        let mut corpus = Self::default();
        directories.iter().filter(|directory| directory.exists()).for_each(|directory| corpus.add(directory));
        corpus.add_chai(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/chai"));
        let tables = [0, 2].map(|index_type| [vec![1], of_index_type(index_type)].concat());
        corpus.tables.extend(tables);
        corpus.documents.retain(|document| document.len() < LONGEST);
        corpus
    }

    fn add(&mut self, dir: &Path) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let input = || [&[1][..], &std::fs::read(&path).unwrap()].concat();
            if name.ends_with(".sst") {
                self.tables.push(input());
            } else if name.starts_with("MANIFEST") {
                self.manifests.push(input());
            }
        }
        for number in directory::list(dir).unwrap().logs {
            let mut reader = LogReader::open(dir, number).unwrap();
            let mut records = Vec::new();
            let mut record = Vec::new();
            while let Step::Record { .. } = reader.next(&mut record).unwrap() {
                self.take(&record);
                records.push(record.clone());
            }
            self.lay(&records);
        }
    }

    /// Adds what the real Chai wrote.
    fn add_chai(&mut self, fixtures: &Path) {
        let mut directories: Vec<PathBuf> = std::fs::read_dir(fixtures)
            .unwrap()
            .map(|entry| entry.unwrap().path().join("db/pebble"))
            .collect();
        directories.sort();
        for dir in directories.iter().filter(|dir| dir.exists()) {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().is_some_and(|extension| extension == "sst") {
                    self.chai.push([&[chai::TABLE, 1], std::fs::read(&path).unwrap().as_slice()].concat());
                }
            }
            for number in directory::list(dir).unwrap().logs {
                let bytes = std::fs::read(directory::log_path(dir, number)).unwrap();
                self.chai.push([&[chai::LOG, 1], bytes.as_slice()].concat());
                let mut reader = LogReader::open(dir, number).unwrap();
                let mut record = Vec::new();
                while let Step::Record { .. } = reader.next(&mut record).unwrap() {
                    self.take_chai(&record);
                }
            }
        }
    }

    fn take_chai(&mut self, record: &[u8]) {
        self.chai.push([&[chai::RECORD], record].concat());
        for operation in Batch::decode(record).unwrap().operations {
            let Operation::Set { key, value } = operation else { continue };
            if Engine::Chai.namespace_of(key) == Some(key::CATALOG) {
                self.chai.push([&[chai::CATALOG], value].concat());
                let sql = Engine::Chai.entry(value).unwrap().sql;
                self.chai.push([&[chai::CATALOG], sql.as_bytes()].concat());
            }
            if let Ok(length) = u8::try_from(key.len()) {
                self.chai.push([&[chai::ROW, length], key, value].concat());
            }
        }
    }

    /// Lays records into short logs.
    fn lay(&mut self, mut records: &[Vec<u8>]) {
        while !records.is_empty() {
            let mut length = 0;
            let longer = records.iter().position(|record| {
                length += record.len();
                length > LOG_LENGTH
            });
            let (some, rest) = records.split_at(longer.unwrap_or(records.len()).max(1));
            records = rest;
            for mode in LOG_MODES {
                let mut writer = RecordWriter::new(Form::Recyclable(LOG), log_base(mode) as u64);
                let mut log = vec![mode];
                some.iter().for_each(|record| writer.append(record, &mut log));
                if rest.is_empty() {
                    log.extend_from_slice(&trailer(u64::from(LOG)));
                }
                self.logs.push(log);
            }
        }
        self.logs.retain(|log| log.len() < LONGEST);
    }

    fn take(&mut self, record: &[u8]) {
        for operation in Batch::decode(record).unwrap().operations {
            let Operation::Set { key, value } = operation else { continue };
            if Engine::Genji.namespace_of(key) == Some(key::CATALOG) {
                self.catalog.push(value.to_vec());
                self.catalog.push(CatalogEntry::decode(value).unwrap().sql.into_bytes());
            }
            if let Ok(length) = u8::try_from(key.len()) {
                self.documents.push([&[length], key, value].concat());
            }
        }
        if record.len() < LONGEST {
            self.records.push(record.to_vec());
        }
    }
}

/// A small database with logs and tables.
fn write(dir: &Path) {
    let options = HostOptions { memtable_bytes: 4096, ..HostOptions::default() };
    let database = Database::open(dir, &options).unwrap();
    database.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT UNIQUE)", &[]).unwrap();
    for id in 0..100 {
        let sql = format!("INSERT INTO t(id, v) VALUES ({id}, \"value number {id}\")");
        database.execute(&sql, &[]).unwrap();
    }
    database.close().unwrap();
}
