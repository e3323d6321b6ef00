//! Programs of a few views, as text, and how SQLite runs them.

use deltamesh_view::Tier;
use expect_test::{Expect, expect};

use crate::database::Database;
use crate::random_views::{VIEWS, relations};

fn check(view: &str, expected: Expect) {
    let mut database = Database::new(relations());
    database.create(view);
    let program = &database.programs[0];
    let mut text = program.explain.to_string();
    for (title, statements) in
        [("create", &program.create), ("connect", &program.connect), ("fill", &program.fill)]
    {
        text.push_str(&format!("{title}\n"));
        statements.iter().for_each(|sql| text.push_str(&format!("  {sql}\n")));
    }
    expected.assert_eq(&text);
}

#[test]
fn filter() {
    check(
        "CREATE MATERIALIZED VIEW short AS SELECT id, body FROM message WHERE n < 3 ORDER BY body",
        expect![[r#"
            view short (tier A)
              project id, body  [A]
                filter ("message"."n" < 3)  [A]
                  read main__message as message
            base main__message (relation message of source main)
            note key (id), derived
            before main__message
              INSERT INTO temp."old__short" ("id", "body") SELECT "message"."id", "message"."body" FROM temp."old__main__message" AS "message" WHERE ("message"."n" < 3) AND NOT EXISTS (SELECT 1 FROM temp."new__main__message" AS __deltamesh_other WHERE "message"."id" = __deltamesh_other."id" AND "message"."body" IS __deltamesh_other."body" AND "message"."n" IS __deltamesh_other."n")
            after main__message
              INSERT INTO temp."new__short" ("id", "body") SELECT "message"."id", "message"."body" FROM temp."new__main__message" AS "message" WHERE ("message"."n" < 3) AND NOT EXISTS (SELECT 1 FROM temp."old__main__message" AS __deltamesh_other WHERE "message"."id" = __deltamesh_other."id" AND "message"."body" IS __deltamesh_other."body" AND "message"."n" IS __deltamesh_other."n")
            apply
              DELETE FROM "short" WHERE ("id") IN (SELECT o."id" FROM temp."old__short" AS o WHERE NOT EXISTS (SELECT 1 FROM temp."new__short" AS n WHERE n."id" = o."id"))
              INSERT INTO "short" ("id", "body") SELECT "id", "body" FROM temp."new__short" WHERE TRUE ON CONFLICT ("id") DO UPDATE SET "body" = excluded."body"
            record
              INSERT INTO "__deltamesh_changes" (view, op, key, row, before, subject, position, dsid, captured_us) SELECT 'short', 'delete', json_array(CASE WHEN o."id" BETWEEN -9007199254740992 AND 9007199254740992 THEN o."id" ELSE CAST(o."id" AS TEXT) END), json_object('id', CASE WHEN o."id" BETWEEN -9007199254740992 AND 9007199254740992 THEN o."id" ELSE CAST(o."id" AS TEXT) END, 'body', o."body"), NULL, 'feed.short.' || deltamesh_token(o."id"), :position, :dsid, :captured_us FROM temp."old__short" AS o WHERE NOT EXISTS (SELECT 1 FROM temp."new__short" AS n WHERE o."id" = n."id")
              INSERT INTO "__deltamesh_changes" (view, op, key, row, before, subject, position, dsid, captured_us) SELECT 'short', CASE WHEN o.rowid IS NULL THEN 'insert' ELSE 'update' END, json_array(CASE WHEN n."id" BETWEEN -9007199254740992 AND 9007199254740992 THEN n."id" ELSE CAST(n."id" AS TEXT) END), json_object('id', CASE WHEN n."id" BETWEEN -9007199254740992 AND 9007199254740992 THEN n."id" ELSE CAST(n."id" AS TEXT) END, 'body', n."body"), CASE WHEN o.rowid IS NOT NULL THEN '{' || substr(CASE WHEN o."body" IS NOT n."body" THEN ',"body":' || json_quote(o."body") ELSE '' END, 2) || '}' END, 'feed.short.' || deltamesh_token(n."id"), :position, :dsid, :captured_us FROM temp."new__short" AS n LEFT JOIN temp."old__short" AS o ON o."id" = n."id" WHERE o.rowid IS NULL OR (n."id", n."body") IS NOT (o."id", o."body")
            create
              CREATE TABLE IF NOT EXISTS "short" ("id" INTEGER, "body" TEXT, PRIMARY KEY ("id"))
            connect
              CREATE TABLE IF NOT EXISTS temp."old__short" ("id" INTEGER, "body" TEXT, PRIMARY KEY ("id"))
              CREATE TABLE IF NOT EXISTS temp."new__short" ("id" INTEGER, "body" TEXT, PRIMARY KEY ("id"))
            fill
              INSERT INTO "short" ("id", "body") SELECT "message"."id", "message"."body" FROM "main__message" AS "message" WHERE ("message"."n" < 3)
        "#]],
    );
}

#[test]
fn join() {
    check(
        "CREATE MATERIALIZED VIEW feed WITH (subject = 'chat') AS
           SELECT m.id, m.chat, u.login FROM message m JOIN user u ON u.user_id = m.user_id",
        expect![[r#"
            view feed (tier C)
              project id, chat, login  [A]
                join on ("u"."user_id" = "m"."user_id")  [C]
                  read main__message as m
                  read main__user as u
            base main__message (relation message of source main)
            base main__user (relation user of source main)
            index main__message (user_id), made with the first change of main__user
            note key (id), derived
            note rows are read from the bases, not stored
            before main__message
              INSERT INTO temp."old__feed" ("id", "chat", "login") SELECT "m"."id", "m"."chat", "u"."login" FROM temp."old__main__message" AS "m" CROSS JOIN "main__user" AS "u" WHERE ("u"."user_id" = "m"."user_id") AND NOT EXISTS (SELECT 1 FROM temp."new__main__message" AS __deltamesh_other WHERE "m"."id" = __deltamesh_other."id" AND "m"."chat" = __deltamesh_other."chat" AND "m"."user_id" IS __deltamesh_other."user_id") -- where only this relation changes
              INSERT INTO temp."delta__feed" SELECT -1, "m"."id", "m"."chat", "u"."login" FROM temp."old__main__message" AS "m" CROSS JOIN "main__user" AS "u" WHERE ("u"."user_id" = "m"."user_id") -- where others change too
            after main__message
              INSERT INTO temp."new__feed" ("id", "chat", "login") SELECT "m"."id", "m"."chat", "u"."login" FROM temp."new__main__message" AS "m" CROSS JOIN "main__user" AS "u" WHERE ("u"."user_id" = "m"."user_id") AND NOT EXISTS (SELECT 1 FROM temp."old__main__message" AS __deltamesh_other WHERE "m"."id" = __deltamesh_other."id" AND "m"."chat" = __deltamesh_other."chat" AND "m"."user_id" IS __deltamesh_other."user_id") -- where only this relation changes
              INSERT INTO temp."delta__feed" SELECT 1, "m"."id", "m"."chat", "u"."login" FROM temp."new__main__message" AS "m" CROSS JOIN "main__user" AS "u" WHERE ("u"."user_id" = "m"."user_id") -- where others change too
            before main__user
              INSERT INTO temp."delta__feed" SELECT -1, "m"."id", "m"."chat", "u"."login" FROM temp."old__main__user" AS "u" CROSS JOIN "main__message" AS "m" WHERE ("u"."user_id" = "m"."user_id")
            after main__user
              INSERT INTO temp."delta__feed" SELECT 1, "m"."id", "m"."chat", "u"."login" FROM temp."new__main__user" AS "u" CROSS JOIN "main__message" AS "m" WHERE ("u"."user_id" = "m"."user_id")
            finish
              INSERT INTO temp."old__feed" ("id", "chat", "login") SELECT "id", "chat", "login" FROM temp."delta__feed" -- where no row comes
              INSERT INTO temp."old__feed" ("id", "chat", "login") SELECT "id", "chat", "login" FROM temp."delta__feed" GROUP BY "id", "chat", "login" HAVING sum("__deltamesh_w") < 0 -- where rows come and go
              INSERT INTO temp."new__feed" ("id", "chat", "login") SELECT "id", "chat", "login" FROM temp."delta__feed" -- where no row goes
              INSERT INTO temp."new__feed" ("id", "chat", "login") SELECT "id", "chat", "login" FROM temp."delta__feed" GROUP BY "id", "chat", "login" HAVING sum("__deltamesh_w") > 0 -- where rows come and go
            apply
            record
              INSERT INTO "__deltamesh_changes" (view, op, key, row, before, subject, position, dsid, captured_us) SELECT 'feed', 'delete', json_array(CASE WHEN o."id" BETWEEN -9007199254740992 AND 9007199254740992 THEN o."id" ELSE CAST(o."id" AS TEXT) END), json_object('id', CASE WHEN o."id" BETWEEN -9007199254740992 AND 9007199254740992 THEN o."id" ELSE CAST(o."id" AS TEXT) END, 'chat', CASE WHEN o."chat" BETWEEN -9007199254740992 AND 9007199254740992 THEN o."chat" ELSE CAST(o."chat" AS TEXT) END, 'login', o."login"), NULL, 'feed.feed.' || deltamesh_token(o."chat") || '.' || deltamesh_token(o."id"), :position, :dsid, :captured_us FROM temp."old__feed" AS o WHERE NOT EXISTS (SELECT 1 FROM temp."new__feed" AS n WHERE o."id" = n."id" AND o."chat" IS n."chat")
              INSERT INTO "__deltamesh_changes" (view, op, key, row, before, subject, position, dsid, captured_us) SELECT 'feed', CASE WHEN o.rowid IS NULL THEN 'insert' ELSE 'update' END, json_array(CASE WHEN n."id" BETWEEN -9007199254740992 AND 9007199254740992 THEN n."id" ELSE CAST(n."id" AS TEXT) END), json_object('id', CASE WHEN n."id" BETWEEN -9007199254740992 AND 9007199254740992 THEN n."id" ELSE CAST(n."id" AS TEXT) END, 'chat', CASE WHEN n."chat" BETWEEN -9007199254740992 AND 9007199254740992 THEN n."chat" ELSE CAST(n."chat" AS TEXT) END, 'login', n."login"), CASE WHEN o.rowid IS NOT NULL THEN '{' || substr(CASE WHEN o."chat" IS NOT n."chat" THEN ',"chat":' || json_quote(CASE WHEN o."chat" BETWEEN -9007199254740992 AND 9007199254740992 THEN o."chat" ELSE CAST(o."chat" AS TEXT) END) ELSE '' END || CASE WHEN o."login" IS NOT n."login" THEN ',"login":' || json_quote(o."login") ELSE '' END, 2) || '}' END, 'feed.feed.' || deltamesh_token(n."chat") || '.' || deltamesh_token(n."id"), :position, :dsid, :captured_us FROM temp."new__feed" AS n LEFT JOIN temp."old__feed" AS o ON o."id" = n."id" AND o."chat" IS n."chat" WHERE o.rowid IS NULL OR (n."id", n."chat", n."login") IS NOT (o."id", o."chat", o."login")
            create
              CREATE VIEW IF NOT EXISTS "feed" AS SELECT "m"."id" AS "id", "m"."chat" AS "chat", "u"."login" AS "login" FROM "main__message" AS "m" JOIN "main__user" AS "u" ON ("u"."user_id" = "m"."user_id")
            connect
              CREATE TABLE IF NOT EXISTS temp."old__feed" ("id" INTEGER, "chat" INTEGER, "login" TEXT, PRIMARY KEY ("id"))
              CREATE TABLE IF NOT EXISTS temp."new__feed" ("id" INTEGER, "chat" INTEGER, "login" TEXT, PRIMARY KEY ("id"))
              CREATE TABLE IF NOT EXISTS temp."delta__feed" ("__deltamesh_w", "id" INTEGER, "chat" INTEGER, "login" TEXT)
            fill
        "#]],
    );
}

#[test]
fn aggregate() {
    check(
        "CREATE MATERIALIZED VIEW totals AS SELECT chat, sum(n) AS total, max(id) AS last FROM message GROUP BY chat",
        expect![[r#"
            view totals (tier B)
              project chat, total, last  [A]
                group by "message"."chat"  [B]
                  read main__message as message
            base main__message (relation message of source main)
            index main__message (chat, id)
            note key (chat), derived
            note rows in __deltamesh_rows_totals with hidden columns __deltamesh_n, __deltamesh_c0
            note min and max: when the row that has the value goes, the next one is looked up
            before main__message
              INSERT INTO temp."delta__totals" SELECT -1, "message"."chat", "message"."n", "message"."id" FROM temp."old__main__message" AS "message"
            after main__message
              INSERT INTO temp."delta__totals" SELECT 1, "message"."chat", "message"."n", "message"."id" FROM temp."new__main__message" AS "message"
            finish
              INSERT INTO temp."groups__totals" SELECT g0, sum(w), sum(CASE WHEN a0 IS NOT NULL THEN w ELSE 0 END), coalesce(sum(w * a0), 0), max(CASE WHEN w > 0 THEN a1 END), max(CASE WHEN w < 0 THEN a1 END) FROM (SELECT g0, a0, a1, sum(w) AS w FROM temp."delta__totals" GROUP BY g0, a0, a1 HAVING sum(w) <> 0) AS netted GROUP BY g0 HAVING sum(w) <> 0 OR sum(CASE WHEN a0 IS NOT NULL THEN w ELSE 0 END) <> 0 OR coalesce(sum(w * a0), 0) <> 0 OR max(CASE WHEN w > 0 THEN a1 END) IS NOT NULL OR max(CASE WHEN w < 0 THEN a1 END) IS NOT NULL
              INSERT INTO temp."old__totals" ("chat", "total", "last", "__deltamesh_n", "__deltamesh_c0") SELECT s."chat", s."total", s."last", s."__deltamesh_n", s."__deltamesh_c0" FROM temp."groups__totals" AS g CROSS JOIN "__deltamesh_rows_totals" AS s WHERE s."chat" = g.g0
              INSERT INTO temp."new__totals" ("chat", "total", "last", "__deltamesh_n", "__deltamesh_c0") SELECT t.g0, CASE WHEN t.c0 > 0 THEN t.s0 END, t.hi1, t.n, t.c0 FROM (SELECT g.g0 AS g0, coalesce(o."__deltamesh_n", 0) + g.n AS n, coalesce(o."__deltamesh_c0", 0) + g.c0 AS c0, coalesce(o."total", 0) + g.s0 AS s0, CASE WHEN g.hi1_gone >= o."last" THEN (SELECT max("message"."id") FROM "main__message" AS "message" WHERE "message"."chat" = g.g0) WHEN o."last" IS NULL OR g.hi1 > o."last" THEN g.hi1 ELSE o."last" END AS hi1 FROM temp."groups__totals" AS g LEFT JOIN temp."old__totals" AS o ON o."chat" = g.g0) AS t WHERE t.n > 0
            apply
              DELETE FROM "__deltamesh_rows_totals" WHERE ("chat") IN (SELECT o."chat" FROM temp."old__totals" AS o WHERE NOT EXISTS (SELECT 1 FROM temp."new__totals" AS n WHERE n."chat" = o."chat"))
              INSERT INTO "__deltamesh_rows_totals" ("chat", "total", "last", "__deltamesh_n", "__deltamesh_c0") SELECT "chat", "total", "last", "__deltamesh_n", "__deltamesh_c0" FROM temp."new__totals" WHERE TRUE ON CONFLICT ("chat") DO UPDATE SET "total" = excluded."total", "last" = excluded."last", "__deltamesh_n" = excluded."__deltamesh_n", "__deltamesh_c0" = excluded."__deltamesh_c0"
            record
              INSERT INTO "__deltamesh_changes" (view, op, key, row, before, subject, position, dsid, captured_us) SELECT 'totals', 'delete', json_array(CASE WHEN o."chat" BETWEEN -9007199254740992 AND 9007199254740992 THEN o."chat" ELSE CAST(o."chat" AS TEXT) END), json_object('chat', CASE WHEN o."chat" BETWEEN -9007199254740992 AND 9007199254740992 THEN o."chat" ELSE CAST(o."chat" AS TEXT) END, 'total', CASE WHEN o."total" BETWEEN -9007199254740992 AND 9007199254740992 THEN o."total" ELSE CAST(o."total" AS TEXT) END, 'last', CASE WHEN o."last" BETWEEN -9007199254740992 AND 9007199254740992 THEN o."last" ELSE CAST(o."last" AS TEXT) END), NULL, 'feed.totals.' || deltamesh_token(o."chat"), :position, :dsid, :captured_us FROM temp."old__totals" AS o WHERE NOT EXISTS (SELECT 1 FROM temp."new__totals" AS n WHERE o."chat" = n."chat")
              INSERT INTO "__deltamesh_changes" (view, op, key, row, before, subject, position, dsid, captured_us) SELECT 'totals', CASE WHEN o.rowid IS NULL THEN 'insert' ELSE 'update' END, json_array(CASE WHEN n."chat" BETWEEN -9007199254740992 AND 9007199254740992 THEN n."chat" ELSE CAST(n."chat" AS TEXT) END), json_object('chat', CASE WHEN n."chat" BETWEEN -9007199254740992 AND 9007199254740992 THEN n."chat" ELSE CAST(n."chat" AS TEXT) END, 'total', CASE WHEN n."total" BETWEEN -9007199254740992 AND 9007199254740992 THEN n."total" ELSE CAST(n."total" AS TEXT) END, 'last', CASE WHEN n."last" BETWEEN -9007199254740992 AND 9007199254740992 THEN n."last" ELSE CAST(n."last" AS TEXT) END), CASE WHEN o.rowid IS NOT NULL THEN '{' || substr(CASE WHEN o."total" IS NOT n."total" THEN ',"total":' || json_quote(CASE WHEN o."total" BETWEEN -9007199254740992 AND 9007199254740992 THEN o."total" ELSE CAST(o."total" AS TEXT) END) ELSE '' END || CASE WHEN o."last" IS NOT n."last" THEN ',"last":' || json_quote(CASE WHEN o."last" BETWEEN -9007199254740992 AND 9007199254740992 THEN o."last" ELSE CAST(o."last" AS TEXT) END) ELSE '' END, 2) || '}' END, 'feed.totals.' || deltamesh_token(n."chat"), :position, :dsid, :captured_us FROM temp."new__totals" AS n LEFT JOIN temp."old__totals" AS o ON o."chat" = n."chat" WHERE o.rowid IS NULL OR (n."chat", n."total", n."last") IS NOT (o."chat", o."total", o."last")
            create
              CREATE TABLE IF NOT EXISTS "__deltamesh_rows_totals" ("chat" INTEGER, "total" CHECK (typeof("total") IN ('integer', 'null')), "last" CHECK (typeof("last") IN ('integer', 'null')), "__deltamesh_n" CHECK (typeof("__deltamesh_n") = 'integer'), "__deltamesh_c0" CHECK (typeof("__deltamesh_c0") = 'integer'), PRIMARY KEY ("chat"))
              CREATE VIEW IF NOT EXISTS "totals" AS SELECT "chat", "total", "last" FROM "__deltamesh_rows_totals"
            connect
              CREATE TABLE IF NOT EXISTS temp."old__totals" ("chat" INTEGER, "total", "last", "__deltamesh_n", "__deltamesh_c0", PRIMARY KEY ("chat"))
              CREATE TABLE IF NOT EXISTS temp."new__totals" ("chat" INTEGER, "total", "last", "__deltamesh_n", "__deltamesh_c0", PRIMARY KEY ("chat"))
              CREATE TABLE IF NOT EXISTS temp."delta__totals" (w, g0, a0, a1)
              CREATE TABLE IF NOT EXISTS temp."groups__totals" (g0, n, c0, s0, hi1, hi1_gone)
            fill
              INSERT INTO "__deltamesh_rows_totals" ("chat", "total", "last", "__deltamesh_n", "__deltamesh_c0") SELECT "message"."chat", sum("message"."n"), max("message"."id"), count(*), count("message"."n") FROM "main__message" AS "message" GROUP BY "message"."chat"
        "#]],
    );
}

#[test]
fn outer_join() {
    check(
        "CREATE MATERIALIZED VIEW counts AS SELECT u.user_id, count(m.id) AS c
           FROM user u LEFT JOIN message m ON m.user_id = u.user_id GROUP BY u.user_id",
        expect![[r#"
            view counts (tier D)
              project user_id, c  [D]
                left join on ("m"."c0" = "u"."user_id")  [D]
                  read main__user as u
                  read __deltamesh_part1_counts as m
                    project c0, c1  [A]
                      group by "m"."user_id"  [B]
                        read main__message as m
            base main__user (relation user of source main)
            base main__message (relation message of source main)
            note key (user_id), derived
            note __deltamesh_part1_counts: key (c0), derived
            note __deltamesh_part1_counts: rows in __deltamesh_rows___deltamesh_part1_counts with hidden columns __deltamesh_n
            note over a large relation filled beside the flow, by whole values of main__user.user_id
            before main__message
              INSERT INTO temp."delta____deltamesh_part1_counts" SELECT -1, "m"."user_id", "m"."id" FROM temp."old__main__message" AS "m"
            after main__message
              INSERT INTO temp."delta____deltamesh_part1_counts" SELECT 1, "m"."user_id", "m"."id" FROM temp."new__main__message" AS "m"
            before main__user
              INSERT INTO temp."affected__counts" SELECT DISTINCT "u"."user_id" FROM temp."old__main__user" AS "u"
            after main__user
              INSERT INTO temp."affected__counts" SELECT DISTINCT "u"."user_id" FROM temp."new__main__user" AS "u"
            finish
              INSERT INTO temp."groups____deltamesh_part1_counts" SELECT g0, sum(w) FROM temp."delta____deltamesh_part1_counts" GROUP BY g0 HAVING sum(w) <> 0
              INSERT INTO temp."old____deltamesh_part1_counts" ("c0", "c1", "__deltamesh_n") SELECT s."c0", s."c1", s."__deltamesh_n" FROM temp."groups____deltamesh_part1_counts" AS g CROSS JOIN "__deltamesh_rows___deltamesh_part1_counts" AS s WHERE s."c0" IS g.g0
              INSERT INTO temp."new____deltamesh_part1_counts" ("c0", "c1", "__deltamesh_n") SELECT t.g0, t.n, t.n FROM (SELECT g.g0 AS g0, coalesce(o."__deltamesh_n", 0) + g.n AS n FROM temp."groups____deltamesh_part1_counts" AS g LEFT JOIN temp."old____deltamesh_part1_counts" AS o ON o."c0" IS g.g0) AS t WHERE t.n > 0
              INSERT INTO temp."affected__counts" SELECT DISTINCT "u"."user_id" FROM temp."old____deltamesh_part1_counts" AS "m" CROSS JOIN "main__user" AS "u" WHERE ("m"."c0" = "u"."user_id")
              DELETE FROM "__deltamesh_rows___deltamesh_part1_counts" WHERE rowid IN (SELECT s.rowid FROM temp."old____deltamesh_part1_counts" AS o CROSS JOIN "__deltamesh_rows___deltamesh_part1_counts" AS s WHERE s."c0" IS o."c0")
              INSERT INTO "__deltamesh_rows___deltamesh_part1_counts" ("c0", "c1", "__deltamesh_n") SELECT "c0", "c1", "__deltamesh_n" FROM temp."new____deltamesh_part1_counts"
              INSERT INTO temp."affected__counts" SELECT DISTINCT "u"."user_id" FROM temp."new____deltamesh_part1_counts" AS "m" CROSS JOIN "main__user" AS "u" WHERE ("m"."c0" = "u"."user_id")
              INSERT INTO temp."delta__counts" SELECT -1, s."user_id", s."c" FROM (SELECT DISTINCT e0 FROM temp."affected__counts") AS __deltamesh_affected CROSS JOIN "counts" AS s WHERE s."user_id" = __deltamesh_affected.e0
              INSERT INTO temp."delta__counts" SELECT 1, "u"."user_id", coalesce("m"."c1", 0) FROM (SELECT DISTINCT e0 FROM temp."affected__counts") AS __deltamesh_affected CROSS JOIN "main__user" AS "u" LEFT JOIN "__deltamesh_rows___deltamesh_part1_counts" AS "m" ON ("m"."c0" = "u"."user_id") WHERE "u"."user_id" = __deltamesh_affected.e0
              INSERT INTO temp."old__counts" ("user_id", "c") SELECT "user_id", "c" FROM temp."delta__counts" GROUP BY "user_id", "c" HAVING sum("__deltamesh_w") < 0
              INSERT INTO temp."new__counts" ("user_id", "c") SELECT "user_id", "c" FROM temp."delta__counts" GROUP BY "user_id", "c" HAVING sum("__deltamesh_w") > 0
            apply
              DELETE FROM "counts" WHERE ("user_id") IN (SELECT o."user_id" FROM temp."old__counts" AS o WHERE NOT EXISTS (SELECT 1 FROM temp."new__counts" AS n WHERE n."user_id" = o."user_id"))
              INSERT INTO "counts" ("user_id", "c") SELECT "user_id", "c" FROM temp."new__counts" WHERE TRUE ON CONFLICT ("user_id") DO UPDATE SET "c" = excluded."c"
            record
              INSERT INTO "__deltamesh_changes" (view, op, key, row, before, subject, position, dsid, captured_us) SELECT 'counts', 'delete', json_array(CASE WHEN o."user_id" BETWEEN -9007199254740992 AND 9007199254740992 THEN o."user_id" ELSE CAST(o."user_id" AS TEXT) END), json_object('user_id', CASE WHEN o."user_id" BETWEEN -9007199254740992 AND 9007199254740992 THEN o."user_id" ELSE CAST(o."user_id" AS TEXT) END, 'c', json(deltamesh_json(o."c"))), NULL, 'feed.counts.' || deltamesh_token(o."user_id"), :position, :dsid, :captured_us FROM temp."old__counts" AS o WHERE NOT EXISTS (SELECT 1 FROM temp."new__counts" AS n WHERE o."user_id" = n."user_id")
              INSERT INTO "__deltamesh_changes" (view, op, key, row, before, subject, position, dsid, captured_us) SELECT 'counts', CASE WHEN o.rowid IS NULL THEN 'insert' ELSE 'update' END, json_array(CASE WHEN n."user_id" BETWEEN -9007199254740992 AND 9007199254740992 THEN n."user_id" ELSE CAST(n."user_id" AS TEXT) END), json_object('user_id', CASE WHEN n."user_id" BETWEEN -9007199254740992 AND 9007199254740992 THEN n."user_id" ELSE CAST(n."user_id" AS TEXT) END, 'c', json(deltamesh_json(n."c"))), CASE WHEN o.rowid IS NOT NULL THEN '{' || substr(CASE WHEN o."c" IS NOT n."c" THEN ',"c":' || deltamesh_json(o."c") ELSE '' END, 2) || '}' END, 'feed.counts.' || deltamesh_token(n."user_id"), :position, :dsid, :captured_us FROM temp."new__counts" AS n LEFT JOIN temp."old__counts" AS o ON o."user_id" = n."user_id" WHERE o.rowid IS NULL OR (n."user_id", n."c") IS NOT (o."user_id", o."c")
            create
              CREATE TABLE IF NOT EXISTS "__deltamesh_rows___deltamesh_part1_counts" ("c0" INTEGER, "c1" CHECK (typeof("c1") IN ('integer', 'null')), "__deltamesh_n" CHECK (typeof("__deltamesh_n") = 'integer'))
              CREATE INDEX IF NOT EXISTS "__deltamesh_key___deltamesh_part1_counts" ON "__deltamesh_rows___deltamesh_part1_counts" ("c0")
              CREATE VIEW IF NOT EXISTS "__deltamesh_part1_counts" AS SELECT "c0", "c1" FROM "__deltamesh_rows___deltamesh_part1_counts"
              CREATE TABLE IF NOT EXISTS "counts" ("user_id" INTEGER, "c", PRIMARY KEY ("user_id"))
            connect
              CREATE TABLE IF NOT EXISTS temp."old____deltamesh_part1_counts" ("c0" INTEGER, "c1", "__deltamesh_n")
              CREATE INDEX IF NOT EXISTS temp."key_old____deltamesh_part1_counts" ON "old____deltamesh_part1_counts" ("c0")
              CREATE TABLE IF NOT EXISTS temp."new____deltamesh_part1_counts" ("c0" INTEGER, "c1", "__deltamesh_n")
              CREATE INDEX IF NOT EXISTS temp."key_new____deltamesh_part1_counts" ON "new____deltamesh_part1_counts" ("c0")
              CREATE TABLE IF NOT EXISTS temp."delta____deltamesh_part1_counts" (w, g0, a0)
              CREATE TABLE IF NOT EXISTS temp."groups____deltamesh_part1_counts" (g0, n)
              CREATE TABLE IF NOT EXISTS temp."old__counts" ("user_id" INTEGER, "c", PRIMARY KEY ("user_id"))
              CREATE TABLE IF NOT EXISTS temp."new__counts" ("user_id" INTEGER, "c", PRIMARY KEY ("user_id"))
              CREATE TABLE IF NOT EXISTS temp."delta__counts" ("__deltamesh_w", "user_id" INTEGER, "c")
              CREATE TABLE IF NOT EXISTS temp."affected__counts" (e0)
            fill
              INSERT INTO "__deltamesh_rows___deltamesh_part1_counts" ("c0", "c1", "__deltamesh_n") SELECT "m"."user_id", count("m"."id"), count(*) FROM "main__message" AS "m" GROUP BY "m"."user_id"
              INSERT INTO "counts" ("user_id", "c") SELECT "u"."user_id", coalesce("m"."c1", 0) FROM "main__user" AS "u" LEFT JOIN "__deltamesh_rows___deltamesh_part1_counts" AS "m" ON ("m"."c0" = "u"."user_id")
        "#]],
    );
}

#[test]
fn parts() {
    let mut database = Database::new(relations());
    database.create(
        "CREATE MATERIALIZED VIEW busy AS WITH c AS (SELECT chat, count(*) AS n FROM message GROUP BY chat), unread AS (SELECT id FROM message)
           SELECT m.chat, m.role FROM member m JOIN c ON c.chat = m.chat WHERE c.n > 1",
    );
    let explained = database.programs[0].explain.to_string();
    let outline: Vec<&str> = explained.lines().take_while(|line| !line.starts_with("before")).collect();
    expect![[r#"
        view busy (tier C)
          project chat, role  [A]
            filter ("c"."n" > 1)  [A]
              join on ("c"."chat" = "m"."chat")  [C]
                read main__member as m
                read __deltamesh_part1_busy as c
                  project chat, n  [A]
                    group by "message"."chat"  [B]
                      read main__message as message
        base main__member (relation member of source main)
        base main__message (relation message of source main)
        note key (chat, __deltamesh_key_0_user_id), derived
        note rows in __deltamesh_rows_busy with hidden columns __deltamesh_key_0_user_id
        note __deltamesh_part1_busy: key (chat), derived"#]]
    .assert_eq(&outline.join("\n"));
}

/// The operators of a view, as `EXPLAIN` shows them.
fn outline(view: &str) -> String {
    let mut database = Database::new(relations());
    database.create(view);
    let explained = database.programs[0].explain.to_string();
    let operators = explained.lines().take_while(|line| !line.starts_with("base"));
    operators.collect::<Vec<_>>().join("\n")
}

#[test]
fn having_with_a_subquery() {
    let view = "CREATE MATERIALIZED VIEW large AS SELECT chat, sum(n) AS s FROM message GROUP BY chat
        HAVING s > (SELECT avg(n) FROM message) AND count(*) > 2";
    expect![[r#"
        view large (tier C)
          project chat, s  [A]
            filter ("groups"."s" > "__deltamesh_sub_one1"."one") AND ("groups"."having 0" > 2)  [A]
              join  [C]
                read __deltamesh_part2_large as __deltamesh_sub_one1
                  project one  [A]
                    aggregate  [B]
                      read main__message as message
                read __deltamesh_part1_large as groups
                  project chat, s, having 0  [A]
                    group by "message"."chat"  [B]
                      read main__message as message"#]]
    .assert_eq(&outline(view));
}

#[test]
fn a_left_join_whose_partner_is_needed() {
    let view =
        "CREATE MATERIALIZED VIEW small AS SELECT m.id FROM message m JOIN user u ON u.user_id = m.user_id
        WHERE u.active AND m.n < (SELECT 0.2 * avg(o.n) FROM message o WHERE o.chat = m.chat)";
    expect![[r#"
        view small (tier C)
          project id  [A]
            filter "u"."active" AND ("m"."n" < "__deltamesh_sub_one1"."one")  [A]
              join on ("m"."chat" = "__deltamesh_sub_one1"."value0")  [C]
                join on ("u"."user_id" = "m"."user_id")  [C]
                  read main__message as m
                  read main__user as u
                read __deltamesh_part1_small as __deltamesh_sub_one1
                  project value0, one  [A]
                    group by "o"."chat"  [B]
                      read main__message as o"#]]
    .assert_eq(&outline(view));
}

/// No step of a view that is not recomputed as a whole reads all of a mirror or of a view's rows.
#[test]
fn steps_seek() {
    let mut database = Database::new(relations());
    for view in VIEWS {
        database.create(view);
    }
    for program in &database.programs {
        let definition = &program.definition;
        // A cross join reads all of the other side, so does a calculated value of IN, and a view or part without key has one row.
        let exempt = [
            "over_hidden",
            "with_all",
            "scalar_",
            "scalar_equal",
            "scalar_both",
            "in_computed",
            "full_more",
            "having_scalar",
            "distinct_having",
            "scalar_first_all",
            "exists_any",
            "outer_totals_all",
        ]
        .contains(&definition.name.as_str())
            || definition.key.is_empty();
        if program.explain.tier != Tier::F && !exempt {
            assert_eq!(database.scans(&definition.name), [], "{}", definition.name);
        }
    }
}

/// Which of the views are computed again as a whole.
#[test]
fn recomputed_as_a_whole() {
    let mut database = Database::new(relations());
    VIEWS.iter().for_each(|view| database.create(view));
    let whole = database.programs.iter().filter(|program| program.explain.tier == Tier::F);
    let names: Vec<&str> = whole.map(|program| program.definition.name.as_str()).collect();
    expect!["texts_all window_all outer_either"].assert_eq(&names.join(" "));
}

/// The first rows of each partition are found by an index, whether a condition on their number stands in QUALIFY or around.
#[test]
fn row_numbers() {
    let mut database = Database::new(relations());
    database.create(
        "CREATE MATERIALIZED VIEW latest AS SELECT t.chat, t.body FROM
           (SELECT chat, body, row_number() OVER (PARTITION BY chat ORDER BY id DESC) AS place FROM message) AS t WHERE t.place <= 3",
    );
    let explained = database.programs[0].explain.to_string();
    let outline: Vec<&str> = explained.lines().take_while(|line| !line.starts_with("before")).collect();
    expect![[r#"
        view latest (tier E)
          project chat, body  [A]
            filter ("t"."place" <= 3)  [A]
              read __deltamesh_part1_latest as t
                project chat, body, place  [E]
                  first 3 of each "message"."chat" by "message"."id" DESC  [E]
                    window row_number() OVER (PARTITION BY "message"."chat" ORDER BY "message"."id" DESC)  [E]
                      read main__message as message
        base main__message (relation message of source main)
        index main__message (chat, id)
        note key (__deltamesh_key_0___deltamesh_key_0_id), derived
        note rows in __deltamesh_rows_latest with hidden columns __deltamesh_key_0___deltamesh_key_0_id
        note __deltamesh_part1_latest: key (__deltamesh_key_0_id), derived
        note __deltamesh_part1_latest: rows in __deltamesh_rows___deltamesh_part1_latest with hidden columns __deltamesh_key_0_id
        note __deltamesh_part1_latest: each batch reads the first 3 rows of each partition that it touches
        note over a large relation filled beside the flow, by whole values of main__message.chat"#]].assert_eq(&outline.join("\n"));
}
