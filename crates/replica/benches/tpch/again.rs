//! Who computes a query again in a replica: what a materialised view costs without maintenance.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rusqlite::Connection as SqliteConnection;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection};
use tokio::runtime::{Builder, Runtime};

/// Computes a query and keeps its rows; gives the time, the median of three where it is short, and the number of rows.
pub(crate) trait Again {
    fn compute(&mut self, sql: &str) -> Result<(Duration, i64)>;
}

/// Runs it three times, or once where that takes longer.
fn median(mut run: impl FnMut() -> Result<()>) -> Result<Duration> {
    let mut took = vec![];
    while took.len() < 3 && took.first().is_none_or(|first| *first < Duration::from_secs(2)) {
        let started = Instant::now();
        run()?;
        took.push(started.elapsed());
    }
    took.sort_unstable();
    took.get(took.len() / 2).copied().context("no run")
}

/// A file: the rows go into a table in memory or in a temporary file.
pub(crate) struct File(SqliteConnection);

impl File {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        Ok(Self(SqliteConnection::open(path)?))
    }
}

impl Again for File {
    fn compute(&mut self, sql: &str) -> Result<(Duration, i64)> {
        let took = median(|| {
            self.0.execute_batch("DROP TABLE IF EXISTS temp.again")?;
            Ok(self.0.execute_batch(&format!("CREATE TEMP TABLE again AS {sql}"))?)
        })?;
        Ok((took, self.0.query_row("SELECT count(*) FROM temp.again", [], |row| row.get(0))?))
    }
}

/// A schema: `REFRESH MATERIALIZED VIEW` over its mirrors.
pub(crate) struct Server {
    runtime: Runtime,
    connection: PgConnection,
}

impl Server {
    /// Connects to the schema of a replica's URL.
    pub(crate) fn open(url: &str) -> Result<Self> {
        let (url, schema) = url.split_once("?schema=").context("schema of the replica")?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let options = url.parse::<PgConnectOptions>()?.disable_statement_logging();
        let connection = runtime.block_on(PgConnection::connect_with(&options))?;
        let mut server = Self { runtime, connection };
        server.run(&format!("SET search_path = {schema}; CREATE SCHEMA again; ANALYZE"))?;
        Ok(server)
    }

    fn run(&mut self, sql: &str) -> Result<()> {
        self.runtime.block_on(self.connection.execute(sqlx::raw_sql(AssertSqlSafe(sql))))?;
        Ok(())
    }
}

impl Again for Server {
    fn compute(&mut self, sql: &str) -> Result<(Duration, i64)> {
        self.run(&format!("CREATE MATERIALIZED VIEW again.again AS {sql} WITH NO DATA"))?;
        let took = median(|| self.run("REFRESH MATERIALIZED VIEW again.again"))?;
        let count = sqlx::query_scalar("SELECT count(*) FROM again.again");
        let rows = self.runtime.block_on(count.fetch_one(&mut self.connection))?;
        self.run("DROP MATERIALIZED VIEW again.again")?;
        Ok((took, rows))
    }
}
