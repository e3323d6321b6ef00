use std::cmp::Ordering;

use expect_test::{Expect, expect};

use super::*;
use crate::engine::{Cleared, Engine};

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn check(sql: &str, key: &str, row: &str, expected: Expect) {
    let read = Table::parse(sql).and_then(|table| {
        let key = table.decode_key(Engine::Chai.split(&bytes(key))?.components)?;
        Ok((key, table.decode_row(&bytes(row))?))
    });
    let text = match read {
        Ok((key, row)) => format!("{key:?}\n{row:?}\n"),
        Err(error) => format!("{error}\n"),
    };
    expected.assert_eq(&text);
}

const TABLE: &str = "CREATE TABLE k (a INTEGER NOT NULL, we ird TEXT NOT NULL DEFAULT 'a, (b', c DOUBLE PRECISION NOT NULL, CONSTRAINT \"odd pk\" PRIMARY KEY (a DESC, we ird, c DESC), CONSTRAINT k_check CHECK (a > 1 AND (c < 2)))";

#[test]
fn rows_of_the_real_engine() {
    check(
        TABLE,
        "3C AE012C 620171 A5C000000000000000",
        "51012C 620171 32",
        expect![[r#"
            [Int(300), Text("q"), Float(2.0)]
            [Int(300), Text("q"), Float(2.0)]
        "#]],
    );
    check(
        "CREATE TABLE t (id BIGINT NOT NULL, y BYTEA, o BOOLEAN, ts TIMESTAMP, CONSTRAINT t_pk PRIMARY KEY (id))",
        "3A 0C7FFFFFEFB3ACC400",
        "0C7FFFFFEFB3ACC400 6703616263 06 53000264A2BE086A80",
        expect![[r#"
            [Int(-70000000000)]
            [Int(-70000000000), Bytes([97, 98, 99]), Bool(true), Text("2021-05-06T07:08:09.123456Z")]
        "#]],
    );
}

#[test]
fn other_bytes_are_refused() {
    check(TABLE, "3C AE012C 620171", "", expect![["key has too few components\n"]]);
    check(TABLE, "3C AE012C 620171 A5C000000000000000 30", "", expect![["key has too many components\n"]]);
    check(TABLE, "3C 51012C 620171 A5C000000000000000", "", expect![["value does not fit its column\n"]]);
    check(TABLE, "3C CA 6200 CC", "51012C 620171", expect![["row is cut\n"]]);
    check(TABLE, "3C CA 6200 CC", "51012C 620171 32 32", expect![["row is longer than its definition\n"]]);
    check(TABLE, "3C CA 6200 CC", "51012C 6201FF 32", expect![["text is not utf-8\n"]]);
}

#[test]
fn other_statements_are_refused() {
    for sql in [
        "",
        "CREATE INDEX i ON t (a)",
        "CREATE TABLE t (a INTEGER)",
        "CREATE TABLE t (a OBJECT, CONSTRAINT t_pk PRIMARY KEY (a))",
        "CREATE TABLE t (a INTEGER, CONSTRAINT t_pk PRIMARY KEY (b))",
        "CREATE TABLE t (a INTEGER, CONSTRAINT t_pk PRIMARY KEY (a)",
        "CREATE TABLE t (a INTEGER, CONSTRAINT t_pk PRIMARY KEY (a)) x",
    ] {
        assert!(Table::parse(sql).is_err(), "{sql}");
    }
}

#[test]
fn integers_have_their_shortest_form() {
    for value in [0, 31, 32, 255, 256, 65_536, i64::MAX, -32, -33, -128, -129, -32_769, i64::MIN] {
        let mut out = Vec::new();
        value::put_int(&mut out, value);
        assert_eq!(value::take_all(&out).unwrap(), [deltamesh_change::Value::Int(value)]);
    }
}

#[test]
fn range_deletes() {
    let cleared = |start: &str, end: &str| Engine::Chai.cleared(&bytes(start), &bytes(end)).ok();
    assert_eq!(cleared("33", "34"), Some(Cleared::Segment));
    assert_eq!(cleared("30", "30"), Some(Cleared::Nothing));
    assert_eq!(cleared("537FFFFFFFFEFFFFFF", "537FFFFFFFFFFFFFFF"), Some(Cleared::Nothing));
    assert_eq!(cleared("4F", "5020"), Some(Cleared::Space(31)));
    assert_eq!(cleared("31", "32"), None);
    assert_eq!(cleared("3A", "3C"), None);
    assert_eq!(cleared("3A31", "3B"), None);
}

#[test]
fn keys_in_their_order() {
    let ascending = [
        "3A31",
        "3AAE012C",
        "3AAE0100",
        "3ACA",
        "3B31",
        "3B50FF",
        "3B6200",
        "3B620161",
        "3B62026161",
        "3B620162",
    ];
    for (at, left) in ascending.iter().enumerate() {
        for (other, right) in ascending.iter().enumerate() {
            assert_eq!(order::compare(&bytes(left), &bytes(right)), at.cmp(&other), "{left} {right}");
        }
    }
    assert_eq!(order::compare(&bytes("3A6205"), &bytes("3A6205")), Ordering::Equal);
}
