//! The same in PostgreSQL: the server, the batch as arrays, raw upserts.

mod by_hand;

use std::collections::BTreeMap;

use anyhow::Result;
use deltamesh_replica::Location;
use deltamesh_testkit::PostgresServer;
use sqlx::postgres::{PgArguments, PgConnectOptions};
use sqlx::query::Query;
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, PgConnection, Postgres};
use tokio::runtime::{Builder, Runtime};

use crate::chat::{Change, Message};
use crate::log::Batch;
use crate::rival::{Generated, Rival};
use by_hand::ByHand;

/// A server as one would run it on a small machine; commits wait for the disk.
const SETTINGS: [&str; 5] = [
    "shared_buffers=1GB",
    "max_wal_size=4GB",
    "checkpoint_timeout=15min",
    "wal_buffers=16MB",
    "max_parallel_workers_per_gather=0",
];

/// See the module.
pub(crate) struct Server(PostgresServer);

impl Server {
    pub(crate) fn start() -> Result<Self> {
        let server = PostgresServer::start_with(&SETTINGS)?;
        println!("{}; {}", server.psql("SELECT version()")?, SETTINGS.join(", "));
        Ok(Self(server))
    }

    /// Everybody has a schema of his own.
    pub(crate) fn rivals(&self, fill_beside: Option<u64>) -> Result<Vec<Box<dyn Rival>>> {
        Ok(vec![
            Box::new(Raw(Client::open(&self.0.url(), "raw")?)),
            Box::new(ByHand::open(&self.0.url())?),
            Box::new(Generated::open(Location::parse(&self.0.fresh_schema())?, fill_beside)?),
        ])
    }
}

/// A connection in a schema of its own with the three base tables. Calls block.
struct Client {
    runtime: Runtime,
    connection: PgConnection,
    schema: &'static str,
}

const TABLES: &str = "
CREATE TABLE msg(id bigint PRIMARY KEY, chat bigint, usr bigint, body text, sent bigint, del bigint);
CREATE TABLE usr(id bigint PRIMARY KEY, name text);
CREATE TABLE chat(id bigint PRIMARY KEY, topic text);
";

impl Client {
    fn open(url: &str, schema: &'static str) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let options = url.parse::<PgConnectOptions>()?.disable_statement_logging();
        let connection = runtime.block_on(PgConnection::connect_with(&options))?;
        let mut client = Self { runtime, connection, schema };
        let path = format!("CREATE SCHEMA {schema}; SET search_path = {schema}; {TABLES}");
        client.run(&path)?;
        Ok(client)
    }

    /// Runs statements as one message.
    fn run(&mut self, sql: &str) -> Result<()> {
        self.runtime.block_on(self.connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(sql))))?;
        Ok(())
    }

    /// Begins a transaction with the settings of the replica's own.
    fn begin(&mut self) -> Result<()> {
        self.run(&format!(
            "BEGIN; SET LOCAL search_path = {}; SET LOCAL jit = off;
             SET LOCAL plan_cache_mode = force_generic_plan",
            self.schema
        ))
    }

    /// Runs a statement that stays prepared.
    fn execute(&mut self, query: Query<'_, Postgres, PgArguments>) -> Result<()> {
        self.runtime.block_on(query.execute(&mut self.connection))?;
        Ok(())
    }

    /// Brings the base tables to the state after a batch.
    fn write_bases(&mut self, net: &Net) -> Result<()> {
        if !net.gone.is_empty() {
            self.execute(sqlx::query("DELETE FROM msg WHERE id = ANY($1)").bind(&net.gone))?;
        }
        if !net.ids.is_empty() {
            self.execute(net.bind_messages(sqlx::query(UPSERT)))?;
        }
        for (sql, (ids, texts)) in [(USER, &net.users), (CHAT, &net.chats)] {
            if !ids.is_empty() {
                self.execute(sqlx::query(sql).bind(ids).bind(texts))?;
            }
        }
        Ok(())
    }
}

const UPSERT: &str = "INSERT INTO msg SELECT * FROM
    unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[])
    ON CONFLICT (id) DO UPDATE SET chat = excluded.chat, usr = excluded.usr, body = excluded.body,
        sent = excluded.sent, del = excluded.del";
const USER: &str = "INSERT INTO usr SELECT * FROM unnest($1::bigint[], $2::text[])
    ON CONFLICT (id) DO UPDATE SET name = excluded.name";
const CHAT: &str = "INSERT INTO chat SELECT * FROM unnest($1::bigint[], $2::text[])
    ON CONFLICT (id) DO UPDATE SET topic = excluded.topic";

/// A batch netted per key, an array for each column.
#[derive(Default)]
struct Net {
    ids: Vec<i64>,
    chat: Vec<i64>,
    usr: Vec<i64>,
    bodies: Vec<String>,
    sent: Vec<i64>,
    del: Vec<i64>,
    gone: Vec<i64>,
    users: (Vec<i64>, Vec<String>),
    chats: (Vec<i64>, Vec<String>),
}

impl Net {
    fn of(batch: &Batch) -> Self {
        let mut messages: BTreeMap<i64, Option<&Message>> = BTreeMap::new();
        let (mut users, mut chats) = (BTreeMap::new(), BTreeMap::new());
        for change in &batch.changes {
            match change {
                Change::Message(message) => drop(messages.insert(message.id, Some(message))),
                Change::Delete(id) => drop(messages.insert(*id, None)),
                Change::User(id, name) => drop(users.insert(*id, name.clone())),
                Change::Chat(id, topic) => drop(chats.insert(*id, topic.clone())),
            }
        }
        let mut net =
            Self { users: users.into_iter().unzip(), chats: chats.into_iter().unzip(), ..Self::default() };
        for (id, message) in messages {
            let Some(message) = message else {
                net.gone.push(id);
                continue;
            };
            net.ids.push(id);
            net.chat.push(message.chat);
            net.usr.push(message.usr);
            net.bodies.push(message.body.clone());
            net.sent.push(message.sent);
            net.del.push(message.del);
        }
        net
    }

    /// The messages that are there afterwards, as `$1` to `$6`.
    fn bind_messages<'q>(
        &'q self,
        query: Query<'q, Postgres, PgArguments>,
    ) -> Query<'q, Postgres, PgArguments> {
        let query = query.bind(&self.ids).bind(&self.chat).bind(&self.usr);
        query.bind(&self.bodies).bind(&self.sent).bind(&self.del)
    }
}

/// Upserts into the base tables and nothing else.
struct Raw(Client);

impl Rival for Raw {
    fn name(&self) -> &'static str {
        "raw upserts"
    }

    fn apply(&mut self, batch: &Batch) -> Result<()> {
        let net = Net::of(batch);
        self.0.begin()?;
        self.0.write_bases(&net)?;
        self.0.run("COMMIT")
    }
}
