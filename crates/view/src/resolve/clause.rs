//! Select list, `GROUP BY`, `HAVING`, `DISTINCT` and the reading order.

use datafusion_sql::sqlparser::ast::{
    Distinct, Expr, GroupByExpr, OrderBy, OrderByKind, Select, SelectItem, SelectItemQualifiedWildcardKind,
    Spanned, Value,
};

use super::scope::Scope;
use super::{nearest, output};
use crate::query::{ColumnRef, Output, Scalar, SelectQuery, Sort};
use crate::{Error, Location, Order};

/// Adds the output columns of one select item.
pub(super) fn project(scope: &Scope, item: &SelectItem, outputs: &mut Vec<Output>) -> Result<(), Error> {
    let location = Location::of(item.span());
    let plain = |options: &datafusion_sql::sqlparser::ast::WildcardAdditionalOptions| {
        let without = options.opt_ilike.is_none()
            && options.opt_exclude.is_none()
            && options.opt_except.is_none()
            && options.opt_replace.is_none()
            && options.opt_rename.is_none()
            && options.opt_alias.is_none();
        if without { Ok(()) } else { Err(Error::unsupported("a modified *: name the columns", location)) }
    };
    match item {
        SelectItem::Wildcard(options) => {
            plain(options)?;
            for relation in 0..scope.relations().len() {
                every_column(scope, relation, |column| scope.is_bare(column), outputs);
            }
        }
        SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options) => {
            plain(options)?;
            let alias = name.0.last().and_then(|part| part.as_ident());
            let alias = alias.ok_or_else(|| Error::unsupported("write relation.*", location))?;
            every_column(scope, scope.relation(alias)?, |_| true, outputs);
        }
        SelectItem::ExprWithAlias { expr, alias } => {
            outputs.push(output(alias.value.clone(), scope.scalar(expr)?))
        }
        SelectItem::UnnamedExpr(expr) => {
            let resolved = scope.scalar(expr)?;
            let name = match (expr, &resolved) {
                (Expr::Identifier(ident), _) => ident.value.clone(),
                (Expr::CompoundIdentifier(parts), _) => {
                    parts.last().map_or_else(String::new, |part| part.value.clone())
                }
                (_, Scalar::Aggregate(aggregate)) => aggregate.function.name().to_owned(),
                (_, Scalar::Call(name, _)) => (*name).to_owned(),
                _ => {
                    return Err(Error::definition(
                        "give the expression a name: expression AS name",
                        location,
                    ));
                }
            };
            outputs.push(output(name, resolved));
        }
        _ => {
            return Err(Error::unsupported(
                "this item of the select list: write expression AS name",
                location,
            ));
        }
    }
    Ok(())
}

fn every_column(
    scope: &Scope,
    relation: usize,
    wanted: impl Fn(ColumnRef) -> bool,
    outputs: &mut Vec<Output>,
) {
    let base = &scope.relations()[relation].base;
    for (column, definition) in base.columns[..base.visible].iter().enumerate() {
        let column = ColumnRef { relation, column };
        if wanted(column) {
            outputs.push(output(definition.name.clone(), Scalar::Column(column)));
        }
    }
}

/// A view's columns have one name each, and none of the names kept for hidden ones.
pub(super) fn check_names(outputs: &[Output], location: Option<Location>) -> Result<(), Error> {
    for (index, output) in outputs.iter().enumerate() {
        if outputs[..index].iter().any(|earlier| earlier.name.eq_ignore_ascii_case(&output.name)) {
            let message = format!("two columns named {}: rename one with AS", output.name);
            return Err(Error::definition(message, location));
        }
        let lower = output.name.to_ascii_lowercase();
        if lower.is_empty() || lower == "rowid" || lower.starts_with("__deltamesh") {
            return Err(Error::definition(
                format!("the column name {:?} is reserved", output.name),
                location,
            ));
        }
    }
    Ok(())
}

/// An expression in which the names of the select list may also stand, where no column has that name.
pub(super) fn with_aliases(scope: &Scope, expr: &Expr, outputs: &[Output]) -> Result<Scalar, Error> {
    if let Expr::Identifier(name) = expr
        && scope.find_column(name)?.is_none()
        && let Some(output) = outputs.iter().find(|output| output.name.eq_ignore_ascii_case(&name.value))
    {
        return Ok(output.expr.clone());
    }
    super::expression::resolve_with(scope, expr, outputs)
}

pub(super) fn group(
    scope: &Scope,
    select: &Select,
    outputs: &[Output],
    having: Option<&Scalar>,
) -> Result<Option<Vec<Scalar>>, Error> {
    let GroupByExpr::Expressions(expressions, modifiers) = &select.group_by else {
        return Err(Error::unsupported("GROUP BY ALL: name the expressions", Location::of(select.span())));
    };
    if !modifiers.is_empty() {
        return Err(Error::unsupported(
            "a GROUP BY modifier: make one view per grouping",
            Location::of(select.span()),
        ));
    }
    let aggregated = having.is_some() || outputs.iter().any(|output| !output.expr.aggregates().is_empty());
    if expressions.is_empty() {
        return Ok(aggregated.then(Vec::new));
    }
    let mut group: Vec<Scalar> = Vec::new();
    for expr in expressions {
        let location = Location::of(expr.span());
        let resolved = match ordinal(expr) {
            Some(ordinal) => match ordinal.checked_sub(1).and_then(|index| outputs.get(index)) {
                Some(output) => output.expr.clone(),
                None => return Err(Error::name(format!("GROUP BY {ordinal}: no such column"), location)),
            },
            None => with_aliases(scope, expr, outputs)?,
        };
        if !resolved.aggregates().is_empty() {
            return Err(Error::unsupported(
                "an aggregate in GROUP BY: aggregate in a view of its own first",
                location,
            ));
        }
        // A constant does not split groups, and SQLite would read a number as an ordinal.
        if !resolved.columns().is_empty() && !group.contains(&resolved) {
            group.push(resolved);
        } else if resolved.columns().is_empty() {
            return Err(Error::unsupported("a constant in GROUP BY: leave it out", location));
        }
    }
    Ok(Some(group))
}

/// Aggregates stand behind the grouping, window functions behind that.
pub(super) fn check_places<'a>(
    filter: &'a [Scalar],
    grouping: impl Iterator<Item = &'a Scalar>,
    location: Option<Location>,
) -> Result<(), Error> {
    if let Some(aggregate) = filter.iter().flat_map(Scalar::aggregates).next() {
        let message = format!("{} in WHERE: write the condition as HAVING", aggregate.function.name());
        return Err(Error::unsupported(message, location));
    }
    if let Some(window) = filter.iter().chain(grouping).flat_map(Scalar::windows).next() {
        let message = format!(
            "{} OVER in WHERE, GROUP BY or HAVING: write a condition on it as QUALIFY",
            window.function.name()
        );
        return Err(Error::unsupported(message, location));
    }
    Ok(())
}

/// The order of a limit, as far as it goes by columns of the result.
pub(super) fn reading_order(order: &[Sort], outputs: &[Output]) -> Vec<Order> {
    let selected = |sort: &Sort| {
        let output = outputs.iter().find(|output| output.expr == sort.expr)?;
        Some(Order {
            column: output.name.clone(),
            descending: sort.descending,
            nulls_first: sort.nulls_first,
        })
    };
    order.iter().map_while(selected).collect()
}

/// The expressions of `DISTINCT ON`: of the rows that are alike in them, the first is kept.
pub(super) fn distinct_on(select: &Select) -> Option<&[Expr]> {
    match &select.distinct {
        Some(Distinct::On(exprs)) => Some(exprs),
        _ => None,
    }
}

/// Outputs and `HAVING` of a grouped query are made of group expressions and aggregates.
pub(super) fn check_grouping(query: &SelectQuery) -> Result<(), Error> {
    let order = query.top.iter().flat_map(|top| &top.order);
    let is_selected = |sort: &Sort| query.outputs.iter().any(|output| output.expr == sort.expr);
    if query.distinct && !order.clone().all(is_selected) {
        let message = "SELECT DISTINCT … ORDER BY … LIMIT orders by selected columns: select them too";
        return Err(Error::unsupported(message, query.location));
    }
    let Some(group) = &query.group else {
        return Ok(());
    };
    let outputs = query.outputs.iter().map(|output| &output.expr);
    let order = order.map(|sort| &sort.expr);
    for expr in outputs.chain(&query.having).chain(&query.qualify).chain(order) {
        if let Some(column) = ungrouped(expr, group) {
            let name = &query.column(column).name;
            let message = format!(
                "column {name} is neither in GROUP BY nor in an aggregate: add it to GROUP BY, or write min({name})"
            );
            return Err(Error::unsupported(message, query.location));
        }
    }
    Ok(())
}

fn ungrouped(expr: &Scalar, group: &[Scalar]) -> Option<ColumnRef> {
    if group.contains(expr) {
        return None;
    }
    match expr {
        Scalar::Column(column) => Some(*column),
        Scalar::Aggregate(_) => None,
        other => other.children().into_iter().find_map(|child| ungrouped(child, group)),
    }
}

pub(super) fn order_by(
    scope: &Scope,
    order_by: Option<&OrderBy>,
    outputs: &[Output],
) -> Result<Vec<Order>, Error> {
    let Some(order_by) = order_by else {
        return Ok(vec![]);
    };
    let OrderByKind::Expressions(expressions) = &order_by.kind else {
        return Err(Error::unsupported("ORDER BY ALL: name the columns", Location::of(order_by.span())));
    };
    let mut orders = Vec::new();
    for item in expressions {
        let location = Location::of(item.expr.span());
        let position = match (&item.expr, ordinal(&item.expr)) {
            (_, Some(ordinal)) => ordinal.checked_sub(1).filter(|index| *index < outputs.len()),
            (Expr::Identifier(name), None) => {
                outputs.iter().position(|output| output.name.eq_ignore_ascii_case(&name.value))
            }
            _ => None,
        };
        let position = match position {
            Some(position) => Some(position),
            None if ordinal(&item.expr).is_some() => None,
            None => {
                let resolved = scope.scalar(&item.expr)?;
                outputs.iter().position(|output| output.expr == resolved)
            }
        };
        let Some(position) = position else {
            let near = nearest(&item.expr.to_string(), outputs.iter().map(|output| output.name.as_str()));
            let message =
                format!("ORDER BY {}: the view is read by its own columns, select it too{near}", item.expr);
            return Err(Error::unsupported(message, location));
        };
        orders.push(Order {
            column: outputs[position].name.clone(),
            descending: item.options.asc == Some(false),
            nulls_first: item.options.nulls_first,
        });
    }
    Ok(orders)
}

/// The number of an ordinal such as `GROUP BY 1`.
pub(super) fn ordinal(expr: &Expr) -> Option<usize> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::Number(number, _) => number.parse().ok(),
            _ => None,
        },
        _ => None,
    }
}
