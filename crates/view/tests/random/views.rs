//! Relations, views over them by name, and random batches under them.

use std::sync::Arc;

use deltamesh_change::{Column, ColumnType, RelationSchema, Value, from_json};
use proptest::prelude::*;

use crate::random_case::RowChange;

pub(crate) fn relations() -> Vec<Arc<RelationSchema>> {
    use ColumnType::{Any, Bool, Bytes, Float, Int, Json, Text};
    let relation = |name: &str, columns: &[(&str, ColumnType, bool)], key: &[usize]| {
        Arc::new(RelationSchema {
            relation: name.to_owned(),
            dsid: 1,
            columns: columns
                .iter()
                .map(|(name, kind, nullable)| Column::new(*name, *kind, *nullable))
                .collect(),
            key: key.to_vec(),
        })
    };
    vec![
        relation(
            "user",
            &[
                ("user_id", Int, false),
                ("login", Text, false),
                ("country", Text, true),
                ("active", Bool, true),
                ("score", Float, true),
            ],
            &[0],
        ),
        relation(
            "message",
            &[
                ("id", Int, false),
                ("chat", Int, false),
                ("user_id", Int, true),
                ("body", Text, true),
                ("n", Int, true),
                ("extra", Json, true),
                ("data", Bytes, true),
                ("any", Any, true),
            ],
            &[0],
        ),
        relation("member", &[("chat", Int, false), ("user_id", Int, false), ("role", Text, true)], &[0, 1]),
        relation(
            "order",
            &[("a.b", Text, false), ("select", Int, false), ("we\"ird'", Int, true), ("Mixed", Text, true)],
            &[1, 0],
        ),
    ]
}

/// One view a line; later ones may read earlier ones. SQLite does not read those whose names end in `_ansi`.
pub(crate) const VIEWS: &[&str] = &[
    "CREATE MATERIALIZED VIEW copy AS SELECT * FROM message",
    "CREATE MATERIALIZED VIEW filtered AS SELECT id, body || '!' AS loud, n * 2 AS twice, active FROM message m, user u
       WHERE m.body <> '' AND m.user_id = u.user_id AND u.active",
    "CREATE MATERIALIZED VIEW expressions AS SELECT id, CASE WHEN n > 2 THEN 'big' WHEN n IS NULL THEN NULL ELSE 'small' END AS size,
       coalesce(n, 0) / 2 AS half, n % 3 AS rest, body LIKE 'a%' AS is_a, upper(body) AS up, n BETWEEN 1 AND 3 AS mid,
       n IN (1, 2, NULL) AS few, CAST(n AS TEXT) AS t, NOT (n = 1) AS no, -n AS neg, any AS anything, abs(n) AS size2 FROM message WHERE n IS NULL OR n < 5",
    "CREATE MATERIALIZED VIEW hidden_key AS SELECT body FROM message WHERE n >= 1",
    "CREATE MATERIALIZED VIEW joined WITH (subject = 'chat') AS SELECT m.id, m.chat, u.login, m.body FROM message m JOIN user u ON u.user_id = m.user_id ORDER BY id DESC",
    "CREATE MATERIALIZED VIEW three AS SELECT m.id, u.login, b.role FROM message m JOIN user u ON u.user_id = m.user_id JOIN member b ON b.chat = m.chat AND b.user_id = u.user_id",
    "CREATE MATERIALIZED VIEW crossed AS SELECT m.id, b.user_id AS other FROM message m JOIN member b ON b.chat = m.chat",
    "CREATE MATERIALIZED VIEW selfjoin AS SELECT a.user_id AS a, b.user_id AS b, a.chat FROM member a JOIN member b ON a.chat = b.chat AND a.user_id < b.user_id",
    "CREATE MATERIALIZED VIEW selfjoin3 AS SELECT a.id AS a, b.id AS b, c.id AS c FROM message a JOIN message b ON a.n = b.chat JOIN message c ON b.n = c.chat",
    "CREATE MATERIALIZED VIEW counted AS SELECT chat, count(*) AS messages, count(body) AS bodies, sum(n) AS total, avg(n) AS mean FROM message GROUP BY chat",
    "CREATE MATERIALIZED VIEW counted_plain AS SELECT chat, count(*) AS messages FROM message GROUP BY chat",
    "CREATE MATERIALIZED VIEW by_null AS SELECT user_id, sum(n) + count(*) AS both FROM message WHERE body <> 'x' GROUP BY user_id",
    "CREATE MATERIALIZED VIEW by_text AS SELECT body || '-' || body AS b2, CASE WHEN body = 5 THEN 'five' ELSE body END AS five, count(n) AS c FROM message GROUP BY body",
    "CREATE MATERIALIZED VIEW by_hidden AS SELECT count(*) AS c, sum(n) FILTER (WHERE n > 1) AS s FROM message GROUP BY chat, user_id % 2",
    "CREATE MATERIALIZED VIEW by_join AS SELECT u.country, count(*) AS c, sum(m.n) AS s, avg(m.n) AS a FROM message m JOIN user u ON u.user_id = m.user_id GROUP BY u.country",
    "CREATE MATERIALIZED VIEW everything AS SELECT count(*) AS c, sum(n) AS s, avg(n) AS a, count(body) AS b FROM message",
    "CREATE MATERIALIZED VIEW everything_extreme AS SELECT max(n) AS hi, min(body) AS lo FROM message",
    "CREATE MATERIALIZED VIEW extremes AS SELECT chat, max(id) AS last, min(body) AS first, count(DISTINCT user_id) AS users FROM message GROUP BY chat",
    "CREATE MATERIALIZED VIEW extremes_plain AS SELECT chat, max(id) AS last, min(n) + max(n) AS span, min(body) AS first, count(n) AS c, max(data) AS d FROM message WHERE n <> 3 GROUP BY chat",
    "CREATE MATERIALIZED VIEW extremes_join AS SELECT u.country, u.active, max(m.n) AS hi, min(m.id) AS lo FROM message m JOIN user u ON u.user_id = m.user_id GROUP BY u.country, u.active",
    "CREATE MATERIALIZED VIEW extremes_self AS SELECT a.chat, max(b.user_id) AS hi, min(b.role) AS lo FROM member a JOIN member b ON a.user_id = b.user_id GROUP BY a.chat",
    "CREATE MATERIALIZED VIEW floats AS SELECT country, sum(score) AS s, avg(score) AS a FROM user GROUP BY country",
    "CREATE MATERIALIZED VIEW anys AS SELECT chat, max(any) AS a, count(any) AS c FROM message GROUP BY chat",
    "CREATE MATERIALIZED VIEW having_ AS SELECT chat, count(*) AS c FROM message GROUP BY chat HAVING count(*) > 1 AND c < 4",
    "CREATE MATERIALIZED VIEW values_each AS SELECT chat, count(DISTINCT user_id) AS users, count(DISTINCT body) AS bodies, count(*) AS c, sum(n) AS s FROM message GROUP BY chat",
    "CREATE MATERIALIZED VIEW values_all AS SELECT count(DISTINCT u.login) AS logins, count(DISTINCT m.n % 3) + 1 AS rests, max(m.n) AS most FROM message m JOIN user u ON u.user_id = m.user_id",
    "CREATE MATERIALIZED VIEW values_some AS SELECT chat, user_id + 1 AS next, count(DISTINCT role) FILTER (WHERE role <> 'x') AS roles FROM member GROUP BY chat, user_id + 1",
    "CREATE MATERIALIZED VIEW values_null AS SELECT user_id, count(DISTINCT body) AS bodies FROM message GROUP BY user_id",
    "CREATE MATERIALIZED VIEW texts AS SELECT chat, count(*) AS c, string_agg(body, ', ' ORDER BY n, body) AS t, group_concat(id, '-' ORDER BY id DESC) AS ids FROM message GROUP BY chat",
    "CREATE MATERIALIZED VIEW texts_different_ansi AS SELECT user_id, string_agg(DISTINCT body, ', ') FILTER (WHERE n > 0) AS t, count(*) AS c FROM message GROUP BY user_id",
    "CREATE MATERIALIZED VIEW texts_various_ansi AS SELECT string_agg(DISTINCT body, ';') AS t, string_agg(DISTINCT n, ';' ORDER BY n DESC) AS n, count(DISTINCT chat) AS c FROM message GROUP BY user_id",
    "CREATE MATERIALIZED VIEW texts_all AS SELECT string_agg(body, ', ' ORDER BY body) AS t, max(n) AS m FROM message",
    "CREATE MATERIALIZED VIEW texts_join AS SELECT u.country, string_agg(m.body, '' ORDER BY m.id) AS t FROM message m JOIN user u ON u.user_id = m.user_id GROUP BY u.country HAVING count(*) > 1",
    "CREATE MATERIALIZED VIEW texts_outer AS SELECT u.login, string_agg(m.body, ' ' ORDER BY m.n DESC, m.body) AS t FROM user u LEFT JOIN message m ON m.user_id = u.user_id GROUP BY u.login",
    "CREATE MATERIALIZED VIEW truths_sub_ansi AS SELECT u.user_id, (SELECT bool_and(m.n > 1) FROM message m WHERE m.user_id = u.user_id) AS all_large FROM user u",
    "CREATE MATERIALIZED VIEW truths_having_ansi AS SELECT chat, count(*) AS c FROM message GROUP BY chat HAVING bool_or(n > 1) AND chat IN (SELECT chat FROM member)",
    "CREATE MATERIALIZED VIEW texts_sub AS SELECT u.user_id, (SELECT string_agg(m.body, ',' ORDER BY m.id) FROM message m WHERE m.user_id = u.user_id) AS bodies FROM user u",
    "CREATE MATERIALIZED VIEW moved_ansi AS SELECT id, d, d + interval '1' month AS m, d - n * interval '1 day' AS back, d + id * interval '7' hour AS h, date(d) - interval '1' year AS y,
       extract(epoch FROM d) AS e, extract(dow FROM d) AS dow, extract(doy FROM d) AS doy, extract(week FROM d) AS w, extract(isoyear FROM d) AS iso, date_trunc('week', d) AS tw,
       date_trunc('quarter', d) AS tq, date(d) - date '2024-01-01' AS days, to_char(d, 'DD.MM.YYYY HH24:MI') AS t, strftime('%j %w %s', d) AS s
       FROM (SELECT id, n, concat('20', 20 + user_id, '-0', 2 * chat, '-', 25 + n, ' 23:59:5', n) AS d FROM message) AS dated",
    "CREATE MATERIALIZED VIEW moved_group_ansi AS SELECT date_trunc('week', date '2024-02-27' + n * interval '1' day) AS week, count(*) AS c FROM message GROUP BY 1",
    "CREATE MATERIALIZED VIEW numbers_ansi AS SELECT user_id, round(score, 1) AS r, round(-score, 0) AS z, ceil(-score / 3) AS c, floor(score / 3) AS f, trunc(-score / 2) AS t, sqrt(score - 0.5) AS q,
       power(score, 3) AS p, floor(user_id) AS whole, round(user_id * 0.345, 2) AS rr FROM user WHERE score < 5 OR score IS NULL",
    "CREATE MATERIALIZED VIEW padded_ansi AS SELECT id, right(body, 2) AS r, lpad(body, 3, 'xy') AS l, rpad(CAST(n AS TEXT), 2) AS p, starts_with(body, 'a') AS s, concat_ws('-', body, n, chat) AS c FROM message",
    "CREATE MATERIALIZED VIEW within_ansi AS SELECT id, extra -> 'a' AS a, extra -> 'a' -> 0 AS x, extra #>> '{a,0}' AS t, json_array_length(extra) AS n, jsonb_array_length(extra -> 'a') AS m FROM message",
    "CREATE MATERIALIZED VIEW first_each_ansi AS SELECT DISTINCT ON (chat) chat, id, body FROM message WHERE n > 0 ORDER BY chat, n DESC, id",
    "CREATE MATERIALIZED VIEW any_ansi AS SELECT m.id FROM message m WHERE m.user_id = ANY (SELECT user_id FROM user WHERE active) AND m.id <> ALL (SELECT chat FROM member)",
    "CREATE MATERIALIZED VIEW pairs AS SELECT id FROM message WHERE (chat, user_id) IN (SELECT chat, user_id FROM member WHERE role <> 'a') OR (chat, n) IN ((1, 2), (2, 3))",
    "CREATE MATERIALIZED VIEW exists_any AS SELECT id FROM message WHERE EXISTS (SELECT 1 FROM user WHERE country = 'a') OR NOT EXISTS (SELECT 1 FROM member)",
    "CREATE MATERIALIZED VIEW merged AS SELECT s.chat, s.login, count(*) AS c, sum(s.twice) AS t FROM (SELECT m.chat, u.login, m.n * 2 AS twice FROM message m JOIN user u USING (user_id) WHERE m.n > 0) s
       JOIN (SELECT chat AS c2, role FROM member WHERE role <> 'b') b ON b.c2 = s.chat GROUP BY s.chat, s.login",
    "CREATE MATERIALIZED VIEW merged_left AS SELECT x.id, y.login, z.role FROM (SELECT id, chat AS c, user_id AS u FROM message WHERE body <> 'x') x
       LEFT JOIN (SELECT user_id AS who, login FROM user WHERE active) y ON y.who = x.u LEFT JOIN (SELECT chat, role FROM member WHERE role IS NULL OR role > 'a') z ON z.chat = x.c",
    "CREATE MATERIALIZED VIEW merged_with AS WITH talk AS (SELECT a.id, a.chat, b.role, a.n AS next FROM message a LEFT JOIN member b ON b.chat = a.chat AND b.user_id = a.user_id)
       SELECT t.chat, max(t.next) AS m, count(DISTINCT t.role) AS r FROM talk t JOIN talk o ON o.id = t.next GROUP BY t.chat",
    "CREATE MATERIALIZED VIEW merged_rows AS SELECT x.id, x.n, y.id AS other FROM (SELECT * FROM message WHERE n > 1) x JOIN (SELECT id, body || '' AS b FROM message) y ON y.b = x.body WHERE x.id <> y.id",
    "CREATE MATERIALIZED VIEW unique_ AS SELECT DISTINCT chat, user_id FROM message",
    "CREATE MATERIALIZED VIEW unique_join AS SELECT DISTINCT u.login FROM message m JOIN user u ON u.user_id = m.user_id WHERE m.n > 0",
    "CREATE MATERIALIZED VIEW outer_ AS SELECT u.user_id, u.login, m.id, m.body FROM user u LEFT JOIN message m ON m.user_id = u.user_id AND m.n > 0",
    "CREATE MATERIALIZED VIEW outer_one AS SELECT m.id, u.login FROM message m LEFT JOIN user u ON u.user_id = m.user_id",
    "CREATE MATERIALIZED VIEW outer_count AS SELECT u.user_id, count(m.id) AS c, max(m.id) AS last FROM user u LEFT JOIN message m ON m.user_id = u.user_id GROUP BY u.user_id",
    "CREATE MATERIALIZED VIEW outer_totals AS SELECT u.user_id, u.login, count(*) AS r, count(m.n) + 1 AS c, sum(m.n) AS s, avg(m.n) AS a, min(m.body) AS first FROM user u
       LEFT JOIN message m ON m.user_id = u.user_id AND m.n > 0 AND u.country IS NOT NULL WHERE u.login > 'a' GROUP BY u.user_id, u.login",
    "CREATE MATERIALIZED VIEW outer_totals_two AS SELECT b.chat, b.user_id, u.login, sum(m.n) AS s, count(coalesce(m.n, 0)) AS c FROM member b JOIN user u ON u.user_id = b.user_id
       LEFT JOIN message m ON m.chat = b.chat AND m.user_id = b.user_id GROUP BY b.chat, b.user_id, u.login",
    "CREATE MATERIALIZED VIEW outer_totals_three AS SELECT b.chat, b.user_id, sum(m.n) AS s, count(*) AS c FROM member b LEFT JOIN message m ON m.chat = b.chat AND m.user_id = b.user_id
       GROUP BY b.chat, b.user_id",
    "CREATE MATERIALIZED VIEW outer_totals_all AS SELECT u.user_id, count(*) AS r, count(m.id) AS c, sum(m.n) AS s FROM user u LEFT JOIN message m ON m.n > 2 GROUP BY u.user_id",
    "CREATE MATERIALIZED VIEW anti AS SELECT u.user_id FROM user u LEFT JOIN message m ON m.user_id = u.user_id WHERE m.id IS NULL",
    "CREATE MATERIALIZED VIEW outer_two AS SELECT b.chat, b.user_id, u.login, m.id FROM member b LEFT JOIN user u ON u.user_id = b.user_id LEFT JOIN message m ON m.chat = b.chat AND m.user_id = b.user_id",
    "CREATE MATERIALIZED VIEW outer_chain AS SELECT b.chat, b.user_id, m.id, u.login FROM member b LEFT JOIN message m ON m.chat = b.chat LEFT JOIN user u ON u.user_id = m.n",
    "CREATE MATERIALIZED VIEW outer_group AS SELECT u.country, count(*) AS c FROM message m LEFT JOIN user u ON u.user_id = m.user_id GROUP BY u.country",
    "CREATE MATERIALIZED VIEW never WITH (stored = never) AS SELECT m.id, u.login FROM message m JOIN user u ON u.user_id = m.user_id WHERE u.active",
    "CREATE MATERIALIZED VIEW keyed WITH (key = 'login, id') AS SELECT m.id, u.login FROM message m JOIN user u ON u.user_id = m.user_id",
    r#"CREATE MATERIALIZED VIEW odd AS SELECT "A.B", "we""ird'" AS "o'dd "" name", mixed FROM "order" WHERE "select" > 0"#,
    r#"CREATE MATERIALIZED VIEW odd_groups AS SELECT mixed || '' AS "a.b", sum("we""ird'") AS s, max("a.b") AS "max" FROM "order" AS "select" GROUP BY 1"#,
    r#"CREATE MATERIALIZED VIEW odd_join WITH (subject = 'mixed') AS SELECT x."a.b", x.mixed, y.mixed AS other, "user".login FROM "order" x JOIN main."order" y ON y."select" = x."we""ird'" JOIN user ON user.user_id = y."select""#,
    "CREATE MATERIALIZED VIEW outer_self AS SELECT a.id, b.id AS next FROM message a LEFT JOIN message b ON b.chat = a.n AND b.user_id > 1 WHERE a.body IS NOT NULL",
    "CREATE MATERIALIZED VIEW outer_joined AS SELECT a.id, u.login, b.role FROM message a JOIN user u ON u.user_id = a.user_id LEFT JOIN member b ON b.user_id = a.user_id AND b.chat = a.chat",
    "CREATE MATERIALIZED VIEW distinct_group AS SELECT DISTINCT chat, count(*) AS c FROM message GROUP BY chat",
    "CREATE MATERIALIZED VIEW outer_distinct AS SELECT DISTINCT u.country FROM user u LEFT JOIN message m ON m.user_id = u.user_id WHERE m.id IS NULL",
    "CREATE MATERIALIZED VIEW having_all AS SELECT sum(n) AS s FROM message HAVING count(*) > 2",
    "CREATE MATERIALIZED VIEW case_group AS SELECT CASE WHEN n > 2 THEN 'hi' ELSE 'lo' END AS band, count(*) AS c, avg(length(body)) AS l FROM message GROUP BY band",
    "CREATE MATERIALIZED VIEW over_count AS SELECT messages, count(*) AS chats FROM counted GROUP BY messages",
    "CREATE MATERIALIZED VIEW over_join AS SELECT j.id, c.messages, j.login FROM joined j JOIN counted c ON c.chat = j.chat WHERE c.total > 0",
    "CREATE MATERIALIZED VIEW over_hidden AS SELECT h.body, count(*) AS c, max(c.total) AS t FROM hidden_key h CROSS JOIN everything e JOIN counted c ON c.messages = e.c GROUP BY h.body",
    "CREATE MATERIALIZED VIEW over_mixed AS SELECT u.login, o.c, o.last FROM outer_count o JOIN user u ON u.user_id = o.user_id WHERE o.c > 0",
    "CREATE MATERIALIZED VIEW over_over AS SELECT chats, sum(messages) AS m FROM over_count GROUP BY chats",
    "CREATE MATERIALIZED VIEW over_hidden2 AS SELECT a.body, b.chat FROM hidden_key a JOIN joined b ON b.body = a.body",
    "CREATE MATERIALIZED VIEW with_ AS WITH busy AS (SELECT chat, count(*) AS c FROM message GROUP BY chat HAVING count(*) > 1)
       SELECT m.id, b.c FROM message m JOIN busy b ON b.chat = m.chat",
    "CREATE MATERIALIZED VIEW with_chain AS WITH a AS (SELECT chat, user_id, count(*) AS c FROM message GROUP BY chat, user_id),
       b AS (SELECT chat, max(c) AS most FROM a GROUP BY chat), unread AS (SELECT id FROM message)
       SELECT a.chat, a.user_id, a.c FROM a JOIN b ON b.chat = a.chat AND b.most = a.c",
    "CREATE MATERIALIZED VIEW with_hiding AS WITH message AS (SELECT id, n FROM main.message WHERE n > 1) SELECT message.id, message.n + 1 AS next FROM message",
    "CREATE MATERIALIZED VIEW with_all AS WITH a AS (SELECT max(n) AS hi FROM message) SELECT m.id FROM message m JOIN a ON m.n = a.hi",
    "CREATE MATERIALIZED VIEW derived AS SELECT d.c, count(*) AS chats FROM (SELECT chat, count(*) AS c FROM message GROUP BY chat) AS d GROUP BY d.c",
    "CREATE MATERIALIZED VIEW derived_columns_ansi AS SELECT d.x, d.y FROM (SELECT chat, body || '' FROM message) AS d(x, y) WHERE d.y <> ''",
    "CREATE MATERIALIZED VIEW with_columns AS WITH d(x, y) AS (SELECT chat, body || '' FROM message) SELECT d.x, d.y FROM d WHERE d.y <> ''",
    "CREATE MATERIALIZED VIEW derived_outer AS SELECT u.user_id, coalesce(d.c, 0) AS c FROM user u
       LEFT JOIN (SELECT user_id, count(*) AS c FROM message WHERE n > 0 GROUP BY user_id) d ON d.user_id = u.user_id",
    "CREATE MATERIALIZED VIEW derived_deep AS SELECT count(*) AS c, sum(f.c) AS s FROM
       (SELECT e.c FROM (SELECT chat, count(*) AS c FROM message GROUP BY chat) AS e WHERE e.c > 1) AS f",
    "CREATE MATERIALIZED VIEW derived_twice AS SELECT a.chat, b.c FROM (SELECT DISTINCT chat FROM message) a
       JOIN (SELECT chat, count(*) AS c FROM member GROUP BY chat) b ON b.chat = a.chat JOIN member m ON m.chat = a.chat",
    "CREATE MATERIALIZED VIEW over_with AS SELECT w.c, count(*) AS messages FROM with_ w GROUP BY w.c",
    "CREATE MATERIALIZED VIEW union_all AS SELECT id, body AS what FROM message WHERE n > 1 UNION ALL SELECT user_id, login FROM user",
    "CREATE MATERIALIZED VIEW union_mixed AS SELECT chat AS a, body AS b FROM message UNION ALL SELECT chat, count(*) FROM member GROUP BY chat
       UNION ALL SELECT DISTINCT user_id, NULL FROM message ORDER BY a DESC",
    "CREATE MATERIALIZED VIEW union_ AS SELECT user_id FROM message UNION SELECT user_id FROM user",
    "CREATE MATERIALIZED VIEW union_three_ansi AS (SELECT chat FROM message UNION SELECT chat FROM member) UNION ALL SELECT user_id FROM user",
    "CREATE MATERIALIZED VIEW intersect_ AS SELECT user_id, chat FROM message INTERSECT SELECT user_id, chat FROM member ORDER BY chat",
    "CREATE MATERIALIZED VIEW except_ AS SELECT body FROM message EXCEPT SELECT role FROM member",
    "CREATE MATERIALIZED VIEW except_chain AS SELECT user_id AS \"left side\" FROM user EXCEPT SELECT user_id FROM message WHERE n > 2 EXCEPT SELECT user_id FROM member WHERE role = 'a'",
    "CREATE MATERIALIZED VIEW union_with AS WITH a AS (SELECT user_id FROM message UNION ALL SELECT user_id FROM member)
       SELECT a.user_id, count(*) AS c FROM a GROUP BY a.user_id",
    "CREATE MATERIALIZED VIEW union_join AS SELECT u.login, s.kind FROM user u JOIN
       (SELECT user_id, 'message' AS kind FROM message UNION SELECT user_id, 'member' FROM member) s ON s.user_id = u.user_id",
    "CREATE MATERIALIZED VIEW over_union AS SELECT what, count(*) AS c FROM union_all GROUP BY what",
    "CREATE MATERIALIZED VIEW using_ AS SELECT * FROM member JOIN message USING (chat, user_id)",
    "CREATE MATERIALIZED VIEW using_left AS SELECT user_id, m.id, login, count(*) AS c FROM user LEFT JOIN message m USING (user_id) GROUP BY user_id, m.id, login",
    "CREATE MATERIALIZED VIEW using_three AS SELECT user_id, chat, login FROM member JOIN message USING (chat, user_id) JOIN user USING (user_id)",
    "CREATE MATERIALIZED VIEW natural AS SELECT * FROM member NATURAL JOIN user",
    "CREATE MATERIALIZED VIEW in_ AS SELECT * FROM message WHERE n > 0 AND user_id IN (SELECT user_id FROM user WHERE active)",
    "CREATE MATERIALIZED VIEW in_group AS SELECT chat, count(*) AS c FROM message WHERE (user_id IN (SELECT user_id FROM member WHERE role = 'a') AND body <> '') GROUP BY chat",
    "CREATE MATERIALIZED VIEW in_two AS SELECT u.login FROM user u WHERE u.user_id IN (SELECT user_id FROM message UNION SELECT user_id FROM member)
       AND u.user_id IN (SELECT user_id FROM message GROUP BY user_id HAVING count(*) > 1)",
    "CREATE MATERIALIZED VIEW in_in AS SELECT chat, user_id FROM member WHERE chat IN (SELECT chat FROM message WHERE user_id IN (SELECT user_id FROM user WHERE login = 'a'))",
    "CREATE MATERIALIZED VIEW in_outer AS SELECT u.user_id, m.id FROM user u LEFT JOIN message m ON m.user_id = u.user_id WHERE u.user_id IN (SELECT user_id FROM member)",
    "CREATE MATERIALIZED VIEW not_in AS SELECT user_id, login FROM user WHERE user_id NOT IN (SELECT user_id FROM member WHERE role <> 'x')",
    "CREATE MATERIALIZED VIEW not_in_both AS SELECT chat, user_id FROM member WHERE chat NOT IN (SELECT chat FROM message WHERE n > 1) AND user_id IN (SELECT user_id FROM user)",
    "CREATE MATERIALIZED VIEW in_text AS SELECT id FROM message WHERE body IN (SELECT role FROM member)",
    "CREATE MATERIALIZED VIEW exists_ AS SELECT * FROM user u WHERE EXISTS (SELECT 1 FROM message m WHERE m.user_id = u.user_id AND m.n > 1)",
    "CREATE MATERIALIZED VIEW exists_two AS SELECT m.id, m.n FROM message m WHERE EXISTS (SELECT * FROM member b WHERE m.chat = b.chat AND b.user_id = m.user_id) AND n > 0",
    "CREATE MATERIALIZED VIEW not_exists AS SELECT id, body FROM message m WHERE NOT EXISTS (SELECT 1 FROM user WHERE user.user_id = m.user_id AND active)",
    "CREATE MATERIALIZED VIEW not_exists_count AS SELECT chat, count(*) AS c FROM message m WHERE NOT (EXISTS (SELECT role FROM member b WHERE b.chat = m.chat AND m.user_id = b.user_id)) GROUP BY chat",
    "CREATE MATERIALIZED VIEW exists_in AS SELECT u.user_id FROM user u WHERE EXISTS (SELECT 1 FROM message m WHERE m.user_id = u.user_id
       AND m.chat IN (SELECT chat FROM member WHERE role = 'a')) AND NOT u.user_id IN (SELECT user_id FROM member)",
    "CREATE MATERIALIZED VIEW exists_deep AS SELECT u.user_id FROM user u WHERE EXISTS (SELECT 1 FROM message m JOIN member b ON b.chat = m.chat WHERE m.user_id = u.user_id
       AND NOT EXISTS (SELECT 1 FROM message later WHERE later.chat = m.chat AND later.n > 3))",
    "CREATE MATERIALIZED VIEW scalar_ AS SELECT id, n FROM message WHERE n > (SELECT avg(n) FROM message)",
    "CREATE MATERIALIZED VIEW scalar_equal AS SELECT id FROM message WHERE n = (SELECT max(n) AS m FROM message WHERE body <> 'x') AND chat > 0",
    "CREATE MATERIALIZED VIEW scalar_count AS SELECT u.user_id, u.login, (SELECT count(*) FROM message m WHERE m.user_id = u.user_id AND m.n > 0) AS c,
       (SELECT max(m.id) FROM message m WHERE u.user_id = m.user_id) AS last FROM user u",
    "CREATE MATERIALIZED VIEW scalar_where AS SELECT m.id FROM message m WHERE m.n < (SELECT sum(b.n) + 1 FROM message b WHERE b.chat = m.chat) OR m.n IS NULL",
    "CREATE MATERIALIZED VIEW scalar_both AS SELECT c.chat, c.c FROM (SELECT chat, count(*) AS c FROM message GROUP BY chat) c
       WHERE c.c >= (SELECT max(d.c) FROM (SELECT chat, count(*) AS c FROM message GROUP BY chat) d)",
    "CREATE MATERIALIZED VIEW top_ AS SELECT id, n FROM message ORDER BY n DESC, id DESC LIMIT 3",
    "CREATE MATERIALIZED VIEW top_ties_ansi AS SELECT body, n FROM message ORDER BY n LIMIT 4 OFFSET 1",
    "CREATE MATERIALIZED VIEW top_mixed AS SELECT id, chat, body FROM message WHERE n > 0 ORDER BY chat, body DESC NULLS LAST, id LIMIT 3",
    "CREATE MATERIALIZED VIEW top_hidden AS SELECT body FROM message ORDER BY chat + n DESC, id LIMIT 2",
    "CREATE MATERIALIZED VIEW top_group AS SELECT chat, count(*) AS c FROM message GROUP BY chat ORDER BY sum(n) DESC, chat LIMIT 2",
    "CREATE MATERIALIZED VIEW top_join AS SELECT m.id, u.login FROM message m JOIN user u ON u.user_id = m.user_id ORDER BY u.login, m.id LIMIT 3",
    "CREATE MATERIALIZED VIEW top_distinct AS SELECT DISTINCT chat, n FROM message ORDER BY n, chat LIMIT 3",
    "CREATE MATERIALIZED VIEW top_union_ansi AS SELECT id AS a FROM message UNION SELECT user_id FROM user ORDER BY a DESC LIMIT 4",
    "CREATE MATERIALIZED VIEW top_with AS WITH t AS (SELECT id, chat FROM message ORDER BY id DESC LIMIT 4) SELECT t.chat, count(*) AS c FROM t GROUP BY t.chat",
    "CREATE MATERIALIZED VIEW over_top AS SELECT t.n, count(*) AS c FROM top_ t GROUP BY t.n",
    "CREATE MATERIALIZED VIEW top_outer AS SELECT u.user_id, m.id FROM user u LEFT JOIN message m ON m.user_id = u.user_id ORDER BY m.n DESC, u.user_id, m.id LIMIT 4",
    "CREATE MATERIALIZED VIEW window_ AS SELECT id, chat, row_number() OVER (PARTITION BY chat ORDER BY n DESC, id) AS r,
       rank() OVER (PARTITION BY chat ORDER BY n) AS k, sum(n) OVER (PARTITION BY chat) AS s FROM message",
    "CREATE MATERIALIZED VIEW window_ties_ansi AS SELECT id, row_number() OVER (PARTITION BY chat ORDER BY n) AS r,
       lag(body) OVER (PARTITION BY chat ORDER BY n DESC) AS before, first_value(id) OVER (PARTITION BY chat ORDER BY body) AS f FROM message",
    "CREATE MATERIALIZED VIEW window_running AS SELECT id, sum(n) OVER (PARTITION BY user_id ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS s,
       count(*) FILTER (WHERE n > 1) OVER (PARTITION BY user_id ORDER BY id) AS c, lead(id, 1, 0) OVER w AS next, ntile(2) OVER w AS half
       FROM message WHERE chat > 0 WINDOW w AS (PARTITION BY user_id ORDER BY id)",
    "CREATE MATERIALIZED VIEW window_group AS SELECT chat, user_id, count(*) AS c, rank() OVER (PARTITION BY chat ORDER BY count(*) DESC) AS k,
       sum(count(*)) OVER (PARTITION BY chat) AS whole FROM message GROUP BY chat, user_id",
    "CREATE MATERIALIZED VIEW window_all AS SELECT chat, dense_rank() OVER (ORDER BY count(*)) AS k, max(n) AS m FROM message GROUP BY chat",
    "CREATE MATERIALIZED VIEW window_join AS SELECT m.id, u.country || '' AS c, row_number() OVER (PARTITION BY u.country ORDER BY m.n, m.id) AS r
       FROM message m JOIN user u ON u.user_id = m.user_id",
    "CREATE MATERIALIZED VIEW window_expr AS SELECT id, max(n) OVER (PARTITION BY chat % 2, body IS NULL) AS m FROM message",
    "CREATE MATERIALIZED VIEW window_two AS SELECT id, count(*) OVER (PARTITION BY chat, user_id) AS a, min(id) OVER (PARTITION BY user_id) AS b FROM message",
    "CREATE MATERIALIZED VIEW window_distinct AS SELECT DISTINCT chat, count(*) OVER (PARTITION BY chat) AS c FROM message",
    "CREATE MATERIALIZED VIEW window_outer AS SELECT u.user_id, m.id, percent_rank() OVER (PARTITION BY u.user_id ORDER BY m.n) AS p,
       nth_value(m.id, 2) OVER (PARTITION BY u.user_id ORDER BY m.id) AS second FROM user u LEFT JOIN message m ON m.user_id = u.user_id",
    "CREATE MATERIALIZED VIEW window_top_ties_ansi AS SELECT row_number() OVER (PARTITION BY chat ORDER BY n) AS r, chat FROM message ORDER BY 1 DESC, 2 LIMIT 3 OFFSET 1",
    "CREATE MATERIALIZED VIEW window_top AS SELECT id, sum(n) OVER (PARTITION BY chat ORDER BY id) AS s FROM message ORDER BY s DESC, id LIMIT 3",
    "CREATE MATERIALIZED VIEW latest_ansi AS SELECT id, chat, body FROM message QUALIFY row_number() OVER (PARTITION BY chat ORDER BY n DESC) <= 2",
    "CREATE MATERIALIZED VIEW latest_one_ansi AS SELECT chat, body, row_number() OVER w AS r FROM message WHERE n IS NOT NULL
       WINDOW w AS (PARTITION BY chat, user_id ORDER BY id DESC) QUALIFY r = 1 AND body <> 'x'",
    "CREATE MATERIALIZED VIEW latest_group_ansi AS SELECT chat, user_id, count(*) AS c FROM message GROUP BY chat, user_id
       QUALIFY row_number() OVER (PARTITION BY chat ORDER BY count(*) DESC) < 2",
    "CREATE MATERIALIZED VIEW qualify_ansi AS SELECT DISTINCT user_id FROM message QUALIFY rank() OVER (PARTITION BY chat ORDER BY n) <= 2 AND count(*) OVER (PARTITION BY chat) > 1",
    "CREATE MATERIALIZED VIEW latest_join AS SELECT t.chat, u.login, t.body FROM user u JOIN
       (SELECT chat, user_id, body, row_number() OVER (PARTITION BY chat ORDER BY id DESC) AS r FROM message) t ON t.user_id = u.user_id WHERE t.r <= 2",
    "CREATE MATERIALIZED VIEW exists_other AS SELECT a.id FROM message a WHERE EXISTS (SELECT 1 FROM message b WHERE b.chat = a.chat AND b.user_id <> a.user_id)",
    "CREATE MATERIALIZED VIEW not_exists_later AS SELECT chat, n FROM message m WHERE NOT EXISTS (SELECT 1 FROM message WHERE chat = m.chat AND id > m.id)",
    "CREATE MATERIALIZED VIEW exists_or AS SELECT user_id, login FROM user u WHERE login = 'a' OR EXISTS (SELECT 1 FROM message m WHERE m.user_id = u.user_id AND m.n > 2)
       OR u.user_id IN (SELECT user_id FROM member WHERE role = 'b')",
    "CREATE MATERIALIZED VIEW exists_shown AS SELECT u.user_id, EXISTS (SELECT 1 FROM message m WHERE m.user_id = u.user_id) AS writes,
       CASE WHEN u.user_id NOT IN (SELECT user_id FROM member) THEN 'out' ELSE 'in' END AS side FROM user u",
    "CREATE MATERIALIZED VIEW exists_count AS SELECT chat, count(*) AS c FROM message m WHERE m.n > 3 OR NOT EXISTS (SELECT 1 FROM member b WHERE b.chat = m.chat AND b.user_id = m.user_id) GROUP BY chat",
    "CREATE MATERIALIZED VIEW exists_both AS SELECT m.id FROM message m JOIN user u ON u.user_id = m.user_id WHERE EXISTS (SELECT 1 FROM member b WHERE b.user_id = u.user_id)
       AND NOT EXISTS (SELECT 1 FROM message l WHERE l.chat = m.chat AND l.n + 1 < m.n LIMIT 1)",
    "CREATE MATERIALIZED VIEW in_correlated AS SELECT u.user_id FROM user u WHERE 1 IN (SELECT m.n FROM message m WHERE m.user_id = u.user_id)",
    "CREATE MATERIALIZED VIEW in_computed AS SELECT id FROM message WHERE n + 1 IN (SELECT max(n) FROM message GROUP BY chat) AND body || '' IN (SELECT role FROM member)",
    "CREATE MATERIALIZED VIEW scalar_less AS SELECT m.id, (SELECT count(*) FROM message l WHERE l.chat = m.chat AND l.id < m.id) AS before FROM message m",
    "CREATE MATERIALIZED VIEW scalar_key AS SELECT m.id, (SELECT u.login FROM user u WHERE u.user_id = m.user_id) AS sender FROM message m",
    "CREATE MATERIALIZED VIEW scalar_first AS SELECT u.user_id, (SELECT m.body FROM message m WHERE m.user_id = u.user_id ORDER BY m.n DESC, m.id LIMIT 1) AS last FROM user u",
    "CREATE MATERIALIZED VIEW scalar_first_all AS SELECT user_id FROM user WHERE login <> (SELECT body FROM message WHERE n > 2 ORDER BY id DESC LIMIT 1)",
    "CREATE MATERIALIZED VIEW scalar_first_less AS SELECT m.id, (SELECT l.id FROM message l WHERE l.chat = m.chat AND l.id < m.id ORDER BY l.id DESC LIMIT 1) AS before FROM message m",
    "CREATE MATERIALIZED VIEW outer_chain_two AS SELECT b.chat, b.user_id, m.id, u.login, o.mixed FROM member b LEFT JOIN message m ON m.chat = b.chat AND m.user_id = b.user_id
       LEFT JOIN user u ON u.user_id = m.n LEFT JOIN \"order\" o ON o.\"select\" = u.user_id AND m.n < 3",
    "CREATE MATERIALIZED VIEW outer_between AS SELECT b.chat, m.id, u.login FROM member b LEFT JOIN message m ON m.chat = b.chat AND m.n > 1 JOIN user u ON u.user_id = b.user_id",
    "CREATE MATERIALIZED VIEW outer_either AS SELECT b.chat, m.id, u.login FROM member b LEFT JOIN message m ON m.chat = b.chat AND m.n > 3 LEFT JOIN user u ON u.user_id = coalesce(m.user_id, b.user_id)",
    "CREATE MATERIALIZED VIEW outer_total AS SELECT count(*) AS c, count(m.id) AS m, max(u.login) AS l FROM user u LEFT JOIN message m ON m.user_id = u.user_id",
    "CREATE MATERIALIZED VIEW outer_chain_group AS SELECT u.login || '' AS l, count(DISTINCT m.chat) AS c FROM member b LEFT JOIN message m ON m.chat = b.chat LEFT JOIN user u ON u.user_id = m.user_id GROUP BY u.login HAVING count(*) > 1",
    "CREATE MATERIALIZED VIEW different AS SELECT chat, count(DISTINCT user_id) AS u, count(*) AS c, count(n) AS cn, sum(n) AS s, avg(n) AS a, min(body) AS lo, max(id) AS hi, sum(DISTINCT user_id) AS su
       FROM message GROUP BY chat HAVING count(DISTINCT user_id) < 4",
    "CREATE MATERIALIZED VIEW different_all AS SELECT count(DISTINCT body) AS b, count(*) AS c, count(n) AS cn, avg(n) AS a FROM message",
    "CREATE MATERIALIZED VIEW different_expr AS SELECT chat % 2 AS h, count(DISTINCT n + 1) + 1 AS c FROM message WHERE n <> 2 GROUP BY chat % 2",
    "CREATE MATERIALIZED VIEW different_two AS SELECT chat, count(DISTINCT user_id) AS u, count(DISTINCT body) AS b FROM message GROUP BY chat",
    "CREATE MATERIALIZED VIEW different_join AS SELECT u.country, count(DISTINCT m.chat) AS c FROM message m JOIN user u USING (user_id) GROUP BY u.country",
    "CREATE MATERIALIZED VIEW right_ AS SELECT m.*, u.login, b.role FROM message m RIGHT JOIN user u ON u.user_id = m.user_id AND m.n > 1 LEFT JOIN member b ON b.user_id = u.user_id AND b.chat = m.chat",
    "CREATE MATERIALIZED VIEW full_ AS SELECT m.id, b.role, coalesce(m.chat, b.chat) AS in_chat, b.user_id FROM message m FULL JOIN member b ON b.chat = m.chat AND b.user_id = m.user_id",
    "CREATE MATERIALIZED VIEW full_group AS SELECT login, count(*) AS c, count(m.id) AS messages FROM user FULL OUTER JOIN message m ON m.user_id = user.user_id AND m.n > user.user_id
       WHERE m.n IS NULL OR m.n < 4 GROUP BY login ORDER BY count(m.id), login LIMIT 4",
    "CREATE MATERIALIZED VIEW full_more AS SELECT x.*, u.login FROM member x FULL JOIN message y ON y.id = x.chat JOIN user u ON u.user_id = coalesce(y.n, x.user_id)",
    "CREATE MATERIALIZED VIEW over_window AS SELECT w.r, count(*) AS c FROM window_ w GROUP BY w.r",
    "CREATE MATERIALIZED VIEW having_scalar AS SELECT chat, sum(n) AS s FROM message GROUP BY chat HAVING count(*) * 2 > (SELECT avg(n) * 0.5 FROM message) AND s > 0",
    "CREATE MATERIALIZED VIEW having_in AS SELECT count(*) AS c FROM message WHERE n IS NOT NULL GROUP BY chat HAVING chat IN (SELECT chat FROM member WHERE role = 'a') AND max(n) > 1",
    "CREATE MATERIALIZED VIEW having_in_and AS SELECT chat + 1 AS next FROM message GROUP BY chat HAVING chat + 1 > 0 AND chat IN (SELECT chat FROM member) AND max(n) > 1",
    "CREATE MATERIALIZED VIEW in_scalar AS SELECT u.login FROM user u WHERE u.user_id IN (SELECT m.user_id FROM message m WHERE m.chat IN (SELECT chat FROM member WHERE role <> 'a')
       AND m.n > (SELECT 0.5 * sum(b.user_id) FROM member b WHERE b.chat = m.chat))",
    "CREATE MATERIALIZED VIEW outer_reduced AS SELECT u.login, m.id FROM user u LEFT JOIN message m ON m.user_id = u.user_id WHERE m.n > 1 OR m.chat + 1 = 2",
    "CREATE MATERIALIZED VIEW outer_reduced_chain AS SELECT b.chat, b.user_id, m.id, u.login FROM member b LEFT JOIN message m ON m.chat = b.chat
       LEFT JOIN user u ON u.user_id = m.user_id WHERE u.login LIKE 'a%' AND b.role IS NOT NULL",
    "CREATE MATERIALIZED VIEW outer_kept AS SELECT u.login, m.id FROM user u LEFT JOIN message m ON m.user_id = u.user_id WHERE m.n > 1 OR u.active OR coalesce(m.chat, 1) = 1",
    "CREATE MATERIALIZED VIEW outer_kept_null AS SELECT u.login, m.id FROM user u LEFT JOIN message m ON m.user_id = u.user_id WHERE (m.n = 1) IS NOT TRUE",
    "CREATE MATERIALIZED VIEW or_join AS SELECT m.id, u.login FROM message m, user u WHERE (m.user_id = u.user_id AND m.n > 1) OR (u.active AND m.user_id = u.user_id AND m.body = 'a') OR m.user_id = u.user_id AND m.chat = 2",
    "CREATE MATERIALIZED VIEW truths_ansi AS SELECT user_id, bool_and(n > 1) AS a, every(n > 1) FILTER (WHERE chat > 0) AS e, bool_or(n > 3) AS o FROM message GROUP BY user_id",
    "CREATE MATERIALIZED VIEW functions_ansi AS SELECT id, concat(body, '-', n, chat) AS c, greatest(n, chat, user_id) AS g, least(n, chat) AS l, iif(n > 1, 'x', body) AS i,
       left(body, 1) AS b, mod(id, 3) AS m, sign(n - 2) AS s, strpos(body, 'a') AS p, extra ->> 'b' AS eb, extra -> 'a' ->> 0 AS ea FROM message WHERE body ILIKE 'A%' OR n IS NULL OR chat > 1",
    "CREATE MATERIALIZED VIEW document_group_ansi AS SELECT extra ->> 'b' AS b, count(*) AS c FROM message GROUP BY extra ->> 'b'",
    "CREATE MATERIALIZED VIEW distinct_counts AS SELECT DISTINCT count(*) AS c, max(n) AS m FROM message GROUP BY chat, user_id HAVING count(*) > 0",
    "CREATE MATERIALIZED VIEW distinct_having AS SELECT DISTINCT chat FROM message GROUP BY chat, user_id HAVING count(*) > (SELECT min(n) FROM message)",
    "CREATE MATERIALIZED VIEW distinct_next AS SELECT DISTINCT chat % 2 AS odd FROM message GROUP BY chat ORDER BY odd",
    "CREATE MATERIALIZED VIEW cut AS SELECT substr(body, 1, 1) AS first, count(*) AS c FROM message GROUP BY 1",
    "CREATE MATERIALIZED VIEW dates_ansi AS SELECT id, extract(quarter FROM body) AS q, date_trunc('month', body) AS m, date_trunc('day', body) AS d, substring(body FROM 1 FOR 2) AS two
       FROM message WHERE body > date '2024-01-31' - interval '1' month OR extract(day FROM body) < 9",
    "CREATE MATERIALIZED VIEW by_truth AS SELECT coalesce(active, FALSE) AS is_active, count(*) AS c FROM user GROUP BY coalesce(active, FALSE)",
    "CREATE MATERIALIZED VIEW cut_anywhere AS SELECT id, substr(body, n - 2, chat - 1) AS a, substr(body, -2) AS b, substr(body, instr(body, 'a') + 1) AS c,
       substr(body, n * 4000000000, 1 - n * 4000000000) AS d FROM message",
    "CREATE MATERIALIZED VIEW window_texts AS SELECT id, lag('5') OVER (PARTITION BY chat ORDER BY id) AS five, lead('a', 1, body) OVER (PARTITION BY chat ORDER BY id) AS a FROM message",
    "CREATE MATERIALIZED VIEW over_over_hidden AS SELECT h.body FROM over_hidden2 h JOIN hidden_key k ON k.body = h.body",
];

fn text() -> impl Strategy<Value = Value> {
    prop_oneof![
        2 => Just(Value::Null),
        6 => prop::sample::select(vec!["", "a", "b", "5", "x", "A'\"é"]).prop_map(Value::from),
    ]
}

fn small(limit: i64) -> impl Strategy<Value = Value> {
    prop_oneof![1 => Just(Value::Null), 5 => (0..limit).prop_map(Value::Int)]
}

pub(crate) fn change() -> impl Strategy<Value = RowChange> {
    let user =
        (0..5_i64, text(), text(), 0..3_usize, small(9)).prop_map(|(id, login, country, active, score)| {
            let login = if login.is_null() { Value::from("nobody") } else { login };
            let active = [Value::Bool(true), Value::Bool(false), Value::Null][active].clone();
            let score = match score {
                Value::Int(8) => Value::Float(f64::INFINITY),
                Value::Int(score) => Value::Float(score as f64 * 0.25),
                other => other,
            };
            (0, vec![Value::Int(id), login, country, active, score])
        });
    let other = prop::sample::select(vec![
        Value::Null,
        Value::Int(1 << 60),
        Value::Float(0.1),
        Value::from("t"),
        Value::Bytes(vec![0, 255]),
    ]);
    let extra =
        prop::sample::select(vec![Value::Null, document(r#"{"a":[1,null],"b":"x"}"#), document("[]")]);
    let data = prop::sample::select(vec![Value::Null, Value::Bytes(vec![1, 2]), Value::Bytes(vec![])]);
    let message = (0..9_i64, 0..4_i64, small(6), text(), small(6), extra, data, other).prop_map(
        |(id, chat, user, body, n, extra, data, any)| {
            (1, vec![Value::Int(id), Value::Int(chat), user, body, n, extra, data, any])
        },
    );
    let member = (0..2_i64, 0..4_i64, text())
        .prop_map(|(chat, user, role)| (2, vec![Value::Int(chat), Value::Int(user), role]));
    let order = (text(), 0..4_i64, small(4), text()).prop_map(|(name, id, weird, mixed)| {
        let name = if name.is_null() { Value::from("none") } else { name };
        (3, vec![name, Value::Int(id), weird, mixed])
    });
    (prop_oneof![2 => user, 5 => message, 4 => member, 2 => order], prop::bool::weighted(0.3))
        .prop_map(|((relation, row), delete)| (relation, row, delete))
}

pub(crate) fn batches() -> impl Strategy<Value = Vec<Vec<RowChange>>> {
    prop::collection::vec(prop::collection::vec(change(), 1..8), 1..8)
}

/// A document value from JSON text.
pub(crate) fn document(text: &str) -> Value {
    from_json(&serde_json::from_str(text).expect("json"))
}
