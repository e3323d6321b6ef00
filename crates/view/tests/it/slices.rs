//! How views are filled a part at a time.

use deltamesh_view::{SliceColumn, Slices};
use expect_test::expect;

use crate::database::Database;
use crate::random_views::relations;
use crate::tpch::queries;
use crate::tpch_schema::schemas;

fn slices(mut database: Database, sql: &str) -> String {
    database.create(&format!("CREATE MATERIALIZED VIEW v AS {sql}"));
    match &database.programs[0].slices {
        Slices::Any => "any".to_owned(),
        Slices::By(columns) => {
            let column = |SliceColumn { table, column }: &SliceColumn| format!("{table}.{column}");
            format!("by {}", columns.iter().map(column).collect::<Vec<_>>().join(" or "))
        }
        Slices::Whole(reason) => format!("whole: {reason}"),
    }
}

#[test]
fn slices_keep_groups_whole() {
    let views = [
        "SELECT m.id, u.login FROM message m JOIN user u ON u.user_id = m.user_id",
        "SELECT chat, count(DISTINCT user_id) AS c FROM message GROUP BY chat",
        "SELECT country, sum(score) AS s FROM user GROUP BY country",
        "SELECT u.country, sum(u.score * m.n) AS s FROM message m JOIN user u ON u.user_id = m.user_id GROUP BY u.country",
        "SELECT sum(score) AS s FROM user",
        "SELECT country || '!' AS c, sum(score) AS s FROM user GROUP BY 1",
        "SELECT u.user_id, m.id FROM user u LEFT JOIN message m ON m.user_id = u.user_id",
        "SELECT u.user_id FROM user u WHERE NOT EXISTS (SELECT 1 FROM message m WHERE m.user_id = u.user_id)",
        "SELECT user_id FROM user EXCEPT SELECT user_id FROM message",
        "SELECT id, lag(body) OVER (PARTITION BY chat ORDER BY id) AS b FROM message",
        "SELECT id, lag(body) OVER (PARTITION BY chat ORDER BY id) AS b, lag(n) OVER (PARTITION BY user_id ORDER BY id) AS n FROM message",
        "SELECT id, row_number() OVER (ORDER BY id) AS n FROM message",
        "SELECT m.id, lag(m.body) OVER (PARTITION BY u.country ORDER BY m.id) AS b FROM message m JOIN user u ON u.user_id = m.user_id",
        "SELECT c, lag(s) OVER (PARTITION BY c ORDER BY u) AS before FROM (SELECT chat AS c, user_id AS u, sum(n * 0.5) AS s FROM message GROUP BY chat, user_id) AS t",
        "SELECT id FROM message QUALIFY row_number() OVER (PARTITION BY chat ORDER BY id DESC) <= 2",
        "SELECT id FROM message ORDER BY id DESC LIMIT 3",
        "SELECT chat, count(*) AS c FROM message GROUP BY chat ORDER BY c DESC, chat LIMIT 3",
    ];
    let lines = views.map(|sql| format!("{sql}\n    {}", slices(Database::new(relations()), sql)));
    expect![[r#"
        SELECT m.id, u.login FROM message m JOIN user u ON u.user_id = m.user_id
            any
        SELECT chat, count(DISTINCT user_id) AS c FROM message GROUP BY chat
            any
        SELECT country, sum(score) AS s FROM user GROUP BY country
            by main__user.country
        SELECT u.country, sum(u.score * m.n) AS s FROM message m JOIN user u ON u.user_id = m.user_id GROUP BY u.country
            by main__user.country
        SELECT sum(score) AS s FROM user
            whole: it is computed as a whole
        SELECT country || '!' AS c, sum(score) AS s FROM user GROUP BY 1
            whole: its groups are those of an expression, not of a column
        SELECT u.user_id, m.id FROM user u LEFT JOIN message m ON m.user_id = u.user_id
            by main__user.user_id
        SELECT u.user_id FROM user u WHERE NOT EXISTS (SELECT 1 FROM message m WHERE m.user_id = u.user_id)
            by main__user.user_id
        SELECT user_id FROM user EXCEPT SELECT user_id FROM message
            by main__user.user_id
        SELECT id, lag(body) OVER (PARTITION BY chat ORDER BY id) AS b FROM message
            by main__message.chat
        SELECT id, lag(body) OVER (PARTITION BY chat ORDER BY id) AS b, lag(n) OVER (PARTITION BY user_id ORDER BY id) AS n FROM message
            whole: it is computed as a whole
        SELECT id, row_number() OVER (ORDER BY id) AS n FROM message
            whole: it is computed as a whole
        SELECT m.id, lag(m.body) OVER (PARTITION BY u.country ORDER BY m.id) AS b FROM message m JOIN user u ON u.user_id = m.user_id
            whole: no index finds the rows of its groups
        SELECT c, lag(s) OVER (PARTITION BY c ORDER BY u) AS before FROM (SELECT chat AS c, user_id AS u, sum(n * 0.5) AS s FROM message GROUP BY chat, user_id) AS t
            by main__message.chat
        SELECT id FROM message QUALIFY row_number() OVER (PARTITION BY chat ORDER BY id DESC) <= 2
            by main__message.chat
        SELECT id FROM message ORDER BY id DESC LIMIT 3
            whole: its first rows are read by an index
        SELECT chat, count(*) AS c FROM message GROUP BY chat ORDER BY c DESC, chat LIMIT 3
            any"#]].assert_eq(&lines.join("\n"));
}

#[test]
fn slices_of_tpch() {
    let lines = queries().into_iter().map(|(name, sql)| (name, slices(Database::new(schemas()), &sql)));
    let lines = lines.filter(|(_, slices)| slices != "any").map(|(name, slices)| format!("{name} {slices}"));
    expect![[r#"
        q13 by main__customer.c_custkey
        q16 by main__partsupp.ps_suppkey or main__part.p_partkey or main__partsupp.ps_partkey
        q18 by main__lineitem.l_orderkey
        q21 by main__lineitem.l_orderkey or main__orders.o_orderkey
        q22 by main__customer.c_custkey"#]]
    .assert_eq(&lines.collect::<Vec<_>>().join("\n"));
}
