//! Expressions that PostgreSQL would calculate otherwise than SQLite, spelled so that it does not.

use deltamesh_change::ColumnType::{self, Bool, Decimal, Float, Int, Text};

use super::render;
use super::select::{Names, joined, over};
use super::sqlite::{DAYS, MONTHS, SECONDS};
use crate::kinds;
use crate::query::{Aggregate, AggregateFunction, PlaceResult, Scalar, Window, WindowFunction};

/// SQLite reads as much of a text as looks like an integer, or a number.
const INTEGER: &str = r"'^[ \t\n\v\f\r]*([+-]?[0-9]+)'";
const NUMBER: &str = r"'^[ \t\n\v\f\r]*([+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]+)?)'";

/// The spelling, where it is another one.
pub(super) fn spell(scalar: &Scalar, names: &dyn Names) -> Option<String> {
    let part = |scalar: &Scalar| render(scalar, names);
    match scalar {
        Scalar::Literal(sql) => literal(sql),
        // Division by zero is NULL.
        Scalar::Binary(left, operator @ ("/" | "%"), right) => {
            Some(format!("({} {operator} nullif({}, 0))", part(left), part(right)))
        }
        Scalar::Binary(left, "||", right) => {
            Some(format!("({} || {})", text(left, names), text(right, names)))
        }
        // Without case in ASCII, and without an escape unless one is given.
        Scalar::Like { operand, negated, pattern, escape } => {
            let not = if *negated { "NOT " } else { "" };
            let escape = escape.as_deref().unwrap_or("''");
            let (operand, pattern) = (text(operand, names), text(pattern, names));
            Some(format!("({operand} COLLATE \"C\" {not}ILIKE {pattern} ESCAPE {escape})"))
        }
        Scalar::Cast(operand, to) => Some(cast(operand, to, names)),
        Scalar::Call(name, arguments) => call(name, arguments, names),
        Scalar::Aggregate(aggregate) => Some(aggregated(aggregate, names)),
        Scalar::Window(window) => windowed(window, names),
        _ => None,
    }
}

fn kind(scalar: &Scalar, names: &dyn Names) -> Option<ColumnType> {
    kinds::known(names.query(), scalar)
}

/// Numbers are 64 bits wide, and texts have the order of their bytes.
fn literal(sql: &str) -> Option<String> {
    match sql {
        "NULL" | "TRUE" | "FALSE" => None,
        text if text.starts_with('\'') => Some(format!("({text} COLLATE \"C\")")),
        number if number.parse::<i64>().is_ok() => Some(format!("CAST({number} AS bigint)")),
        number => Some(format!("CAST({number} AS double precision)")),
    }
}

/// An operand as text.
fn text(scalar: &Scalar, names: &dyn Names) -> String {
    let sql = render(scalar, names);
    match kind(scalar, names) {
        Some(Int) => format!("(CAST({sql} AS text) COLLATE \"C\")"),
        Some(Bool) => format!("(CAST(CAST({sql} AS integer) AS text) COLLATE \"C\")"),
        None => format!("CAST({sql} AS text)"),
        Some(_) => sql,
    }
}

fn cast(operand: &Scalar, to: &str, names: &dyn Names) -> String {
    let sql = render(operand, names);
    let beginning = |pattern: &str, to: &str| {
        format!(
            "CASE WHEN {sql} IS NOT NULL THEN coalesce(CAST(substring({sql} from {pattern}) AS {to}), 0) END"
        )
    };
    match (kind(operand, names), to) {
        (Some(Text | Decimal), "INTEGER") => beginning(INTEGER, "bigint"),
        (Some(Text | Decimal), "REAL") => beginning(NUMBER, "double precision"),
        (Some(Float), "INTEGER") => format!("CAST(trunc({sql}) AS bigint)"),
        (Some(Bool), "INTEGER" | "REAL") => {
            format!("CAST(CAST({sql} AS integer) AS {})", target(to))
        }
        (_, "TEXT") => text(operand, names),
        (_, to) => format!("CAST({sql} AS {})", target(to)),
    }
}

fn target(to: &str) -> &'static str {
    match to {
        "INTEGER" => "bigint",
        "REAL" => "double precision",
        "BLOB" => "bytea",
        _ => "text",
    }
}

fn call(name: &str, arguments: &[Scalar], names: &dyn Names) -> Option<String> {
    let parts = || arguments.iter().map(|argument| render(argument, names)).collect::<Vec<_>>().join(", ");
    let texts = || arguments.iter().map(|argument| text(argument, names)).collect::<Vec<_>>().join(", ");
    match (name, arguments) {
        // Only ASCII has case.
        ("lower" | "upper", [argument]) => Some(format!("{name}({} COLLATE \"C\")", text(argument, names))),
        ("length", [argument]) if kind(argument, names) == Some(ColumnType::Bytes) => {
            Some(format!("CAST(length({}) AS bigint)", parts()))
        }
        ("length", _) => Some(format!("CAST(length({}) AS bigint)", texts())),
        ("instr", _) => Some(format!("CAST(strpos({}) AS bigint)", texts())),
        ("trim", _) => Some(format!("btrim({})", texts())),
        ("ltrim" | "rtrim" | "replace", _) => Some(format!("{name}({})", texts())),
        ("substr", [argument, bounds @ ..]) if bounds.iter().all(is_positive) => {
            let bounds = bounds.iter().map(|bound| format!(", CAST({} AS integer)", render(bound, names)));
            Some(format!("substr({}{})", text(argument, names), bounds.collect::<String>()))
        }
        ("substr", [argument, begin, length @ ..]) => {
            let length = length.first().map(|length| render(length, names));
            Some(substring(&text(argument, names), &render(begin, names), length.as_deref()))
        }
        // Away from zero; there is one zero.
        ("round", [argument]) => {
            let number = format!("CAST({} AS double precision)", render(argument, names));
            Some(format!("(sign({number}) * floor(abs({number}) + 0.5) + 0)"))
        }
        ("ceil" | "floor" | "trunc", [argument]) if kind(argument, names) == Some(Int) => Some(parts()),
        ("ceil" | "floor" | "trunc", [_]) => Some(format!("({name}({}) + 0)", parts())),
        ("sqrt", [argument]) => {
            let number = format!("CAST({} AS double precision)", render(argument, names));
            Some(format!("CASE WHEN {number} >= 0 THEN sqrt({number}) END"))
        }
        ("json_text", [document, Scalar::Literal(path)]) => {
            Some(format!("(({} #>> {}) COLLATE \"C\")", render(document, names), steps(path)))
        }
        ("json_value", [document, Scalar::Literal(path)]) => {
            Some(format!("({} #> {})", render(document, names), steps(path)))
        }
        ("json_array_length", [_]) => {
            let value = parts();
            Some(format!(
                "CAST(CASE WHEN jsonb_typeof({value}) = 'array' THEN jsonb_array_length({value}) WHEN {value} IS NOT NULL THEN 0 END AS bigint)"
            ))
        }
        ("days" | "date_of" | "moment_of" | "add_months", _) => time(name, arguments, names),
        ("deltamesh_json", [argument]) => Some(render(argument, names)),
        ("json_array", _) => Some(format!("CAST(jsonb_build_array({}) AS text)", parts())),
        _ => None,
    }
}

/// The days of the calendar from year 1 to 9999, at the beginning of a text.
const DAY: &str = "'^(?!0000)(?:[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))|(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)'";

/// Calls that calculate with days and seconds since 1970-01-01, and with months.
fn time(name: &str, arguments: &[Scalar], names: &dyn Names) -> Option<String> {
    let of = arguments.first()?;
    let date = |of: &Scalar| format!("CAST(substr({}, 1, 10) AS date)", text(of, names));
    let is_day = |of: &Scalar| format!("{} ~ {DAY}", text(of, names));
    let number = |of: &Scalar| render(of, names);
    let (condition, result) = match (name, arguments) {
        ("days", [of]) => {
            return Some(format!(
                "CASE WHEN {} THEN CAST({} - DATE '1970-01-01' AS bigint) END",
                is_day(of),
                date(of)
            ));
        }
        ("date_of", [days]) => {
            let date =
                format!("to_char(DATE '1970-01-01' + CAST({} AS integer), 'YYYY-MM-DD')", number(days));
            (format!("{} BETWEEN {DAYS}", number(of)), date)
        }
        ("moment_of", [seconds]) => {
            let moment =
                format!("TIMESTAMP '1970-01-01 00:00:00' + {} * INTERVAL '1 second'", number(seconds));
            (
                format!("{} BETWEEN {SECONDS}", number(of)),
                format!("to_char({moment}, 'YYYY-MM-DD HH24:MI:SS')"),
            )
        }
        ("add_months", [of, months]) => {
            let (start, months) = (date(of), number(months));
            let all = format!("extract(year from {start}) * 12 + extract(month from {start}) - 1 + {months}");
            let within = format!("CASE WHEN {} THEN {all} BETWEEN {MONTHS} END", is_day(of));
            (
                within,
                format!(
                    "to_char({start} + make_interval(months => CAST({months} AS integer)), 'YYYY-MM-DD')"
                ),
            )
        }
        _ => return None,
    };
    Some(format!("(CASE WHEN {condition} THEN {result} END COLLATE \"C\")"))
}

/// A path in a document as an array of keys and places.
fn steps(path: &str) -> String {
    let steps = path.trim_matches('\'').trim_start_matches('$');
    let steps = steps.replace(".\"", ",\"").replace('[', ",").replace(']', "");
    format!("'{{{}}}'", steps.trim_start_matches(','))
}

fn is_positive(bound: &Scalar) -> bool {
    matches!(bound, Scalar::Literal(sql) if sql.parse::<i32>().is_ok_and(|number| number > 0))
}

/// Characters from a place, which is counted from the end where it is negative; a negative length means those before it.
fn substring(text: &str, begin: &str, length: Option<&str>) -> String {
    // Places are 32 bits wide, and no text is so long.
    let bounded = |number: &str| {
        format!(
            "CAST(CASE WHEN {number} > 1000000000 THEN 1000000000 WHEN {number} < -1000000000 THEN -1000000000 ELSE {number} END AS integer)"
        )
    };
    let begin = bounded(begin);
    let begin = format!("CASE WHEN {begin} < 0 THEN length({text}) + 1 ELSE 0 END + {begin}");
    match length.map(bounded) {
        Some(length) => format!("substr({text}, {begin} + least({length}, 0), abs({length}))"),
        None => format!("substr({text}, {begin})"),
    }
}

fn aggregated(aggregate: &Aggregate, names: &dyn Names) -> String {
    let distinct = if aggregate.distinct { "DISTINCT " } else { "" };
    let Some(argument) = &aggregate.argument else { return "count(*)".to_owned() };
    let sql = render(argument, names);
    let kind = kind(argument, names);
    // Doubles in one order, so that their sum does not depend on how the rows were found.
    let sum = match kind {
        Some(Float) => format!("sum({distinct}{sql} ORDER BY {sql})"),
        _ => format!("CAST(sum({distinct}{sql}) AS bigint)"),
    };
    match aggregate.function {
        AggregateFunction::Count => format!("count({distinct}{sql})"),
        AggregateFunction::Sum => sum,
        AggregateFunction::Avg => {
            format!("(CAST({sum} AS double precision) / nullif(count({distinct}{sql}), 0))")
        }
        AggregateFunction::Min | AggregateFunction::Max => extreme(aggregate.function.name(), kind, &sql),
        AggregateFunction::Join => joined(aggregate, &sql, names),
    }
}

fn windowed(window: &Window, names: &dyn Names) -> Option<String> {
    let over = over(window, names);
    let first = window.arguments.first();
    match window.function {
        WindowFunction::Aggregate(function) => {
            let argument = first?;
            let (kind, sql) = (kind(argument, names), render(argument, names));
            Some(match function {
                AggregateFunction::Sum if kind != Some(Float) => {
                    format!("CAST(sum({sql}) OVER ({over}) AS bigint)")
                }
                AggregateFunction::Avg => format!(
                    "(CAST(sum({sql}) OVER ({over}) AS double precision) / nullif(count({sql}) OVER ({over}), 0))"
                ),
                AggregateFunction::Min | AggregateFunction::Max => {
                    format!("{} OVER ({over})", extreme(function.name(), kind, &sql))
                }
                _ => return None,
            })
        }
        WindowFunction::Place(place) => {
            // Numbers of rows are 32 bits wide, and a text that is written has no type by itself.
            let value = |(index, argument): (usize, &Scalar)| match argument {
                Scalar::Literal(sql) if index == 1 || place.result == PlaceResult::Integer => sql.clone(),
                Scalar::Literal(sql) if sql.starts_with('\'') => {
                    format!("(CAST({sql} AS text) COLLATE \"C\")")
                }
                argument => render(argument, names),
            };
            let arguments: Vec<String> = window.arguments.iter().enumerate().map(value).collect();
            Some(format!("{}({}) OVER ({over})", place.name, arguments.join(", ")))
        }
    }
}

/// A least or greatest value; among truth values it is one of logic.
pub(super) fn extreme(function: &str, kind: Option<ColumnType>, argument: &str) -> String {
    match (function, kind) {
        ("min", Some(Bool)) => format!("bool_and({argument})"),
        ("max", Some(Bool)) => format!("bool_or({argument})"),
        _ => format!("{function}({argument})"),
    }
}
