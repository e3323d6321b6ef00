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
           date_trunc('hour', body) AS th, date_trunc('minute', date(body)) AS dm, date(body) AS day FROM message WHERE id = 1",
        expect![[r#"
            Int(2024) Int(1) Int(2) Int(29) Int(23) Int(5) Int(9) Text("2024-02-01") Text("2024-02-29 23:00:00") Text("2024-02-29 00:00:00") Text("2024-02-29")
        "#]],
    );
}

#[test]
fn numbers_and_texts() {
    check(
        "SELECT id, round(n * 0.345, 2) AS r, round(2.5) AS h, floor(n * 0.6) AS f, floor(n) AS whole, power(n, 2) AS p FROM message",
        expect![[r#"
            Int(1) Float(1.38) Float(3.0) Float(2.0) Int(4) Float(16.0)
            Int(2) Null Float(3.0) Null Null Null
            Int(3) Float(-1.38) Float(3.0) Float(-3.0) Int(-4) Float(16.0)
        "#]],
    );
    check(
        "SELECT id, right(body, 2) AS r, lpad(CAST(n AS TEXT), 4, '.:') AS l, rpad(body, 5, '*') AS p, starts_with(body, 'ab') AS s,
           concat_ws(', ', body, n, NULL, id) AS c FROM message",
        expect![[r#"
            Int(1) Text("09") Text(".:.4") Text("2024-") Int(0) Text("2024-02-29 23:05:09, 4, 1")
            Int(2) Text("bc") Null Text("abc**") Int(1) Text("abc, 2")
            Int(3) Null Text(".:-4") Null Null Text("-4, 3")
        "#]],
    );
}

#[test]
fn dates() {
    check(
        "SELECT id, extract(dow FROM body) AS dow, extract(isodow FROM body) AS iso, extract(doy FROM body) AS doy, extract(week FROM body) AS w,
           date_part('isoyear', body) AS y, extract(epoch FROM body) AS e, date_trunc('week', body) AS tw, date_trunc('quarter', body) AS tq FROM message WHERE n > 0 OR n IS NULL",
        expect![[r#"
            Int(1) Int(4) Int(4) Int(60) Int(9) Int(2024) Int(1709247909) Text("2024-02-26") Text("2024-01-01")
            Int(2) Null Null Null Null Null Null Null Text("abc-01-01")
        "#]],
    );
    check(
        "SELECT body + interval '12' month AS y, body - n * interval '1 day' AS d, body + interval '55' minute AS m, date(body) + interval '1' hour AS h,
           date(body) - interval '1' month AS lm, date '2024-03-31' - n * interval '1' month AS b, date(body) - date '2024-01-01' AS days FROM message WHERE id = 1",
        expect![[r#"
            Text("2025-02-28 23:05:09") Text("2024-02-25 23:05:09") Text("2024-03-01 00:00:09") Text("2024-02-29 01:00:00") Text("2024-01-29") Text("2023-11-30") Int(59)
        "#]],
    );
    check(
        "SELECT strftime('%Y-%m %H:%M (%j)', body) AS s, to_char(body, 'DD.MM.YYYY, HH24:MI') AS t, to_char(date(body), 'YYYY-Q HH24') AS q, CAST(body AS DATE) AS d FROM message WHERE id = 1",
        expect![[r#"
            Text("2024-02 23:05 (060)") Text("29.02.2024, 23:05") Text("2024-1 00") Text("2024-02-29")
        "#]],
    );
    check(
        "SELECT d, extract(week FROM d) AS w, extract(doy FROM d) AS doy, d + interval '1' month AS m FROM (SELECT id, concat(2018 + id, '-01-0', id) AS d FROM message) AS s",
        expect![[r#"
            Text("2019-01-01") Int(1) Int(1) Text("2019-02-01")
            Text("2020-01-02") Int(1) Int(2) Text("2020-02-02")
            Text("2021-01-03") Int(53) Int(3) Text("2021-02-03")
        "#]],
    );
}

#[test]
fn documents() {
    check(
        "SELECT extra -> 'a' AS a, extra -> 'c' -> 'd' AS d, (extra -> 'a') ->> 0 AS x, extra #>> '{a,1}' AS y, extra -> 'e' AS e, extra -> 'f' AS f,
           json_array_length(extra -> 'a') AS n, json_array_length(extra) AS no FROM message WHERE id = 1",
        expect![[r#"
            Text("[7,\"x\"]") Text("1.5") Text("7") Text("x") Text("null") Null Int(2) Int(0)
        "#]],
    );
}

#[test]
fn joined_texts() {
    check(
        "SELECT chat, string_agg(body, ', ') AS t, string_agg(body, ', ' ORDER BY id DESC) AS d, group_concat(id) AS g,
           string_agg(DISTINCT left(body, 1), '' ORDER BY left(body, 1) DESC) AS f,
           group_concat(body, '|' ORDER BY n) FILTER (WHERE n > 0) AS p FROM message GROUP BY chat",
        expect![[r#"
            Int(5) Text("2024-02-29 23:05:09, abc") Text("abc, 2024-02-29 23:05:09") Text("1,2") Text("a2") Text("2024-02-29 23:05:09")
            Int(6) Null Null Text("3") Null Null
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
