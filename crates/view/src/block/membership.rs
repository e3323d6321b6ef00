//! `x IN (SELECT …)` and `EXISTS (SELECT … WHERE …)` as joins with the distinct values of a part, and their negations as rows
//! without partner.
//!
//! The join neither adds nor doubles rows only if a value has one partner at most. So both sides have one type: between
//! others SQLite converts while it compares, and two different values may equal the same third.

use datafusion_sql::sqlparser::ast::{
    BinaryOperator, Distinct, Expr, Ident, Join, JoinConstraint, JoinOperator, Query, Select, SelectItem,
    SetExpr, Spanned, TableFactor, TableWithJoins, UnaryOperator,
};
use deltamesh_change::ColumnType;

use super::correlation::{Correlation, Repeated};
use super::set::{name_columns, query_of};
use super::{Planner, table, table_alias};
use crate::query::{JoinKind, Scalar, SelectQuery};
use crate::sql::quote;
use crate::statement::{parse_expression, parse_query};
use crate::{Error, Location, facts, kinds, resolve};

/// How the names of joined parts begin. `*` and bare names do not mean their columns.
pub(crate) const ALIAS: &str = "__deltamesh_sub";
/// How those of `IN` begin.
pub(super) const IN: &str = "__deltamesh_sub_in";
/// How the names of columns begin that are compared.
pub(super) const VALUE: &str = "value";

/// A part with distinct values, and the outer expression that each of its columns must equal.
pub(super) struct Values {
    part: String,
    outer: Vec<Expr>,
}

impl Planner<'_> {
    /// The different values of a subquery of one column, beside those with which it depends on the query around it.
    pub(super) fn values(
        &mut self,
        around: &Select,
        expr: &Expr,
        mut subquery: Box<Query>,
    ) -> Result<Values, Error> {
        name_columns(&mut subquery.body);
        if let Some(correlated) = self.correlated(&subquery)? {
            return self.matches_value(around, expr, correlated);
        }
        let rows = self.part(subquery)?;
        let columns = self.names(&rows);
        let outer = match expr {
            Expr::Tuple(exprs) => exprs.clone(),
            expr => vec![expr.clone()],
        };
        if columns.len() != outer.len() {
            let message = format!("IN compares with {} columns, not {}", outer.len(), columns.len());
            return Err(Error::types_at(message, Location::of(expr.span())));
        }
        let selected = columns.iter().enumerate();
        let selected = selected.map(|(number, column)| format!("{} AS {}", quote(column), value(number)));
        let (selected, rows) = (selected.collect::<Vec<_>>().join(", "), quote(&rows));
        let distinct = parse_query(&format!("SELECT DISTINCT {selected} FROM {rows} AS part"))?;
        Ok(Values { part: self.part(distinct)?, outer })
    }

    /// The `SELECT` of a subquery of `IN` whose conditions name the query around it.
    fn correlated(&mut self, subquery: &Query) -> Result<Option<Select>, Error> {
        let (SetExpr::Select(select), None) = (subquery.body.as_ref(), &subquery.with) else {
            return Ok(None);
        };
        if subquery.limit_clause.is_some() || subquery.fetch.is_some() || has_subquery(&select.from) {
            return Ok(None);
        }
        let mut select = select.as_ref().clone();
        self.read_parts(&mut select)?;
        let mut conditions = vec![];
        select.selection.clone().into_iter().for_each(|expr| add_conjuncts(expr, &mut conditions));
        for condition in &conditions {
            if !self.is_local(&select, condition)? {
                return Ok(Some(select));
            }
        }
        Ok(None)
    }

    /// `expr IN (SELECT value … WHERE …)` as `EXISTS (SELECT … WHERE … AND value = expr)`.
    fn matches_value(&mut self, around: &Select, expr: &Expr, mut select: Select) -> Result<Values, Error> {
        let [SelectItem::UnnamedExpr(value) | SelectItem::ExprWithAlias { expr: value, .. }] =
            select.projection.as_slice()
        else {
            let message = "a subquery of IN that names the query around it selects one expression";
            return Err(Error::unsupported(message, Location::of(expr.span())));
        };
        let equal = Expr::BinaryOp {
            left: Box::new(value.clone()),
            op: BinaryOperator::Eq,
            right: Box::new(expr.clone()),
        };
        select.selection = select.selection.take().into_iter().chain([equal]).reduce(and);
        self.matches(around, query_of(SetExpr::Select(Box::new(select))))
    }

    /// `EXISTS` of a subquery that does not name the query around it: whether there are rows.
    pub(super) fn counted(&mut self, subquery: &Query, negated: bool) -> Result<Option<Expr>, Error> {
        let is_limited = resolve::limit(subquery)?.is_some_and(|(limit, offset)| limit == 0 || offset > 0);
        let (SetExpr::Select(select), None, false) = (subquery.body.as_ref(), &subquery.with, is_limited)
        else {
            return Ok(None);
        };
        let mut select = select.clone();
        self.read_parts(&mut select)?;
        let mut conditions = vec![];
        select.selection.clone().into_iter().for_each(|expr| add_conjuncts(expr, &mut conditions));
        for condition in &conditions {
            if !self.is_local(&select, condition)? {
                return Ok(None);
            }
        }
        if select.having.is_some() || select.qualify.is_some() || resolve::is_grouped(&select, &self.catalog)?
        {
            return Ok(None);
        }
        let found = Ident::new("found");
        select.projection =
            vec![SelectItem::ExprWithAlias { expr: parse_expression("count(*) > 0")?, alias: found }];
        select.distinct = None;
        // A block of its own: it changes with the answer, not with each row that is counted.
        let mut answer = parse_query("SELECT max(found) AS found FROM rows AS counted")?;
        if let SetExpr::Select(answer) = answer.body.as_mut()
            && let Some(from) = answer.from.first_mut()
        {
            let subquery = query_of(SetExpr::Select(select));
            let alias = Some(table_alias(Ident::new("counted")));
            from.relation = TableFactor::Derived { lateral: false, subquery, alias, sample: None };
        }
        let answer = Expr::Subquery(answer);
        Ok(Some(if negated {
            Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(answer) }
        } else {
            answer
        }))
    }

    /// The different values with which a subquery of `EXISTS` has rows.
    pub(super) fn matches(&mut self, around: &Select, subquery: Box<Query>) -> Result<Values, Error> {
        let location = Location::of(subquery.span());
        let refuse = |message: &str| Err(Error::unsupported(message, location));
        resolve::check_clauses(&subquery)?;
        // Whether there is a row does not depend on how many are wanted.
        if resolve::limit(&subquery)?.is_some_and(|(limit, offset)| limit == 0 || offset > 0) {
            return refuse("LIMIT 0 or OFFSET in EXISTS: leave it out");
        }
        let SetExpr::Select(mut select) = *subquery.body else {
            return refuse("EXISTS of this form of query: write EXISTS (SELECT … FROM … WHERE …)");
        };
        if subquery.with.is_some() {
            return refuse("WITH in EXISTS: write it before the SELECT of the view");
        }
        self.read_parts(&mut select)?;
        if select.having.is_some() || select.qualify.is_some() || resolve::is_grouped(&select, &self.catalog)?
        {
            return refuse("EXISTS of groups: make it a view of its own and JOIN it");
        }
        let Correlation { inner, outer } = self.correlation(&mut select, around, Repeated::Harmless)?;
        if inner.is_empty() {
            return refuse(
                "EXISTS of such rows needs a condition on the query around it: add one, or JOIN a view that counts",
            );
        }
        select.projection = named(inner);
        select.distinct = Some(Distinct::Distinct);
        Ok(Values { part: self.part(query_of(SetExpr::Select(select)))?, outer })
    }
}

/// Name of a part's column that is compared.
pub(super) fn value(number: usize) -> String {
    format!("{VALUE}{number}")
}

/// Expressions as the compared columns of a part.
pub(super) fn named(exprs: Vec<Expr>) -> Vec<SelectItem> {
    let alias = |number| Ident::new(value(number));
    let item = |(number, expr)| SelectItem::ExprWithAlias { expr, alias: alias(number) };
    exprs.into_iter().enumerate().map(item).collect()
}

/// Conditions that expressions equal the compared columns of a joined part.
pub(super) fn equal(outer: Vec<Expr>, alias: &str) -> Option<Expr> {
    let pairs = outer.into_iter().enumerate().map(|(number, outer)| Expr::BinaryOp {
        left: Box::new(outer),
        op: BinaryOperator::Eq,
        right: Box::new(column(alias, &value(number))),
    });
    pairs.reduce(and)
}

pub(super) fn column(alias: &str, name: &str) -> Expr {
    Expr::CompoundIdentifier(vec![Ident::new(alias), Ident::new(name)])
}

/// Joins a part that may have no partner.
pub(super) fn join_perhaps(select: &mut Select, relation: TableFactor, on: Expr) {
    if let Some(last) = select.from.last_mut() {
        let join_operator = JoinOperator::Left(JoinConstraint::On(on));
        last.joins.push(Join { relation, global: false, join_operator });
    }
}

/// Joins a part in front of the others.
pub(super) fn join_first(select: &mut Select, relation: TableFactor) {
    select.from.insert(0, TableWithJoins { relation, joins: vec![] });
}

/// Joins values of which one must be a partner; returns the condition.
pub(super) fn join_first_partner(select: &mut Select, values: Values, alias: &str) -> Expr {
    join_first(select, table(&values.part, table_alias(Ident::new(alias))));
    equal(values.outer, alias).unwrap_or_else(|| column(alias, &value(0)))
}

/// Joins values of which one may be a partner; returns whether one is, or none.
pub(super) fn join_any_partner(select: &mut Select, values: Values, alias: &str, negated: bool) -> Expr {
    let partner = column(alias, &value(0));
    let equal = equal(values.outer, alias).unwrap_or_else(|| partner.clone());
    join_perhaps(select, table(&values.part, table_alias(Ident::new(alias))), equal);
    let partner = Box::new(partner);
    if negated { Expr::IsNull(partner) } else { Expr::IsNotNull(partner) }
}

/// Whether a `FROM` clause has a subquery.
fn has_subquery(from: &[TableWithJoins]) -> bool {
    let is_subquery = |factor: &TableFactor| !matches!(factor, TableFactor::Table { .. });
    from.iter().any(|tables| {
        is_subquery(&tables.relation) || tables.joins.iter().any(|join| is_subquery(&join.relation))
    })
}

pub(super) fn and(left: Expr, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op: BinaryOperator::And, right: Box::new(right) }
}

pub(super) fn add_conjuncts(expr: Expr, conjuncts: &mut Vec<Expr>) {
    match expr {
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            add_conjuncts(*left, conjuncts);
            add_conjuncts(*right, conjuncts);
        }
        Expr::Nested(inner) if is_split(&inner) => add_conjuncts(*inner, conjuncts),
        Expr::UnaryOp { op: UnaryOperator::Not, expr } => conjuncts.push(not(*expr)),
        other => conjuncts.push(other),
    }
}

/// Whether a condition in parentheses is looked into.
fn is_split(expr: &Expr) -> bool {
    matches!(
        expr,
        Expr::BinaryOp { op: BinaryOperator::And, .. } | Expr::InSubquery { .. } | Expr::Exists { .. }
    )
}

/// The negation of a condition.
fn not(expr: Expr) -> Expr {
    match expr {
        Expr::Nested(inner) if is_split(&inner) && !matches!(*inner, Expr::BinaryOp { .. }) => not(*inner),
        Expr::InSubquery { expr, subquery, negated } => {
            Expr::InSubquery { expr, subquery, negated: !negated }
        }
        Expr::Exists { subquery, negated } => Expr::Exists { subquery, negated: !negated },
        expr => Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(expr) },
    }
}

/// Checks that the memberships of a resolved block can be joins.
pub(crate) fn check(query: &SelectQuery) -> Result<(), Error> {
    for condition in query.conditions() {
        let Scalar::Binary(left, "=", right) = condition else { continue };
        let (Scalar::Column(value), left) = (&**right, &**left) else { continue };
        let joined = &query.relations[value.relation];
        let name = &joined.base.columns[value.column].name;
        if !joined.alias.starts_with(ALIAS) || !name.starts_with(VALUE) {
            continue;
        }
        let kind = kinds::known(query, right).filter(|kind| is_comparable(*kind));
        if kind.is_none() || kind != kinds::known(query, left) {
            let message = "IN and EXISTS compare values of one type: CAST one side, or use JOIN";
            return Err(Error::types_at(message, query.location));
        }
        let has_null = facts::nullable(query, left) || joined.base.columns[value.column].nullable;
        if joined.kind == JoinKind::Left && joined.alias.starts_with(IN) && has_null {
            let message = "NOT IN, and IN in a calculation, is neither true nor false beside a NULL, and one of these columns may be NULL: write [NOT] EXISTS (… WHERE column = …)";
            return Err(Error::types_at(message, query.location));
        }
    }
    Ok(())
}

fn is_comparable(kind: ColumnType) -> bool {
    matches!(
        kind,
        ColumnType::Int | ColumnType::Float | ColumnType::Bool | ColumnType::Text | ColumnType::Bytes
    )
}
