//! Parts that only filter, calculate and join are merged into the block that reads them: that block then follows from the
//! bases, and no table has their rows.
//!
//! This is the view merging of relational optimisers. A part stays where its table saves more than it costs: where groups
//! are computed again from it, or a least value is looked up in it.

use super::Planner;
use crate::query::{AggregateFunction, ColumnRef, JoinKind, Joined, Scalar, SelectQuery};
use crate::resolve::MAX_RELATIONS;
use crate::strategy::{self, Strategy};
use crate::{block, facts};

/// A base is joined so often at most: statements double with each time.
const OCCURRENCES: usize = 2;

/// Parts of the part's expressions that the block may repeat where it names its columns.
const REPEATED: usize = 200;

impl Planner<'_> {
    /// The block with the parts in it that can be merged.
    pub(super) fn merged(&self, mut query: SelectQuery) -> SelectQuery {
        let mut relation = 0;
        while let Some(joined) = query.relations.get(relation) {
            let name = &joined.base.base.relation;
            let part = self.plain.iter().find(|(known, _)| known == name).map(|(_, part)| part);
            match part.and_then(|part| merge(&query, relation, part)) {
                Some(merged) => query = merged,
                None => relation += 1,
            }
        }
        query
    }

    /// Remembers a part that may be merged.
    pub(super) fn remember(&mut self, name: &str, query: &SelectQuery) {
        if block::is_part(name) && is_plain(query) {
            self.plain.push((name.to_owned(), query.clone()));
        }
    }
}

/// Whether the rows are those of the joins, and each column is calculated from them.
fn is_plain(query: &SelectQuery) -> bool {
    query.group.is_none()
        && query.having.is_none()
        && query.qualify.is_none()
        && query.top.is_none()
        && !query.distinct
        && query.windows().next().is_none()
        && query.outputs.iter().all(|output| !output.expr.columns().is_empty())
}

/// The block with a part in place of one of its relations, if that is better.
fn merge(query: &SelectQuery, relation: usize, part: &SelectQuery) -> Option<SelectQuery> {
    let read = query.expressions().flat_map(Scalar::columns).filter(|column| column.relation == relation);
    let read: Vec<usize> = read.map(|column| column.column).collect();
    let is_repeated = read
        .iter()
        .all(|column| part.outputs.get(*column).is_some_and(|output| output.expr.as_column().is_some()));
    let calculated =
        read.iter().filter_map(|column| part.outputs.get(*column)).map(|output| output.expr.size());
    let is_one = part.relations.len() == 1 && is_repeated;
    // Columns behind the selected ones are keys of the part's table.
    let is_selected = read.iter().all(|column| *column < part.outputs.len());
    if !is_selected
        || calculated.sum::<usize>() > REPEATED
        || query.relations[relation].kind == JoinKind::Left && !(is_one && rejects_missing(part))
    {
        return None;
    }
    if query.conditions().any(|condition| is_found_by(condition, relation, part)) {
        return None;
    }
    let mut merged = joined(query, relation, part);
    facts::reduce_outer_joins(&mut merged);
    facts::inner_joins_first(&mut merged);
    (is_small(&merged) && (is_one || is_kept_by_changes(&merged))).then_some(merged)
}

/// Whether a condition joins by what the part calculates: its table has an index on that.
fn is_found_by(condition: &Scalar, relation: usize, part: &SelectQuery) -> bool {
    let is_calculated = |column: &ColumnRef| {
        let output = part.outputs.get(column.column).filter(|_| column.relation == relation);
        output.is_some_and(|output| output.expr.as_column().is_none())
    };
    condition.relations().len() > 1 && condition.columns().iter().any(is_calculated)
}

fn rejects_missing(part: &SelectQuery) -> bool {
    part.filter.iter().all(|condition| facts::rejects(condition, 0))
}

fn is_small(query: &SelectQuery) -> bool {
    let occurs = |joined: &Joined| {
        let same = |other: &&Joined| other.base.base.table == joined.base.base.table;
        query.relations.iter().filter(same).count()
    };
    query.relations.len() <= MAX_RELATIONS
        && query.relations.iter().all(|joined| occurs(joined) <= OCCURRENCES)
}

/// Whether the rows or groups follow from changed rows, without a look at others of a group.
fn is_kept_by_changes(query: &SelectQuery) -> bool {
    let Ok(query) = strategy::without_distinct(query.clone()) else { return false };
    let looks_up = strategy::aggregates(&query)
        .iter()
        .any(|call| matches!(call.function, AggregateFunction::Min | AggregateFunction::Max));
    !looks_up
        && query.qualify.is_none()
        && matches!(strategy::choose(&query), Strategy::Linear | Strategy::Aggregate)
}

/// The relations of the part in place of one, and its expressions in place of that one's columns.
fn joined(query: &SelectQuery, relation: usize, part: &SelectQuery) -> SelectQuery {
    let added = part.relations.len() - 1;
    let of_part = |column: ColumnRef| ColumnRef { relation: column.relation + relation, ..column };
    let moved = |expr: &Scalar| {
        expr.replaced(&mut |expr| expr.as_column().map(|column| Scalar::Column(of_part(column))))
    };
    let mut merged = query.clone();
    for expr in merged.expressions_mut() {
        *expr = expr.replaced(&mut |expr| {
            let column = expr.as_column()?;
            if column.relation == relation {
                return part.outputs.get(column.column).map(|output| moved(&output.expr));
            }
            let behind = if column.relation > relation { added } else { 0 };
            Some(Scalar::Column(ColumnRef { relation: column.relation + behind, ..column }))
        });
    }
    let replaced = merged.relations.remove(relation);
    let mut conditions: Vec<Scalar> = part.filter.iter().map(moved).collect();
    let mut names: Vec<String> = merged.relations.iter().map(|joined| joined.alias.clone()).collect();
    for (place, inner) in part.relations.iter().enumerate() {
        let on = inner.on.iter().map(moved).collect();
        let alias = unlike(&inner.alias, &names);
        names.push(alias.clone());
        merged.relations.insert(relation + place, Joined { alias, on, ..inner.clone() });
    }
    let first = &mut merged.relations[relation];
    if replaced.kind == JoinKind::Left {
        first.kind = JoinKind::Left;
        first.on = replaced.on;
        first.on.append(&mut conditions);
    } else {
        conditions.extend(replaced.on);
    }
    merged.filter.append(&mut conditions);
    merged
}

/// A name that no relation has.
fn unlike(name: &str, names: &[String]) -> String {
    let mut name = name.to_owned();
    while names.iter().any(|known| known.eq_ignore_ascii_case(&name)) {
        name.push('_');
    }
    name
}
