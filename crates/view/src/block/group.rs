//! Layers of a grouped block: what a single rule would have to compute as a whole, two keep by changes.

use super::layer::{Below, reading};
use crate::query::{Aggregate, AggregateFunction, Output, Scalar, SelectQuery};
use crate::{facts, strategy};

/// Groups over rows of outer joins that do not follow from the preserved side, or have many of its rows: the joined rows are a
/// part.
pub(super) fn below_groups(query: &SelectQuery) -> Option<(SelectQuery, SelectQuery)> {
    let group = query.group.as_ref()?;
    let rows = SelectQuery { group: None, having: None, distinct: false, ..query.clone() };
    let follow = || strategy::affected_by_outer_join(query).is_some();
    if !strategy::has_outer_join(query) || follow() && !are_cheaper_by_rows(query, &rows) {
        return None;
    }
    let mut below = Below::default();
    let mut lift = |expr: &Scalar| {
        expr.replaced(&mut |expr| match expr {
            expr if group.contains(expr) => Some(below.column(expr, None)),
            Scalar::Aggregate(call) => {
                let lifted = call.lifted(|expr| match expr.columns().is_empty() {
                    true => expr.clone(),
                    false => below.column(expr, None),
                });
                Some(Scalar::Aggregate(Box::new(lifted)))
            }
            _ => None,
        })
    };
    let upper = over(query, &mut lift);
    // Some column there must be, also for a count of rows.
    if below.is_empty() {
        let first = facts::row_key(query).into_iter().next()?;
        below.column(&Scalar::Column(first), None);
    }
    Some((below.into_query(rows), upper))
}

/// Whether groups of the joined rows, kept by changes, cost less than computing a group again for each changed row.
fn are_cheaper_by_rows(query: &SelectQuery, rows: &SelectQuery) -> bool {
    !strategy::has_one_preserved_row(query, rows)
        && query.having.is_none()
        && strategy::affected_by_outer_join(rows).is_some()
        && strategy::aggregates(query).iter().all(|call| strategy::is_linear(query, call))
}

/// Aggregates of DISTINCT that one rule does not keep: groups of `x` are a part, and the groups above count or add them.
pub(super) fn below_distinct(query: &SelectQuery) -> Option<(SelectQuery, SelectQuery)> {
    let group = query.group.as_ref()?;
    let calls = strategy::aggregates(query);
    let distinct = calls.iter().find(|call| call.distinct)?.argument.clone()?;
    let is_counted = |call: &Aggregate| match (call.distinct, &call.argument) {
        (true, argument) => {
            let is_decided = call.function == AggregateFunction::Join || strategy::is_exact(query, call);
            argument.as_ref() == Some(&distinct) && is_decided
        }
        (false, _) => strategy::is_linear(query, call),
    };
    let is_kept = strategy::choose(query) == strategy::Strategy::Aggregate;
    if is_kept
        || strategy::has_outer_join(query)
        || distinct.columns().is_empty()
        || !calls.iter().all(is_counted)
    {
        return None;
    }
    let mut below = Below::default();
    let groups: Vec<Scalar> = group.iter().chain([&distinct]).cloned().collect();
    groups.iter().for_each(|expr| {
        below.column(expr, None);
    });
    let mut lift = |expr: &Scalar| {
        expr.replaced(&mut |expr| match expr {
            expr if group.contains(expr) => Some(below.column(expr, None)),
            Scalar::Aggregate(call) => Some(added_up(call, &mut below, !group.is_empty())),
            _ => None,
        })
    };
    let upper = over(query, &mut lift);
    let lower = SelectQuery { group: Some(groups), having: None, distinct: false, ..query.clone() };
    Some((below.into_query(lower), upper))
}

/// `HAVING` over everything: the totals are a part.
pub(super) fn below_having(query: &SelectQuery) -> Option<(SelectQuery, SelectQuery)> {
    let is_total = query.group.as_ref().is_some_and(Vec::is_empty);
    let having = query.having.clone().filter(|_| is_total)?;
    if strategy::has_outer_join(query)
        || !strategy::aggregates(query).iter().all(|call| strategy::is_linear(query, call))
    {
        return None;
    }
    let mut below = Below::default();
    let is_whole = |expr: &Scalar| matches!(expr, Scalar::Aggregate(_));
    let outputs = below.outputs(&query.outputs, &is_whole);
    let filter = having.conjuncts().iter().map(|condition| below.lift(condition, &is_whole)).collect();
    let upper = SelectQuery { filter, ..reading(query, outputs) };
    let lower = SelectQuery { having: None, distinct: false, ..query.clone() };
    Some((below.into_query(lower), upper))
}

/// The groups of a block over the columns of a lower layer.
fn over(query: &SelectQuery, lift: &mut dyn FnMut(&Scalar) -> Scalar) -> SelectQuery {
    let group = query.group.as_ref().map(|group| group.iter().map(&mut *lift).collect());
    let having = query.having.as_ref().map(&mut *lift);
    let outputs =
        query.outputs.iter().map(|output| Output { name: output.name.clone(), expr: lift(&output.expr) });
    let outputs = outputs.collect();
    SelectQuery { group, having, distinct: query.distinct, ..reading(query, outputs) }
}

/// An aggregate of a group from those of its parts, which have one row for each different value.
fn added_up(call: &Aggregate, below: &mut Below, has_rows: bool) -> Scalar {
    let aggregate = |function, argument| Scalar::Aggregate(Box::new(Aggregate::of(function, argument)));
    let part = |below: &mut Below, function| {
        let argument = call.argument.clone();
        let of_part = Aggregate { function, distinct: false, argument, joining: None };
        below.column(&Scalar::Aggregate(Box::new(of_part)), None)
    };
    if call.distinct {
        let once = call.lifted(|value| below.column(value, None));
        return Scalar::Aggregate(Box::new(Aggregate { distinct: false, ..once }));
    }
    let counted = |below: &mut Below| {
        let sum = aggregate(AggregateFunction::Sum, part(below, AggregateFunction::Count));
        let zero = Scalar::Literal("0".to_owned());
        if has_rows { sum } else { Scalar::Call("coalesce", vec![sum, zero]) }
    };
    match call.function {
        AggregateFunction::Count => counted(below),
        AggregateFunction::Avg => {
            let sum = aggregate(AggregateFunction::Sum, part(below, AggregateFunction::Sum));
            let sum = Scalar::Cast(Box::new(sum), "REAL");
            Scalar::binary(sum, "/", counted(below))
        }
        function => aggregate(function, part(below, function)),
    }
}
