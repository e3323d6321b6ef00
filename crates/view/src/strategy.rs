//! Which rule keeps a view: the best one whose conditions the query meets.

use crate::query::{Aggregate, AggregateFunction, JoinKind, Joined, Scalar, SelectQuery, Top};
use crate::{Error, Tier, facts};

/// How a view is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Strategy {
    /// Signed rows of an inner join; the view is what is left of them.
    Linear,
    /// Signed rows of an inner join, added into counts and sums by group.
    Aggregate,
    /// The rows of the view that share the values of these expressions are computed again.
    Recompute(Vec<Scalar>),
    /// The first rows in an order are computed again, by an index that has it.
    Top(Top),
    /// Everything is computed again.
    Full,
}

impl Strategy {
    /// Tier of the rule itself; joins below it are tier C.
    pub(crate) fn tier(&self, query: &SelectQuery) -> Tier {
        match self {
            Self::Linear | Self::Aggregate if query.relations.len() > 1 => Tier::C,
            Self::Linear => Tier::A,
            Self::Aggregate => Tier::B,
            Self::Recompute(_) => Tier::D,
            Self::Top(_) => Tier::E,
            Self::Full => Tier::F,
        }
    }
}

/// Rewrites `DISTINCT` as a grouping by all columns.
pub(crate) fn without_distinct(mut query: SelectQuery) -> Result<SelectQuery, Error> {
    if !query.distinct {
        return Ok(query);
    }
    query.distinct = false;
    // Over groups that are all selected, every row is different already.
    if query.group.is_some() {
        return Ok(query);
    }
    let mut group: Vec<Scalar> = vec![];
    for output in &query.outputs {
        if !output.expr.columns().is_empty() && !group.contains(&output.expr) {
            group.push(output.expr.clone());
        }
    }
    if group.is_empty() {
        return Err(Error::unsupported("DISTINCT of constants: select a column", query.location));
    }
    query.group = Some(group);
    Ok(query)
}

/// Whether the block's changed rows follow from those of its bases alone.
pub(crate) fn is_linear_block(query: &SelectQuery) -> bool {
    !query.distinct && query.qualify.is_none() && choose(query) == Strategy::Linear
}

/// Chooses the rule.
pub(crate) fn choose(query: &SelectQuery) -> Strategy {
    if let Some(top) = &query.top {
        return Strategy::Top(top.clone());
    }
    if query.windows().next().is_some() {
        let partition = partition(query);
        return if partition.is_empty() { Strategy::Full } else { Strategy::Recompute(partition) };
    }
    if has_outer_join(query) {
        return affected_by_outer_join(query).map_or(Strategy::Full, Strategy::Recompute);
    }
    match &query.group {
        None => Strategy::Linear,
        Some(_) if query.having.is_none() && aggregates(query).iter().all(|call| is_linear(query, call)) => {
            Strategy::Aggregate
        }
        Some(group) if group.is_empty() => Strategy::Full,
        Some(group) => Strategy::Recompute(group.clone()),
    }
}

/// The expressions by which every window function partitions: rows that differ in them do not meet.
pub(crate) fn partition(query: &SelectQuery) -> Vec<Scalar> {
    let mut windows = query.windows();
    let first = windows.next().map_or_else(Vec::new, |window| window.partition.clone());
    windows.fold(first, |mut common, window| {
        common.retain(|expr| window.partition.contains(expr));
        common
    })
}

/// Every different aggregate of a query.
pub(crate) fn aggregates(query: &SelectQuery) -> Vec<Aggregate> {
    let mut aggregates: Vec<Aggregate> = vec![];
    for expr in query.outputs.iter().map(|output| &output.expr).chain(&query.having) {
        for call in expr.aggregates() {
            if !aggregates.contains(call) {
                aggregates.push(call.clone());
            }
        }
    }
    aggregates
}

/// Whether the aggregate of a changed group follows from what is stored and the changed rows; an extreme does until its
/// row goes, and is then looked up.
pub(crate) fn is_linear(query: &SelectQuery, call: &Aggregate) -> bool {
    if call.distinct {
        // How often each value occurs is kept under group and value.
        let group = query.group.iter().flatten();
        return call.function == AggregateFunction::Count
            && group.into_iter().all(|expr| !facts::nullable(query, expr));
    }
    is_exact(query, call)
}

/// Whether the aggregate is the same in whatever order the rows come and go.
pub(crate) fn is_exact(query: &SelectQuery, call: &Aggregate) -> bool {
    match (call.function, &call.argument) {
        (AggregateFunction::Count | AggregateFunction::Min | AggregateFunction::Max, _) => true,
        (AggregateFunction::Sum | AggregateFunction::Avg, Some(argument)) => {
            facts::exact_integer(query, argument)
        }
        _ => false,
    }
}

pub(crate) fn has_outer_join(query: &SelectQuery) -> bool {
    query.relations.iter().any(|joined| joined.kind == JoinKind::Left)
}

/// Relations before the first left join.
pub(crate) fn preserved(query: &SelectQuery) -> usize {
    query.relations.iter().take_while(|joined| joined.kind == JoinKind::Inner).count()
}

/// Whether each group has one row of the relations before the first left join; `rows` is the query without groups.
pub(crate) fn has_one_preserved_row(query: &SelectQuery, rows: &SelectQuery) -> bool {
    let known = facts::closure(rows, query.group.iter().flatten().filter_map(Scalar::as_column));
    let preserved = preserved(query);
    let mut key = facts::row_key(rows).into_iter().filter(|column| column.relation < preserved);
    key.all(|column| known.contains(&column))
}

/// For left joins on one preserved side: expressions over that side that say which rows a change affects.
pub(crate) fn affected_by_outer_join(query: &SelectQuery) -> Option<Vec<Scalar>> {
    let preserved = preserved(query);
    let is_outer = |joined: &Joined| {
        let reads_outer =
            |condition: &Scalar| condition.relations().into_iter().filter(|read| *read >= preserved);
        // What a changed row finds no partner for, it does not affect.
        let needs = |condition: &Scalar| reads_outer(condition).all(|read| facts::rejects(condition, read));
        joined.kind == JoinKind::Left && joined.on.iter().all(needs)
    };
    if !query.relations[preserved..].iter().all(is_outer) {
        return None;
    }
    let affected: Vec<Scalar> = match &query.group {
        Some(group) => group.clone(),
        None => {
            let key = facts::row_key(query).into_iter();
            key.filter(|column| column.relation < preserved).map(Scalar::Column).collect()
        }
    };
    let usable = !affected.is_empty()
        && affected.iter().all(|expr| expr.relations().iter().all(|read| *read < preserved));
    usable.then_some(affected)
}

/// The outer relations through which a relation is joined, itself among them.
pub(crate) fn joined_through(query: &SelectQuery, relation: usize) -> Vec<usize> {
    let preserved = preserved(query);
    let mut through = vec![];
    let mut waiting = vec![relation];
    while let Some(relation) = waiting.pop() {
        if relation >= preserved && !through.contains(&relation) {
            through.push(relation);
            waiting.extend(query.relations[relation].on.iter().flat_map(Scalar::relations));
        }
    }
    through.sort_unstable();
    through
}
