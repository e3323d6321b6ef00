//! Statements that parse, and what is said about those that do not.

use super::*;

fn check(sql: &str, expected: &str) {
    let text = match parse_statements(sql) {
        Ok(statements) => statements
            .iter()
            .map(|statement| match statement {
                Statement::Create(view) => format!("create {} {:?}", view.name, view.sql),
                Statement::Drop(view) => format!("drop {} {}", view.name, view.if_exists),
            })
            .collect::<Vec<_>>()
            .join("\n"),
        Err(error) => error.to_string(),
    };
    assert_eq!(text, expected, "{sql}");
}

#[test]
fn statements() {
    check(
        "-- head\nCREATE MATERIALISED VIEW é AS SELECT 1",
        "2:26: a view's name is up to 64 letters, digits and _, and does not begin with a digit",
    );
    check(
        "-- é\nCREATE MATERIALISED VIEW a AS SELECT 'é;' AS x FROM user u -- tail\n;; drop materialized view if exists a",
        "create a \"CREATE MATERIALISED VIEW a AS SELECT 'é;' AS x FROM user u\"\ndrop a true",
    );
    check(
        "CREATE OR REPLACE MATERIALIZED VIEW b AS SELECT user.x FROM user",
        "create b \"CREATE OR REPLACE MATERIALIZED VIEW b AS SELECT user.x FROM user\"",
    );
    check("", "");
}

#[test]
fn refusals() {
    check("CREATE VIEW a AS SELECT 1", "1:1: write CREATE MATERIALIZED VIEW: a plain view has no feed");
    check(
        ";\n CREATE POLICY p ON a FOR SELECT USING (true)",
        "2:2: policies are not supported yet; remove the statement, and do not serve the view where it must be restricted",
    );
    check("SELEC 1", "1:1: expected CREATE MATERIALIZED VIEW or DROP MATERIALIZED VIEW, found SELEC");
    check(
        "DROP MATERIALIZED VIEW a, b",
        "1:25: expected the end of the statement, found ,; drop one view at a time",
    );
    check(
        "CREATE MATERIALIZED VIEW a__b AS SELECT 1",
        "1:26: the name a__b is reserved; avoid sqlite_ and double _",
    );
    check("CREATE MATERIALIZED VIEW a.b AS SELECT 1", "a view's name has one part, not a.b");
    check(
        "CREATE MATERIALIZED VIEW a AS SELECT x\n  FROM t GROUP x",
        "2:10: expected the end of the statement, found GROUP",
    );
    check(
        "CREATE MATERIALIZED VIEW a WITH (keys = 'x') AS SELECT 1",
        "1:34: no option keys; there are key, subject, stored, retain, indexes",
    );
    check(
        "CREATE MATERIALIZED VIEW a WITH (indexes = later) AS SELECT 1",
        "1:34: option indexes is one of auto, now, not later",
    );
    check(
        "CREATE MATERIALIZED VIEW a WITH (stored = often) AS SELECT 1",
        "1:34: option stored is one of auto, always, never, not often",
    );
}

#[test]
fn options() {
    let sql = "CREATE MATERIALIZED VIEW a WITH (key = 'a, b', subject = 'c', stored = never, retain = 'last') AS SELECT 1";
    let statements = parse_statements(sql).unwrap_or_default();
    let [Statement::Create(view)] = statements.as_slice() else { unreachable!("one CREATE") };
    assert_eq!(view.options.key, ["a", "b"]);
    assert_eq!(view.options.subject, ["c"]);
    assert_eq!((view.options.stored, view.options.retain), (Stored::Never, Retain::Last));
}
