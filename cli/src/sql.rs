//! `deltamesh sql`: a SELECT on the replica.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use deltamesh_wire::subject;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::mesh::{Mesh, explained, sql_text};
use crate::options::{Format, Place, Sql};
use crate::output;

/// How long one page may take.
const PAGE_WITHIN: Duration = Duration::from_secs(60);

/// Some rows of an answer; the column names may come with the first only.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Page {
    columns: Vec<String>,
    rows: Vec<Vec<Value>>,
}

pub(crate) async fn run(place: &Place, sql: &Sql) -> Result<ExitCode> {
    let select = sql_text(&sql.select)?;
    let mesh = Mesh::find(place).await?;
    let replica = mesh.replica(&sql.replica)?;
    let subject = subject::replica_request(&replica, "sql");
    let mut replies = mesh.client.request_many(&subject, select).await.context("ask the replica")?;
    let mut columns = Vec::new();
    let mut rows = Rows::new(sql.format);
    loop {
        let page = replies.next(PAGE_WITHIN).await.map_err(|error| explained(&replica, error))?;
        let Some(page) = page else {
            bail!("no answer within {} s", PAGE_WITHIN.as_secs());
        };
        if page.is_empty() {
            break;
        }
        let page: Page = serde_json::from_slice(&page).context("read the answer of the replica")?;
        if columns.is_empty() {
            columns = page.columns;
        }
        rows.add(&columns, page.rows)?;
    }
    rows.finish(&columns)?;
    Ok(ExitCode::SUCCESS)
}

/// Rows on their way to stdout. A table waits for all of them, to know how wide it is.
enum Rows {
    Table(Vec<Vec<String>>),
    /// One array with an object per line; whether a row was written.
    Json(bool),
}

impl Rows {
    fn new(format: Format) -> Self {
        match format {
            Format::Text => Self::Table(Vec::new()),
            Format::Json => Self::Json(false),
        }
    }

    fn add(&mut self, columns: &[String], rows: Vec<Vec<Value>>) -> Result<()> {
        match self {
            Self::Table(cells) => {
                cells.extend(rows.iter().map(|row| row.iter().map(output::cell).collect()));
            }
            Self::Json(written) => {
                let mut out = std::io::stdout().lock();
                for row in rows {
                    let object: Map<String, Value> = columns.iter().cloned().zip(row).collect();
                    write!(out, "{}{}", if *written { ",\n" } else { "[\n" }, Value::Object(object))?;
                    *written = true;
                }
            }
        }
        Ok(())
    }

    fn finish(self, columns: &[String]) -> Result<()> {
        match self {
            Self::Table(cells) => {
                let header: Vec<&str> = columns.iter().map(String::as_str).collect();
                output::table(&header, &cells)
            }
            Self::Json(true) => output::line("\n]"),
            Self::Json(false) => output::line("[]"),
        }
    }
}
