//! Window functions, `QUALIFY`, and `ORDER BY … LIMIT`.
//!
//! Where the order leaves rows equal and the result tells them apart, SQL lets the database choose; here the key decides, so
//! that a view has one content.

use datafusion_sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, Ident, LimitClause, NamedWindowDefinition, NamedWindowExpr,
    OrderByExpr, OrderByKind, Query, Spanned, Value, WindowFrame, WindowFrameBound, WindowFrameUnits,
    WindowSpec, WindowType,
};

use super::clause::ordinal;
use super::nearest;
use super::scope::Scope;
use crate::query::{
    AggregateFunction, ColumnRef, Output, PLACES, Scalar, SelectQuery, Sort, Ties, Top, Window,
    WindowFunction,
};
use crate::{Error, Location, facts};

/// Resolves a call with `OVER`; `resolve` is for its arguments.
pub(super) fn call(
    scope: &Scope,
    name: &str,
    function: &Function,
    over: &WindowType,
    aggregate: Option<Scalar>,
    resolve: &dyn Fn(&Expr) -> Result<Scalar, Error>,
) -> Result<Scalar, Error> {
    let location = Location::of(function.span());
    let (function, arguments) = match aggregate {
        Some(Scalar::Aggregate(aggregate)) if aggregate.distinct => {
            let message = format!("{name}(DISTINCT …) OVER: count the distinct rows in a view of its own");
            return Err(Error::unsupported(message, location));
        }
        Some(Scalar::Aggregate(aggregate)) => {
            (WindowFunction::Aggregate(aggregate.function), aggregate.argument.into_iter().collect())
        }
        _ => place(name, function, resolve)?,
    };
    let spec = specification(scope, over, location)?;
    let all = |exprs: &[Expr]| exprs.iter().map(resolve).collect::<Result<Vec<_>, _>>();
    let (partition, frame) = (all(&spec.partition_by)?, spec.window_frame.as_ref().map(frame).transpose()?);
    let order = spec.order_by.iter().map(|item| sort(item, resolve(&item.expr)?));
    let order = order.collect::<Result<Vec<_>, Error>>()?;
    let window = Window { function, arguments, partition, order, frame };
    let whole = Scalar::Window(Box::new(window.clone()));
    if whole.children().into_iter().any(|child| !child.windows().is_empty()) {
        let message = "a window function in a window function: make the inner one a subquery in FROM";
        return Err(Error::unsupported(message, location));
    }
    Ok(whole)
}

fn place(
    name: &str,
    function: &Function,
    resolve: &dyn Fn(&Expr) -> Result<Scalar, Error>,
) -> Result<(WindowFunction, Vec<Scalar>), Error> {
    let location = Location::of(function.span());
    let Some(place) = PLACES.iter().find(|place| place.name == name) else {
        let known = PLACES.iter().map(|place| place.name);
        let known = known.chain(AggregateFunction::ALL.map(|(name, _)| name));
        return Err(Error::name(format!("no window function {name}{}", nearest(name, known)), location));
    };
    if function.filter.is_some() || function.null_treatment.is_some() {
        return Err(Error::unsupported(
            format!("{name} with such a clause has no rule: leave it out"),
            location,
        ));
    }
    let datafusion_sql::sqlparser::ast::FunctionArguments::List(list) = &function.args else {
        return Err(Error::unsupported(format!("write {name}(arguments)"), location));
    };
    if !place.arguments.contains(&list.args.len()) || !list.clauses.is_empty() {
        let (fewest, most) = (place.arguments.start(), place.arguments.end());
        let message = format!("{name} takes {fewest} to {most} arguments, not {}", list.args.len());
        return Err(Error::types_at(message, location));
    }
    let arguments = list.args.iter().map(|argument| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => resolve(expr),
        other => Err(Error::types_at(format!("{name} cannot take {other}"), location)),
    });
    Ok((WindowFunction::Place(place), arguments.collect::<Result<_, _>>()?))
}

/// The specification that `OVER` gives or names.
fn specification(scope: &Scope, over: &WindowType, location: Option<Location>) -> Result<WindowSpec, Error> {
    match over {
        WindowType::WindowSpec(spec) => {
            let Some(name) = &spec.window_name else { return Ok(spec.clone()) };
            let mut whole = named(scope.windows(), name, 0)?;
            if !spec.partition_by.is_empty() || !whole.order_by.is_empty() && !spec.order_by.is_empty() {
                let message =
                    format!("OVER ({name} …) adds only an order that {name} does not have, and a frame");
                return Err(Error::definition(message, location));
            }
            if whole.order_by.is_empty() {
                whole.order_by.clone_from(&spec.order_by);
            }
            whole.window_frame = spec.window_frame.clone().or(whole.window_frame);
            Ok(whole)
        }
        WindowType::NamedWindow(name) => named(scope.windows(), name, 0),
    }
}

fn named(windows: &[NamedWindowDefinition], name: &Ident, depth: usize) -> Result<WindowSpec, Error> {
    let location = Location::of(name.span);
    let known = windows.iter().find(|window| window.0.value.eq_ignore_ascii_case(&name.value));
    match known {
        Some(NamedWindowDefinition(_, NamedWindowExpr::WindowSpec(spec))) if spec.window_name.is_none() => {
            Ok(spec.clone())
        }
        Some(NamedWindowDefinition(_, NamedWindowExpr::NamedWindow(other))) if depth < windows.len() => {
            named(windows, other, depth + 1)
        }
        Some(_) => {
            Err(Error::unsupported(format!("window {name} builds on another: write it out"), location))
        }
        None => {
            let near = nearest(&name.value, windows.iter().map(|window| window.0.value.as_str()));
            Err(Error::name(format!("no window {name} in the WINDOW clause{near}"), location))
        }
    }
}

fn frame(frame: &WindowFrame) -> Result<String, Error> {
    let bound = |bound: &WindowFrameBound| -> Result<String, Error> {
        let distance = match bound {
            WindowFrameBound::CurrentRow => return Ok("CURRENT ROW".to_owned()),
            WindowFrameBound::Preceding(None) => return Ok("UNBOUNDED PRECEDING".to_owned()),
            WindowFrameBound::Following(None) => return Ok("UNBOUNDED FOLLOWING".to_owned()),
            WindowFrameBound::Preceding(Some(distance)) | WindowFrameBound::Following(Some(distance)) => {
                distance
            }
        };
        let Some(rows) = number(distance) else {
            let message = format!("the frame distance {distance} is not a number");
            return Err(Error::unsupported(message, Location::of(distance.span())));
        };
        let direction =
            if matches!(bound, WindowFrameBound::Preceding(_)) { "PRECEDING" } else { "FOLLOWING" };
        Ok(format!("{rows} {direction}"))
    };
    let units = match frame.units {
        WindowFrameUnits::Rows => "ROWS",
        WindowFrameUnits::Range => "RANGE",
        WindowFrameUnits::Groups => "GROUPS",
    };
    let end = frame.end_bound.as_ref().map_or_else(|| Ok("CURRENT ROW".to_owned()), bound)?;
    Ok(format!("{units} BETWEEN {} AND {end}", bound(&frame.start_bound)?))
}

pub(super) fn sort(item: &OrderByExpr, expr: Scalar) -> Result<Sort, Error> {
    if item.with_fill.is_some() {
        return Err(Error::unsupported("WITH FILL: leave it out", Location::of(item.expr.span())));
    }
    Ok(Sort { expr, descending: item.options.asc == Some(false), nulls_first: item.options.nulls_first })
}

/// `LIMIT`, `OFFSET` and `FETCH FIRST` of a query, as rows that are kept and rows in front of them.
pub(crate) fn limit(query: &Query) -> Result<Option<(u64, u64)>, Error> {
    let (mut limit, mut offset) = (None, None);
    match &query.limit_clause {
        None => {}
        Some(LimitClause::LimitOffset { limit: rows, offset: skipped, limit_by }) => {
            if let Some(expr) = limit_by.first() {
                let message = "LIMIT … BY: write QUALIFY row_number() OVER (PARTITION BY … ORDER BY …) <= n";
                return Err(Error::unsupported(message, Location::of(expr.span())));
            }
            limit = rows.as_ref().map(count).transpose()?;
            offset = skipped.as_ref().map(|offset| count(&offset.value)).transpose()?;
        }
        Some(LimitClause::OffsetCommaLimit { offset: skipped, limit: rows }) => {
            (limit, offset) = (Some(count(rows)?), Some(count(skipped)?));
        }
    }
    if let Some(fetch) = &query.fetch {
        if fetch.with_ties || fetch.percent {
            let message = "FETCH … WITH TIES or PERCENT: write QUALIFY rank() OVER (ORDER BY …) <= n";
            return Err(Error::unsupported(message, Location::of(query.span())));
        }
        limit = Some(fetch.quantity.as_ref().map_or(Ok(1), count)?);
    }
    match (limit, offset) {
        (None, None) => Ok(None),
        (None, Some(_)) => {
            let message = "OFFSET without LIMIT: say how many rows";
            Err(Error::unsupported(message, Location::of(query.span())))
        }
        (Some(limit), offset) => Ok(Some((limit, offset.unwrap_or(0)))),
    }
}

/// The limit of a query whose order says which rows it keeps.
pub(crate) fn ordered_limit(query: &Query) -> Result<Option<(u64, u64)>, Error> {
    let limit = limit(query)?;
    if limit.is_some() && query.order_by.is_none() {
        let message = "LIMIT without ORDER BY: which rows it keeps is not decided, add ORDER BY";
        return Err(Error::unsupported(message, Location::of(query.body.span())));
    }
    Ok(limit)
}

fn count(expr: &Expr) -> Result<u64, Error> {
    // SQLite counts rows in 64 bits with sign.
    let rows = number(expr).filter(|rows| i64::try_from(*rows).is_ok());
    rows.ok_or_else(|| Error::unsupported(format!("LIMIT {expr}: write a number"), Location::of(expr.span())))
}

fn number(expr: &Expr) -> Option<u64> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::Number(number, _) => number.parse().ok(),
            _ => None,
        },
        _ => None,
    }
}

/// The first rows by `ORDER BY`, if the query has a limit.
pub(super) fn top(scope: &Scope, query: &Query, outputs: &[Output]) -> Result<Option<Top>, Error> {
    let (Some((limit, offset)), Some(order_by)) = (ordered_limit(query)?, &query.order_by) else {
        return Ok(None);
    };
    let OrderByKind::Expressions(items) = &order_by.kind else {
        return Err(Error::unsupported("ORDER BY ALL: name the columns", Location::of(order_by.span())));
    };
    let order = items.iter().map(|item| sort(item, ordered(scope, &item.expr, outputs)?));
    Ok(Some(Top { partition: vec![], order: order.collect::<Result<_, Error>>()?, limit, offset }))
}

/// The number of each row among those that are alike in some expressions, in the order of the query.
pub(super) fn first_of_each(
    scope: &Scope,
    query: &Query,
    exprs: &[Expr],
    outputs: &[Output],
) -> Result<Window, Error> {
    let items = match query.order_by.as_ref().map(|order_by| &order_by.kind) {
        Some(OrderByKind::Expressions(items)) => items.as_slice(),
        _ => &[],
    };
    let order = items.iter().map(|item| sort(item, ordered(scope, &item.expr, outputs)?));
    let partition = exprs.iter().map(|expr| ordered(scope, expr, outputs));
    Ok(Window {
        function: WindowFunction::row_number(),
        arguments: vec![],
        partition: partition.collect::<Result<_, Error>>()?,
        order: order.collect::<Result<_, Error>>()?,
        frame: None,
    })
}

/// An expression of `ORDER BY`: a column of the result by number or name, or over the relations.
fn ordered(scope: &Scope, expr: &Expr, outputs: &[Output]) -> Result<Scalar, Error> {
    let output = match (ordinal(expr), expr) {
        (Some(ordinal), _) => {
            let output = ordinal.checked_sub(1).and_then(|index| outputs.get(index));
            let missing =
                || Error::name(format!("ORDER BY {ordinal}: no such column"), Location::of(expr.span()));
            Some(output.ok_or_else(missing)?)
        }
        (None, Expr::Identifier(name)) => {
            outputs.iter().find(|output| output.name.eq_ignore_ascii_case(&name.value))
        }
        _ => None,
    };
    output.map_or_else(|| scope.scalar(expr), |output| Ok(output.expr.clone()))
}

/// Lets the key decide between rows that an order leaves equal, where the result tells them apart.
pub(super) fn decide_ties(query: &mut SelectQuery) -> Result<(), Error> {
    let rows = rows(query);
    let decide = |query: &SelectQuery, key: &[Scalar], partition: &[Scalar], order: &mut Vec<Sort>| {
        let known = partition.iter().chain(order.iter().map(|sort| &sort.expr)).cloned().collect::<Vec<_>>();
        let missing = undecided(query, key, &known);
        // One direction, so that one index has the whole order.
        let descending = order.last().is_some_and(|sort| sort.descending);
        order.extend(missing.into_iter().map(|expr| Sort { expr, descending, nulls_first: None }));
    };
    let copy = query.clone();
    let mut refused = None;
    for expr in query.expressions_mut() {
        *expr = expr.replaced(&mut |scalar| {
            let Scalar::Window(window) = scalar else { return None };
            let mut window = window.clone();
            let by_rows = window.frame.as_ref().is_some_and(|frame| frame.starts_with("ROWS"));
            let ties = match window.function {
                WindowFunction::Place(place) => place.ties,
                WindowFunction::Aggregate(_) if by_rows => Ties::Apart,
                WindowFunction::Aggregate(_) => Ties::Alike,
            };
            match ties {
                Ties::Alike => {}
                Ties::Apart => decide(&copy, &rows, &window.partition, &mut window.order),
                Ties::First if by_rows || window.frame.is_none() => {
                    decide(&copy, &rows, &window.partition, &mut window.order);
                }
                Ties::Frame if by_rows => decide(&copy, &rows, &window.partition, &mut window.order),
                Ties::First | Ties::Frame => {
                    let mut whole = window.order.clone();
                    decide(&copy, &rows, &window.partition, &mut whole);
                    if whole != window.order {
                        refused = Some(window.function.name());
                    }
                }
            }
            Some(Scalar::Window(window))
        });
    }
    // The order may name a window function of the select list, which is decided by now.
    let copy = query.clone();
    if let Some(top) = &mut query.top {
        let outputs: Vec<Scalar> = copy.outputs.iter().map(|output| output.expr.clone()).collect();
        let key = if copy.distinct { &outputs } else { &rows };
        decide(&copy, key, &top.partition, &mut top.order);
    }
    match refused {
        None => Ok(()),
        Some(name) => {
            let message = format!(
                "{name} over rows that the order leaves equal: add the key to its ORDER BY, or a frame ROWS BETWEEN …"
            );
            Err(Error::unsupported(message, query.location))
        }
    }
}

/// What tells the rows apart that window functions see: groups, or the rows of the relations.
fn rows(query: &SelectQuery) -> Vec<Scalar> {
    match &query.group {
        Some(group) => group.clone(),
        None => facts::row_key(query).into_iter().map(Scalar::Column).collect(),
    }
}

/// The parts of the key that known expressions do not decide.
fn undecided(query: &SelectQuery, key: &[Scalar], known: &[Scalar]) -> Vec<Scalar> {
    let columns: Vec<ColumnRef> = known.iter().filter_map(Scalar::as_column).collect();
    let closure =
        if query.group.is_none() { facts::closure(query, columns) } else { columns.into_iter().collect() };
    let decided = |part: &&Scalar| {
        known.contains(part) || part.as_column().is_some_and(|column| closure.contains(&column))
    };
    key.iter().filter(|part| !decided(part)).cloned().collect()
}
