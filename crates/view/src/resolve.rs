//! From the parsed `SELECT` to a [`SelectQuery`]: names are looked up, and what has no maintenance rule is refused with
//! its reason and what to write instead.

mod call;
mod clause;
mod expression;
mod format;
mod joining;
mod moment;
mod refused;
mod rewritten;
mod scope;
mod temporal;
mod texts;
mod window;

use datafusion_sql::sqlparser::ast::{
    Distinct, Expr, GroupByExpr, Ident, Query, Select, SelectItem, SetExpr, Spanned, TableWithJoins,
};

use crate::query::{AggregateFunction, Output, Scalar, SelectQuery};
use crate::{Catalog, Error, ErrorKind, Location, facts};
pub(crate) use call::{is_aggregate, is_truth};
pub(crate) use scope::MAX_RELATIONS;
use scope::Scope;
pub(crate) use window::{limit, ordered_limit};

/// Resolves a view's query.
pub(crate) fn resolve(query: &Query, catalog: &Catalog) -> Result<SelectQuery, Error> {
    let select = select_of(query)?;
    let location = Location::of(select.span());
    if select.from.is_empty() {
        return Err(Error::unsupported("a view selects FROM at least one relation", location));
    }
    let scope = Scope::open(&select.from, catalog)?.with_windows(&select.named_window);
    let mut outputs = Vec::new();
    for item in &select.projection {
        clause::project(&scope, item, &mut outputs)?;
    }
    clause::check_names(&outputs, location)?;
    let filter = match &select.selection {
        Some(selection) => scope.scalar(selection)?.conjuncts(),
        None => vec![],
    };
    let having =
        select.having.as_ref().map(|having| clause::with_aliases(&scope, having, &outputs)).transpose()?;
    let mut qualify =
        select.qualify.as_ref().map(|qualify| clause::with_aliases(&scope, qualify, &outputs)).transpose()?;
    let group = clause::group(&scope, select, &outputs, having.as_ref())?;
    clause::check_places(&filter, group.iter().flatten().chain(&having), location)?;
    let distinct = select.distinct == Some(Distinct::Distinct);
    let top = window::top(&scope, query, &outputs)?;
    let order_by = match (&top, clause::distinct_on(select)) {
        (top, Some(exprs)) => {
            let first = window::first_of_each(&scope, query, exprs, &outputs)?;
            let order = top.as_ref().map_or(&first.order, |top| &top.order);
            let order_by = clause::reading_order(order, &outputs);
            qualify = qualify.into_iter().chain([first.first()]).reduce(Scalar::and);
            order_by
        }
        (Some(top), None) => clause::reading_order(&top.order, &outputs),
        (None, None) => clause::order_by(&scope, query.order_by.as_ref(), &outputs)?,
    };
    let mut query = SelectQuery {
        dialect: catalog.dialect(),
        relations: scope.into_relations(),
        filter,
        group,
        having,
        qualify,
        distinct,
        outputs,
        top,
        order_by,
        location,
    };
    clause::check_grouping(&query)?;
    facts::reduce_outer_joins(&mut query);
    facts::inner_joins_first(&mut query);
    window::decide_ties(&mut query)?;
    Ok(query)
}

/// Whether every name in an expression is one of these relations.
pub(crate) fn is_known(from: &[TableWithJoins], catalog: &Catalog, expr: &Expr) -> Result<bool, Error> {
    match Scope::open(from, catalog)?.scalar(expr) {
        Ok(_) => Ok(true),
        Err(error) if error.kind == ErrorKind::Name => Ok(false),
        Err(error) => Err(error),
    }
}

/// The relation among these that has a column, by its alias, and the column's name.
pub(crate) fn owner(
    from: &[TableWithJoins],
    catalog: &Catalog,
    column: &Expr,
) -> Result<Option<(Ident, Ident)>, Error> {
    let scope = Scope::open(from, catalog)?;
    match scope.scalar(column) {
        Ok(Scalar::Column(column)) => {
            let joined = &scope.relations()[column.relation];
            let name = &joined.base.columns[column.column].name;
            Ok(Some((Ident::with_quote('"', &joined.alias), Ident::with_quote('"', name))))
        }
        Ok(_) => Ok(None),
        Err(error) if error.kind == ErrorKind::Name => Ok(None),
        Err(error) => Err(error),
    }
}

/// The relations of a `FROM` clause with their visible columns.
pub(crate) fn columns(from: &[TableWithJoins], catalog: &Catalog) -> Result<Vec<(Ident, Vec<Ident>)>, Error> {
    let quoted = |name: &String| Ident::with_quote('"', name);
    let relations = Scope::open(from, catalog)?.into_relations().into_iter().map(|joined| {
        let columns = joined.base.columns[..joined.base.visible].iter().map(|column| quoted(&column.name));
        (quoted(&joined.alias), columns.collect())
    });
    Ok(relations.collect())
}

/// The aggregates in an expression over these relations.
pub(crate) fn aggregates(
    from: &[TableWithJoins],
    catalog: &Catalog,
    expr: &Expr,
) -> Result<Vec<AggregateFunction>, Error> {
    let scalar = Scope::open(from, catalog)?.scalar(expr)?;
    Ok(scalar.aggregates().iter().map(|aggregate| aggregate.function).collect())
}

/// Whether a block has one row for several of its relations'.
pub(crate) fn is_grouped(select: &Select, catalog: &Catalog) -> Result<bool, Error> {
    let scope = Scope::open(&select.from, catalog)?;
    let is_group = !matches!(&select.group_by, GroupByExpr::Expressions(group, _) if group.is_empty());
    let aggregates = |item: &SelectItem| match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
            scope.scalar(expr).is_ok_and(|scalar| !scalar.aggregates().is_empty())
        }
        _ => false,
    };
    Ok(is_group || select.projection.iter().any(aggregates))
}

/// The one plain `SELECT` that a view may be.
fn select_of(query: &Query) -> Result<&Select, Error> {
    check_clauses(query)?;
    let refuse = |what: &str, instead: &str| Err(refusal(query, what, instead));
    let select = match &*query.body {
        SetExpr::Select(select) => select,
        SetExpr::Values(_) => return refuse("VALUES", "write CASE, or make it a relation of the source"),
        SetExpr::Table(_) => return refuse("TABLE", "write SELECT * FROM"),
        _ => return refuse("this form of query", "write one SELECT … FROM …"),
    };
    let unknown = select.top.is_some()
        || select.into.is_some()
        || !select.lateral_views.is_empty()
        || select.prewhere.is_some()
        || !select.connect_by.is_empty()
        || !select.cluster_by.is_empty()
        || !select.distribute_by.is_empty()
        || !select.sort_by.is_empty()
        || select.exclude.is_some()
        || select.value_table_mode.is_some();
    if unknown {
        return refuse(
            "this clause of SELECT",
            "use FROM, JOIN, WHERE, GROUP BY, HAVING, WINDOW and QUALIFY",
        );
    }
    Ok(select)
}

/// Refuses what may stand behind a query and has no maintenance rule.
pub(crate) fn check_clauses(query: &Query) -> Result<(), Error> {
    if !query.locks.is_empty() || query.for_clause.is_some() || !query.pipe_operators.is_empty() {
        return Err(refusal(query, "a clause after the SELECT", "leave it out"));
    }
    Ok(())
}

fn refusal(query: &Query, what: &str, instead: &str) -> Error {
    Error::unsupported(format!("{what} is not supported in a view: {instead}"), Location::of(query.span()))
}

/// Names close enough to be meant, for an error.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let mut ranked: Vec<(usize, &str)> = known
        .map(|candidate| (distance(&name.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len().max(name.len()) / 2).max(1))
        .collect();
    ranked.sort_unstable();
    ranked.dedup();
    ranked.truncate(3);
    let names: Vec<&str> = ranked.into_iter().map(|(_, candidate)| candidate).collect();
    if names.is_empty() { String::new() } else { format!("; near: {}", names.join(", ")) }
}

/// Edits from one text to the other (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, character) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, other) in to.iter().enumerate() {
            let change = diagonal + usize::from(character != *other);
            diagonal = row[column + 1];
            row[column + 1] = change.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

/// An output item that is a plain expression.
fn output(name: String, expr: Scalar) -> Output {
    Output { name, expr }
}
