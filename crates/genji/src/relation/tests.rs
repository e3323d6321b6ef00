use expect_test::{Expect, expect};

use super::*;
use crate::catalog::Definition;

fn relation(sql: &str) -> Relation {
    match Definition::parse(sql).unwrap() {
        Definition::Table(table) => Relation::new(10, table),
        other => panic!("{other:?}"),
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn check(sql: &str, key: &str, value: &str, expected: Expect) {
    let relation = relation(sql);
    relation.schema.validate().unwrap();
    let row = relation.decode_key(&bytes(key)).and_then(|key| relation.decode_row(&key, &bytes(value)));
    let text = match row {
        Ok(row) => row
            .iter()
            .zip(&relation.schema.columns)
            .map(|(value, column)| {
                format!("{} {:?} {}\n", column.name, column.column_type, deltamesh_change::to_json(value))
            })
            .collect(),
        Err(error) => format!("{error}\n"),
    };
    expected.assert_eq(&text);
}

#[test]
fn row_of_the_real_engine() {
    check(
        "CREATE TABLE t3 (id INTEGER NOT NULL, d (...), e (x INTEGER, y TEXT), f ARRAY, g DOUBLE, h BLOB, i BOOLEAN, CONSTRAINT t3_pk PRIMARY KEY (id))",
        "45",
        "45 | e601 f001 da0171 45 | e602 45 da0173 | e602 45 46 | d0c008000000000000 | e003616263 | 11",
        expect![[r#"
            id Int 1
            d Json {"q":1.0}
            e Json {"x":1,"y":"s"}
            f Json [1.0,2.0]
            g Float 3.0
            h Bytes "YWJj"
            i Bool true
        "#]],
    );
}

#[test]
fn docid_nested_key_and_undeclared_fields() {
    check(
        "CREATE TABLE t (...)",
        "47",
        "f0 01 da0172 47",
        expect![[r#"
        __docid Int 3
        __extra Json {"r":3.0}
    "#]],
    );
    check(
        "CREATE TABLE t (a TEXT, ...)",
        "47",
        "da0178 f000",
        expect![[r#"
        __docid Int 3
        a Text "x"
        __extra Json null
    "#]],
    );
    check(
        "CREATE TABLE d (o (p INTEGER NOT NULL, q TEXT NOT NULL), v INTEGER, CONSTRAINT d_pk PRIMARY KEY (o.p, o.q))",
        "45 da016b",
        "e602 45 da016b 46",
        expect![[r#"
            o Json {"p":1,"q":"k"}
            v Int 2
            o.p Int 1
            o.q Text "k"
        "#]],
    );
}

/// The key has the document by name, its declared integers and what else was an integer as a double; the row by position.
#[test]
fn document_as_key() {
    check(
        "CREATE TABLE t (f0 (x INTEGER, z (w ANY, ...)), v INTEGER, CONSTRAINT t_pk PRIMARY KEY (f0))",
        "f002 da0178 48 da017a f002 da0177 d0c000000000000000 da0171 d0bff0000000000000",
        "e602 48 e602 46 f001 da0171 45 | 45",
        expect![[r#"
            f0 Json {"x":4,"z":{"w":2.0,"q":1.0}}
            v Int 1
        "#]],
    );
}

#[test]
fn rows_older_than_an_added_field() {
    check(
        "CREATE TABLE t (a INTEGER, b TEXT, c ANY)",
        "45",
        "46",
        expect![[r#"
        __docid Int 1
        a Int 2
        b Text null
        c Any null
    "#]],
    );
    check(
        "CREATE TABLE t (a INTEGER, b ANY, c ANY, ...)",
        "45",
        "46 f001 da0178 45",
        expect![[r#"
        __docid Int 1
        a Int 2
        b Any null
        c Any null
        __extra Json {"x":1.0}
    "#]],
    );
}

#[test]
fn bytes_that_do_not_fit_are_refused() {
    let table = "CREATE TABLE t (a INTEGER, b TEXT)";
    check(
        table,
        "45",
        "46 da0178 44",
        expect![[r#"
        row is longer than its definition
    "#]],
    );
    check(
        table,
        "45",
        "da0178",
        expect![[r#"
        value does not fit its field
    "#]],
    );
    check(
        table,
        "45 45",
        "46",
        expect![[r#"
        key has too many components
    "#]],
    );
    check(
        table,
        "da0178",
        "46",
        expect![[r#"
        value does not fit its field
    "#]],
    );
}

/// A row that no reader of the change log could take is refused here, by name; one level less is read.
#[test]
fn values_that_are_nested_too_deep() {
    let relation = relation("CREATE TABLE t (id INTEGER NOT NULL, a ANY, CONSTRAINT t_pk PRIMARY KEY (id))");
    let key = vec![Value::Int(1)];
    for (level, deepest) in [("e601", 48), ("f001 da0178", 32)] {
        let row = |levels: usize| bytes(&format!("45 {} 45", level.repeat(levels)));
        assert!(relation.decode_row(&key, &row(deepest)).is_ok());
        let error = relation.decode_row(&key, &row(deepest + 1)).unwrap_err();
        assert_eq!(error.reason(), "value is nested too deep");
        assert!(relation.decode_document(&row(deepest + 1)).is_ok());
    }
}

#[test]
fn names_that_sql_cannot_tell_apart() {
    let schema = relation("CREATE TABLE t (a TEXT, A TEXT, __docid TEXT)").schema;
    let names: Vec<_> = schema.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["__docid", "a", "A_", "__docid_"]);
}
