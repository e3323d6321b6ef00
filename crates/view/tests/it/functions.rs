//! What functions give that SQLite has not itself.

use deltamesh_change::Value;
use expect_test::{Expect, expect};

use crate::database::Database;
use crate::random_views::{document, relations};

fn check(select: &str, expected: Expect) {
    let mut database = Database::new(relations());
    let message = |id: i64, chat: i64, body: Value, n: Value| {
        let extra = document(r#"{"a":[7,"x"],"b":true,"c":{"d":1.5},"e":null}"#);
        let null = Value::Null;
        (1, vec![Value::Int(id), Value::Int(chat), Value::Int(1), body, n, extra, null.clone(), null], false)
    };
    database.apply(&[
        message(1, 5, "2024-02-29 23:05:09".into(), Value::Int(4)),
        message(2, 5, "abc".into(), Value::Null),
        message(3, 6, Value::Null, Value::Int(-4)),
    ]);
    database.create(&format!("CREATE MATERIALIZED VIEW v AS {select}"));
    expected.assert_eq(&(database.rows("SELECT * FROM v").join("\n") + "\n"));
}

#[test]
fn scalar_functions() {
    check(
        "SELECT id, concat(body, n) AS c, greatest(n, 0) AS g, least(chat, n) AS l, left(body, 2) AS b, sign(n) AS s, mod(n, 3) AS m FROM message",
        expect![[r#"
            Int(1) Text("2024-02-29 23:05:094") Int(4) Int(4) Text("20") Int(1) Int(1)
            Int(2) Text("abc") Int(0) Int(5) Text("ab") Null Null
            Int(3) Text("-4") Int(0) Int(-4) Null Int(-1) Int(-1)
        "#]],
    );
    check(
        "SELECT extra ->> 'a' AS a, extra -> 'a' ->> 1 AS x, extra ->> 'b' AS b, extra -> 'c' ->> 'd' AS d, extra ->> 'e' AS e, extra ->> 'f' AS f FROM message WHERE id = 1",
        expect![[r#"
            Text("[7,\"x\"]") Text("x") Text("true") Text("1.5") Null Null
        "#]],
    );
    check(
        "SELECT extract(year FROM body) AS y, extract(quarter FROM body) AS q, extract(month FROM body) AS m, extract(day FROM body) AS d,
           extract(hour FROM body) AS h, extract(minute FROM body) AS mi, extract(second FROM body) AS s, date_trunc('month', body) AS tm,
           date_trunc('hour', body) AS th, date(body) AS day FROM message WHERE id = 1",
        expect![[r#"
            Int(2024) Int(1) Int(2) Int(29) Int(23) Int(5) Int(9) Text("2024-02-01") Text("2024-02-29 23:00:00") Text("2024-02-29")
        "#]],
    );
}

#[test]
fn truths() {
    check(
        "SELECT chat, bool_and(n > 0) AS a, bool_or(n > 0) AS o, every(id < 2) AS e, bool_or(n > 0) FILTER (WHERE id > 1) AS f FROM message GROUP BY chat",
        expect![[r#"
            Int(5) Int(1) Int(1) Int(0) Null
            Int(6) Int(0) Int(0) Int(0) Int(0)
        "#]],
    );
}
