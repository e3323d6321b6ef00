//! `deltamesh view`: create, drop, list, explain.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::mesh::{Mesh, sql_text};
use crate::options::{Format, Place, Replica, View};
use crate::output;

/// Creating fills the view from the mirrors, which takes its time on a large replica.
const CREATE_WITHIN: Duration = Duration::from_secs(600);
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

pub(crate) async fn run(place: &Place, command: View) -> Result<ExitCode> {
    match command {
        View::Create { sql, file, replica } => {
            let statements = match (&sql, &file) {
                (_, Some(file)) => {
                    std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?
                }
                (Some(sql), None) => sql_text(sql)?,
                (None, None) => String::new(),
            };
            let answer = ask(place, &replica, "view.create", &statements, CREATE_WITHIN).await?;
            say(&answer, "created")?;
        }
        View::Drop { name, replica } => {
            let answer = ask(place, &replica, "view.drop", &name, ANSWER_WITHIN).await?;
            say(&answer, "dropped")?;
        }
        View::List { format, replica } => {
            let answer = ask(place, &replica, "view.list", "", ANSWER_WITHIN).await?;
            list(&answer, format)?;
        }
        View::Explain { view, replica } => {
            let answer = ask(place, &replica, "view.explain", &sql_text(&view)?, ANSWER_WITHIN).await?;
            output::line(answer.trim_end())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn ask(
    place: &Place,
    replica: &Replica,
    operation: &str,
    payload: &str,
    wait: Duration,
) -> Result<String> {
    let mesh = Mesh::find(place).await?;
    let answer = mesh.ask(&mesh.replica(replica)?, operation, payload.to_owned(), wait).await?;
    String::from_utf8(answer.into()).context("read the answer of the replica")
}

/// What the service said, else that it is done.
fn say(answer: &str, done: &str) -> Result<()> {
    output::line(if answer.trim().is_empty() { done } else { answer.trim_end() })
}

fn list(answer: &str, format: Format) -> Result<()> {
    if format == Format::Json {
        return output::line(answer.trim_end());
    }
    let views: Vec<Value> = serde_json::from_str(answer).context("read the answer of the replica")?;
    let text = |view: &Value, name: &str| match &view[name] {
        Value::Array(items) => {
            let names = items.iter().map(|item| output::cell(item.get("name").unwrap_or(item)));
            names.collect::<Vec<_>>().join(", ")
        }
        other => output::cell(other),
    };
    let rows: Vec<Vec<String>> = views
        .iter()
        .map(|view| ["name", "module", "key", "subject", "columns"].map(|name| text(view, name)).to_vec())
        .collect();
    output::table(&["VIEW", "MODULE", "KEY", "SUBJECT", "COLUMNS"], &rows)
}
