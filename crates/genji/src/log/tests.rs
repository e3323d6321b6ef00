use std::fs::OpenOptions;

use super::*;
use crate::chunk::{Form, RecordWriter, SYNCED_HEADER};

struct Written {
    dir: tempfile::TempDir,
    bytes: Vec<u8>,
}

impl Written {
    fn log(number: u32, records: &[&[u8]]) -> Self {
        let mut writer = RecordWriter::new(Form::Recyclable(number), 0);
        let mut bytes = Vec::new();
        records.iter().for_each(|record| writer.append(record, &mut bytes));
        Self { dir: tempfile::tempdir().unwrap(), bytes }
    }

    fn reader(&self, number: u64) -> LogReader {
        std::fs::write(log_path(self.dir.path(), number), &self.bytes).unwrap();
        LogReader::open(self.dir.path(), number).unwrap()
    }
}

fn lengths(reader: &mut LogReader) -> (Vec<usize>, Step) {
    let mut lengths = Vec::new();
    let mut record = Vec::new();
    loop {
        match reader.next(&mut record).unwrap() {
            Step::Record { .. } => lengths.push(record.len()),
            step => return (lengths, step),
        }
    }
}

#[test]
fn records_of_all_sizes_then_trailer() {
    let sizes = [1, 100, BLOCK - 140, 5, 3 * BLOCK, 40_000, 1];
    let records: Vec<Vec<u8>> = sizes.iter().map(|&size| vec![0xAB; size]).collect();
    let mut written = Written::log(7, &records.iter().map(Vec::as_slice).collect::<Vec<_>>());
    written.bytes.extend_from_slice(&trailer(7));
    assert_eq!(lengths(&mut written.reader(7)), (sizes.to_vec(), Step::Finished));
}

#[test]
fn every_prefix_waits_at_a_record_boundary() {
    let records = [vec![1u8; 50], vec![2u8; 70], vec![3u8; 90]];
    let written = Written::log(7, &records.iter().map(Vec::as_slice).collect::<Vec<_>>());
    for length in 0..written.bytes.len() {
        let mut reader =
            Written { dir: tempfile::tempdir().unwrap(), bytes: written.bytes[..length].to_vec() }.reader(7);
        let (seen, step) = lengths(&mut reader);
        assert!(matches!(step, Step::Stopped(_)), "{length}");
        assert!(seen.len() < 3 && seen == [50, 70, 90][..seen.len()], "{length}");
        let Step::Stopped(stop) = step else { return };
        assert!(!reader.is_damaged(stop).unwrap(), "{length}");
    }
}

#[test]
fn stale_bytes_of_a_recycled_file_are_not_written_yet() {
    let mut written = Written::log(3, &[&[9; 500], &[9; 500], &[9; 500]]);
    let new = Written::log(8, &[&[1; 100]]);
    written.bytes[..new.bytes.len()].copy_from_slice(&new.bytes);
    let mut reader = written.reader(8);
    let (seen, step) = lengths(&mut reader);
    assert_eq!(seen, [100]);
    let Step::Stopped(stop) = step else { panic!("{step:?}") };
    assert!(!reader.is_damaged(stop).unwrap());
}

/// The engine took the file for a later log: what is left of this one is still read, what was overwritten is not waited for
/// as if it were blank.
#[test]
fn recycled_under_the_reader() {
    let written = Written::log(3, &[&[9; 500], &[9; 500], &[9; 500]]);
    let mut reader = written.reader(3);
    let mut record = Vec::new();
    reader.next(&mut record).unwrap();
    let later = Written::log(8, &[&[1; 700]]);
    let path = log_path(written.dir.path(), 3);
    let file = OpenOptions::new().write(true).open(path).unwrap();
    reader.rewind(511);
    file.write_all_at(&later.bytes, 511).unwrap();
    let (seen, step) = lengths(&mut reader);
    assert!(seen.is_empty());
    assert_eq!(step, Step::Stopped(Stop { offset: 511, blank: false }));
}

/// Whichever byte of the middle record is damaged, it is found at once, and read again when mended.
#[test]
fn damage_is_told_from_half_written_and_can_be_mended() {
    let written = Written::log(7, &[&[1; 50], &[2; 70], &[3; 90]]);
    let (from, to) = (61, 61 + 81);
    for at in from..to {
        let mut reader = written.reader(7);
        let path = log_path(written.dir.path(), 7);
        let file = OpenOptions::new().write(true).open(path).unwrap();
        file.write_all_at(&[written.bytes[at] ^ 0x55], at as u64).unwrap();
        let (seen, step) = lengths(&mut reader);
        assert_eq!(seen, [50], "{at}");
        let Step::Stopped(stop) = step else { panic!("{step:?}") };
        assert_eq!(stop.offset, from as u64);
        assert!(reader.is_damaged(stop).unwrap(), "{at}");
        file.write_all_at(&[written.bytes[at]], at as u64).unwrap();
        assert!(!reader.is_damaged(stop).unwrap());
        assert_eq!(lengths(&mut reader).0, [70, 90]);
    }
}

/// Lays records as newer engines do: with 8 bytes more in a chunk's header.
fn synced(number: u32, records: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for record in records {
        let mut rest = *record;
        let mut is_first = true;
        loop {
            let room = BLOCK - bytes.len() % BLOCK;
            if room < SYNCED_HEADER {
                bytes.resize(bytes.len() + room, 0);
                continue;
            }
            let (payload, after) = rest.split_at(rest.len().min(room - SYNCED_HEADER));
            let kind = match (is_first, after.is_empty()) {
                (true, true) => 9,
                (true, false) => 10,
                (false, false) => 11,
                (false, true) => 12,
            };
            let covered = [&[kind], number.to_le_bytes().as_slice(), &[7; 8], payload].concat();
            bytes.extend_from_slice(&masked_crc(&covered).to_le_bytes());
            bytes.extend_from_slice(&(payload.len() as u16).to_le_bytes());
            bytes.extend_from_slice(&covered);
            (rest, is_first) = (after, false);
            if rest.is_empty() {
                break;
            }
        }
    }
    bytes
}

/// Between 11 and 18 bytes at the end of a block are room for the shorter header only: they are passed over.
#[test]
fn chunks_that_say_how_far_the_engine_had_synced() {
    for left in [0, 10, 11, 18, 19, 20] {
        let sizes = [BLOCK - SYNCED_HEADER - left, 100, 3 * BLOCK, 7];
        let records: Vec<Vec<u8>> = sizes.iter().map(|&size| vec![0xAB; size]).collect();
        let bytes = synced(7, &records.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let mut written = Written { dir: tempfile::tempdir().unwrap(), bytes };
        written.bytes.extend_from_slice(&trailer(7));
        assert_eq!(lengths(&mut written.reader(7)), (sizes.to_vec(), Step::Finished), "{left}");
        // A turned byte in front of valid chunks is damage, not a log that is being written.
        written.bytes[BLOCK + 300] ^= 1;
        let mut reader = written.reader(7);
        let (_, step) = lengths(&mut reader);
        let Step::Stopped(stop) = step else { panic!("{step:?}") };
        assert!(reader.is_damaged(stop).unwrap(), "{left}");
    }
}
