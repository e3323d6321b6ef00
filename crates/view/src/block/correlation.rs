//! What a subquery in an expression says of the query around it.
//!
//! Where it only says `inner = outer`, the values of the inner side are compared with the outer ones. Otherwise (Neumann and
//! Kemper's dependent join, BTW 2015) the subquery is evaluated for all values that the outer columns have: the relation that
//! has them joins the subquery, and its columns are the inner side.

use std::ops::ControlFlow;

use datafusion_sql::sqlparser::ast::{
    BinaryOperator, Expr, Ident, Select, Spanned, TableFactor, TableWithJoins, Value, VisitMut as _,
    VisitorMut,
};

use super::membership::{add_conjuncts, and};
use super::{Planner, table, table_alias};
use crate::sql::quote;
use crate::statement::parse_query;
use crate::{Error, Location, resolve};

/// How the names of joined outer relations begin.
pub(crate) const OUTER: &str = "__deltamesh_outer";

/// What a subquery compares with the query around it: expressions of its own, and the other side of each.
pub(super) struct Correlation {
    pub(super) inner: Vec<Expr>,
    pub(super) outer: Vec<Expr>,
}

/// What a row of the subquery means that occurs once for each row around it with the same values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeated {
    /// The same as one.
    Harmless,
    /// It would be counted more than once.
    Counted,
}

impl Planner<'_> {
    /// Takes the conditions on the query around a subquery out of it.
    pub(super) fn correlation(
        &mut self,
        select: &mut Select,
        around: &Select,
        repeated: Repeated,
    ) -> Result<Correlation, Error> {
        let mut conditions = vec![];
        select.selection.take().into_iter().for_each(|expr| add_conjuncts(expr, &mut conditions));
        let (mut local, mut others) = (vec![], vec![]);
        for condition in conditions {
            let list = if self.is_local(select, &condition)? { &mut local } else { &mut others };
            list.push(condition);
        }
        let equalities = others.iter().map(|condition| self.equality(select, condition));
        let equalities = equalities.collect::<Result<Option<Vec<_>>, Error>>()?;
        select.selection = local.into_iter().reduce(and);
        match equalities {
            Some(equalities) => {
                let (inner, outer) = equalities.into_iter().unzip();
                Ok(Correlation { inner, outer })
            }
            None => self.dependent_join(select, around, others, repeated),
        }
    }

    /// Whether an expression of a subquery names nothing of the query around it.
    pub(super) fn is_local(&self, select: &Select, expr: &Expr) -> Result<bool, Error> {
        let mut own = expr.clone();
        let _: ControlFlow<()> = own.visit(&mut Blank);
        resolve::is_known(&select.from, &self.catalog, &own)
    }

    /// The sides of `inner = outer`.
    fn equality(&self, select: &Select, condition: &Expr) -> Result<Option<(Expr, Expr)>, Error> {
        let Expr::BinaryOp { left, op: BinaryOperator::Eq, right } = condition else { return Ok(None) };
        let sides = (self.is_local(select, left)?, self.is_local(select, right)?);
        let names_inner = |expr: &Expr| self.names_any(select, expr);
        Ok(match sides {
            (true, false) if !names_inner(right) => Some((left.as_ref().clone(), right.as_ref().clone())),
            (false, true) if !names_inner(left) => Some((right.as_ref().clone(), left.as_ref().clone())),
            _ => None,
        })
    }

    /// Whether an expression names a column of the subquery.
    fn names_any(&self, select: &Select, expr: &Expr) -> bool {
        let mut found = false;
        let mut names = Names(|column: &mut Expr| {
            found |= self.is_local(select, column).unwrap_or(false);
            Ok(())
        });
        let _ = expr.clone().visit(&mut names);
        found
    }

    /// Joins the outer relation to the subquery.
    fn dependent_join(
        &mut self,
        select: &mut Select,
        around: &Select,
        conditions: Vec<Expr>,
        repeated: Repeated,
    ) -> Result<Correlation, Error> {
        let location = conditions.first().and_then(|condition| Location::of(condition.span()));
        if !conditions.iter().all(is_strict) {
            let message = "a subquery compares with the query around it by =, <>, <, <=, >, >= of columns: write EXISTS (…) OR EXISTS (…) for alternatives, JOIN for others";
            return Err(Error::unsupported(message, location));
        }
        let mut outer: Vec<(String, Ident)> = vec![];
        let mut conditions = conditions;
        for condition in &mut conditions {
            self.qualify(select, around, condition, &mut outer)?;
        }
        let Some(relation) = outer.first().map(|(relation, _)| relation.clone()) else {
            return Ok(Correlation { inner: vec![], outer: vec![] });
        };
        if outer.iter().any(|(other, _)| *other != relation) {
            let message = "a subquery compares otherwise than by = with one relation of the query around it: JOIN them in a subquery in FROM first";
            return Err(Error::unsupported(message, location));
        }
        let mut selection = select.selection.take();
        if let Some(selection) = &mut selection {
            self.qualify(select, around, selection, &mut vec![])?;
        }
        let columns: Vec<Ident> = outer.into_iter().map(|(_, column)| column).collect();
        let base = self.outer_relation(around, &relation, &columns, repeated)?;
        select.from.push(TableWithJoins { relation: base, joins: vec![] });
        select.selection = selection.into_iter().chain(conditions).reduce(and);
        let of = |relation: &str| -> Vec<Expr> {
            let column = |name: &Ident| Expr::CompoundIdentifier(vec![Ident::new(relation), name.clone()]);
            columns.iter().map(column).collect()
        };
        Ok(Correlation { inner: of(&outer_alias(&relation)), outer: of(&relation) })
    }

    /// Writes every column as `relation.column`; those of the query around the subquery are collected, and are the joined
    /// relation's from then on.
    fn qualify(
        &self,
        select: &Select,
        around: &Select,
        expr: &mut Expr,
        outer: &mut Vec<(String, Ident)>,
    ) -> Result<(), Error> {
        let mut names = Names(|column: &mut Expr| {
            if let Some((relation, name)) = resolve::owner(&select.from, &self.catalog, column)? {
                *column = Expr::CompoundIdentifier(vec![relation, name]);
                return Ok(());
            }
            let Some((relation, name)) = resolve::owner(&around.from, &self.catalog, column)? else {
                return Err(Error::name(format!("no column {column}"), Location::of(column.span())));
            };
            let known = (relation.value.clone(), name.clone());
            if !outer.contains(&known) {
                outer.push(known);
            }
            *column = Expr::CompoundIdentifier(vec![Ident::new(outer_alias(&relation.value)), name]);
            Ok(())
        });
        match expr.visit(&mut names) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(error) => Err(*error),
        }
    }

    /// The relation around the subquery, or its different values.
    fn outer_relation(
        &mut self,
        around: &Select,
        relation: &str,
        columns: &[Ident],
        repeated: Repeated,
    ) -> Result<TableFactor, Error> {
        let factors = around.from.iter().flat_map(|tables| {
            std::iter::once(&tables.relation).chain(tables.joins.iter().map(|join| &join.relation))
        });
        let table_name = factors.filter_map(|factor| match factor {
            TableFactor::Table { name, alias, .. } => {
                let known = alias.as_ref().map(|alias| alias.name.value.clone());
                let known = known.or_else(|| Some(name.0.last()?.as_ident()?.value.clone()))?;
                known.eq_ignore_ascii_case(relation).then(|| name.clone())
            }
            _ => None,
        });
        let Some(name) = table_name.into_iter().next() else {
            return Err(Error::name(format!("no relation {relation} in FROM"), None));
        };
        let alias = table_alias(Ident::new(outer_alias(relation)));
        if repeated == Repeated::Harmless {
            return Ok(super::relation(name, alias));
        }
        let columns: Vec<String> = columns.iter().map(|column| quote(&column.value)).collect();
        let part = self.part(parse_query(&format!("SELECT DISTINCT {} FROM {name}", columns.join(", ")))?)?;
        Ok(table(&part, alias))
    }
}

/// Name of an outer relation within a subquery.
fn outer_alias(relation: &str) -> String {
    format!("{OUTER}_{relation}")
}

/// Whether a condition is never true where a column of it is NULL: such rows need no partner.
fn is_strict(condition: &Expr) -> bool {
    use BinaryOperator::{Divide, Eq, Gt, GtEq, Lt, LtEq, Minus, Multiply, NotEq, Plus};
    fn is_calculated(expr: &Expr) -> bool {
        match expr {
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Value(_) => true,
            Expr::Nested(inner) => is_calculated(inner),
            Expr::BinaryOp { left, op: Plus | Minus | Multiply | Divide, right } => {
                is_calculated(left) && is_calculated(right)
            }
            _ => false,
        }
    }
    match condition {
        Expr::Nested(inner) => is_strict(inner),
        Expr::BinaryOp { left, op: Eq | NotEq | Lt | LtEq | Gt | GtEq, right } => {
            is_calculated(left) && is_calculated(right)
        }
        _ => false,
    }
}

/// Leaves subqueries out of an expression: what they name is for their own parts to find.
struct Blank;

impl VisitorMut for Blank {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if matches!(expr, Expr::Subquery(_) | Expr::InSubquery { .. } | Expr::Exists { .. }) {
            *expr = Expr::value(Value::Null);
        }
        ControlFlow::Continue(())
    }
}

/// Visits the columns of an expression.
pub(super) struct Names<F>(pub(super) F);

impl<F: FnMut(&mut Expr) -> Result<(), Error>> VisitorMut for Names<F> {
    type Break = Box<Error>;

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        if !matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_)) {
            return ControlFlow::Continue(());
        }
        match (self.0)(expr) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(Box::new(error)),
        }
    }
}
