//! The replica as a schema of a PostgreSQL database.

mod cells;
mod database;
mod images;
mod link;
mod litter;
mod place;
mod reader;
mod script;

pub(crate) use place::PostgresPlace;
pub(crate) use reader::PostgresReader;

use crate::error::Result;
use crate::maintenance::Maintainer;
use crate::retention::Retention;
use database::Postgres;

/// The writer of a PostgreSQL replica. A later one takes the replica over; the former one's next transaction is refused.
pub type PostgresReplica = Maintainer<Postgres>;

impl PostgresReplica {
    /// Opens the replica, and creates it where it is missing: `postgres://user@host/database?schema=name`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`] where the server does not answer; [`crate::ErrorKind::Version`] where the schema is not a replica;
    /// [`crate::ErrorKind::Denied`] where a right is missing.
    pub fn open(url: &str, retention: Retention) -> Result<Self> {
        Self::at(PostgresPlace::parse(url)?, retention)
    }

    pub(crate) fn at(place: PostgresPlace, retention: Retention) -> Result<Self> {
        Self::load(Postgres::open(place)?, retention)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use deltamesh_testkit::PostgresServer;

    use super::*;
    use crate::maintenance::cell::Cell;
    use crate::maintenance::database::Read;

    /// A replica in a fresh schema whose readers have another role.
    fn with_a_reader(server: &PostgresServer) -> (PostgresReplica, PostgresReader) {
        let url = server.fresh_schema();
        let schema = url.split_once("schema=").unwrap().1;
        let grants = format!(
            "CREATE ROLE looker LOGIN; CREATE SCHEMA {schema}; GRANT USAGE ON SCHEMA {schema} TO looker;
             ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT SELECT ON TABLES TO looker"
        );
        server.psql(&grants).unwrap();
        let place = PostgresPlace::parse(&format!("{url}&reader=looker")).unwrap();
        let replica = PostgresReplica::at(place.clone(), Retention::default()).unwrap();
        (replica, PostgresReader::open(place).unwrap())
    }

    #[test]
    fn a_reader_of_its_own_has_no_other_rights() {
        let server = PostgresServer::start().unwrap();
        let (_replica, reader) = with_a_reader(&server);
        let read = |sql: &str| reader.rows("test", sql, &[]);
        assert_eq!(read("SELECT CAST(current_user AS text)").unwrap(), [[Cell::Text("looker".to_owned())]]);
        assert_eq!(read("SELECT count(*) FROM __deltamesh_changes").unwrap(), [[Cell::Integer(0)]]);
        let check = |sql: &str| assert_eq!(read(sql).unwrap_err().kind(), crate::ErrorKind::Denied, "{sql}");
        check("SELECT set_config('role', 'deltamesh', true)");
        check("DELETE FROM __deltamesh_changes");
        // Nor where nothing says that the transaction only reads.
        let write = "SET ROLE looker; DELETE FROM t0.__deltamesh_changes";
        assert!(server.psql(write).unwrap_err().to_string().contains("permission denied"));
    }

    #[test]
    fn prepared_statements_stay_unless_a_pooler_is_told() {
        let server = PostgresServer::start().unwrap();
        let check = |parameter: &str, stay: bool| {
            let url = format!("{}{parameter}", server.fresh_schema());
            let replica = PostgresReplica::open(&url, Retention::default()).unwrap();
            let reader = PostgresReader::open(PostgresPlace::parse(&url).unwrap()).unwrap();
            let count = "SELECT count(*) FROM pg_prepared_statements WHERE statement NOT LIKE '%pg_prepared_statements%'";
            for connection in [&replica.database as &dyn Read, &reader] {
                let rows = connection.rows("test", count, &[]).unwrap();
                assert_eq!(rows != [[Cell::Integer(0)]], stay, "{parameter}");
            }
        };
        check("", true);
        check("&statement-cache-capacity=0", false);
    }
}
