//! What Chai encodes in another way: one target, whose first byte says what the others are.

use std::path::PathBuf;
use std::sync::OnceLock;

use super::{CatalogState, Faults, Memory, batch_of, log, repair};
use crate::chai::{SortedTable, Table, order, value};
use crate::engine::Engine;
use crate::key;
use crate::table::BlockFile;
use crate::varint::put_string;

/// A log.
pub(super) const LOG: u8 = 0;
/// A record.
pub(super) const RECORD: u8 = 1;
/// A byte that says how long the key is, a key, and a row.
pub(super) const ROW: u8 = 2;
/// A catalog row, or its SQL.
pub(super) const CATALOG: u8 = 3;
/// Whether checksums are mended, and a table.
pub(super) const TABLE: u8 = 4;

/// Tables that rows are read by.
const TABLES: [&str; 3] = [
    "CREATE TABLE t (id INTEGER NOT NULL, v TEXT, CONSTRAINT t_pk PRIMARY KEY (id))",
    "CREATE TABLE t (a BIGINT NOT NULL, b TEXT NOT NULL, c DOUBLE PRECISION NOT NULL, CONSTRAINT t_pk PRIMARY KEY (a DESC, b, c DESC))",
    "CREATE TABLE t (o BOOLEAN, y BYTEA, ts TIMESTAMP NOT NULL, CONSTRAINT t_pk PRIMARY KEY (ts DESC))",
];

fn tables() -> &'static [Table] {
    static PARSED: OnceLock<Vec<Table>> = OnceLock::new();
    PARSED.get_or_init(|| TABLES.iter().map(|sql| Table::parse(sql).expect("table")).collect())
}

/// A catalog with the first two of [`TABLES`].
fn catalog() -> CatalogState {
    let mut catalog = CatalogState::new(Engine::Chai);
    for (namespace, sql) in [0x3A_u8, 0x3B].iter().zip(TABLES) {
        let mut row = vec![value::TEXT, 1, *namespace, value::TEXT];
        put_string(&mut row, b"table");
        row.extend_from_slice(&[*namespace, value::TEXT]);
        put_string(&mut row, sql.as_bytes());
        row.extend_from_slice(&[value::NULL; 3]);
        catalog.set(&[], &row, &mut Faults::default());
    }
    assert_eq!(catalog.relations().len(), 2);
    catalog
}

/// Any of Chai's own forms.
pub fn chai(input: &[u8]) {
    let Some((&form, bytes)) = input.split_first() else { return };
    match form % 5 {
        LOG => log(bytes, catalog()),
        RECORD => batch_of(bytes, catalog()),
        ROW => row(bytes),
        TABLE => table(bytes),
        _ => entry(bytes),
    }
}

fn row(input: &[u8]) {
    let Some((&length, bytes)) = input.split_first() else { return };
    let (key, bytes) = bytes.split_at(usize::from(length).min(bytes.len()));
    assert_eq!(order::compare(key, bytes), order::compare(bytes, key).reverse());
    let _either = (value::take_all(bytes), Engine::Chai.original(key));
    if let Ok(split) = Engine::Chai.split(key) {
        let bare = Engine::Chai.prefix(split.namespace);
        assert_eq!(Engine::Chai.namespace_of(&bare), Some(split.namespace));
    }
    let components = Engine::Chai.split(key).map_or(key, |key| key.components);
    for table in tables() {
        if let Ok(key) = table.decode_key(components) {
            assert_eq!(key.len(), table.key.len());
        }
        if let Ok(row) = table.decode_row(bytes) {
            assert_eq!(row.len(), table.columns.len());
        }
    }
}

fn table(input: &[u8]) {
    let Some((&mode, bytes)) = input.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if mode & 1 == 1 {
        repair::sorted(&mut bytes);
    }
    let file = Memory { base: 0, bytes: &bytes };
    let Ok(table) = SortedTable::of_blocks(BlockFile::new(PathBuf::new(), file, bytes.len() as u64)) else {
        return;
    };
    let _either = table.range_deletes();
    for namespace in [key::CATALOG, key::FIRST_USER] {
        let Ok(mut entries) = table.entries(Engine::Chai.prefix(namespace)) else { return };
        let mut left = bytes.len() * 64;
        while let Ok(Some(_)) = entries.next() {
            left = left.checked_sub(1).expect("rows are bounded by their bytes");
        }
    }
}

fn entry(input: &[u8]) {
    if let Ok(entry) = Engine::Chai.entry(input) {
        let _either = Engine::Chai.relation(&entry);
    }
    if let Ok(sql) = std::str::from_utf8(input)
        && let Ok(table) = Table::parse(sql)
    {
        assert!(table.key.iter().all(|part| part.column < table.columns.len()));
    }
}
