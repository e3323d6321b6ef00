//! A changed proto: what keeps rows readable, and what is refused, where and why.

use expect_test::{Expect, expect};

use crate::compile;

/// The proto of a relation with these fields in message `Note`, and what else it needs.
fn proto(note: &str, rest: &str) -> String {
    format!(
        "syntax = \"proto3\"; package p; import \"google/protobuf/wrappers.proto\";\n\
         import \"google/protobuf/timestamp.proto\"; import \"google/protobuf/duration.proto\";\n\
         service S {{ rpc Put(Note) returns (Ack); }} message Ack {{}}\n{rest}\nmessage Note {{\n{note}\n}}"
    )
}

const NESTED: &str = "message Inner { string k = 1; Inner more = 2; }\nenum Colour { RED = 0; BLUE = 1; }";

/// One line for each next version.
fn check(before: (&str, &str), versions: &[(&str, &str)], expected: Expect) {
    let former = compile(&proto(before.0, before.1), "").unwrap();
    let line = |(note, rest): &(&str, &str)| {
        let next = compile(&proto(note, rest), "").unwrap();
        match next.check_successor_of(&former) {
            Ok(()) => format!("readable: {note}\n"),
            Err(error) => format!("{error}\n"),
        }
    };
    expected.assert_eq(&versions.iter().map(line).collect::<String>());
}

#[test]
fn names_and_numbers() {
    check(
        ("string id = 1;\nint64 stars = 2;", ""),
        &[
            ("string id = 1;\nint64 stars = 2;\nstring body = 3;", ""),
            ("string id = 1;\nint64 stars = 9;", ""),
            ("string id = 1;\nint64 rank = 2;", ""),
            ("string id = 1;\nint64 rank = 3;", ""),
            ("string id = 1;\nreserved \"stars\";\nint64 rank = 3;", ""),
        ],
        expect![[r#"
            readable: string id = 1;
            int64 stars = 2;
            string body = 3;
            readable: string id = 1;
            int64 stars = 9;
            m.proto:7:1: field 2 was stars, and rows hold it under that name, which Genji cannot change: keep the name stars; or give rank a number of its own and write `reserved "stars";`
            m.proto:5:1: field stars is gone, and rows hold it: put it back, or write `reserved "stars";`
            readable: string id = 1;
            reserved "stars";
            int64 rank = 3;
        "#]],
    );
}

#[test]
fn types() {
    let check = |before: &str, versions: &[&str], expected: Expect| {
        let versions: Vec<_> = versions.iter().map(|version| (*version, NESTED)).collect();
        check((before, NESTED), &versions, expected);
    };
    check(
        "int32 a = 1;",
        &["int64 a = 1;", "sint32 a = 1;", "uint32 a = 1;", "double a = 1;", "repeated int32 a = 1;"],
        expect![[r#"
            readable: int64 a = 1;
            readable: sint32 a = 1;
            m.proto:7:1: field a was int32, and uint32 does not hold all of its values: keep the type, or add a field of another name
            m.proto:7:1: field a was int32, and double does not hold all of its values: keep the type, or add a field of another name
            m.proto:7:1: field a was int32, and repeated int32 does not hold all of its values: keep the type, or add a field of another name
        "#]],
    );
    check(
        "Colour a = 1;",
        &["string a = 1;", "Colour a = 1;", "int32 a = 1;"],
        expect![[r#"
            readable: string a = 1;
            readable: Colour a = 1;
            m.proto:7:1: field a was p.Colour, and int32 does not hold all of its values: keep the type, or add a field of another name
        "#]],
    );
    check(
        "map<string, int64> a = 1;",
        &[
            "map<string, int64> a = 1;",
            "map<string, int32> a = 1;",
            "map<int32, int64> a = 1;",
            "Inner a = 1;",
        ],
        expect![[r#"
            readable: map<string, int64> a = 1;
            m.proto:7:1: field a was int64, and map<string, int32> does not hold all of its values: keep the type, or add a field of another name
            m.proto:7:1: field a was map<string, int64>, and map<int32, int64> does not hold all of its values: keep the type, or add a field of another name
            m.proto:7:1: field a was map<string, int64>, and p.Inner does not hold all of its values: keep the type, or add a field of another name
        "#]],
    );
    check(
        "google.protobuf.Int32Value a = 1; google.protobuf.Timestamp t = 2; float f = 3;",
        &[
            "int64 a = 1; google.protobuf.Timestamp t = 2; double f = 3;",
            "google.protobuf.Int32Value a = 1; google.protobuf.Duration t = 2; float f = 3;",
        ],
        expect![[r#"
            readable: int64 a = 1; google.protobuf.Timestamp t = 2; double f = 3;
            m.proto:7:35: field t was google.protobuf.Timestamp, and google.protobuf.Duration does not hold all of its values: keep the type, or add a field of another name
        "#]],
    );
}

#[test]
fn nested() {
    let note = "string id = 1; repeated Inner list = 2; Colour colour = 3;";
    check(
        (note, NESTED),
        &[
            (
                note,
                "message Inner { string k = 1; Inner more = 2; int64 n = 3; }\nenum Colour { RED = 0; BLUE = 1; GREEN = 2; }",
            ),
            (note, "message Inner { string key = 1; Inner more = 2; }\nenum Colour { RED = 0; BLUE = 1; }"),
            (note, "message Inner { string k = 1; string more = 2; }\nenum Colour { RED = 0; BLUE = 1; }"),
            (note, "message Inner { string k = 1; Inner more = 2; }\nenum Colour { RED = 0; NAVY = 1; }"),
            (
                note,
                "message Inner { string k = 1; Inner more = 2; }\nenum Colour { option allow_alias = true; RED = 0; NAVY = 1; BLUE = 1; }",
            ),
        ],
        expect![[r#"
            readable: string id = 1; repeated Inner list = 2; Colour colour = 3;
            m.proto:4:17: field 1 was k, and rows hold it under that name, which Genji cannot change: keep the name k; or give key a number of its own and write `reserved "k";`
            m.proto:4:31: field more was p.Inner, and string does not hold all of its values: keep the type, or add a field of another name
            m.proto:7:41: field colour: value BLUE of enum Colour is gone or renamed, and rows hold its name: keep it (`deprecated = true`, or `allow_alias` beside the new name)
            readable: string id = 1; repeated Inner list = 2; Colour colour = 3;
        "#]],
    );
}
