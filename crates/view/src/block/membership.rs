//! `column IN (SELECT …)` and `EXISTS (SELECT … WHERE column = outer column)` as joins with the distinct values of a part, and
//! their negations as rows without partner.
//!
//! The join neither adds nor doubles rows only if a value has one partner at most. So both sides have one declared type:
//! between others SQLite converts while it compares, and two different values may equal the same third.

use datafusion_sql::sqlparser::ast::{
    BinaryOperator, Distinct, Expr, Ident, Join, JoinConstraint, JoinOperator, Query, Select, SelectItem,
    SetExpr, Spanned, TableFactor, TableWithJoins, UnaryOperator,
};
use deltamesh_change::ColumnType;

use super::set::{name_columns, query_of};
use super::{Planner, table, table_alias};
use crate::query::{JoinKind, Scalar, SelectQuery};
use crate::sql::quote;
use crate::statement::parse_query;
use crate::{Error, Location, facts, resolve};

/// How the names of joined parts begin. `*` and bare names do not mean their columns.
pub(crate) const ALIAS: &str = "__deltamesh_sub";
/// How those of `IN` begin.
const IN: &str = "__deltamesh_sub_in";
/// How the names of columns begin that are compared.
const VALUE: &str = "value";

/// What a subquery compares with the query around it: expressions of its own, and the other side of each.
pub(super) struct Correlation {
    pub(super) inner: Vec<Expr>,
    pub(super) outer: Vec<Expr>,
}

/// A part with distinct values, and the outer expression that each of its columns must equal.
struct Values {
    part: String,
    outer: Vec<Expr>,
}

impl Planner<'_> {
    /// Replaces memberships among the conditions of `WHERE` by joins.
    pub(super) fn join_members(&mut self, select: &mut Select) -> Result<(), Error> {
        let Some(selection) = select.selection.take() else { return Ok(()) };
        let mut conditions = vec![];
        add_conjuncts(selection, &mut conditions);
        for (number, condition) in conditions.iter_mut().enumerate() {
            let (values, prefix, negated) = match condition {
                Expr::InSubquery { expr, subquery, negated } => {
                    (self.values(expr.as_ref().clone(), subquery.clone())?, IN, *negated)
                }
                Expr::Exists { subquery, negated } => (self.matches(subquery.clone())?, ALIAS, *negated),
                _ => continue,
            };
            *condition = join(select, values, &format!("{prefix}{number}"), negated);
        }
        select.selection = conditions.into_iter().reduce(and);
        Ok(())
    }

    /// The different values of a subquery of one column.
    fn values(&mut self, expr: Expr, mut subquery: Box<Query>) -> Result<Values, Error> {
        name_columns(&mut subquery.body);
        let rows = self.part(subquery)?;
        let columns = self.names(&rows);
        let [column] = columns.as_slice() else {
            let message = format!("IN compares with one column, not {}", columns.len());
            return Err(Error::types_at(message, Location::of(expr.span())));
        };
        let (column, rows, value) = (quote(column), quote(&rows), value(0));
        let distinct = parse_query(&format!("SELECT DISTINCT {column} AS {value} FROM {rows} AS part"))?;
        Ok(Values { part: self.part(distinct)?, outer: vec![expr] })
    }

    /// The different values with which a subquery of `EXISTS` has rows.
    fn matches(&mut self, subquery: Box<Query>) -> Result<Values, Error> {
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
        let Correlation { inner, outer } = self.correlation(&mut select, location)?;
        if inner.is_empty() {
            return refuse(
                "EXISTS without a condition on the query around it: add one, or JOIN a view that counts",
            );
        }
        select.projection = named(inner);
        select.distinct = Some(Distinct::Distinct);
        Ok(Values { part: self.part(query_of(SetExpr::Select(select)))?, outer })
    }

    /// Takes the conditions on the query around a subquery out of it.
    pub(super) fn correlation(
        &self,
        select: &mut Select,
        location: Option<Location>,
    ) -> Result<Correlation, Error> {
        let mut conditions = vec![];
        select.selection.take().into_iter().for_each(|expr| add_conjuncts(expr, &mut conditions));
        let (mut local, mut inner, mut outer) = (vec![], vec![], vec![]);
        for condition in conditions {
            if self.is_local(select, &condition)? {
                local.push(condition);
                continue;
            }
            let Expr::BinaryOp { left, op: BinaryOperator::Eq, right } = condition else {
                let message =
                    "a subquery compares with the query around it by column = column: use JOIN for others";
                return Err(Error::unsupported(message, location));
            };
            let is_left = self.is_local(select, &left)?;
            let (of_select, around) = if is_left { (left, right) } else { (right, left) };
            inner.push(*of_select);
            outer.push(*around);
        }
        select.selection = local.into_iter().reduce(and);
        Ok(Correlation { inner, outer })
    }

    /// Whether an expression of a subquery names nothing of the query around it.
    fn is_local(&self, select: &Select, expr: &Expr) -> Result<bool, Error> {
        match expr {
            // What they name is for their own part to find.
            Expr::InSubquery { .. } | Expr::Exists { .. } => Ok(true),
            _ => resolve::is_known(&select.from, &self.catalog, expr),
        }
    }
}

/// Name of a part's column that is compared.
fn value(number: usize) -> String {
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

/// Joins the values, first where there must be a partner, last where there must be none; returns the condition on them.
fn join(select: &mut Select, values: Values, alias: &str, negated: bool) -> Expr {
    let relation = table(&values.part, table_alias(Ident::new(alias)));
    let value = column(alias, &value(0));
    let equal = equal(values.outer, alias).unwrap_or_else(|| value.clone());
    if negated {
        join_perhaps(select, relation, equal);
        Expr::IsNull(Box::new(value))
    } else {
        join_first(select, relation);
        equal
    }
}

fn and(left: Expr, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op: BinaryOperator::And, right: Box::new(right) }
}

fn add_conjuncts(expr: Expr, conjuncts: &mut Vec<Expr>) {
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
        let declared = |expr: &Scalar| {
            let column = expr.as_column()?;
            let is_typed = query.relations[column.relation].base.typed[column.column];
            Some(query.column(column).column_type).filter(|kind| is_typed && is_comparable(*kind))
        };
        if declared(left).is_none() || declared(left) != declared(right) {
            let message = "IN and EXISTS compare a column of a relation with one of the same type: use such columns, or JOIN";
            return Err(Error::types_at(message, query.location));
        }
        let has_null = facts::nullable(query, left) || joined.base.columns[value.column].nullable;
        if joined.kind == JoinKind::Left && joined.alias.starts_with(IN) && has_null {
            let message = "NOT IN is never true beside a NULL, and one of these columns may be NULL: write NOT EXISTS (… WHERE column = …)";
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
