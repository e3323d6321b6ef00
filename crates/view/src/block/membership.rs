//! `column IN (SELECT …)` as a join with the distinct values of a part, and `NOT IN` as a row without partner.
//!
//! The join neither adds nor doubles rows only if a value has one partner at most. So both sides have one declared type:
//! between others SQLite converts while it compares, and two different values may equal the same third.

use datafusion_sql::sqlparser::ast::{
    BinaryOperator, Expr, Ident, Join, JoinConstraint, JoinOperator, Query, Select, Spanned, TableWithJoins,
};
use datafusion_sql::sqlparser::tokenizer::Span;
use deltamesh_change::ColumnType;

use super::{Planner, table, table_alias};
use crate::query::{JoinKind, Scalar, SelectQuery};
use crate::sqlite::quote;
use crate::statement::parse_query;
use crate::{Error, Location, facts};

/// How the names of joined parts begin. `*` and bare names do not mean their columns.
pub(crate) const ALIAS: &str = "__deltamesh_in";
const VALUE: &str = "value";

impl Planner<'_> {
    /// Replaces memberships among the conditions of `WHERE` by joins.
    pub(super) fn join_members(&mut self, select: &mut Select) -> Result<(), Error> {
        let Some(selection) = select.selection.take() else { return Ok(()) };
        let mut conditions = vec![];
        add_conjuncts(selection, &mut conditions);
        let mut kept: Option<Expr> = None;
        for (number, condition) in conditions.into_iter().enumerate() {
            let condition = match condition {
                Expr::InSubquery { expr, subquery, negated } => {
                    let name = format!("{ALIAS}{number}");
                    let values = self.values(subquery, expr.span())?;
                    let value = Expr::CompoundIdentifier(vec![Ident::new(&name), Ident::new(VALUE)]);
                    let equal =
                        Expr::BinaryOp { left: expr, op: BinaryOperator::Eq, right: Box::new(value.clone()) };
                    join(select, &values, name, negated.then(|| equal.clone()));
                    if negated { Expr::IsNull(Box::new(value)) } else { equal }
                }
                other => other,
            };
            kept = Some(match kept {
                Some(left) => Expr::BinaryOp {
                    left: Box::new(left),
                    op: BinaryOperator::And,
                    right: Box::new(condition),
                },
                None => condition,
            });
        }
        select.selection = kept;
        Ok(())
    }

    /// A part with the different values of a subquery of one column.
    fn values(&mut self, mut subquery: Box<Query>, span: Span) -> Result<String, Error> {
        super::set::name_columns(&mut subquery.body);
        let rows = self.part(subquery)?;
        let columns = self.names(&rows);
        let [column] = columns.as_slice() else {
            let message = format!("IN compares with one column, not {}", columns.len());
            return Err(Error::types_at(message, Location::of(span)));
        };
        let (column, rows) = (quote(column), quote(&rows));
        self.part(parse_query(&format!("SELECT DISTINCT {column} AS {VALUE} FROM {rows} AS part"))?)
    }
}

/// Reads the values first, where they must have a partner, or last and only perhaps.
fn join(select: &mut Select, values: &str, name: String, outer: Option<Expr>) {
    let relation = table(values, table_alias(Ident::new(name)));
    match (outer, select.from.last_mut()) {
        (Some(on), Some(last)) => last.joins.push(Join {
            relation,
            global: false,
            join_operator: JoinOperator::Left(JoinConstraint::On(on)),
        }),
        _ => select.from.insert(0, TableWithJoins { relation, joins: vec![] }),
    }
}

fn add_conjuncts(expr: Expr, conjuncts: &mut Vec<Expr>) {
    match expr {
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            add_conjuncts(*left, conjuncts);
            add_conjuncts(*right, conjuncts);
        }
        Expr::Nested(inner) if is_and(&inner) => add_conjuncts(*inner, conjuncts),
        other => conjuncts.push(other),
    }
}

fn is_and(expr: &Expr) -> bool {
    matches!(expr, Expr::BinaryOp { op: BinaryOperator::And, .. })
}

/// Checks that the memberships of a resolved block can be joins.
pub(crate) fn check(query: &SelectQuery) -> Result<(), Error> {
    for condition in query.conditions() {
        let Scalar::Binary(left, "=", right) = condition else { continue };
        let (Scalar::Column(value), left) = (&**right, &**left) else { continue };
        let joined = &query.relations[value.relation];
        if !joined.alias.starts_with(ALIAS) {
            continue;
        }
        let declared = |expr: &Scalar| {
            let column = expr.as_column()?;
            let is_typed = query.relations[column.relation].base.typed[column.column];
            Some(query.column(column).column_type).filter(|kind| is_typed && is_comparable(*kind))
        };
        if declared(left).is_none() || declared(left) != declared(right) {
            let message = "IN (SELECT …) compares a column of a relation with one of the same type: select such a column, or JOIN";
            return Err(Error::types_at(message, query.location));
        }
        let has_null = facts::nullable(query, left) || joined.base.columns[value.column].nullable;
        if joined.kind == JoinKind::Left && has_null {
            let message = "NOT IN is never true beside a NULL, and one of these columns may be NULL: write LEFT JOIN … WHERE key IS NULL";
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
