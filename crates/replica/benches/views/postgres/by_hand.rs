//! Statements written by hand for exactly these three views: one a view where data-modifying `WITH` can say it, fed with the
//! batch's arrays, with an outbox.

use anyhow::{Result, ensure};
use sqlx::Row as _;

use super::{Client, Net};
use crate::chat::VIEWS;
use crate::hand::FILL;
use crate::log::Batch;
use crate::rival::Rival;

const TABLES: &str = "
CREATE TABLE visible(id bigint PRIMARY KEY, chat bigint, usr bigint, body text, sent bigint);
CREATE TABLE chats(chat bigint PRIMARY KEY, n bigint, last bigint, users bigint);
CREATE TABLE pairs(chat bigint, usr bigint, n bigint, PRIMARY KEY (chat, usr));
CREATE TABLE feed(id bigint PRIMARY KEY, body text, sent bigint, name text, topic text);
CREATE TABLE outbox(seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, view int, op int, key bigint, row text);
CREATE TABLE checkpoint(ordinal bigint);
INSERT INTO checkpoint VALUES (0);
";

/// What PostgreSQL plans by.
const ANALYZE: &str = "ANALYZE msg, usr, chat, visible, chats, pairs, feed";

/// Before the base tables move: they hold the former rows.
const CHATS: &str = "
WITH new AS (
  SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[])
    AS n(id, chat, usr, body, sent, del)),
signed AS MATERIALIZED (
  SELECT m.chat, m.usr, m.sent, -1 AS w FROM unnest($1 || $7::bigint[]) AS t(id) JOIN msg m ON m.id = t.id
    WHERE m.body <> '' AND m.del = 0
  UNION ALL SELECT chat, usr, sent, 1 FROM new WHERE body <> '' AND del = 0),
pair AS MATERIALIZED (
  SELECT d.chat, d.usr, d.n AS dn, coalesce(s.n, 0) AS n
    FROM (SELECT chat, usr, CAST(sum(w) AS bigint) AS n FROM signed GROUP BY 1, 2) d
    LEFT JOIN pairs s ON s.chat = d.chat AND s.usr = d.usr),
crossed AS (
  SELECT chat, CAST(sum(dn) AS bigint) AS dn, sum((n + dn > 0)::int - (n > 0)::int) AS dd FROM pair GROUP BY 1),
ends AS (
  SELECT chat, max(sent) FILTER (WHERE w = 1) AS added, max(sent) FILTER (WHERE w = -1) AS removed
    FROM signed GROUP BY 1),
changed AS MATERIALIZED (
  SELECT c.chat, v.n, v.last, v.users, coalesce(v.n, 0) + c.dn AS nn, coalesce(v.users, 0) + c.dd AS nusers,
      greatest(e.added, CASE WHEN e.removed >= v.last THEN
        (SELECT m.sent FROM msg m WHERE m.chat = c.chat AND m.body <> '' AND m.del = 0 AND m.id <> ALL($1 || $7)
           ORDER BY m.sent DESC LIMIT 1) ELSE v.last END) AS nlast
    FROM crossed c JOIN ends e ON e.chat = c.chat LEFT JOIN chats v ON v.chat = c.chat),
pairs_gone AS (DELETE FROM pairs s USING pair d WHERE s.chat = d.chat AND s.usr = d.usr AND d.n + d.dn = 0),
pairs_there AS (
  INSERT INTO pairs SELECT chat, usr, n + dn FROM pair WHERE dn <> 0 AND n + dn > 0
    ON CONFLICT (chat, usr) DO UPDATE SET n = excluded.n),
chats_gone AS (DELETE FROM chats v USING changed c WHERE v.chat = c.chat AND c.nn = 0),
chats_there AS (
  INSERT INTO chats SELECT chat, nn, nlast, nusers FROM changed
    WHERE nn > 0 AND (n, last, users) IS DISTINCT FROM (nn, nlast, nusers)
    ON CONFLICT (chat) DO UPDATE SET n = excluded.n, last = excluded.last, users = excluded.users)
INSERT INTO outbox(view, op, key, row) SELECT 2, (nn > 0)::int, chat, CASE WHEN nn > 0 THEN
    json_build_object('chat', chat, 'n', nn, 'last', nlast, 'users', nusers)::text END
  FROM changed WHERE (n, last, users) IS DISTINCT FROM (nn, nlast, nusers)";

const VISIBLE: &str = "
WITH there AS (
  INSERT INTO visible SELECT id, chat, usr, body, sent FROM
    unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[])
      AS n(id, chat, usr, body, sent, del) WHERE body <> '' AND del = 0
    ON CONFLICT (id) DO UPDATE SET chat = excluded.chat, usr = excluded.usr, body = excluded.body, sent = excluded.sent
    RETURNING *)
INSERT INTO outbox(view, op, key, row) SELECT 1, 1, id, row_to_json(there)::text FROM there";
const VISIBLE_GONE: &str = "
WITH gone AS (DELETE FROM visible WHERE id = ANY($1) RETURNING id)
INSERT INTO outbox(view, op, key) SELECT 1, 0, id FROM gone";

const FEED: &str = "
WITH there AS (
  INSERT INTO feed SELECT n.id, n.body, n.sent, u.name, c.topic FROM
    unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[])
      AS n(id, chat, usr, body, sent, del) JOIN usr u ON u.id = n.usr JOIN chat c ON c.id = n.chat
    ON CONFLICT (id) DO UPDATE SET
      body = excluded.body, sent = excluded.sent, name = excluded.name, topic = excluded.topic
    RETURNING *)
INSERT INTO outbox(view, op, key, row) SELECT 3, 1, id, row_to_json(there)::text FROM there";
const FEED_GONE: &str = "
WITH gone AS (DELETE FROM feed WHERE id = ANY($1) RETURNING id)
INSERT INTO outbox(view, op, key) SELECT 3, 0, id FROM gone";
const FEED_RENAMED: &str = "
WITH there AS (
  UPDATE feed f SET name = r.name FROM unnest($1::bigint[], $2::text[]) AS r(id, name) JOIN msg m ON m.usr = r.id
    WHERE f.id = m.id AND f.name <> r.name RETURNING f.*)
INSERT INTO outbox(view, op, key, row) SELECT 3, 1, id, row_to_json(there)::text FROM there";

/// See the module.
pub(super) struct ByHand {
    client: Client,
    /// Whether the views are there.
    maintained: bool,
}

impl ByHand {
    pub(super) fn open(url: &str) -> Result<Self> {
        let mut client = Client::open(url, "by_hand")?;
        client.run(TABLES)?;
        Ok(Self { client, maintained: false })
    }

    fn maintain(&mut self, net: &Net) -> Result<()> {
        let invisible = net.ids.iter().zip(net.bodies.iter().zip(&net.del));
        let invisible = invisible.filter(|(_, (body, del))| body.is_empty() || **del != 0).map(|(id, _)| *id);
        let unseen: Vec<i64> = net.gone.iter().copied().chain(invisible).collect();
        if !net.ids.is_empty() {
            self.client.execute(net.bind_messages(sqlx::query(VISIBLE)))?;
            self.client.execute(net.bind_messages(sqlx::query(FEED)))?;
        }
        for (sql, ids) in [(VISIBLE_GONE, &unseen), (FEED_GONE, &net.gone)] {
            if !ids.is_empty() {
                self.client.execute(sqlx::query(sql).bind(ids))?;
            }
        }
        if !net.users.0.is_empty() {
            self.client.execute(sqlx::query(FEED_RENAMED).bind(&net.users.0).bind(&net.users.1))?;
        }
        Ok(())
    }
}

impl Rival for ByHand {
    fn name(&self) -> &'static str {
        "by hand"
    }

    fn apply(&mut self, batch: &Batch) -> Result<()> {
        let net = Net::of(batch);
        self.client.begin()?;
        let changes_messages = !(net.ids.is_empty() && net.gone.is_empty());
        if self.maintained && changes_messages {
            self.client.execute(net.bind_messages(sqlx::query(CHATS)).bind(&net.gone))?;
        }
        self.client.write_bases(&net)?;
        if self.maintained {
            self.maintain(&net)?;
        }
        self.client.run("UPDATE checkpoint SET ordinal = ordinal + 1; COMMIT")
    }

    fn create_views(&mut self) -> Result<()> {
        self.client.run(&format!("BEGIN; {FILL} {ANALYZE}; COMMIT"))?;
        self.maintained = true;
        Ok(())
    }

    fn check(&mut self) -> Result<()> {
        for (name, sql) in VIEWS {
            let view = format!("SELECT * FROM {name}");
            for (left, right) in [(sql, view.as_str()), (view.as_str(), sql)] {
                let sql = format!("SELECT count(*) FROM ({left} EXCEPT {right}) AS d");
                let query = sqlx::query(sqlx::AssertSqlSafe(sql));
                let row = self.client.runtime.block_on(query.fetch_one(&mut self.client.connection))?;
                ensure!(row.get::<i64, _>(0) == 0, "view {name} by hand differs from its SQL");
            }
        }
        Ok(())
    }
}
