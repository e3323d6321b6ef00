//! Programs for PostgreSQL: what is spelled otherwise than for SQLite, and what is refused.

use deltamesh_view::{Catalog, Dialect, Error, Program, Statement, parse_statements, plan};
use expect_test::{Expect, expect};

use crate::random_views::relations;

fn planned(sql: &str) -> Result<Program, Error> {
    let mut catalog = Catalog::new();
    for schema in relations() {
        catalog.add_relation("main", &schema);
    }
    match parse_statements(sql).expect("parse").as_slice() {
        [Statement::Create(view)] => plan(view, &catalog, Dialect::Postgres),
        other => panic!("{other:?}"),
    }
}

#[test]
fn statements() {
    let program = planned(
        "CREATE MATERIALIZED VIEW totals AS SELECT user_id, sum(n) AS total, max(body) AS last FROM message GROUP BY user_id",
    )
    .expect("plan");
    let actions = program.maintain.iter().map(|step| &step.action).chain(&program.apply);
    let actions = actions.map(|action| &action.sql);
    let all = program.create.iter().chain(&program.connect).chain(&program.fill).chain(actions);
    let text: Vec<&str> = all.map(String::as_str).collect();
    expect![[r#"
        CREATE TABLE IF NOT EXISTS "__deltamesh_rows_totals" ("user_id" bigint, "total" bigint, "last" text COLLATE "C", "__deltamesh_n" bigint, "__deltamesh_c0" bigint)
        CREATE INDEX IF NOT EXISTS "__deltamesh_key_totals" ON "__deltamesh_rows_totals" ("user_id")
        CREATE OR REPLACE VIEW "totals" AS SELECT "user_id", "total", "last" FROM "__deltamesh_rows_totals"
        CREATE UNLOGGED TABLE IF NOT EXISTS "old__totals" ("user_id" bigint, "total" bigint, "last" text COLLATE "C", "__deltamesh_n" bigint, "__deltamesh_c0" bigint)
        CREATE INDEX IF NOT EXISTS "key_old__totals" ON "old__totals" ("user_id")
        CREATE UNLOGGED TABLE IF NOT EXISTS "new__totals" ("user_id" bigint, "total" bigint, "last" text COLLATE "C", "__deltamesh_n" bigint, "__deltamesh_c0" bigint)
        CREATE INDEX IF NOT EXISTS "key_new__totals" ON "new__totals" ("user_id")
        CREATE UNLOGGED TABLE IF NOT EXISTS "delta__totals" (w bigint, g0 bigint, a0 bigint, a1 text COLLATE "C")
        CREATE UNLOGGED TABLE IF NOT EXISTS "groups__totals" (g0 bigint, n bigint, c0 bigint, s0 bigint, hi1 text COLLATE "C", hi1_gone text COLLATE "C")
        INSERT INTO "__deltamesh_rows_totals" ("user_id", "total", "last", "__deltamesh_n", "__deltamesh_c0") SELECT "message"."user_id", CAST(sum("message"."n") AS bigint), max("message"."body"), count(*), count("message"."n") FROM "main__message" AS "message" GROUP BY "message"."user_id"
        INSERT INTO "delta__totals" SELECT -1, "message"."user_id", "message"."n", "message"."body" FROM "old__main__message" AS "message"
        INSERT INTO "delta__totals" SELECT 1, "message"."user_id", "message"."n", "message"."body" FROM "new__main__message" AS "message"
        INSERT INTO "groups__totals" SELECT g0, sum(w), sum(CASE WHEN a0 IS NOT NULL THEN w ELSE 0 END), coalesce(sum(w * a0), 0), max(CASE WHEN w > 0 THEN a1 END), max(CASE WHEN w < 0 THEN a1 END) FROM (SELECT g0, a0, a1, sum(w) AS w FROM "delta__totals" GROUP BY g0, a0, a1 HAVING sum(w) <> 0) AS netted GROUP BY g0 HAVING sum(w) <> 0 OR sum(CASE WHEN a0 IS NOT NULL THEN w ELSE 0 END) <> 0 OR coalesce(sum(w * a0), 0) <> 0 OR max(CASE WHEN w > 0 THEN a1 END) IS NOT NULL OR max(CASE WHEN w < 0 THEN a1 END) IS NOT NULL
        INSERT INTO "old__totals" ("user_id", "total", "last", "__deltamesh_n", "__deltamesh_c0") SELECT s."user_id", s."total", s."last", s."__deltamesh_n", s."__deltamesh_c0" FROM "groups__totals" AS g CROSS JOIN "__deltamesh_rows_totals" AS s WHERE (s."user_id" = g.g0 OR (s."user_id" IS NULL AND g.g0 IS NULL))
        INSERT INTO "new__totals" ("user_id", "total", "last", "__deltamesh_n", "__deltamesh_c0") SELECT t.g0, CASE WHEN t.c0 > 0 THEN t.s0 END, t.hi1, t.n, t.c0 FROM (SELECT g.g0 AS g0, coalesce(o."__deltamesh_n", 0) + g.n AS n, coalesce(o."__deltamesh_c0", 0) + g.c0 AS c0, coalesce(o."total", 0) + g.s0 AS s0, CASE WHEN g.hi1_gone >= o."last" THEN (SELECT max("message"."body") FROM "main__message" AS "message" WHERE ("message"."user_id" = g.g0 OR ("message"."user_id" IS NULL AND g.g0 IS NULL))) WHEN o."last" IS NULL OR g.hi1 > o."last" THEN g.hi1 ELSE o."last" END AS hi1 FROM "groups__totals" AS g LEFT JOIN "old__totals" AS o ON (o."user_id" = g.g0 OR (o."user_id" IS NULL AND g.g0 IS NULL))) AS t WHERE t.n > 0
        DELETE FROM "__deltamesh_rows_totals" AS s USING "old__totals" AS o WHERE (s."user_id" = o."user_id" OR (s."user_id" IS NULL AND o."user_id" IS NULL))
        INSERT INTO "__deltamesh_rows_totals" ("user_id", "total", "last", "__deltamesh_n", "__deltamesh_c0") SELECT "user_id", "total", "last", "__deltamesh_n", "__deltamesh_c0" FROM "new__totals""#]].assert_eq(&text.join("\n"));
}

fn check(expression: &str, expected: Expect) {
    let sql = format!("CREATE MATERIALIZED VIEW v AS SELECT id, {expression} AS x FROM message");
    let text = match planned(&sql) {
        Ok(program) => {
            let x = program.oracle.split_once(", ").and_then(|(_, rest)| rest.split_once(" AS \"x\""));
            x.expect("an output").0.to_owned()
        }
        Err(error) => error.to_string(),
    };
    expected.assert_eq(&text);
}

#[test]
fn expressions() {
    check("n / 2", expect![[r#"("message"."n" / nullif(CAST(2 AS bigint), 0))"#]]);
    check(
        "n % 2 + 1.5",
        expect![[r#"(("message"."n" % nullif(CAST(2 AS bigint), 0)) + CAST(1.5 AS double precision))"#]],
    );
    check("n || body", expect![[r#"((CAST("message"."n" AS text) COLLATE "C") || "message"."body")"#]]);
    check(
        "body LIKE 'a%'",
        expect![[r#"("message"."body" COLLATE "C" ILIKE ('a%' COLLATE "C") ESCAPE '')"#]],
    );
    check(
        "CAST(body AS INTEGER)",
        expect![[
            r#"CASE WHEN "message"."body" IS NOT NULL THEN coalesce(CAST(substring("message"."body" from '^[ \t\n\v\f\r]*([+-]?[0-9]+)') AS bigint), 0) END"#
        ]],
    );
    check("CAST(n AS TEXT)", expect![[r#"(CAST("message"."n" AS text) COLLATE "C")"#]]);
    check(
        "extra -> 'a' -> 0 ->> 'b c'",
        expect![[r#"(("message"."extra" #>> '{"a",0,"b c"}') COLLATE "C")"#]],
    );
    check(
        "left(body, 2) || date_trunc('month', body)",
        expect![[
            r#"(substr("message"."body", CAST(CAST(1 AS bigint) AS integer), CAST(CAST(2 AS bigint) AS integer)) || (substr("message"."body", CAST(CAST(1 AS bigint) AS integer), CAST(CAST(7 AS bigint) AS integer)) || ('-01' COLLATE "C")))"#
        ]],
    );
    check("upper(body)", expect![[r#"upper("message"."body" COLLATE "C")"#]]);
    check("length(body)", expect![[r#"CAST(length("message"."body") AS bigint)"#]]);
    check(
        "round(n / 2.0)",
        expect![[
            r#"(sign(CAST(("message"."n" / nullif(CAST(2.0 AS double precision), 0)) AS double precision)) * floor(abs(CAST(("message"."n" / nullif(CAST(2.0 AS double precision), 0)) AS double precision)) + 0.5) + 0)"#
        ]],
    );
    check(
        "CASE WHEN n > 1 THEN 'a' ELSE body END",
        expect![[
            r#"CASE WHEN ("message"."n" > CAST(1 AS bigint)) THEN ('a' COLLATE "C") ELSE "message"."body" END"#
        ]],
    );
    check("any IS NULL", expect![[r#"("message"."any" IS NULL)"#]]);
}

#[test]
fn refused() {
    check("body = 5", expect!["1:31: = of a text and an integer: CAST one of them (Postgres replica)"]);
    check(
        "any = 5",
        expect!["1:31: = of an untyped column and an integer: CAST one of them (Postgres replica)"],
    );
    check(
        "n AND TRUE",
        expect!["1:31: an integer as a condition: compare it with something (Postgres replica)"],
    );
    check("substr(body, 1.5)", expect!["1:31: a place of a double: CAST it to INTEGER (Postgres replica)"]);
    check(
        "CASE WHEN n > 1 THEN 'a' ELSE n END",
        expect!["1:31: CASE of a text and an integer: CAST one of them (Postgres replica)"],
    );
    check("n + interval '1' day", expect!["1:42: n is no text: dates and times are text in ISO form"]);
    check("extra || ''", expect!["1:31: || of JSON: use a text (Postgres replica)"]);
}
