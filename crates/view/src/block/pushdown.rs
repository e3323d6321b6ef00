//! Conditions on the row numbers of a subquery in FROM, as its `QUALIFY`: the first rows of each partition are then kept, not
//! all of them with a number that moves.

use datafusion_sql::sqlparser::ast::{Expr, Function, Ident, Select, SelectItem, SetExpr, TableFactor};

use super::membership::add_conjuncts;

/// Lets subqueries in `FROM` keep only the rows whose number the block asks for.
pub(super) fn push_row_numbers(select: &mut Select) {
    let mut conditions = vec![];
    select.selection.clone().into_iter().for_each(|selection| add_conjuncts(selection, &mut conditions));
    for tables in &mut select.from {
        let joined = tables.joins.iter_mut().map(|join| &mut join.relation);
        for factor in std::iter::once(&mut tables.relation).chain(joined) {
            conditions.iter().for_each(|condition| push(factor, condition));
        }
    }
}

fn push(factor: &mut TableFactor, condition: &Expr) {
    let TableFactor::Derived { lateral: false, subquery, alias: Some(alias), .. } = factor else { return };
    let is_whole = subquery.with.is_none() && subquery.limit_clause.is_none() && subquery.fetch.is_none();
    let (SetExpr::Select(inner), true) = (subquery.body.as_mut(), is_whole && alias.columns.is_empty())
    else {
        return;
    };
    let Expr::BinaryOp { left, op, right } = condition else { return };
    let (Some(name), Expr::Value(_)) = (column_of(left, &alias.name), right.as_ref()) else { return };
    if inner.qualify.is_some() || inner.distinct.is_some() {
        return;
    }
    inner.qualify = inner.projection.iter().find_map(|item| match item {
        SelectItem::ExprWithAlias { expr: expr @ Expr::Function(function), alias }
            if is_row_number(function) && alias.value.eq_ignore_ascii_case(&name.value) =>
        {
            Some(Expr::BinaryOp { left: Box::new(expr.clone()), op: op.clone(), right: right.clone() })
        }
        _ => None,
    });
}

/// The column's name, if it may be one of that relation.
fn column_of<'a>(expr: &'a Expr, relation: &Ident) -> Option<&'a Ident> {
    match expr {
        Expr::Identifier(name) => Some(name),
        Expr::CompoundIdentifier(parts) => match parts.as_slice() {
            [of, name] if of.value.eq_ignore_ascii_case(&relation.value) => Some(name),
            _ => None,
        },
        _ => None,
    }
}

fn is_row_number(function: &Function) -> bool {
    function.over.is_some() && function.name.to_string().eq_ignore_ascii_case("row_number")
}
