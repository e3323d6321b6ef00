//! `(SELECT x FROM …)` in expressions: a part with at most one row, or one for each value that the query around it may have.

use datafusion_sql::sqlparser::ast::{
    Expr, GroupByExpr, Ident, OrderBy, Query, Select, SelectItem, SetExpr, Spanned,
};

use super::correlation::{Correlation, Repeated};
use super::membership::{VALUE, column, equal, join_first, join_perhaps, named};
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
    /// Plans a subquery as a part and joins it; returns what stands for its value.
    pub(super) fn join_scalar(
        &mut self,
        around: &mut Select,
        subquery: &Query,
        number: usize,
    ) -> Result<Expr, Error> {
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
        let limit = resolve::limit(subquery)?;
        if limit.is_some_and(|(limit, offset)| limit == 0 || offset > 0) {
            return refuse("LIMIT 0 or OFFSET in a subquery in an expression: leave it out");
        }
        let plain = matches!(&select.group_by, GroupByExpr::Expressions(group, _) if group.is_empty());
        if !plain || select.having.is_some() || select.distinct.is_some() || select.qualify.is_some() {
            return refuse(
                "a subquery in an expression is not grouped: make it a view of its own and JOIN it",
            );
        }
        let aggregates = resolve::aggregates(&select.from, &self.catalog, &value)?;
        let one = One { select, value, alias: format!("{ALIAS}{number}"), location };
        if aggregates.is_empty() {
            let order_by = subquery.order_by.as_ref().filter(|_| limit == Some((1, 0)));
            return self.join_row(around, one, order_by);
        }
        self.join_aggregate(around, one, &aggregates)
    }

    /// A subquery that has one row because its key is compared, or because it is the first.
    fn join_row(&mut self, around: &mut Select, one: One, order_by: Option<&OrderBy>) -> Result<Expr, Error> {
        let One { mut select, value, alias, location } = one;
        let Correlation { inner, outer } = self.correlation(&mut select, around, Repeated::Counted)?;
        if let Some(order_by) = order_by {
            select.qualify = Some(is_first(order_by, &inner)?);
        }
        let part = self.part(valued(select, inner, value))?;
        if order_by.is_none() && !self.is_one_row(&part) {
            let message = "a subquery in an expression has one row: compare the key of its relation by =, or write an aggregate such as max(x), or ORDER BY … LIMIT 1";
            return Err(Error::unsupported(message, location));
        }
        let on = equal(outer, &alias).map_or_else(|| parse_expression("TRUE"), Ok)?;
        join_perhaps(around, table(&part, table_alias(Ident::new(&alias))), on);
        Ok(column(&alias, ONE))
    }

    fn join_aggregate(
        &mut self,
        around: &mut Select,
        one: One,
        aggregates: &[AggregateFunction],
    ) -> Result<Expr, Error> {
        let One { mut select, value, alias, location } = one;
        let function = if let Expr::Function(function) = &value { Some(&function.name) } else { None };
        // Truths are counts, and unknown of nothing.
        let is_truth = function.is_some_and(resolve::is_truth);
        let counts = aggregates.contains(&AggregateFunction::Count) && !is_truth;
        let is_alone = function.is_some() && aggregates.len() == 1;
        let Correlation { inner, outer } = self.correlation(&mut select, around, Repeated::Counted)?;
        select.group_by = GroupByExpr::Expressions(inner.clone(), vec![]);
        let part = self.part(valued(select, inner, value))?;
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
        if !is_alone {
            let message = "count in a subquery stands alone: calculate outside of it";
            return Err(Error::unsupported(message, location));
        }
        // Where there is nothing to count, there is no group.
        parse_expression(&format!("coalesce({one}, 0)"))
    }

    /// Whether a part has at most one row for each of the values that are compared.
    fn is_one_row(&self, part: &str) -> bool {
        let known = self.parts.iter().find(|program| program.definition.name == part);
        known.is_some_and(|program| program.definition.key.iter().all(|key| key.starts_with(VALUE)))
    }
}

/// A subquery of one column.
struct One {
    select: Box<Select>,
    value: Expr,
    /// Name of the joined part.
    alias: String,
    location: Option<Location>,
}

/// The subquery with the columns that are compared and its value.
fn valued(mut select: Box<Select>, compared: Vec<Expr>, value: Expr) -> Box<Query> {
    select.projection = named(compared);
    select.projection.push(SelectItem::ExprWithAlias { expr: value, alias: Ident::new(ONE) });
    query_of(SetExpr::Select(select))
}

/// Whether a row is the first for the values that are compared.
fn is_first(order_by: &OrderBy, values: &[Expr]) -> Result<Expr, Error> {
    let values: Vec<String> = values.iter().map(Expr::to_string).collect();
    let partition =
        if values.is_empty() { String::new() } else { format!("PARTITION BY {} ", values.join(", ")) };
    parse_expression(&format!("row_number() OVER ({partition}{order_by}) <= 1"))
}
