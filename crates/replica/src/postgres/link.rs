//! A connection to PostgreSQL that is opened when it is needed, and again when it was lost.
//!
//! Nothing outlives a transaction: not the search path, not a setting, not a lock, and no prepared statement where the place says
//! so. So any pooler may stand between.

use std::cell::{Cell as Flag, RefCell};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgArguments, PgConnectOptions, PgDatabaseError};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;

use super::cells::{arguments, cells};
use super::place::PostgresPlace;
use crate::error::{Error, ErrorKind, Result};
use crate::maintenance::cell::Cell;
use crate::maintenance::mirror::{literal, quote};

/// Pauses between attempts to connect; behind the last the caller tries again.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
];
/// A server that does not answer is as good as none.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// See the module. Calls block.
pub(super) struct Link {
    /// Until the end.
    runtime: Option<Runtime>,
    options: PgConnectOptions,
    pub(super) place: PostgresPlace,
    connection: RefCell<Option<PgConnection>>,
    pub(super) in_transaction: Flag<bool>,
    /// Told when what runs is to end.
    pub(super) interrupted: Arc<Notify>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Drop for Link {
    /// Does not block, so that it may happen anywhere.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Link {
    pub(super) fn new(place: PostgresPlace) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Error::io("start runtime", error))?;
        let name = format!("deltamesh {}", place.schema);
        let options = place.options()?.application_name(&name).disable_statement_logging();
        Ok(Self {
            runtime: Some(runtime),
            options,
            place,
            connection: RefCell::new(None),
            in_transaction: Flag::new(false),
            interrupted: Arc::new(Notify::new()),
        })
    }

    /// Runs `work` on the connection. One that is lost, or whose statement was interrupted, is given up.
    pub(super) fn run<T>(
        &self,
        place: &str,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T>,
    ) -> Result<T> {
        let ended = || Error::new(ErrorKind::Stopped, place, "connection has ended");
        let runtime = self.runtime.as_ref().ok_or_else(ended)?;
        let mut held = self.connection.borrow_mut();
        if held.is_none() && self.in_transaction.get() {
            return Err(Error::new(ErrorKind::Io, place, "connection to the database is lost"));
        }
        let result = runtime.block_on(async {
            let connection = match held.as_mut() {
                Some(connection) => connection,
                None => held.insert(self.connect().await?),
            };
            tokio::select! {
                result = work(connection) => result,
                () = self.interrupted.notified() => Err(Error::new(ErrorKind::Interrupted, place, "interrupted")),
            }
        });
        if result.as_ref().is_err_and(|error| matches!(error.kind(), ErrorKind::Io | ErrorKind::Interrupted))
        {
            *held = None;
        }
        result
    }

    async fn connect(&self) -> Result<PgConnection> {
        let place = self.place.to_string();
        let mut pauses = PAUSES.iter();
        loop {
            let connecting = PgConnection::connect_with(&self.options);
            let error = match tokio::time::timeout(CONNECT_WITHIN, connecting).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => failed(&place)(error),
                Err(_) => Error::new(ErrorKind::Io, &place, "server does not answer"),
            };
            match pauses.next() {
                Some(pause) if error.kind() == ErrorKind::Io => tokio::time::sleep(*pause).await,
                _ => return Err(error),
            }
        }
    }

    /// Runs statements as one message, without parameters; gives the rows of all.
    pub(super) fn batch(&self, place: &str, sql: String) -> Result<Vec<Vec<Cell>>> {
        self.run(place, async |connection| {
            let rows =
                sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(connection).await.map_err(failed(place))?;
            rows.iter().map(|row| cells(place, row)).collect()
        })
    }

    /// The statements that a transaction begins with.
    pub(super) fn begin(&self, mode: &str, settings: &str, last: &str) -> Result<Vec<Vec<Cell>>> {
        let path = literal(&format!("{}, pg_catalog", quote(&self.place.schema)));
        // One statement is cheaper than a SET each.
        let sql = format!(
            "BEGIN {mode}; SELECT set_config('search_path', {path}, true), set_config('client_min_messages', 'warning', true);
             {settings} {last}"
        );
        let begun = self.batch("begin", sql);
        self.in_transaction.set(begun.is_ok());
        if begun.is_err() {
            self.abandon();
        }
        begun
    }

    pub(super) fn end(&self, how: &str) -> Result<()> {
        if !self.in_transaction.replace(false) || self.connection.borrow().is_none() {
            return Ok(());
        }
        let ended = self.batch(how, how.to_owned()).map(|_| ());
        if ended.is_err() {
            self.abandon();
        }
        ended
    }

    /// Gives the connection up: nobody knows what state it is in.
    fn abandon(&self) {
        self.in_transaction.set(false);
        *self.connection.borrow_mut() = None;
    }

    /// Rows of a statement; in a transaction of its own where none is open.
    pub(super) fn rows(&self, place: &str, sql: &str, parameters: &[Cell]) -> Result<Vec<Vec<Cell>>> {
        if self.in_transaction.get() {
            return self.rows_within(place, sql, parameters, true);
        }
        self.begin("READ ONLY", "", "")?;
        let rows = self.rows_within(place, sql, parameters, true);
        let ended = self.end("ROLLBACK");
        let rows = rows?;
        ended.map(|()| rows)
    }

    /// Runs a statement whose answer has another form every time, within the transaction.
    pub(super) fn once(&self, place: &str, sql: &str, parameters: &[Cell]) -> Result<Vec<Vec<Cell>>> {
        self.rows_within(place, sql, parameters, false)
    }

    /// Rows of a statement, which stays prepared if `kept` says so.
    fn rows_within(&self, place: &str, sql: &str, parameters: &[Cell], kept: bool) -> Result<Vec<Vec<Cell>>> {
        self.fetch(place, sql, arguments(place, parameters)?, kept)
    }

    /// The same with parameters in the driver's form.
    pub(super) fn fetch(
        &self,
        place: &str,
        sql: &str,
        arguments: PgArguments,
        kept: bool,
    ) -> Result<Vec<Vec<Cell>>> {
        let kept = kept && self.place.keeps_statements;
        self.run(place, async |connection| {
            let statement = sqlx::query_with(AssertSqlSafe(sql), arguments).persistent(kept);
            let rows = statement.fetch_all(connection).await.map_err(failed(place))?;
            rows.iter().map(|row| cells(place, row)).collect()
        })
    }

    /// Prepares statements anew: where a column has another type now, a kept one would fail.
    pub(super) fn forget_statements(&self, place: &str) -> Result<()> {
        self.run(place, async |connection| connection.clear_cached_statements().await.map_err(failed(place)))
    }

    /// Runs a statement that stays prepared; gives the number of rows that it changed.
    pub(super) fn execute(&self, place: &str, sql: &str, arguments: PgArguments) -> Result<u64> {
        let kept = self.place.keeps_statements;
        self.run(place, async |connection| {
            let statement = sqlx::query_with(AssertSqlSafe(sql), arguments).persistent(kept);
            statement.execute(connection).await.map(|done| done.rows_affected()).map_err(failed(place))
        })
    }
}

/// What a failed statement means.
pub(super) fn failed(place: &str) -> impl FnOnce(sqlx::Error) -> Error + '_ {
    move |error| {
        let (kind, reason) = match &error {
            sqlx::Error::Database(failure) => {
                let code = failure.code().unwrap_or_default().into_owned();
                // These name the value that does not fit.
                let is_told = !code.starts_with("22") || matches!(code.as_str(), "22003" | "22012");
                let reason =
                    if is_told { failure.message().to_owned() } else { format!("data exception {code}") };
                (kind_of(&code), reason)
            }
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => {
                (ErrorKind::Io, error.to_string())
            }
            other => (ErrorKind::Sql, other.to_string()),
        };
        Error::new(kind, place, reason).caused_by(error)
    }
}

/// Which functions a failed statement ran in, innermost first.
pub(super) fn context(error: &Error) -> Option<String> {
    let source = std::error::Error::source(error)?.downcast_ref::<sqlx::Error>()?;
    let failure = source.as_database_error()?.try_downcast_ref::<PgDatabaseError>()?;
    failure.r#where().map(str::to_owned)
}

/// By SQLSTATE.
fn kind_of(code: &str) -> ErrorKind {
    match code {
        "53100" => ErrorKind::Full,
        "57014" => ErrorKind::Interrupted,
        "25006" | "42501" => ErrorKind::Denied,
        "55P03" | "40001" | "40P01" | "53200" | "53300" => ErrorKind::Busy,
        "57P01" | "57P02" | "57P03" | "58030" => ErrorKind::Io,
        code if code.starts_with("08") => ErrorKind::Io,
        _ => ErrorKind::Sql,
    }
}
