use super::*;
use crate::batch::BatchWriter;
use crate::directory::table_path;
use crate::follower::Record;
use crate::manifest::TableMeta;
use crate::table::Entry;
use crate::table::tests::of_entries;

fn set<'a>(key: &'a [u8], sequence: u64, value: &'a str) -> Entry<'a> {
    Entry { key, sequence, value: Some(value.as_bytes()) }
}

fn deleted(key: &[u8], sequence: u64) -> Entry<'_> {
    Entry { key, sequence, value: None }
}

fn live(dir: &std::path::Path, number: u64, level: u32, entries: &[Entry<'_>]) -> LiveTable {
    std::fs::write(table_path(dir, number), of_entries(entries)).unwrap();
    // Bounds of the whole namespace, as Genji's order finds them.
    let meta = TableMeta { smallest: vec![0x4E], largest: vec![0x4E, 0xFF] };
    LiveTable::open(Engine::Genji, dir, level, number, &meta).unwrap()
}

fn overlay(sequence: u64, batch: BatchWriter) -> Overlay {
    let next_sequence = sequence + u64::from(batch.count());
    let bytes = batch.finish(sequence);
    let mut overlay = Overlay::default();
    let record = Record { log: 2, start: 0, end: 0, sequence, next_sequence, new_process: false, bytes };
    overlay.apply(&record).unwrap();
    overlay
}

/// A key of a text of that length.
fn text(length: usize) -> Vec<u8> {
    let mut key = vec![0x4E];
    crate::value::put_text(&mut key, &"t".repeat(length));
    key
}

/// The visible values.
fn check(tables: &[LiveTable], overlay: &Overlay, in_order: bool, expected: &[&str]) {
    let mut scan = Scan::new(tables, overlay, vec![0x4E]).unwrap();
    assert_eq!(matches!(scan.way, Way::Merge(_)), in_order);
    let mut values = Vec::new();
    while let Some(found) = scan.next().unwrap() {
        values.push(String::from_utf8(found.value).unwrap());
    }
    values.sort();
    assert_eq!(values, expected);
}

/// Level 6 with the newer versions and deletes of levels above and of the logs; in order, and with texts on both sides of
/// 128 bytes, which Genji writes as its comparer has them: in no order.
#[test]
fn newest_versions_in_order_and_in_none() {
    let dir = tempfile::tempdir().unwrap();
    for (long, in_order) in [(100, true), (200, false)] {
        let (one, two, three, four, five) = (text(1), text(2), text(long), text(4), text(5));
        let mut lowest =
            vec![set(&one, 0, "one"), set(&two, 0, "two"), set(&four, 0, "four"), set(&five, 0, "five")];
        lowest.insert(if in_order { 4 } else { 1 }, set(&three, 0, "three"));
        let tables = [
            live(dir.path(), 4, 6, &lowest),
            live(dir.path(), 5, 5, &[set(&one, 9, "one, newer"), deleted(&one, 8), deleted(&four, 7)]),
            live(dir.path(), 6, 0, &[deleted(&two, 11), set(&three, 12, "three, newer")]),
        ];
        let mut batch = BatchWriter::new();
        batch.set(&text(3), b"logged");
        batch.delete(&five);
        let logged = overlay(20, batch);
        check(&tables, &logged, in_order, &["logged", "one, newer", "three, newer"]);
        let nothing = Overlay::default();
        check(&tables, &nothing, in_order, &["five", "one, newer", "three, newer"]);
    }
}

/// To find the order of large tables takes long: its caller has the engine's logs to read meanwhile.
#[test]
fn the_caller_is_called_while_the_order_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let keys: Vec<Vec<u8>> = (0..5000).map(|id| crate::key::encode(10, &[id.into()]).unwrap()).collect();
    let entries: Vec<Entry<'_>> = keys.iter().map(|key| set(key, 0, "row")).collect();
    let tables = [live(dir.path(), 4, 6, &entries)];
    let calls = std::cell::Cell::new(0);
    let meanwhile = || calls.set(calls.get() + 1);
    Scan::with_order(&tables, &Overlay::default(), vec![0x4E], Order::Unknown(&meanwhile)).unwrap();
    assert_eq!(calls.get(), 4);
}
