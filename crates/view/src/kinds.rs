//! The type of every expression, for databases that want each operator's operands to be of one.
//!
//! What SQLite calculates by converting values to and fro has no equal there: it is refused, with what to write instead.

use deltamesh_change::ColumnType::{self, Any, Bool, Bytes, Decimal, Float, Int, Json, Text};

use crate::query::{Aggregate, AggregateFunction, PlaceResult, Scalar, SelectQuery, Window, WindowFunction};
use crate::{Dialect, Error};

/// The type of an expression; none for NULL. The error says why there is no single one.
type Kind = Result<Option<ColumnType>, String>;

/// Refuses a query whose expressions the replica's database would not calculate as SQLite does.
pub(crate) fn check(query: &SelectQuery) -> Result<(), Error> {
    if query.dialect == Dialect::Sqlite {
        return Ok(());
    }
    let refuse = |reason: String| Error::types_at(format!("{reason} (Postgres replica)"), query.location);
    reason(query).map_or(Ok(()), |reason| Err(refuse(reason)))?;
    for sort in query.top.iter().flat_map(|top| &top.order) {
        compared(query, "ORDER BY", &[&sort.expr]).map_err(refuse)?;
    }
    let long = query.outputs.iter().find(|output| query.dialect.is_too_long(&output.name));
    long.map_or(Ok(()), |output| Err(refuse(format!("the name of column {} is too long", output.name))))
}

/// Why an expression has no single type, or a condition is none.
pub(crate) fn reason(query: &SelectQuery) -> Option<String> {
    let mut conditions = query.conditions().chain(&query.having).chain(&query.qualify);
    let outputs = query.outputs.iter().map(|output| &output.expr);
    let mut exprs = outputs.chain(query.group.iter().flatten());
    let condition = conditions.find_map(|condition| truth(query, condition).err());
    condition.or_else(|| exprs.find_map(|expr| of(query, expr).err()))
}

/// The type of an expression that was checked.
pub(crate) fn known(query: &SelectQuery, expr: &Scalar) -> Option<ColumnType> {
    of(query, expr).ok().flatten()
}

fn of(query: &SelectQuery, expr: &Scalar) -> Kind {
    let kind = |expr: &Scalar| of(query, expr);
    match expr {
        Scalar::Column(column) => Ok(Some(query.column(*column).column_type)),
        Scalar::Literal(sql) => Ok(literal(sql)),
        Scalar::Unary("NOT", operand) => truth(query, operand),
        Scalar::Unary(operator, operand) => number(operator, kind(operand)?),
        Scalar::Binary(left, "AND" | "OR", right) => truth(query, left).and_then(|_| truth(query, right)),
        Scalar::Binary(left, operator @ ("%" | "&" | "|"), right) => {
            match wider(number(operator, kind(left)?)?, number(operator, kind(right)?)?) {
                Some(Float) => Err(format!("{operator} of doubles: CAST them to INTEGER")),
                kind => Ok(kind),
            }
        }
        Scalar::Binary(left, operator @ ("+" | "-" | "*" | "/"), right) => {
            Ok(wider(number(operator, kind(left)?)?, number(operator, kind(right)?)?))
        }
        Scalar::Binary(left, "||", right) => {
            as_text("||", kind(left)?)?;
            as_text("||", kind(right)?)
        }
        Scalar::Binary(left, operator, right) => compared(query, operator, &[left, right]),
        Scalar::Postfix(operand, "IS NULL" | "IS NOT NULL") => kind(operand).map(|_| Some(Bool)),
        Scalar::Postfix(operand, _) => truth(query, operand),
        Scalar::Between { operand, low, high, .. } => compared(query, "BETWEEN", &[operand, low, high]),
        Scalar::InList { operand, list, .. } => {
            let all: Vec<&Scalar> = std::iter::once(&**operand).chain(list).collect();
            compared(query, "IN", &all)
        }
        Scalar::Like { operand, pattern, .. } => {
            as_text("LIKE", kind(operand)?)?;
            as_text("LIKE", kind(pattern)?)?;
            Ok(Some(Bool))
        }
        Scalar::Case { operand, branches, otherwise } => {
            for (when, _) in branches {
                match operand {
                    Some(operand) => compared(query, "CASE", &[operand, when])?,
                    None => truth(query, when)?,
                };
            }
            let results: Vec<&Scalar> =
                branches.iter().map(|(_, then)| then).chain(otherwise.as_deref()).collect();
            one_type(query, "CASE", &results)
        }
        Scalar::Cast(operand, name) => cast(kind(operand)?, name),
        Scalar::Call(name, arguments) => call(query, name, arguments),
        Scalar::Aggregate(aggregate) => aggregated(query, aggregate),
        Scalar::Window(window) => windowed(query, window),
    }
}

/// A number in arithmetic with another: a double if one of them is.
fn wider(left: Option<ColumnType>, right: Option<ColumnType>) -> Option<ColumnType> {
    if left == Some(Float) || right == Some(Float) { Some(Float) } else { Some(Int) }
}

fn literal(sql: &str) -> Option<ColumnType> {
    match sql {
        "NULL" => None,
        "TRUE" | "FALSE" => Some(Bool),
        text if text.starts_with('\'') => Some(Text),
        number if number.parse::<i64>().is_ok() => Some(Int),
        _ => Some(Float),
    }
}

fn truth(query: &SelectQuery, expr: &Scalar) -> Kind {
    match of(query, expr)? {
        None | Some(Bool) => Ok(Some(Bool)),
        Some(kind) => Err(format!("{} as a condition: compare it with something", name(kind))),
    }
}

fn number(operator: &str, kind: Option<ColumnType>) -> Kind {
    match kind {
        None => Ok(None),
        Some(Int | Float) => Ok(kind),
        Some(kind) => Err(format!("{operator} of {}: CAST it to a number", name(kind))),
    }
}

/// What becomes text the same way everywhere. The digits of a double do not.
fn as_text(operator: &str, kind: Option<ColumnType>) -> Kind {
    match kind {
        None | Some(Text | Decimal | Int | Bool) => Ok(Some(Text)),
        Some(kind) => Err(format!("{operator} of {}: use a text", name(kind))),
    }
}

/// Operands that are ordered among each other.
fn compared(query: &SelectQuery, operator: &str, operands: &[&Scalar]) -> Kind {
    match one_type(query, operator, operands)? {
        Some(kind @ (Any | Json)) => {
            Err(format!("{operator} of {}: CAST it when it is captured", name(kind)))
        }
        _ => Ok(Some(Bool)),
    }
}

/// The one type of several expressions.
fn one_type(query: &SelectQuery, operator: &str, operands: &[&Scalar]) -> Kind {
    let mut common: Option<ColumnType> = None;
    for operand in operands {
        let Some(kind) = of(query, operand)? else { continue };
        common = match (common, kind) {
            (None, kind) => Some(kind),
            (Some(known), kind) if known == kind => continue,
            (Some(Int | Float), Int | Float) => Some(Float),
            (Some(Text | Decimal), Text | Decimal) => Some(Text),
            (Some(known), kind) => {
                return Err(format!("{operator} of {} and {}: CAST one of them", name(known), name(kind)));
            }
        };
    }
    Ok(common)
}

fn cast(kind: Option<ColumnType>, to: &str) -> Kind {
    match (kind, to) {
        (None | Some(Int | Float | Bool | Text | Decimal), "INTEGER") => Ok(Some(Int)),
        (None | Some(Int | Float | Bool | Text | Decimal), "REAL") => Ok(Some(Float)),
        (kind, "TEXT") => as_text("CAST to TEXT", kind),
        (None | Some(Bytes), "BLOB") => Ok(Some(Bytes)),
        (Some(kind), to) => Err(format!("CAST of {} to {to} has no rule", name(kind))),
        (None, _) => Ok(None),
    }
}

fn call(query: &SelectQuery, function: &str, arguments: &[Scalar]) -> Kind {
    let kinds = arguments.iter().map(|argument| of(query, argument)).collect::<Result<Vec<_>, _>>()?;
    let first = kinds.first().copied().flatten();
    let all: Vec<&Scalar> = arguments.iter().collect();
    match function {
        "coalesce" | "nullif" => one_type(query, function, &all)
            .map(|common| if function == "nullif" { first.or(common) } else { common }),
        "abs" | "ceil" | "floor" | "trunc" => number(function, first),
        "sqrt" => number(function, first).map(|_| Some(Float)),
        "days" => texts(function, &kinds).map(|_| Some(Int)),
        "date_of" | "moment_of" => integers("an interval", &kinds).map(|_| Some(Text)),
        "add_months" => {
            as_text(function, first)?;
            integers("an interval", &kinds[1..]).map(|_| Some(Text))
        }
        "length" if first == Some(Bytes) => Ok(Some(Int)),
        "length" | "instr" => texts(function, &kinds).map(|_| Some(Int)),
        "lower" | "upper" | "ltrim" | "rtrim" | "trim" | "replace" => texts(function, &kinds),
        "round" if arguments.len() == 1 => number(function, first).map(|_| Some(Float)),
        "substr" => {
            as_text(function, first)?;
            integers("a place", &kinds[1..]).map(|_| Some(Text))
        }
        "json_text" => Ok(Some(Text)),
        "json_value" => Ok(Some(Json)),
        "json_array_length" => Ok(Some(Int)),
        // The key of a row of UNION ALL.
        "json_array" | "deltamesh_json" => Ok(Some(Text)),
        other => Err(format!("function {other} has no rule")),
    }
}

fn integers(what: &str, kinds: &[Option<ColumnType>]) -> Result<(), String> {
    match kinds.iter().find(|kind| !matches!(kind, None | Some(Int))) {
        Some(Some(kind)) => Err(format!("{what} of {}: CAST it to INTEGER", name(*kind))),
        _ => Ok(()),
    }
}

fn texts(function: &str, kinds: &[Option<ColumnType>]) -> Kind {
    kinds.iter().try_fold(None, |_, kind| as_text(function, *kind))
}

fn aggregated(query: &SelectQuery, aggregate: &Aggregate) -> Kind {
    for sort in aggregate.joining.iter().flat_map(|joining| &joining.order) {
        compared(query, "ORDER BY", &[&sort.expr])?;
    }
    aggregate_of(query, aggregate.function, aggregate.argument.as_ref())
}

fn aggregate_of(query: &SelectQuery, aggregate: AggregateFunction, argument: Option<&Scalar>) -> Kind {
    let Some(argument) = argument else { return Ok(Some(Int)) };
    let kind = of(query, argument)?;
    let function = aggregate.name();
    match aggregate {
        AggregateFunction::Count => Ok(Some(Int)),
        AggregateFunction::Sum => number(function, kind),
        AggregateFunction::Avg => number(function, kind).map(|_| Some(Float)),
        AggregateFunction::Join => as_text(function, kind),
        AggregateFunction::Min | AggregateFunction::Max => match kind {
            Some(kind @ (Bytes | Json | Any)) => Err(format!("{function} of {} has no rule", name(kind))),
            kind => Ok(kind),
        },
    }
}

fn windowed(query: &SelectQuery, window: &Window) -> Kind {
    for expr in window.partition.iter().chain(window.order.iter().map(|sort| &sort.expr)) {
        if let Some(kind @ (Json | Any)) = of(query, expr)? {
            return Err(format!(
                "{} OVER an order of {}: use another column",
                window.function.name(),
                name(kind)
            ));
        }
    }
    let place = match window.function {
        WindowFunction::Aggregate(function) => {
            return aggregate_of(query, function, window.arguments.first());
        }
        WindowFunction::Place(place) => place,
    };
    let is_distance =
        |argument: &Scalar| matches!(argument, Scalar::Literal(sql) if sql.parse::<i32>().is_ok());
    let (value, distance, other) = match place.result {
        PlaceResult::Argument => (window.arguments.first(), window.arguments.get(1), window.arguments.get(2)),
        _ => (None, window.arguments.first(), None),
    };
    if !distance.is_none_or(is_distance) {
        return Err(format!("{}: the number of rows has to be a constant", place.name));
    }
    match place.result {
        PlaceResult::Integer => Ok(Some(Int)),
        PlaceResult::Real => Ok(Some(Float)),
        PlaceResult::Argument => {
            one_type(query, place.name, &value.into_iter().chain(other).collect::<Vec<_>>())
        }
    }
}

fn name(kind: ColumnType) -> &'static str {
    match kind {
        Bool => "a truth value",
        Int => "an integer",
        Float => "a double",
        Decimal => "a decimal",
        Text => "a text",
        Bytes => "bytes",
        Json => "JSON",
        Any => "an untyped column",
    }
}
