//! Calls that SQLite has under other names, or would calculate otherwise than PostgreSQL.

use super::render;
use super::select::Names;
use crate::query::Scalar;

/// The first and the last day that dates are written for, counted from 1970-01-01.
pub(super) const DAYS: &str = "-719162 AND 2932896";
/// The same in seconds.
pub(super) const SECONDS: &str = "-62135596800 AND 253402300799";
/// The same in months since the year 0.
pub(super) const MONTHS: &str = "12 AND 119999";

/// The spelling, where it is another one.
pub(super) fn spell(scalar: &Scalar, names: &dyn Names) -> Option<String> {
    let Scalar::Call(name, arguments) = scalar else { return None };
    let parts: Vec<String> = arguments.iter().map(|argument| render(argument, names)).collect();
    match (*name, parts.as_slice()) {
        ("json_text", _) => Some(json_text(&parts.join(", "))),
        ("json_value", [document, path]) => Some(format!("({document} -> {path})")),
        ("days", [of]) => {
            let day = format!("substr({of}, 1, 10)");
            Some(format!("CASE WHEN {} THEN unixepoch({day}) / 86400 END", is_day(of)))
        }
        ("date_of", [days]) => {
            Some(format!("CASE WHEN {days} BETWEEN {DAYS} THEN date({days} * 86400, 'unixepoch') END"))
        }
        ("moment_of", [seconds]) => {
            Some(format!("CASE WHEN {seconds} BETWEEN {SECONDS} THEN datetime({seconds}, 'unixepoch') END"))
        }
        ("add_months", [of, months]) => Some(format!(
            "CASE WHEN {} AND {} BETWEEN {MONTHS} THEN date(substr({of}, 1, 10), {months} || ' months', 'floor') END",
            is_day(of),
            months_of(of, months),
        )),
        _ => None,
    }
}

/// Whether a text begins with a day of the calendar: one that is written as SQLite would write it.
fn is_day(of: &str) -> String {
    format!("date(substr({of}, 1, 10)) = substr({of}, 1, 10) AND substr({of}, 1, 10) >= '0001'")
}

fn months_of(of: &str, months: &str) -> String {
    format!("CAST(substr({of}, 1, 4) AS INTEGER) * 12 + CAST(substr({of}, 6, 2) AS INTEGER) - 1 + {months}")
}

/// A value in a document as text, a truth value as a word; `place` is the document and the path.
fn json_text(place: &str) -> String {
    format!(
        "CASE json_type({place}) WHEN 'true' THEN 'true' WHEN 'false' THEN 'false' ELSE CAST(json_extract({place}) AS TEXT) END"
    )
}
