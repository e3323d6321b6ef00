//! Statements written by hand for exactly these three views, with the indexes that they need and an outbox that the next
//! transaction empties: what a program that is generated should not be slower than.

use std::path::Path;

use anyhow::Result;
use rusqlite::{Connection, params};

use crate::chat::{Change, Message};
use crate::log::Batch;
use crate::rival::Rival;
use crate::tables::{OUTBOX, VIEW_TABLES, base_tables, check, empty_wal};

const TABLES: &str = "
CREATE TABLE pairs(chat INTEGER, usr INTEGER, n, PRIMARY KEY (chat, usr)) WITHOUT ROWID;
CREATE TEMP TABLE d_msg(id INTEGER PRIMARY KEY, op, chat, usr, body, sent, del, vis);
CREATE TEMP TABLE o_msg(id INTEGER PRIMARY KEY, chat, usr, body, sent, del, vis);
CREATE TEMP TABLE d_usr(id INTEGER PRIMARY KEY, name);
CREATE TEMP TABLE d_pairs(chat, usr, n);
CREATE TEMP TABLE d_chats(chat, n, last, users, nn, nlast, nusers);
";

/// Fills the views, in either database.
pub(crate) const FILL: &str = "
CREATE INDEX msg_usr ON msg(usr);
CREATE INDEX msg_chat_sent ON msg(chat, sent) WHERE body <> '' AND del = 0;
INSERT INTO visible SELECT id, chat, usr, body, sent FROM msg WHERE body <> '' AND del = 0;
INSERT INTO pairs SELECT chat, usr, count(*) FROM msg WHERE body <> '' AND del = 0 GROUP BY 1, 2;
INSERT INTO chats SELECT chat, count(*), max(sent), count(DISTINCT usr) FROM msg WHERE body <> '' AND del = 0 GROUP BY 1;
INSERT INTO feed SELECT m.id, m.body, m.sent, u.name, c.topic
    FROM msg m JOIN usr u ON u.id = m.usr JOIN chat c ON c.id = m.chat;
";

const CLEAR: [&str; 6] = [
    "DELETE FROM outbox",
    "DELETE FROM d_msg",
    "DELETE FROM o_msg",
    "DELETE FROM d_usr",
    "DELETE FROM d_pairs",
    "DELETE FROM d_chats",
];

/// Mirrors and views, in the order in which they run.
const MAINTAIN: [&str; 21] = [
    "INSERT INTO o_msg SELECT m.id, m.chat, m.usr, m.body, m.sent, m.del, m.body <> '' AND m.del = 0
       FROM d_msg d CROSS JOIN msg m ON m.id = d.id",
    "DELETE FROM msg WHERE id IN (SELECT id FROM d_msg WHERE op = 0)",
    "INSERT INTO msg SELECT id, chat, usr, body, sent, del FROM d_msg WHERE op = 1 ON CONFLICT (id) DO UPDATE SET
       chat = excluded.chat, usr = excluded.usr, body = excluded.body, sent = excluded.sent, del = excluded.del",
    "INSERT INTO usr SELECT id, name FROM d_usr WHERE true ON CONFLICT (id) DO UPDATE SET name = excluded.name",
    "INSERT INTO outbox(view, op, key) SELECT 1, 0, o.id FROM o_msg o CROSS JOIN d_msg d ON d.id = o.id
       WHERE o.vis AND NOT d.vis",
    "DELETE FROM visible WHERE id IN (SELECT o.id FROM o_msg o CROSS JOIN d_msg d ON d.id = o.id
       WHERE o.vis AND NOT d.vis)",
    "INSERT INTO visible SELECT id, chat, usr, body, sent FROM d_msg WHERE vis ON CONFLICT (id) DO UPDATE SET
       chat = excluded.chat, usr = excluded.usr, body = excluded.body, sent = excluded.sent",
    "INSERT INTO outbox(view, op, key, row) SELECT 1, 1, id,
       json_object('id', id, 'chat', chat, 'usr', usr, 'body', body, 'sent', sent) FROM d_msg WHERE vis",
    "INSERT INTO d_pairs SELECT chat, usr, sum(w) FROM (SELECT chat, usr, -1 AS w FROM o_msg WHERE vis
       UNION ALL SELECT chat, usr, 1 FROM d_msg WHERE vis) GROUP BY 1, 2",
    "INSERT INTO d_chats SELECT g.chat, v.n, v.last, v.users, coalesce(v.n, 0) + g.dn,
         (SELECT max(sent) FROM msg m WHERE m.chat = g.chat AND m.body <> '' AND m.del = 0),
         coalesce(v.users, 0) + g.dd
       FROM (SELECT d.chat, sum(d.n) AS dn, sum((coalesce(s.n, 0) + d.n > 0) - (coalesce(s.n, 0) > 0)) AS dd
         FROM d_pairs d LEFT JOIN pairs s ON s.chat = d.chat AND s.usr = d.usr GROUP BY d.chat) g
       LEFT JOIN chats v ON v.chat = g.chat",
    "INSERT INTO pairs SELECT chat, usr, n FROM d_pairs WHERE n <> 0 ON CONFLICT (chat, usr) DO UPDATE SET
       n = n + excluded.n",
    "DELETE FROM pairs WHERE (chat, usr) IN (SELECT chat, usr FROM d_pairs WHERE n < 0) AND n = 0",
    "INSERT INTO chats SELECT chat, nn, nlast, nusers FROM d_chats
       WHERE nn > 0 AND (n, last, users) IS NOT (nn, nlast, nusers) ON CONFLICT (chat) DO UPDATE SET
       n = excluded.n, last = excluded.last, users = excluded.users",
    "DELETE FROM chats WHERE chat IN (SELECT chat FROM d_chats WHERE nn = 0)",
    "INSERT INTO outbox(view, op, key, row) SELECT 2, nn > 0, chat, CASE WHEN nn > 0 THEN
         json_object('chat', chat, 'n', nn, 'last', nlast, 'users', nusers) END FROM d_chats
       WHERE (n, last, users) IS NOT (nn, nlast, nusers)",
    "INSERT INTO outbox(view, op, key) SELECT 3, 0, id FROM d_msg WHERE op = 0",
    "DELETE FROM feed WHERE id IN (SELECT id FROM d_msg WHERE op = 0)",
    "INSERT INTO feed SELECT d.id, d.body, d.sent, u.name, c.topic FROM d_msg d CROSS JOIN usr u ON u.id = d.usr
       CROSS JOIN chat c ON c.id = d.chat WHERE d.op = 1 ON CONFLICT (id) DO UPDATE SET
       body = excluded.body, sent = excluded.sent, name = excluded.name, topic = excluded.topic",
    "INSERT INTO feed SELECT m.id, m.body, m.sent, r.name, c.topic FROM d_usr r CROSS JOIN msg m ON m.usr = r.id
       CROSS JOIN chat c ON c.id = m.chat WHERE m.id NOT IN (SELECT id FROM d_msg)
       ON CONFLICT (id) DO UPDATE SET name = excluded.name",
    "INSERT INTO outbox(view, op, key, row) SELECT 3, 1, f.id,
       json_object('id', f.id, 'body', f.body, 'sent', f.sent, 'name', f.name, 'topic', f.topic)
       FROM d_msg d CROSS JOIN feed f ON f.id = d.id WHERE d.op = 1",
    "INSERT INTO outbox(view, op, key, row) SELECT 3, 1, f.id,
       json_object('id', f.id, 'body', f.body, 'sent', f.sent, 'name', f.name, 'topic', f.topic)
       FROM d_usr r CROSS JOIN msg m ON m.usr = r.id CROSS JOIN feed f ON f.id = m.id
       WHERE m.id NOT IN (SELECT id FROM d_msg)",
];

/// See the module.
pub(crate) struct Hand {
    connection: Connection,
    /// Whether the views are there.
    maintained: bool,
}

impl Hand {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let connection = base_tables(path)?;
        connection.execute_batch(VIEW_TABLES)?;
        connection.execute_batch(OUTBOX)?;
        connection.execute_batch(TABLES)?;
        Ok(Self { connection, maintained: false })
    }
}

impl Rival for Hand {
    fn name(&self) -> &'static str {
        "by hand"
    }

    fn apply(&mut self, batch: &Batch) -> Result<()> {
        let transaction = self.connection.transaction()?;
        for sql in CLEAR {
            transaction.prepare_cached(sql)?.execute([])?;
        }
        let mut upsert = transaction.prepare_cached(
            "INSERT OR REPLACE INTO d_msg VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?2 AND ?5 <> '' AND ?7 = 0)",
        )?;
        let mut rename = transaction.prepare_cached("INSERT OR REPLACE INTO d_usr VALUES (?1, ?2)")?;
        for change in &batch.changes {
            match change {
                Change::Message(Message { id, chat, usr, body, sent, del }) => {
                    upsert.execute(params![id, 1, chat, usr, body, sent, del])?
                }
                Change::Delete(id) => upsert.execute(params![id, 0, 0, 0, "", 0, 0])?,
                Change::User(id, name) => rename.execute(params![id, name])?,
                Change::Chat(id, topic) => {
                    transaction.execute("INSERT INTO chat VALUES (?1, ?2)", params![id, topic])?
                }
            };
        }
        let steps = if self.maintained { &MAINTAIN[..] } else { &MAINTAIN[1..4] };
        for sql in steps {
            transaction.prepare_cached(sql)?.execute([])?;
        }
        drop((upsert, rename));
        transaction.commit()?;
        Ok(())
    }

    fn create_views(&mut self) -> Result<()> {
        self.connection.execute_batch(&format!("BEGIN; {FILL} COMMIT"))?;
        self.maintained = true;
        empty_wal(&self.connection)
    }

    fn check(&mut self) -> Result<()> {
        check(&self.connection)
    }
}
