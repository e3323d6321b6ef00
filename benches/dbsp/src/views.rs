//! What a step of the circuit changed, written into the views' tables and the outbox.

use anyhow::Result;
use dbsp::utils::{Tup3, Tup4, Tup5};
use rusqlite::{CachedStatement, Params, Transaction, params};

use crate::circuit::Circuit;

/// Statements of a view; ?1 is the key.
struct Sql {
    put: &'static str,
    delete: &'static str,
    /// Into the outbox.
    log_put: &'static str,
    log_delete: &'static str,
}

const VISIBLE: Sql = Sql {
    put: "INSERT INTO visible VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (id) DO UPDATE SET
        chat = excluded.chat, usr = excluded.usr, body = excluded.body, sent = excluded.sent",
    delete: "DELETE FROM visible WHERE id = ?1",
    log_put: "INSERT INTO outbox(view, op, key, row) VALUES (1, 1, ?1,
        json_object('id', ?1, 'chat', ?2, 'usr', ?3, 'body', ?4, 'sent', ?5))",
    log_delete: "INSERT INTO outbox(view, op, key) VALUES (1, 0, ?1)",
};
const CHATS: Sql = Sql {
    put: "INSERT INTO chats VALUES (?1, ?2, ?3, ?4) ON CONFLICT (chat) DO UPDATE SET
        n = excluded.n, last = excluded.last, users = excluded.users",
    delete: "DELETE FROM chats WHERE chat = ?1",
    log_put: "INSERT INTO outbox(view, op, key, row) VALUES (2, 1, ?1,
        json_object('chat', ?1, 'n', ?2, 'last', ?3, 'users', ?4))",
    log_delete: "INSERT INTO outbox(view, op, key) VALUES (2, 0, ?1)",
};
const FEED: Sql = Sql {
    put: "INSERT INTO feed VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (id) DO UPDATE SET
        body = excluded.body, sent = excluded.sent, name = excluded.name, topic = excluded.topic",
    delete: "DELETE FROM feed WHERE id = ?1",
    log_put: "INSERT INTO outbox(view, op, key, row) VALUES (3, 1, ?1,
        json_object('id', ?1, 'body', ?2, 'sent', ?3, 'name', ?4, 'topic', ?5))",
    log_delete: "INSERT INTO outbox(view, op, key) VALUES (3, 0, ?1)",
};

/// Writes what the last step changed; with the outbox, what the transaction before left there goes.
pub(crate) fn write(transaction: &Transaction<'_>, circuit: &Circuit, outbox: bool) -> Result<()> {
    if outbox {
        transaction.prepare_cached("DELETE FROM outbox")?.execute([])?;
    }
    let mut visible = View::prepare(transaction, &VISIBLE, outbox)?;
    circuit.visible(|id, row| match row {
        Some(Tup5(chat, usr, body, sent, _)) => visible.put(params![id, chat, usr, body, sent]),
        None => visible.delete(id),
    })?;
    let mut chats = View::prepare(transaction, &CHATS, outbox)?;
    circuit.chats(|chat, row| match row {
        Some(Tup3(n, last, users)) => chats.put(params![chat, n, last, users]),
        None => chats.delete(chat),
    })?;
    let mut feed = View::prepare(transaction, &FEED, outbox)?;
    circuit.lines(|id, row| match row {
        Some(Tup4(body, sent, name, topic)) => feed.put(params![id, body, sent, name, topic]),
        None => feed.delete(id),
    })
}

/// The prepared statements of a view.
struct View<'a> {
    put: CachedStatement<'a>,
    delete: CachedStatement<'a>,
    log: Option<(CachedStatement<'a>, CachedStatement<'a>)>,
}

impl<'a> View<'a> {
    fn prepare(transaction: &'a Transaction<'_>, sql: &Sql, outbox: bool) -> Result<Self> {
        let log = if outbox {
            Some((transaction.prepare_cached(sql.log_put)?, transaction.prepare_cached(sql.log_delete)?))
        } else {
            None
        };
        let (put, delete) = (transaction.prepare_cached(sql.put)?, transaction.prepare_cached(sql.delete)?);
        Ok(Self { put, delete, log })
    }

    fn put(&mut self, row: impl Params + Copy) -> Result<()> {
        self.put.execute(row)?;
        if let Some((put, _)) = &mut self.log {
            put.execute(row)?;
        }
        Ok(())
    }

    fn delete(&mut self, key: i64) -> Result<()> {
        self.delete.execute([key])?;
        if let Some((_, delete)) = &mut self.log {
            delete.execute([key])?;
        }
        Ok(())
    }
}
