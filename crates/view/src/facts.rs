//! What can be proved about a query's values: no NULL, exact integers, which columns decide which, which identify rows.
//!
//! Every answer errs to the safe side.

use std::collections::HashSet;

use deltamesh_change::ColumnType;

use crate::query::{
    AggregateFunction, ColumnRef, JoinKind, PlaceResult, Scalar, SelectQuery, WindowFunction,
};

/// Whether the expression can be NULL.
pub(crate) fn nullable(query: &SelectQuery, expr: &Scalar) -> bool {
    match expr {
        Scalar::Column(column) => {
            query.relations[column.relation].kind == JoinKind::Left || query.column(*column).nullable
        }
        Scalar::Literal(sql) => sql == "NULL",
        Scalar::Postfix(..) => false,
        // Division by zero is NULL.
        Scalar::Binary(_, "/" | "%", _) => true,
        Scalar::Binary(_, "IS DISTINCT FROM" | "IS NOT DISTINCT FROM", _) => false,
        Scalar::Call("coalesce", arguments) => arguments.iter().all(|argument| nullable(query, argument)),
        Scalar::Call(
            "nullif" | "json_text" | "json_value" | "json_array_length" | "sqrt" | "days" | "date_of"
            | "moment_of" | "add_months",
            _,
        ) => true,
        Scalar::Case { branches, otherwise, .. } => {
            otherwise.as_deref().is_none_or(|value| nullable(query, value))
                || branches.iter().any(|(_, value)| nullable(query, value))
        }
        Scalar::Aggregate(aggregate) => {
            let always_rows = query.group.as_ref().is_some_and(|group| !group.is_empty());
            let argument = aggregate.argument.as_ref().is_some_and(|argument| nullable(query, argument));
            aggregate.function != AggregateFunction::Count && (argument || !always_rows)
        }
        Scalar::Window(window) => match window.function {
            WindowFunction::Aggregate(function) => function != AggregateFunction::Count,
            WindowFunction::Place(place) => place.result == PlaceResult::Argument,
        },
        other => other.children().into_iter().any(|child| nullable(query, child)),
    }
}

/// Makes each `LEFT JOIN` whose missing partner the other conditions would not let pass a `JOIN`.
pub(crate) fn reduce_outer_joins(query: &mut SelectQuery) {
    let inner = |query: &SelectQuery, relation: usize| query.relations[relation].kind == JoinKind::Inner;
    while let Some(relation) = (0..query.relations.len()).find(|relation| {
        let on = query.relations.iter().filter(|joined| joined.kind == JoinKind::Inner);
        let mut conditions = on.flat_map(|joined| &joined.on).chain(&query.filter);
        !inner(query, *relation) && conditions.any(|condition| rejects(condition, *relation))
    }) {
        query.relations[relation].kind = JoinKind::Inner;
    }
}

/// Puts inner joins before outer ones where they do not need them: `(a LEFT JOIN b) JOIN c` as `(a JOIN c) LEFT JOIN b`.
pub(crate) fn inner_joins_first(query: &mut SelectQuery) {
    let is_inner = |relation: &usize| query.relations[*relation].kind == JoinKind::Inner;
    let (inner, outer): (Vec<usize>, Vec<usize>) = (0..query.relations.len()).partition(is_inner);
    let reads_outer = |relation: &usize| {
        let mut on = query.relations[*relation].on.iter().flat_map(Scalar::relations);
        on.any(|read| outer.contains(&read))
    };
    if inner.iter().any(reads_outer) {
        return;
    }
    let order: Vec<usize> = inner.into_iter().chain(outer).collect();
    if order.is_sorted() {
        return;
    }
    let moved = |column: ColumnRef| {
        let relation = order.iter().position(|relation| *relation == column.relation);
        ColumnRef { relation: relation.unwrap_or(column.relation), ..column }
    };
    query.relations = order.iter().map(|relation| query.relations[*relation].clone()).collect();
    for expr in query.expressions_mut() {
        *expr = expr.replaced(&mut |expr| expr.as_column().map(|column| Scalar::Column(moved(column))));
    }
}

/// Whether a condition is not true where all columns of a relation are NULL.
pub(crate) fn rejects(condition: &Scalar, relation: usize) -> bool {
    match condition {
        Scalar::Binary(left, "AND", right) => rejects(left, relation) || rejects(right, relation),
        Scalar::Binary(left, "OR", right) => rejects(left, relation) && rejects(right, relation),
        Scalar::Postfix(operand, "IS NOT NULL" | "IS TRUE" | "IS FALSE") => is_null(operand, relation),
        other => is_null(other, relation),
    }
}

/// Whether an expression is NULL where all columns of a relation are.
pub(crate) fn is_null(expr: &Scalar, relation: usize) -> bool {
    match expr {
        Scalar::Column(column) => column.relation == relation,
        Scalar::Binary(
            left,
            "=" | "<>" | "<" | "<=" | ">" | ">=" | "+" | "-" | "*" | "/" | "%" | "||",
            right,
        )
        | Scalar::Like { operand: left, pattern: right, .. } => {
            is_null(left, relation) || is_null(right, relation)
        }
        Scalar::Unary(_, operand)
        | Scalar::Cast(operand, _)
        | Scalar::Between { operand, .. }
        | Scalar::InList { operand, .. } => is_null(operand, relation),
        Scalar::Call(
            "abs" | "ceil" | "days" | "floor" | "length" | "lower" | "round" | "substr" | "trim" | "upper",
            arguments,
        ) => arguments.iter().any(|argument| is_null(argument, relation)),
        _ => false,
    }
}

/// Whether every value is an integer or NULL, so that sums of it are exact.
pub(crate) fn exact_integer(query: &SelectQuery, expr: &Scalar) -> bool {
    match expr {
        Scalar::Column(column) => {
            matches!(query.column(*column).column_type, ColumnType::Int | ColumnType::Bool)
        }
        Scalar::Literal(sql) => sql == "NULL" || sql.parse::<i64>().is_ok(),
        Scalar::Unary("-" | "+", operand) => exact_integer(query, operand),
        Scalar::Binary(left, "+" | "-" | "*" | "/" | "%", right) => {
            exact_integer(query, left) && exact_integer(query, right)
        }
        Scalar::Cast(_, name) => *name == "INTEGER",
        Scalar::Call("coalesce", arguments) => {
            arguments.iter().all(|argument| exact_integer(query, argument))
        }
        Scalar::Call("abs" | "ceil" | "floor" | "nullif" | "trunc", arguments) => {
            arguments.first().is_some_and(|argument| exact_integer(query, argument))
        }
        Scalar::Call(name, _) => matches!(*name, "days" | "instr" | "json_array_length" | "length"),
        Scalar::Case { branches, otherwise, .. } => branches
            .iter()
            .map(|(_, value)| value)
            .chain(otherwise.as_deref())
            .all(|value| exact_integer(query, value)),
        _ => false,
    }
}

/// The two columns of an equality that makes each decide the other: same type, so that equal means identical.
fn equated(query: &SelectQuery, condition: &Scalar) -> Option<(ColumnRef, ColumnRef)> {
    match condition {
        Scalar::Binary(left, "=", right) => match (&**left, &**right) {
            (Scalar::Column(a), Scalar::Column(b))
                if query.column(*a).column_type == query.column(*b).column_type =>
            {
                Some((*a, *b))
            }
            _ => None,
        },
        _ => None,
    }
}

/// The column that an equality with a constant fixes. Text with a number would compare after conversion.
fn fixed(query: &SelectQuery, condition: &Scalar) -> Option<ColumnRef> {
    let Scalar::Binary(left, "=", right) = condition else {
        return None;
    };
    let (Scalar::Column(column), Scalar::Literal(sql)) = (&**left, &**right) else {
        return None;
    };
    let fits = match query.column(*column).column_type {
        ColumnType::Int => sql.parse::<i64>().is_ok(),
        ColumnType::Text => sql.starts_with('\''),
        _ => false,
    };
    fits.then_some(*column)
}

/// Every column whose value the given ones decide.
pub(crate) fn closure(query: &SelectQuery, given: impl IntoIterator<Item = ColumnRef>) -> HashSet<ColumnRef> {
    let mut known: HashSet<ColumnRef> = given.into_iter().collect();
    loop {
        let before = known.len();
        for relation in 0..query.relations.len() {
            if query.key_of(relation).iter().all(|key| known.contains(key)) {
                let columns = 0..query.relations[relation].base.columns.len();
                known.extend(columns.map(|column| ColumnRef { relation, column }));
            }
            let joined = &query.relations[relation];
            for condition in &joined.on {
                // A left join decides its own side only.
                let within =
                    |column: &ColumnRef| joined.kind == JoinKind::Inner || column.relation == relation;
                known.extend(fixed(query, condition).filter(within));
                let Some((a, b)) = equated(query, condition) else { continue };
                if known.contains(&a) && within(&b) {
                    known.insert(b);
                }
                if known.contains(&b) && within(&a) {
                    known.insert(a);
                }
            }
        }
        for condition in &query.filter {
            known.extend(fixed(query, condition));
            let Some((a, b)) = equated(query, condition) else { continue };
            if known.contains(&a) || known.contains(&b) {
                known.extend([a, b]);
            }
        }
        if known.len() == before {
            return known;
        }
    }
}

/// Columns that identify a row of the joined relations: their keys, without those that others decide.
pub(crate) fn row_key(query: &SelectQuery) -> Vec<ColumnRef> {
    let mut kept: Vec<usize> = (0..query.relations.len()).collect();
    for relation in (0..query.relations.len()).rev() {
        let others: Vec<usize> = kept.iter().copied().filter(|other| *other != relation).collect();
        let known = closure(query, others.iter().flat_map(|other| query.key_of(*other)));
        if query.key_of(relation).iter().all(|key| known.contains(key)) {
            kept = others;
        }
    }
    let mut key: Vec<ColumnRef> = kept.into_iter().flat_map(|relation| query.key_of(relation)).collect();
    for index in (0..key.len()).rev() {
        let part = key[index];
        if closure(query, key.iter().copied().filter(|other| *other != part)).contains(&part) {
            key.remove(index);
        }
    }
    key
}

/// Columns that always have the same value as the given one.
pub(crate) fn equals(query: &SelectQuery, column: ColumnRef) -> Vec<ColumnRef> {
    let mut equal = vec![column];
    let inner =
        query.relations.iter().filter(|joined| joined.kind == JoinKind::Inner).flat_map(|joined| &joined.on);
    let pairs: Vec<_> =
        inner.chain(&query.filter).filter_map(|condition| equated(query, condition)).collect();
    let mut index = 0;
    while let Some(&current) = equal.get(index) {
        for &(a, b) in &pairs {
            for (from, to) in [(a, b), (b, a)] {
                if from == current && !equal.contains(&to) {
                    equal.push(to);
                }
            }
        }
        index += 1;
    }
    equal
}
