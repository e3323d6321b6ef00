use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;

use super::*;
use crate::batch::BatchWriter;
use crate::chunk::{Form, RecordWriter, trailer};
use crate::directory::{log_path, manifest_path};

/// A directory whose logs are written by hand.
struct Engine {
    dir: tempfile::TempDir,
    log: u64,
    bytes: Vec<u8>,
    sequence: u64,
}

impl Engine {
    fn new() -> Self {
        let mut engine = Self { dir: tempfile::tempdir().unwrap(), log: 2, bytes: Vec::new(), sequence: 1 };
        fs::write(engine.dir.path().join("CURRENT"), "MANIFEST-000001\n").unwrap();
        let mut manifest = Vec::new();
        RecordWriter::new(Form::Legacy, 0).append(b"\x02\x02", &mut manifest);
        fs::write(manifest_path(engine.dir.path(), 1), manifest).unwrap();
        engine.save();
        engine
    }

    fn save(&mut self) {
        fs::write(log_path(self.dir.path(), self.log), &self.bytes).unwrap();
    }

    fn commit(&mut self, operations: u64) {
        let mut batch = BatchWriter::new();
        (0..operations).for_each(|_| batch.set(b"k", b"v"));
        let record = batch.finish(self.sequence);
        self.sequence += operations;
        let mut writer = RecordWriter::new(Form::Recyclable(self.log as u32), self.bytes.len() as u64);
        writer.append(&record, &mut self.bytes);
        self.save();
    }

    fn rotate(&mut self, log: u64) {
        self.bytes.extend_from_slice(&trailer(self.log));
        self.save();
        self.kill(log);
    }

    fn kill(&mut self, log: u64) {
        self.log = log;
        self.bytes.clear();
        self.save();
    }

    fn follower(&self) -> Follower {
        Follower::open(self.dir.path(), 2, 1).unwrap()
    }

    fn damage(&self, log: u64, at: u64) {
        let file = OpenOptions::new().read(true).write(true).open(log_path(self.dir.path(), log)).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 0xff], at).unwrap();
    }
}

fn take(follower: &mut Follower) -> Result<Vec<u64>, ErrorKind> {
    let filled = follower.fill();
    let sequences: Vec<u64> = std::iter::from_fn(|| follower.pop()).map(|record| record.sequence).collect();
    match filled {
        Err(error) if sequences.is_empty() => Err(error.kind()),
        _ => Ok(sequences),
    }
}

#[test]
fn rotation_kill_and_empty_logs() {
    let mut engine = Engine::new();
    let mut follower = engine.follower();
    assert_eq!(take(&mut follower), Ok(vec![]));
    engine.commit(2);
    assert_eq!(take(&mut follower), Ok(vec![1]));
    engine.commit(1);
    engine.rotate(5);
    engine.rotate(6);
    assert_eq!(take(&mut follower), Ok(vec![3]));
    engine.commit(1);
    engine.kill(9);
    engine.commit(1);
    assert_eq!(take(&mut follower), Ok(vec![4, 5]));
}

#[test]
fn missed_and_rewound_history() {
    let mut engine = Engine::new();
    engine.commit(1);
    let mut follower = engine.follower();
    assert_eq!(take(&mut follower), Ok(vec![1]));
    engine.rotate(4);
    engine.sequence += 1;
    engine.commit(1);
    assert_eq!(take(&mut follower), Err(ErrorKind::Gap));
    assert_eq!(take(&mut follower), Err(ErrorKind::Gap));

    let mut engine = Engine::new();
    engine.commit(3);
    let mut follower = engine.follower();
    assert_eq!(take(&mut follower), Ok(vec![1]));
    engine.kill(4);
    engine.sequence -= 1;
    engine.commit(1);
    assert_eq!(take(&mut follower), Err(ErrorKind::Rewound));
}

/// A damaged last record of a killed host: found by the sequence numbers, read on when mended.
#[test]
fn damaged_end_of_a_log() {
    let mut engine = Engine::new();
    engine.commit(1);
    let first = engine.bytes.len() as u64;
    engine.commit(1);
    engine.damage(2, first + 15);
    let mut follower = engine.follower();
    assert_eq!(take(&mut follower), Ok(vec![1]));
    for _ in 0..200 {
        assert_eq!(take(&mut follower), Ok(vec![]));
    }
    engine.kill(4);
    engine.commit(1);
    assert_eq!(take(&mut follower), Err(ErrorKind::Corrupt));
    assert_eq!(take(&mut follower), Err(ErrorKind::Corrupt));
    engine.damage(2, first + 15);
    assert_eq!(take(&mut follower), Ok(vec![2, 3]));
}

#[test]
fn damage_inside_the_active_log() {
    let mut engine = Engine::new();
    engine.commit(1);
    let first = engine.bytes.len() as u64;
    engine.commit(1);
    engine.commit(1);
    engine.damage(2, first + 15);
    let mut follower = engine.follower();
    assert_eq!(take(&mut follower), Ok(vec![1]));
    let error = (0..200).find_map(|_| follower.fill().err()).unwrap();
    assert_eq!((error.kind(), error.offset()), (ErrorKind::Corrupt, Some(first)));
    assert_eq!(error.file(), Some(log_path(engine.dir.path(), 2).as_path()));
    assert_eq!(take(&mut follower), Err(ErrorKind::Corrupt));
    engine.damage(2, first + 15);
    assert_eq!(take(&mut follower), Ok(vec![2, 3]));
}

/// Once the tables hold what the damaged log held, a snapshot heals it.
#[test]
fn damage_is_a_gap_when_flushed() {
    let mut engine = Engine::new();
    engine.commit(1);
    engine.commit(1);
    engine.damage(2, 15);
    let mut follower = engine.follower();
    assert!((0..200).find_map(|_| follower.fill().err()).is_some());
    let mut manifest = Vec::new();
    RecordWriter::new(Form::Legacy, 0).append(b"\x02\x04", &mut manifest);
    fs::write(manifest_path(engine.dir.path(), 1), manifest).unwrap();
    assert_eq!(take(&mut follower), Err(ErrorKind::Gap));
}

#[test]
fn new_process_is_seen_by_its_manifest() {
    let mut engine = Engine::new();
    engine.commit(1);
    let mut follower = engine.follower();
    follower.fill().unwrap();
    engine.rotate(4);
    engine.commit(1);
    engine.kill(8);
    fs::write(manifest_path(engine.dir.path(), 9), "").unwrap();
    engine.commit(1);
    follower.fill().unwrap();
    let seen: Vec<bool> = std::iter::from_fn(|| follower.pop()).map(|record| record.new_process).collect();
    assert_eq!(seen, [false, false, true]);
}

/// A right checksum over what is no batch: nothing is skipped.
#[test]
fn record_that_is_no_batch() {
    let mut engine = Engine::new();
    engine.commit(1);
    let start = engine.bytes.len() as u64;
    RecordWriter::new(Form::Recyclable(2), start).append(b"short", &mut engine.bytes);
    engine.commit(1);
    let mut follower = engine.follower();
    assert_eq!(take(&mut follower), Ok(vec![1]));
    for _ in 0..3 {
        let error = follower.fill().unwrap_err();
        assert_eq!((error.kind(), error.offset()), (ErrorKind::Corrupt, Some(start)));
    }
}
