//! `(SELECT aggregate FROM …)` in expressions: a part with one row, or one for each value that the query around it may have.

use std::ops::ControlFlow;

use datafusion_sql::sqlparser::ast::{
    Expr, GroupByExpr, Ident, Query, Select, SelectItem, SetExpr, Spanned, VisitMut as _, VisitorMut,
};

use super::membership::{Correlation, column, equal, join_first, join_perhaps, named};
use super::set::query_of;
use super::{Planner, table, table_alias};
use crate::query::AggregateFunction;
use crate::statement::parse_expression;
use crate::{Error, Location, resolve};

/// How the names of joined parts begin.
const ALIAS: &str = "__deltamesh_sub_one";
/// Column of a part with the subquery's value.
const ONE: &str = "one";

impl Planner<'_> {
    /// Replaces scalar subqueries in the select list and the conditions by columns of joined parts.
    pub(super) fn join_scalars(&mut self, select: &mut Select) -> Result<(), Error> {
        let unnamed = |item: &&SelectItem| matches!(item, SelectItem::UnnamedExpr(Expr::Subquery(_)));
        if let Some(item) = select.projection.iter().find(unnamed) {
            let message = "give the subquery a name: (SELECT …) AS name";
            return Err(Error::definition(message, Location::of(item.span())));
        }
        let mut projection = std::mem::take(&mut select.projection);
        let mut selection = select.selection.take();
        let mut replacing = Replacing { planner: self, select, number: 0 };
        let done = projection.visit(&mut replacing);
        let done = if done.is_continue() { selection.visit(&mut replacing) } else { done };
        select.projection = projection;
        select.selection = selection;
        match done {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(error) => Err(*error),
        }
    }

    /// Plans a subquery as a part and joins it; returns what stands for its value.
    fn join_scalar(&mut self, around: &mut Select, subquery: &Query, number: usize) -> Result<Expr, Error> {
        let location = Location::of(subquery.span());
        let refuse = |message: &str| Err(Error::unsupported(message, location));
        resolve::check_clauses(subquery)?;
        let (SetExpr::Select(select), None) = (subquery.body.as_ref(), &subquery.with) else {
            return refuse(
                "a subquery in an expression is one SELECT: make others a view of their own and JOIN it",
            );
        };
        let mut select = select.clone();
        self.read_parts(&mut select)?;
        let [SelectItem::UnnamedExpr(value) | SelectItem::ExprWithAlias { expr: value, .. }] =
            select.projection.as_slice()
        else {
            return refuse("a subquery in an expression selects one column");
        };
        let value = value.clone();
        if resolve::limit(subquery)?.is_some_and(|(limit, offset)| limit == 0 || offset > 0) {
            return refuse("LIMIT 0 or OFFSET in a subquery in an expression: leave it out");
        }
        let plain = matches!(&select.group_by, GroupByExpr::Expressions(group, _) if group.is_empty());
        if !plain || select.having.is_some() || select.distinct.is_some() {
            return refuse(
                "a subquery in an expression is not grouped: make it a view of its own and JOIN it",
            );
        }
        let aggregates = resolve::aggregates(&select.from, &self.catalog, &value)?;
        let counts = aggregates.contains(&AggregateFunction::Count);
        if aggregates.is_empty() {
            return refuse(
                "a subquery in an expression is an aggregate, such as max(x): it has one row then",
            );
        }
        let Correlation { inner, outer } = self.correlation(&mut select, location)?;
        select.group_by = GroupByExpr::Expressions(inner.clone(), vec![]);
        select.projection = named(inner);
        select.projection.push(SelectItem::ExprWithAlias { expr: value.clone(), alias: Ident::new(ONE) });
        let part = self.part(query_of(SetExpr::Select(select)))?;
        let alias = format!("{ALIAS}{number}");
        let relation = table(&part, table_alias(Ident::new(&alias)));
        let one = column(&alias, ONE);
        let Some(on) = equal(outer, &alias) else {
            join_first(around, relation);
            return Ok(one);
        };
        join_perhaps(around, relation, on);
        if !counts {
            return Ok(one);
        }
        if !matches!(value, Expr::Function(_)) || aggregates.len() > 1 {
            return refuse("count in a subquery stands alone: calculate outside of it");
        }
        // Where there is nothing to count, there is no group.
        parse_expression(&format!("coalesce({one}, 0)"))
    }
}

/// Walks over expressions and replaces subqueries.
struct Replacing<'r, 'p> {
    planner: &'r mut Planner<'p>,
    select: &'r mut Select,
    number: usize,
}

impl VisitorMut for Replacing<'_, '_> {
    type Break = Box<Error>;

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        let Expr::Subquery(subquery) = expr else { return ControlFlow::Continue(()) };
        self.number += 1;
        match self.planner.join_scalar(self.select, subquery, self.number) {
            Ok(value) => {
                *expr = value;
                ControlFlow::Continue(())
            }
            Err(error) => ControlFlow::Break(Box::new(error)),
        }
    }
}
