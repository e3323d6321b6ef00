//! Where a PostgreSQL replica is.

use std::fmt;
use std::str::FromStr as _;

use sqlx::postgres::PgConnectOptions;

use crate::error::{Error, ErrorKind, Result};

/// Schema of a replica where the URL names none.
const SCHEMA: &str = "deltamesh";
/// Parameter of a URL by which no statement stays prepared.
const FORGETS: &str = "statement-cache-capacity=0";

/// A URL and a schema. Shown without user and password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct PostgresPlace {
    url: String,
    pub(super) schema: String,
    /// Who reads, as `USER:PASSWORD` or `USER`, if that is another one.
    reader: Option<String>,
    /// Whether statements stay prepared, which a pooler may not know.
    pub(super) keeps_statements: bool,
}

impl PostgresPlace {
    /// Reads `postgres://user:password@host/database?schema=name&reader=user:password`; what else stands behind `?` is the
    /// driver's.
    pub(crate) fn parse(url: &str) -> Result<Self> {
        let (base, parameters) = url.split_once('?').unwrap_or((url, ""));
        let (own, others): (Vec<&str>, Vec<&str>) = parameters
            .split('&')
            .filter(|parameter| !parameter.is_empty())
            .partition(|parameter| ["schema=", "reader="].iter().any(|own| parameter.starts_with(own)));
        let value = |name: &str| own.iter().find_map(|parameter| parameter.strip_prefix(name));
        let (schema, reader) = (value("schema=").unwrap_or(SCHEMA), value("reader=").map(str::to_owned));
        let is_plain = |character: char| {
            character.is_ascii_lowercase() || character.is_ascii_digit() || character == '_'
        };
        let is_name = !schema.is_empty() && schema.len() <= 63 && schema.chars().all(is_plain);
        if !is_name || schema.starts_with("pg_") {
            let reason = "schema is made of small letters, digits and _";
            return Err(Error::new(ErrorKind::Denied, "replica", reason));
        }
        let keeps_statements = !others.contains(&FORGETS);
        let others = if others.is_empty() { String::new() } else { format!("?{}", others.join("&")) };
        let place =
            Self { url: format!("{base}{others}"), schema: schema.to_owned(), reader, keeps_statements };
        place.options()?;
        place.clone().reading().options()?;
        Ok(place)
    }

    /// The same place for who only reads.
    pub(super) fn reading(self) -> Self {
        let Some(reader) = &self.reader else { return self };
        let (scheme, rest) = self.url.split_once("://").unwrap_or(("postgres", &self.url));
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        Self { url: format!("{scheme}://{reader}@{host}{path}"), ..self }
    }

    pub(super) fn options(&self) -> Result<PgConnectOptions> {
        let options = PgConnectOptions::from_str(&self.url).map_err(|error| {
            Error::new(ErrorKind::Denied, "replica", "not a Postgres URL").caused_by(error)
        })?;
        // A pooler may refuse a setting that it does not know; doubles travel as they are anyway.
        let options = options.extra_float_digits(None);
        // Without a cache the driver would never close what it has prepared.
        Ok(if self.keeps_statements { options } else { options.statement_cache_capacity(1) })
    }
}

impl fmt::Display for PostgresPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.options().map(|options| {
            format!(
                "{}:{}/{}",
                options.get_host(),
                options.get_port(),
                options.get_database().unwrap_or_default()
            )
        });
        write!(f, "postgres://{}?schema={}", shown.unwrap_or_default(), self.schema)
    }
}

impl fmt::Debug for PostgresPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
