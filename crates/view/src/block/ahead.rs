//! Groups ahead of a `LEFT JOIN`: where each group is one row of the preserved side, what is counted and added for it on the
//! other side is a part, grouped by the columns of the join. So a changed row of the other side costs a group's totals and one
//! row, however many rows the group has.

use super::layer::Below;
use crate::query::{Aggregate, AggregateFunction, ColumnRef, JoinKind, Joined, Output, Scalar, SelectQuery};
use crate::strategy::{self, Strategy};
use crate::{facts, sql};

/// The totals of the other side, and the preserved side with them; its last relation stands for the totals.
pub(super) fn totals_ahead(query: &SelectQuery) -> Option<(SelectQuery, SelectQuery)> {
    let other = query.relations.len().checked_sub(1)?;
    let joined = query.relations.get(other).filter(|_| is_one_row_each(query, other))?;
    let (on, within): (Vec<&Scalar>, Vec<&Scalar>) =
        joined.on.iter().partition(|condition| condition.relations() != [other]);
    let before: Vec<usize> = (0..other).collect();
    let mut below = Below::default();
    let mut by = vec![];
    for condition in &on {
        if condition.relations().contains(&other) {
            let column = sql::looked_up(condition, other, &before)?;
            by.push(own(&Scalar::Column(ColumnRef { relation: other, column }), other)?);
        }
    }
    // Without one, the totals of no rows are a row too.
    if by.is_empty() {
        return None;
    }
    by.iter().for_each(|expr| drop(below.column(expr, None)));
    let outputs = query.outputs.iter().map(|output| {
        let expr = lifted(&output.expr, other, &mut below)?;
        Some(Output { name: output.name.clone(), expr })
    });
    let outputs = outputs.collect::<Option<Vec<_>>>()?;
    let on = on.into_iter().map(|condition| {
        condition.replaced(&mut |expr| match expr.as_column() {
            Some(column) if column.relation == other => {
                let of_part = below.column(&Scalar::Column(ColumnRef { relation: 0, ..column }), None);
                of_part.as_column().map(|of_part| Scalar::Column(ColumnRef { relation: other, ..of_part }))
            }
            _ => None,
        })
    });
    let on = on.collect();
    let filter = within.into_iter().map(|condition| own(condition, other)).collect::<Option<_>>()?;
    let alone = Joined { kind: JoinKind::Inner, on: vec![], ..joined.clone() };
    let lower = SelectQuery {
        relations: vec![alone],
        filter,
        group: Some(by),
        outputs: vec![],
        order_by: vec![],
        ..query.clone()
    };
    let lower = below.into_query(lower);
    let mut upper = SelectQuery { group: None, outputs, ..query.clone() };
    upper.relations[other].on = on;
    (strategy::choose(&lower) == Strategy::Aggregate).then_some((lower, upper))
}

/// Whether the groups are rows of what stands before the last relation, the only one that is joined outwards.
fn is_one_row_each(query: &SelectQuery, other: usize) -> bool {
    let Some(group) = query.group.as_ref().filter(|group| !group.is_empty()) else { return false };
    let reads_other = |expr: &Scalar| expr.relations().contains(&other);
    if strategy::preserved(query) != other
        || query.having.is_some()
        || query.distinct
        || group.iter().chain(&query.filter).any(reads_other)
    {
        return false;
    }
    strategy::has_one_preserved_row(query, &SelectQuery { group: None, ..query.clone() })
}

/// An expression over the last relation as one over that alone.
fn own(expr: &Scalar, other: usize) -> Option<Scalar> {
    let is_own = expr.columns().iter().all(|column| column.relation == other);
    let first = |column: ColumnRef| Scalar::Column(ColumnRef { relation: 0, ..column });
    is_own.then(|| expr.replaced(&mut |expr| expr.as_column().map(first)))
}

/// An output with the totals in place of aggregates. A row without partner has what an aggregate gives for one row of NULLs.
fn lifted(expr: &Scalar, other: usize, below: &mut Below) -> Option<Scalar> {
    let mut is_possible = true;
    let lifted = expr.replaced(&mut |expr| {
        let Scalar::Aggregate(call) = expr else { return None };
        let total = total(call, other, below);
        is_possible &= total.is_some();
        total
    });
    let is_left = |column: &ColumnRef| column.relation == other;
    let reads_rows = expr.replaced(&mut |expr| match expr {
        Scalar::Aggregate(_) => Some(Scalar::Literal("NULL".to_owned())),
        _ => None,
    });
    (is_possible && !reads_rows.columns().iter().any(is_left)).then_some(lifted)
}

fn total(call: &Aggregate, other: usize, below: &mut Below) -> Option<Scalar> {
    let argument = match &call.argument {
        Some(argument) if facts::is_null(argument, other) => Some(own(argument, other)?),
        Some(_) => return None,
        None => None,
    };
    let of_other = Scalar::Aggregate(Box::new(Aggregate { argument, ..call.clone() }));
    let total = below.column(&of_other, None).as_column()?;
    let total = Scalar::Column(ColumnRef { relation: other, ..total });
    let alone = match (call.function, &call.argument) {
        (AggregateFunction::Count, None) => "1",
        (AggregateFunction::Count, Some(_)) => "0",
        _ => return Some(total),
    };
    Some(Scalar::Call("coalesce", vec![total, Scalar::Literal(alone.to_owned())]))
}
