//! Modules that are refused: the place and the reason.

use expect_test::{Expect, expect};

use crate::compile;

/// One line for each module.
fn check(protos: &[String], expected: Expect) {
    let line = |proto: &String| match compile(proto, "") {
        Ok(_) => format!("accepted: {proto}\n"),
        Err(error) => format!("{error}\n"),
    };
    expected.assert_eq(&protos.iter().map(line).collect::<String>());
}

/// A module of one annotated relation `note`, followed by the given lines from line 5 on.
fn annotated(rest: &str) -> String {
    format!(
        "syntax = \"proto3\"; package p;\nimport \"deltamesh/module/v1/options.proto\";\n\
         message Note {{ option (deltamesh.module.v1.relation).key = \"id\"; string id = 1; int64 size = 2; }}\n\
         message Ack {{}}\n{rest}"
    )
}

fn method(signature: &str, option: &str) -> String {
    annotated(&format!(
        "service S {{\n  rpc {signature} {{\n    option (deltamesh.module.v1.method).{option};\n  }}\n}}\n\
         message Other {{ string id = 1; string size = 2; }}\nmessage Key {{ string key = 1; }}\nmessage Id {{ string id = 1; }}"
    ))
}

#[test]
fn does_not_compile() {
    check(
        &[
            "syntax = \"proto3\";\nmessage A {\n  string a = 1\n}".to_owned(),
            "syntax = \"proto3\";\nmessage A {\n  Missing a = 1;\n}".to_owned(),
            "syntax = \"proto3\";\n\nimport \"missing.proto\";".to_owned(),
            "syntax = \"proto3\";\nmessage A { string a = 1; string b = 1; }".to_owned(),
            "syntax = \"proto3\";\nmessage A { option (nothing) = 1; string a = 1; }".to_owned(),
        ],
        expect![[r#"
            m.proto:4:1: expected ';' or '[', but found '}'
            m.proto:3:3: name 'Missing' is not defined
            m.proto:3:1: import 'missing.proto' not found
            m.proto:2:38: field number '1' is already used
            m.proto:2:13: name 'nothing' is not defined
        "#]],
    );
}

#[test]
fn relations() {
    let relation = |option: &str| {
        annotated(&format!("message Bad {{\n  option (deltamesh.module.v1.relation) = {{ {option} }};\n  string a = 1; repeated string list = 2; optional string maybe = 3; string A = 4;\n}}").replace(" string A = 4;", ""))
    };
    check(
        &[
            relation("key: \"a\" key: \"b\""),
            relation("key: \"list\""),
            relation("key: \"maybe\""),
            relation("key: \"a\" key: \"a\""),
            relation("unique: \"b\""),
            relation("index: \"list\""),
            relation("name: \"note\""),
            relation("name: \"a b\""),
            annotated("message Bad {\n  option (deltamesh.module.v1.relation) = {};\n}"),
            annotated(
                "message Bad {\n  option (deltamesh.module.v1.relation) = {};\n  string a = 1;\n  string A = 2;\n}",
            ),
            annotated("message Bad {\n  option (deltamesh.module.v1.relation).keys = \"a\";\n}"),
        ],
        expect![[r#"
            m.proto:6:3: key field b is not in message Bad
            m.proto:6:3: key field list is of type array
            m.proto:6:3: key field maybe may be absent
            m.proto:6:3: key field a is named twice
            m.proto:6:3: unique field b is not in message Bad
            m.proto:6:3: index field list is of type array
            m.proto:6:3: relation note is already that of message p.Note
            m.proto:6:3: relation name "a b" must be letters, digits and _
            m.proto:5:1: relation bad has no fields
            m.proto:8:10: camel-case name of field 'a' conflicts with field 'A'
            m.proto:6:3: option field '(deltamesh.module.v1.relation).keys' is not defined
        "#]],
    );
}

#[test]
fn mutations() {
    check(
        &[
            method("Put(Note) returns (Ack)", "mutation.relation = \"notes\""),
            method("Put(Other) returns (Ack)", "mutation.relation = \"note\""),
            method("Put(Key) returns (Ack)", "mutation.relation = \"note\""),
            method("Put(Id) returns (Ack)", "mutation.relation = \"note\""),
            method("Put(Other) returns (Ack)", "mutation = {}"),
            method("Put(Note) returns (stream Ack)", "mutation = {}"),
            method("Put(Ack) returns (Ack)", "mutation = { relation: \"note\" kind: KIND_DELETE }"),
        ],
        expect![[r#"
            m.proto:7:5: method Put: relation notes is unknown
            m.proto:10:32: field size is of type text, in relation note it is integer
            m.proto:11:15: field key is not in relation note
            m.proto:7:5: method Put: message Id lacks field size of relation note
            m.proto:7:5: method Put: message Other is not a relation
            m.proto:7:5: method Put: a mutation does not stream its answer
            m.proto:7:5: method Put: message Ack lacks field id of relation note
        "#]],
    );
}

#[test]
fn feeds() {
    check(
        &[
            method("Watch(Id) returns (Note)", "feed.view = \"note\""),
            method("Watch(Id) returns (stream Note)", "feed = {}"),
            method("Watch(Key) returns (stream Note)", "feed.view = \"note\""),
            method("Watch(Other) returns (stream Note)", "feed.view = \"note\""),
            method("Watch(Key) returns (stream Note)", "feed = { view: \"note\" where: \"kay = id\" }"),
            method("Watch(Key) returns (stream Note)", "feed = { view: \"note\" where: \"key\" }"),
        ],
        expect![[r#"
            m.proto:7:5: method Watch: a feed takes one request and streams its answer
            m.proto:7:5: method Watch: the feed names no view
            m.proto:7:5: method Watch: request field key is not a field of message Note
            m.proto:7:5: method Watch: request field size is not a field of message Note
            m.proto:7:5: method Watch: request field kay is not in message Key
            m.proto:7:5: method Watch: "key" is not of the form request_field = column
        "#]],
    );
}

#[test]
fn queries() {
    check(
        &[
            method("Find(Key) returns (Note)", "query = {}"),
            method("Find(Key) returns (Note)", "query.sql = \"SELECT * FROM note WHERE id = :id\""),
            method("Find(Key) returns (Note)", "query.sql = \"SELECT * FROM note\""),
        ],
        expect![[r#"
            m.proto:7:5: method Find: the query has no SQL
            m.proto:7:5: method Find: parameter :id is not a field of message Key
            m.proto:7:5: method Find: request field key is not used by the query
        "#]],
    );
}

#[test]
fn without_annotation() {
    check(
        &[
            annotated("service S {\n  rpc Put(Ack) returns (Ack);\n}"),
            annotated("service S {\n  rpc Both(stream Note) returns (stream Note);\n}"),
            annotated(
                "service S {\n  rpc Watch(Ack) returns (stream Other);\n}\nmessage Other { string a = 1; }",
            ),
            annotated(
                "service S {\n  rpc Watch(Other) returns (stream Note);\n}\nmessage Other { string a = 1; }",
            ),
        ],
        expect![[r#"
            m.proto:6:3: method Put: neither it nor its message Ack is annotated
            m.proto:6:3: method Both: streams both ways, which has no meaning without annotation
            m.proto:6:3: method Watch: message Other is no relation and no view other is created
            m.proto:6:3: method Watch: no field of message Other is a field of message Note
        "#]],
    );
}
