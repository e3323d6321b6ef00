//! Set operations. `UNION ALL` adds the rows of its branches; the others compare parts by grouping, for which NULLs are equal.

use datafusion_sql::sqlparser::ast::{
    Expr, Ident, Query, SelectItem, SetExpr, SetOperator, SetQuantifier, Spanned,
};

use super::{Planner, membership};
use crate::query::SelectQuery;
use crate::sql::{quote, union_all};
use crate::statement::parse_query;
use crate::{CreateView, Error, Location, Program, kinds, resolve, strategy, typing};

impl Planner<'_> {
    pub(super) fn set_operation(&mut self, view: CreateView) -> Result<Program, Error> {
        let location = Location::of(view.query.span());
        let SetExpr::SetOperation { op, set_quantifier, left, right } = view.query.body.as_ref() else {
            return self.plan(&view);
        };
        match (op, set_quantifier) {
            (SetOperator::Union, SetQuantifier::All) if view.query.order_by.is_none() => {
                let mut branches = vec![];
                add_branches(&view.query.body, &mut branches);
                self.union_all(&view, &branches)
            }
            (SetOperator::Union, SetQuantifier::All) => self.over_all(&view, left, right, ""),
            (SetOperator::Union, SetQuantifier::None | SetQuantifier::Distinct) => {
                self.over_all(&view, left, right, "DISTINCT ")
            }
            (SetOperator::Intersect, SetQuantifier::None | SetQuantifier::Distinct) => {
                self.compared(&view, left, right, "> 0")
            }
            (SetOperator::Except | SetOperator::Minus, SetQuantifier::None | SetQuantifier::Distinct) => {
                self.compared(&view, left, right, "= 0")
            }
            _ => {
                let message = format!("{op} {set_quantifier} is not supported in a view: write {op} alone");
                Err(Error::unsupported(message, location))
            }
        }
    }

    /// The rows of each branch, by the branch and the row's key in it.
    fn union_all(&mut self, view: &CreateView, branches: &[&SetExpr]) -> Result<Program, Error> {
        let mut queries: Vec<SelectQuery> = vec![];
        for (number, branch) in branches.iter().enumerate() {
            let mut query = query_of((*branch).clone());
            if number > 0 {
                name_columns(&mut query.body);
            }
            let query = self.branch(query)?;
            if let Some(first) = queries.first() {
                check_width(first.outputs.len(), query.outputs.len(), view)?;
            }
            queries.push(query);
        }
        let columns = queries.iter().map(typing::columns).collect::<Result<Vec<_>, _>>()?;
        union_all(view, &queries, &columns)
    }

    /// A branch as a block whose changed rows follow from those of its bases; a part where it is not one itself.
    fn branch(&mut self, mut query: Box<Query>) -> Result<SelectQuery, Error> {
        if let SetExpr::Select(select) = query.body.as_mut() {
            self.turn_joins(select, &mut query.order_by)?;
            self.flatten(select)?;
            let resolved = resolve::resolve(&query, &self.catalog)?;
            membership::check(&resolved)?;
            let resolved = self.merged(resolved);
            if strategy::is_linear_block(&resolved) {
                kinds::check(&resolved)?;
                return Ok(resolved);
            }
        }
        let part = self.part(query)?;
        resolve::resolve(&*self.select_part(&part, "")?, &self.catalog)
    }

    /// A block over the rows of both sides.
    fn over_all(
        &mut self,
        view: &CreateView,
        left: &SetExpr,
        right: &SetExpr,
        distinct: &str,
    ) -> Result<Program, Error> {
        let all = SetExpr::SetOperation {
            op: SetOperator::Union,
            set_quantifier: SetQuantifier::All,
            left: Box::new(left.clone()),
            right: Box::new(right.clone()),
        };
        let part = self.part(query_of(all))?;
        let query = self.select_part(&part, distinct)?;
        self.over_part(view, query)
    }

    /// The rows of a part, or the different ones.
    pub(super) fn select_part(&self, part: &str, distinct: &str) -> Result<Box<Query>, Error> {
        parse_query(&format!("SELECT {distinct}{} FROM {} AS part", self.columns(part), quote(part)))
    }

    /// The rows of the left side of which the number on the right side is as said.
    fn compared(
        &mut self,
        view: &CreateView,
        left: &SetExpr,
        right: &SetExpr,
        wanted: &str,
    ) -> Result<Program, Error> {
        let mut right = query_of(right.clone());
        name_columns(&mut right.body);
        let (left, right) = (self.part(query_of(left.clone()))?, self.part(right)?);
        let names = self.names(&left);
        check_width(names.len(), self.names(&right).len(), view)?;
        let [on_left, on_right] = ["left", "right"].map(|side| unlike(side, &names));
        let both = parse_query(&format!(
            "SELECT {}, 1 AS {on_left}, 0 AS {on_right} FROM {} AS part UNION ALL SELECT {}, 0, 1 FROM {} AS part",
            self.columns(&left),
            quote(&left),
            self.columns(&right),
            quote(&right),
        ))?;
        let columns = self.columns(&left);
        let both = self.part(both)?;
        let query = parse_query(&format!(
            "SELECT {columns} FROM {} AS part GROUP BY {columns} HAVING sum({on_left}) > 0 AND sum({on_right}) {wanted}",
            quote(&both)
        ))?;
        self.over_part(view, query)
    }

    /// Plans a block over a part as the view, in the view's reading order.
    fn over_part(&mut self, view: &CreateView, mut query: Box<Query>) -> Result<Program, Error> {
        query.order_by.clone_from(&view.query.order_by);
        self.plan(&CreateView { query, ..view.clone() })
    }

    /// Names of the columns of a part.
    pub(super) fn names(&self, part: &str) -> Vec<String> {
        let known = self.parts.iter().find(|program| program.definition.name == part);
        known.map_or_else(Vec::new, |program| {
            program.definition.columns.iter().map(|column| column.name.clone()).collect()
        })
    }

    /// The columns of a part, as SQL.
    fn columns(&self, part: &str) -> String {
        self.names(part).iter().map(|name| quote(name)).collect::<Vec<_>>().join(", ")
    }
}

/// The operands of nested `UNION ALL`s in order.
fn add_branches<'a>(body: &'a SetExpr, branches: &mut Vec<&'a SetExpr>) {
    match body {
        SetExpr::SetOperation { op: SetOperator::Union, set_quantifier: SetQuantifier::All, left, right } => {
            add_branches(left, branches);
            add_branches(right, branches);
        }
        other => branches.push(other),
    }
}

/// Names the expressions of a right side: the result has the names of the left one.
pub(super) fn name_columns(body: &mut SetExpr) {
    match body {
        SetExpr::Select(select) => {
            for (number, item) in select.projection.iter_mut().enumerate() {
                if let SelectItem::UnnamedExpr(expr) = item
                    && !matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_))
                {
                    let alias = Ident::new(format!("column {number}"));
                    *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
                }
            }
        }
        SetExpr::Query(query) => name_columns(&mut query.body),
        SetExpr::SetOperation { left, .. } => name_columns(left),
        _ => {}
    }
}

fn check_width(left: usize, right: usize, view: &CreateView) -> Result<(), Error> {
    if left == right {
        return Ok(());
    }
    let message = format!("one side selects {left} columns, the other {right}: select the same number");
    Err(Error::types_at(message, Location::of(view.query.span())))
}

/// A quoted name that no column has.
fn unlike(name: &str, columns: &[String]) -> String {
    let mut name = format!("{name} side");
    while columns.iter().any(|column| column.eq_ignore_ascii_case(&name)) {
        name.push('_');
    }
    quote(&name)
}

/// A query that is only this body.
pub(super) fn query_of(body: SetExpr) -> Box<Query> {
    Box::new(Query {
        with: None,
        body: Box::new(body),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: vec![],
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: vec![],
    })
}
