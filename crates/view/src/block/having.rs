//! `HAVING` with subqueries: the groups become a part, and the condition is the `WHERE` of a block over it.

use std::ops::ControlFlow;

use datafusion_sql::sqlparser::ast::{
    Expr, GroupByExpr, Ident, Query, Select, SelectItem, SetExpr, Spanned, TableWithJoins, Visit, VisitMut,
    Visitor, VisitorMut,
};

use super::set::query_of;
use super::{Planner, membership, table, table_alias};
use crate::{Error, Location, resolve};

/// Name of the part in the block over it.
const GROUPS: &str = "groups";
/// How columns that only the condition reads are called.
const VALUE: &str = "having ";

impl Planner<'_> {
    /// Splits a block whose `HAVING` has subqueries.
    pub(super) fn split_having(&mut self, select: &mut Select) -> Result<(), Error> {
        let Some(having) = select.having.take_if(|having| has_subquery(having)) else { return Ok(()) };
        if has_window(select) {
            let message = "window functions beside a subquery in HAVING: group in a subquery in FROM";
            return Err(Error::unsupported(message, Location::of(having.span())));
        }
        let mut condition = having;
        let GroupByExpr::Expressions(group, _) = select.group_by.clone() else { return Ok(()) };
        let mut taking = Taking { selected: select.projection.clone(), group, read: vec![], depth: 0 };
        // Nothing in it breaks off.
        let _: ControlFlow<()> = VisitMut::visit(&mut condition, &mut taking);
        let selected = select.projection.len();
        let columns = taking.read.into_iter().enumerate();
        select
            .projection
            .extend(columns.map(|(number, expr)| SelectItem::ExprWithAlias { expr, alias: value(number) }));
        // What the condition reads would keep rows apart.
        let distinct = select.distinct.take();
        let groups = self.part(query_of(SetExpr::Select(Box::new(select.clone()))))?;
        let names = self.names(&groups).into_iter().take(selected);
        select.projection =
            names.map(|name| SelectItem::UnnamedExpr(membership::column(GROUPS, &name))).collect();
        let relation = table(&groups, table_alias(Ident::new(GROUPS)));
        select.from = vec![TableWithJoins { relation, joins: vec![] }];
        select.group_by = GroupByExpr::Expressions(vec![], vec![]);
        select.distinct = distinct;
        select.selection = Some(condition);
        Ok(())
    }
}

fn value(number: usize) -> Ident {
    Ident::with_quote('"', format!("{VALUE}{number}"))
}

/// Whether the block has window functions: they see the groups that the condition keeps.
fn has_window(select: &Select) -> bool {
    struct Finding;
    impl Visitor for Finding {
        type Break = ();

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            match expr {
                Expr::Function(function) if function.over.is_some() => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        }
    }
    select.qualify.is_some() || select.projection.visit(&mut Finding).is_break()
}

/// Whether an expression, or a part of a statement, has a subquery among its expressions.
pub(super) fn has_subquery(expr: &impl Visit) -> bool {
    struct Finding;
    impl Visitor for Finding {
        type Break = ();

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            match expr {
                Expr::Subquery(_) | Expr::InSubquery { .. } | Expr::Exists { .. } => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        }
    }
    expr.visit(&mut Finding).is_break()
}

/// Replaces what a condition reads of the groups by columns of the part.
struct Taking {
    selected: Vec<SelectItem>,
    group: Vec<Expr>,
    /// Expressions that are not selected, in the order of their columns.
    read: Vec<Expr>,
    /// Subqueries around the place; what stands in them is theirs.
    depth: usize,
}

impl Taking {
    /// The name under which the groups have an expression; it is selected for that if need be.
    fn column(&mut self, expr: &Expr) -> Ident {
        let selected = self.selected.iter().find_map(|item| match (item, expr) {
            (SelectItem::ExprWithAlias { alias, expr: selected }, _) if selected == expr => Some(alias),
            (SelectItem::ExprWithAlias { alias, .. }, Expr::Identifier(name)) if alias == name => Some(alias),
            (SelectItem::UnnamedExpr(Expr::Identifier(column)), Expr::Identifier(name)) if column == name => {
                Some(name)
            }
            _ => None,
        });
        if let Some(alias) = selected {
            return alias.clone();
        }
        let number = self.read.iter().position(|read| read == expr).unwrap_or_else(|| {
            self.read.push(expr.clone());
            self.read.len() - 1
        });
        value(number)
    }
}

impl VisitorMut for Taking {
    type Break = ();

    fn pre_visit_query(&mut self, _query: &mut Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let is_taken = match expr {
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) => true,
            Expr::Function(function) => resolve::is_aggregate(&function.name),
            _ => self.group.contains(expr),
        };
        if self.depth == 0 && is_taken {
            let column = self.column(expr);
            *expr = Expr::CompoundIdentifier(vec![Ident::new(GROUPS), column]);
        }
        ControlFlow::Continue(())
    }
}
