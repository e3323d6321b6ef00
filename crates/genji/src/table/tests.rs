use super::*;
use crate::ErrorKind;
use crate::chunk::masked_crc;
use crate::directory::table_path;
use crate::varint::{put, put_string};

/// A block of entries that share nothing, stored as it is.
fn block(entries: &[(&[u8], Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (key, value) in entries {
        [0, key.len() as u64, value.len() as u64].into_iter().for_each(|number| put(&mut bytes, number));
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(value);
    }
    bytes.extend_from_slice(&[0, 0, 0, 0, 1, 0, 0, 0]);
    bytes
}

/// Builds the bytes of a table, block by block.
#[derive(Default)]
struct Builder(Vec<u8>);

impl Builder {
    /// Appends a block and returns its handle.
    fn add(&mut self, block: &[u8]) -> Vec<u8> {
        let mut handle = Vec::new();
        put(&mut handle, self.0.len() as u64);
        put(&mut handle, block.len() as u64);
        let start = self.0.len();
        self.0.extend_from_slice(block);
        self.0.push(0);
        let crc = masked_crc(&self.0[start..]);
        self.0.extend_from_slice(&crc.to_le_bytes());
        handle
    }

    /// Appends properties, metaindex and footer.
    fn finish(mut self, index: &[u8], index_type: u8) -> Vec<u8> {
        let number = vec![index_type, 0, 0, 0];
        let properties = self.add(&block(&[(b"rocksdb.block.based.table.index.type", number)]));
        let deleted = self.add(&block(&[(b"\x47\x0f\x09\0\0\0\0\0\0", vec![0x48])]));
        let meta = self.add(&block(&[(b"rocksdb.properties", properties), (b"rocksdb.range_del2", deleted)]));
        let footer = self.0.len();
        self.0.push(1);
        self.0.extend_from_slice(&meta);
        self.0.extend_from_slice(index);
        self.0.resize(footer + 41, 0);
        self.0.extend_from_slice(&[2, 0, 0, 0]);
        self.0.extend_from_slice(&MAGIC);
        self.0
    }
}

/// An internal key: the first row of a namespace, as of that sequence number.
fn internal(namespace: u8, sequence: u8, kind: u8) -> Vec<u8> {
    vec![namespace, 0x45, kind, sequence, 0, 0, 0, 0, 0, 0]
}

/// A table of catalog and two user namespaces, each in blocks of its own, under an index of that type.
pub(crate) fn of_index_type(index_type: u8) -> Vec<u8> {
    let mut builder = Builder::default();
    let mut lower = Vec::new();
    for (namespace, sequence) in [(0x45, 3), (0x4E, 4), (0x4F, 5)] {
        let (set, deleted) = (internal(namespace, sequence, 1), internal(namespace, sequence - 1, 0));
        let mut value = Vec::new();
        put_string(&mut value, b"text");
        let data = builder.add(&block(&[(&set, value), (&deleted, Vec::new())]));
        lower.push((deleted, data));
    }
    let entries = |lower: &[(Vec<u8>, Vec<u8>)]| {
        let entries: Vec<_> = lower.iter().map(|(key, handle)| (key.as_slice(), handle.clone())).collect();
        block(&entries)
    };
    if index_type == 0 {
        let index = builder.add(&entries(&lower));
        return builder.finish(&index, index_type);
    }
    let halves = lower.split_at(2);
    let upper: Vec<_> = [halves.0, halves.1]
        .into_iter()
        .map(|half| (half[half.len() - 1].0.clone(), builder.add(&entries(half))))
        .collect();
    let index = builder.add(&entries(&upper));
    builder.finish(&index, index_type)
}

/// A table of these entries, in one block and in the order given.
pub(crate) fn of_entries(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut builder = Builder::default();
    let mut stored = Vec::new();
    for &Entry { key, sequence, value } in entries {
        let trailer = (sequence << 8 | u64::from(value.is_some())).to_le_bytes();
        stored.push(([key, &trailer].concat(), value.unwrap_or_default().to_vec()));
    }
    let last = stored[stored.len() - 1].0.clone();
    let data: Vec<_> = stored.iter().map(|(key, value)| (key.as_slice(), value.clone())).collect();
    let data = builder.add(&block(&data));
    let index = builder.add(&block(&[(&last, data)]));
    builder.finish(&index, 0)
}

fn table(bytes: Vec<u8>) -> Result<Table, Error> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(table_path(dir.path(), 4), bytes).unwrap();
    Table::open(dir.path(), 4)
}

/// One level or two: the same entries.
#[test]
fn index_of_one_and_two_levels() {
    for index_type in [0, 2] {
        let table = table(of_index_type(index_type)).unwrap();
        for (namespace, sequence) in [(0x45, 3), (0x4E, 4), (0x4F, 5)] {
            let mut entries = table.entries(vec![namespace]).unwrap();
            let mut found = Vec::new();
            while let Some(entry) = entries.next().unwrap() {
                if entry.key.starts_with(&[namespace]) {
                    found.push((entry.key.to_vec(), entry.sequence, entry.value.map(<[u8]>::to_vec)));
                }
            }
            let key = vec![namespace, 0x45];
            let expected = [(key.clone(), sequence, Some(b"\x04text".to_vec())), (key, sequence - 1, None)];
            assert_eq!(found, expected, "{index_type} {namespace:02x}");
        }
        let deleted = RangeDelete { sequence: 9, start: vec![0x47], end: vec![0x48] };
        assert_eq!(table.range_deletes().unwrap(), [deleted]);
        assert_eq!(table.index().unwrap().len(), 3);
    }
    assert_eq!(table(of_index_type(1)).unwrap_err().kind(), ErrorKind::Unsupported);
}

/// Any turned byte of a block is found by its checksum, any of the footer's by what it says.
#[test]
fn turned_bytes_are_found() {
    let good = of_index_type(2);
    let read = |bytes: Vec<u8>| {
        let table = table(bytes)?;
        table.range_deletes()?;
        for namespace in [0x45, 0x4E, 0x4F] {
            let mut entries = table.entries(vec![namespace])?;
            while entries.next()?.is_some() {}
        }
        Ok::<_, Error>(())
    };
    read(good.clone()).unwrap();
    // Between the handles and the version the footer is padded.
    let padding = good.len() - FOOTER as usize + 7..good.len() - 12;
    for at in (0..good.len()).filter(|at| !padding.contains(at)) {
        let mut bad = good.clone();
        bad[at] ^= 0x40;
        assert!(read(bad).is_err(), "{at}");
    }
}

#[test]
fn bounds_are_compared_by_namespace() {
    assert!(may_hold(&[0x45, 1], &[0x4e, 9], &[0x4e]));
    assert!(may_hold(&[0x45, 1], &[0xc4, 0x80, 1], &[0xc4, 0x80]));
    assert!(!may_hold(&[0x45, 1], &[0x4d, 9], &[0x4e]));
    assert!(!may_hold(&[0x4f, 1], &[0x50, 9], &[0x4e]));
    assert!(!may_hold(&[0x45, 1], &[0xc4, 0x80, 1], &[0xc4, 0x81]));
}

#[test]
fn cut_tables_are_refused() {
    for length in [0, 10, 53, 200] {
        assert_eq!(table(vec![0x11; length]).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}
