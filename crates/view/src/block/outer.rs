//! `RIGHT JOIN` as `LEFT JOIN` from the other side, and `FULL JOIN` as a part: a `LEFT JOIN`, and the rows of the right side
//! without partner.

use std::ops::ControlFlow;

use datafusion_sql::sqlparser::ast::{
    Expr, Ident, Join, JoinConstraint, JoinOperator, OrderBy, Select, SelectItem,
    SelectItemQualifiedWildcardKind, Spanned, TableFactor, TableWithJoins, VisitMut as _,
};

use super::correlation::Names;
use super::having::has_subquery;
use super::{Planner, table, table_alias};
use crate::sql::quote;
use crate::statement::parse_query;
use crate::{Error, Location, resolve};

/// Name of the rows of a `FULL JOIN` in its block.
const JOINED: &str = "joined";
/// Name of the rows of the right side that have no partner.
const ALONE: &str = "alone";

impl Planner<'_> {
    /// Replaces `RIGHT` and `FULL JOIN` in the `FROM` clause of a block.
    pub(super) fn turn_joins(
        &mut self,
        select: &mut Select,
        order_by: &mut Option<OrderBy>,
    ) -> Result<(), Error> {
        let is_turned = |join: &Join| turned(join).is_some();
        let Some(place) = select.from.iter().position(|tables| tables.joins.iter().any(is_turned)) else {
            return Ok(());
        };
        let joins = &select.from[place].joins;
        if let Some(join) = joins.iter().skip(1).find(|join| is_turned(join)) {
            let message =
                "RIGHT and FULL JOIN behind another join: put the joins before it into a subquery in FROM";
            return Err(Error::unsupported(message, Location::of(join.relation.span())));
        }
        self.read_parts(select)?;
        self.spell_stars(select)?;
        match select.from[place].joins.first().and_then(turned) {
            Some((Side::Right, on)) => swap(&mut select.from[place], on),
            Some((Side::Both, on)) => self.join_fully(select, order_by, place, on)?,
            None => {}
        }
        self.turn_joins(select, order_by)
    }

    /// Writes `*` as the columns in the order of the relations.
    fn spell_stars(&self, select: &mut Select) -> Result<(), Error> {
        let relations = self.columns_of(&select.from)?;
        let spelled = |relation: &(Ident, Vec<Ident>)| {
            let (alias, columns) = relation.clone();
            let column = move |column| Expr::CompoundIdentifier(vec![alias.clone(), column]);
            columns.into_iter().map(column).map(SelectItem::UnnamedExpr).collect::<Vec<_>>()
        };
        let items = std::mem::take(&mut select.projection).into_iter().flat_map(|item| match &item {
            SelectItem::Wildcard(_) => relations.iter().flat_map(spelled).collect(),
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) => {
                let named =
                    |alias: &Ident| name.to_string().trim_matches('"').eq_ignore_ascii_case(&alias.value);
                relations.iter().find(|(alias, _)| named(alias)).map_or_else(|| vec![item.clone()], spelled)
            }
            _ => vec![item],
        });
        select.projection = items.collect();
        Ok(())
    }

    /// The relations of a `FROM` clause with their visible columns.
    fn columns_of(&self, from: &[TableWithJoins]) -> Result<Vec<(Ident, Vec<Ident>)>, Error> {
        resolve::columns(&side_by_side(from), &self.catalog)
    }

    /// Makes the first join of an item of `FROM` a part and lets the block read that.
    fn join_fully(
        &mut self,
        select: &mut Select,
        order_by: &mut Option<OrderBy>,
        place: usize,
        on: Expr,
    ) -> Result<(), Error> {
        let location = Location::of(on.span());
        let subqueries = select.projection.iter().any(has_subquery);
        if subqueries || select.selection.as_ref().is_some_and(has_subquery) {
            let message = "a subquery beside a FULL JOIN: put the join into a subquery in FROM";
            return Err(Error::unsupported(message, location));
        }
        let all = side_by_side(&select.from);
        let tables = &mut select.from[place];
        let right = tables.joins.remove(0).relation;
        let sides =
            [&tables.relation, &right].map(|side| TableWithJoins { relation: side.clone(), joins: vec![] });
        let columns = resolve::columns(&sides, &self.catalog)?;
        let part = self.part(parse_query(&full(&tables.relation, &right, &on, &columns))?)?;
        let name = Ident::new(unlike(JOINED, &self.columns_of(&all)?));
        tables.relation = table(&part, table_alias(name.clone()));
        let of_sides: Vec<&Ident> = columns.iter().map(|(alias, _)| alias).collect();
        let mut rename = Names(|column: &mut Expr| {
            let Some((relation, of_relation)) = resolve::owner(&all, &self.catalog, column)? else {
                return Ok(());
            };
            *column = if of_sides.iter().any(|side| side.value == relation.value) {
                Expr::CompoundIdentifier(vec![name.clone(), joined_name(&relation, &of_relation)])
            } else {
                Expr::CompoundIdentifier(vec![relation, of_relation])
            };
            Ok(())
        });
        keep_names(&mut select.projection);
        let done = select.visit(&mut rename);
        let done = if done.is_continue() { order_by.visit(&mut rename) } else { done };
        match done {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(error) => Err(*error),
        }
    }
}

/// Which side's rows without partner a join keeps beside those of a `LEFT JOIN`, or instead of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Right,
    Both,
}

/// The kind and condition of a join that is replaced.
fn turned(join: &Join) -> Option<(Side, Expr)> {
    match &join.join_operator {
        JoinOperator::Right(JoinConstraint::On(on)) | JoinOperator::RightOuter(JoinConstraint::On(on)) => {
            Some((Side::Right, on.clone()))
        }
        JoinOperator::FullOuter(JoinConstraint::On(on)) => Some((Side::Both, on.clone())),
        _ => None,
    }
}

fn swap(tables: &mut TableWithJoins, on: Expr) {
    if let Some(join) = tables.joins.first_mut() {
        std::mem::swap(&mut tables.relation, &mut join.relation);
        join.join_operator = JoinOperator::Left(JoinConstraint::On(on));
    }
}

/// The relations of a `FROM` clause without their joins.
fn side_by_side(from: &[TableWithJoins]) -> Vec<TableWithJoins> {
    let factors = from.iter().flat_map(|tables| {
        std::iter::once(&tables.relation).chain(tables.joins.iter().map(|join| &join.relation))
    });
    factors.map(|relation| TableWithJoins { relation: relation.clone(), joins: vec![] }).collect()
}

/// Both sides' columns, first with the rows of the left side, then with those of the right side that have no partner.
fn full(left: &TableFactor, right: &TableFactor, on: &Expr, columns: &[(Ident, Vec<Ident>)]) -> String {
    let list = |missing: Option<&Ident>| {
        let columns =
            columns.iter().flat_map(|(alias, columns)| columns.iter().map(move |column| (alias, column)));
        let item = |(alias, column): (&Ident, &Ident)| {
            let value = match missing {
                Some(missing) if missing == alias => "NULL".to_owned(),
                Some(_) => format!("{ALONE}.{}", quote(&column.value)),
                None => format!("{}.{}", quote(&alias.value), quote(&column.value)),
            };
            format!("{value} AS {}", quote(&joined_name(alias, column).value))
        };
        columns.map(item).collect::<Vec<_>>().join(", ")
    };
    let of_left = columns.first().map(|(alias, _)| alias);
    format!(
        "SELECT {} FROM {left} LEFT JOIN {right} ON {on} UNION ALL SELECT {} FROM (SELECT * FROM {right} WHERE NOT EXISTS (SELECT 1 FROM {left} WHERE {on})) AS {ALONE}",
        list(None),
        list(of_left)
    )
}

fn joined_name(relation: &Ident, column: &Ident) -> Ident {
    Ident::with_quote('"', format!("{}.{}", relation.value, column.value))
}

/// A name that no relation has.
fn unlike(name: &str, relations: &[(Ident, Vec<Ident>)]) -> String {
    let mut name = name.to_owned();
    while relations.iter().any(|(alias, _)| alias.value.eq_ignore_ascii_case(&name)) {
        name.push('_');
    }
    name
}

/// Names the columns of the result as they are called before they are renamed.
fn keep_names(items: &mut [SelectItem]) {
    for item in items {
        let SelectItem::UnnamedExpr(expr) = item else { continue };
        let name = match expr {
            Expr::Identifier(name) => Some(name.clone()),
            Expr::CompoundIdentifier(parts) => parts.last().cloned(),
            _ => None,
        };
        if let Some(alias) = name {
            *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
        }
    }
}
