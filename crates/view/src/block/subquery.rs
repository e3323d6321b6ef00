//! Subqueries in expressions: each becomes a join with a part, and what stands in the expression a column of it.

use std::ops::ControlFlow;

use datafusion_sql::sqlparser::ast::{
    BinaryOperator, Expr, Select, SelectItem, Spanned, VisitMut as _, VisitorMut,
};

use super::Planner;
use super::membership::{ALIAS, IN, Values, add_conjuncts, and, join_any_partner, join_first_partner};
use crate::{Error, Location};

impl Planner<'_> {
    /// Replaces subqueries in `WHERE` and in the select list by columns of joined parts.
    pub(super) fn join_subqueries(&mut self, select: &mut Select) -> Result<(), Error> {
        let unnamed = |item: &&SelectItem| {
            matches!(
                item,
                SelectItem::UnnamedExpr(Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. })
            )
        };
        if let Some(item) = select.projection.iter().find(unnamed) {
            let message = "give the subquery a name: (SELECT …) AS name";
            return Err(Error::definition(message, Location::of(item.span())));
        }
        let selection = select.selection.take();
        let mut conditions = vec![];
        selection.into_iter().for_each(|selection| add_conjuncts(selection, &mut conditions));
        let mut projection = std::mem::take(&mut select.projection);
        let mut joining = Joining { planner: self, select, number: 0 };
        for condition in &mut conditions {
            joining.conjunct(condition)?;
        }
        let done = projection.visit(&mut joining);
        select.projection = projection;
        select.selection = conditions.into_iter().reduce(and);
        match done {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(error) => Err(*error),
        }
    }
}

/// Writes `= ANY (SELECT …)` as `IN`, and `<> ALL (SELECT …)` as `NOT IN`.
pub(super) fn spell_as_in(select: &mut Select) -> Result<(), Error> {
    match select.visit(&mut Spelling) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

struct Spelling;

impl VisitorMut for Spelling {
    type Break = Box<Error>;

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        let (left, op, right, negated) = match expr {
            Expr::AnyOp { left, compare_op, right, .. } => (left, compare_op, right, false),
            Expr::AllOp { left, compare_op, right } => (left, compare_op, right, true),
            _ => return ControlFlow::Continue(()),
        };
        let Expr::Subquery(subquery) = &**right else { return ControlFlow::Continue(()) };
        if *op != if negated { BinaryOperator::NotEq } else { BinaryOperator::Eq } {
            let message = "ANY and ALL (SELECT y …): write x IN (SELECT y …), or compare with (SELECT min(y) …) or max(y)";
            return ControlFlow::Break(Box::new(Error::unsupported(message, Location::of(right.span()))));
        }
        *expr = Expr::InSubquery { expr: left.clone(), subquery: subquery.clone(), negated };
        ControlFlow::Continue(())
    }
}

/// Walks over the expressions of a block and joins what memberships compare with.
struct Joining<'r, 'p> {
    planner: &'r mut Planner<'p>,
    select: &'r mut Select,
    number: usize,
}

impl Joining<'_, '_> {
    /// A condition of `WHERE`: neither unknown nor false keeps a row.
    fn conjunct(&mut self, condition: &mut Expr) -> Result<(), Error> {
        self.count(condition)?;
        if !matches!(condition, Expr::InSubquery { negated: false, .. } | Expr::Exists { negated: false, .. })
        {
            return self.alternative(condition);
        }
        if let Some((values, ..)) = self.membership(condition, ALIAS)? {
            let alias = self.alias(ALIAS);
            *condition = join_first_partner(self.select, values, &alias);
        }
        Ok(())
    }

    /// A part of such a condition that only `AND` and `OR` connect with it.
    fn alternative(&mut self, condition: &mut Expr) -> Result<(), Error> {
        match condition {
            Expr::BinaryOp { left, op: BinaryOperator::And | BinaryOperator::Or, right } => {
                self.alternative(left)?;
                self.alternative(right)
            }
            Expr::Nested(inner) => self.alternative(inner),
            Expr::InSubquery { negated: false, .. } => self.replace(condition, ALIAS),
            _ => match condition.visit(self) {
                ControlFlow::Continue(()) => Ok(()),
                ControlFlow::Break(error) => Err(*error),
            },
        }
    }

    /// Writes `EXISTS` of what does not depend on the row as a comparison of a count.
    fn count(&mut self, expr: &mut Expr) -> Result<(), Error> {
        if let Expr::Exists { subquery, negated } = expr
            && let Some(counted) = self.planner.counted(subquery, *negated)?
        {
            *expr = Expr::Nested(Box::new(counted));
        }
        Ok(())
    }

    /// Replaces a membership by the question whether there is a partner, and a scalar subquery by a column.
    fn replace(&mut self, expr: &mut Expr, prefix: &str) -> Result<(), Error> {
        if let Expr::Subquery(subquery) = expr {
            self.number += 1;
            *expr = self.planner.join_scalar(self.select, subquery, self.number)?;
            return Ok(());
        }
        if let Some((values, prefix, negated)) = self.membership(expr, prefix)? {
            let alias = self.alias(prefix);
            *expr = join_any_partner(self.select, values, &alias, negated);
        }
        Ok(())
    }

    /// What a membership compares with, and whether it is negated.
    fn membership<'a>(
        &mut self,
        expr: &Expr,
        of_in: &'a str,
    ) -> Result<Option<(Values, &'a str, bool)>, Error> {
        Ok(match expr {
            Expr::InSubquery { expr, subquery, negated } => {
                Some((self.planner.values(self.select, expr, subquery.clone())?, of_in, *negated))
            }
            Expr::Exists { subquery, negated } => {
                Some((self.planner.matches(self.select, subquery.clone())?, ALIAS, *negated))
            }
            _ => None,
        })
    }

    fn alias(&mut self, prefix: &str) -> String {
        self.number += 1;
        format!("{prefix}{}", self.number)
    }
}

impl VisitorMut for Joining<'_, '_> {
    type Break = Box<Error>;

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        match self.count(expr).and_then(|()| self.replace(expr, IN)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(Box::new(error)),
        }
    }
}
