//! Layers of one block: SQL evaluates grouping, window functions, `QUALIFY` with `DISTINCT`, and `LIMIT` one behind the
//! other. A layer whose input is more than the rows of one relation reads a part that has them.

use super::{Planner, ahead, group, membership};
use crate::catalog::CatalogRelation;
use crate::query::{ColumnRef, JoinKind, Joined, Output, Scalar, SelectQuery, Sort, Top, Window};
use crate::{CreateView, Error, Program, kinds, resolve, sql, strategy, typing};

/// Name by which a layer reads the one below.
const BELOW: &str = "part";

impl Planner<'_> {
    /// Plans a block that is resolved as it stands.
    pub(crate) fn plan(&mut self, view: &CreateView) -> Result<Program, Error> {
        let query = resolve::resolve(&view.query, &self.catalog)?;
        membership::check(&query)?;
        let query = self.merged(query);
        self.remember(&view.name, &query);
        self.layers(view, query)
    }

    fn layers(&mut self, view: &CreateView, query: SelectQuery) -> Result<Program, Error> {
        if query.top.is_some() && !is_one_relation_in_order(&query) {
            let (lower, upper) = below_top(query);
            return self.over(view, lower, upper);
        }
        if query.qualify.is_some() || query.distinct && gives_rows_twice(&query) {
            let (lower, upper) = below_qualify(query);
            let Some(upper) = upper else { return self.layers(view, lower) };
            return self.over(view, lower, upper);
        }
        if query.top.is_none() && query.windows().next().is_some() && !is_one_relation_in_parts(&query) {
            let (lower, upper) = below_windows(query);
            return self.over(view, lower, upper);
        }
        if let Some((lower, mut upper)) = ahead::totals_ahead(&query) {
            let totals = self.below(view, lower)?;
            if let Some(joined) = upper.relations.last_mut() {
                joined.base = totals;
            }
            return self.layers(view, upper);
        }
        let grouped = [group::below_groups, group::below_distinct, group::below_having];
        if let Some((lower, upper)) = grouped.iter().find_map(|below| below(&query)) {
            return self.over(view, lower, upper);
        }
        kinds::check(&query)?;
        let columns = typing::columns(&query)?;
        sql::program(view, &query, columns)
    }

    /// Plans a layer over one that becomes a part.
    fn over(
        &mut self,
        view: &CreateView,
        lower: SelectQuery,
        mut upper: SelectQuery,
    ) -> Result<Program, Error> {
        let (alias, base) = (BELOW.to_owned(), self.below(view, lower)?);
        upper.relations = vec![Joined { alias, base, kind: JoinKind::Inner, on: vec![] }];
        self.layers(view, upper)
    }

    /// Makes a layer a part.
    fn below(&mut self, view: &CreateView, lower: SelectQuery) -> Result<CatalogRelation, Error> {
        let statement = self.part_statement(view.query.clone())?;
        let part = self.layers(&statement, lower)?;
        let name = self.add(part);
        let base = self.catalog.table(&name);
        base.cloned().ok_or_else(|| Error::definition(format!("no part {name}"), view.location))
    }
}

/// Whether window functions, or groups that are not all selected, may give the same row twice.
fn gives_rows_twice(query: &SelectQuery) -> bool {
    let is_selected = |group: &Scalar| query.outputs.iter().any(|output| output.expr == *group);
    query.windows().next().is_some() || !query.group.iter().flatten().all(is_selected)
}

/// Whether the first rows are those of a relation, by columns of it, so that an index has their order.
fn is_one_relation_in_order(query: &SelectQuery) -> bool {
    let top = query.top.iter();
    let mut exprs = top.flat_map(|top| top.partition.iter().chain(top.order.iter().map(|sort| &sort.expr)));
    let numbers = query.top.as_ref().is_some_and(|top| !top.partition.is_empty());
    is_rows_of_one_relation(query)
        && query.filter.is_empty()
        && query.qualify.is_none()
        && (numbers || query.windows().next().is_none())
        && exprs.all(|expr| expr.as_column().is_some())
}

/// Whether the partitions of the window functions are found in a relation by an index.
fn is_one_relation_in_parts(query: &SelectQuery) -> bool {
    is_rows_of_one_relation(query) && strategy::partition(query).iter().all(|expr| expr.as_column().is_some())
}

fn is_rows_of_one_relation(query: &SelectQuery) -> bool {
    query.relations.len() == 1 && query.group.is_none() && query.having.is_none() && !query.distinct
}

/// The columns of a lower layer.
#[derive(Default)]
pub(super) struct Below {
    outputs: Vec<Output>,
}

impl Below {
    /// The expression over the columns of the lower layer; what `is_whole` says is calculated there.
    pub(super) fn lift(&mut self, expr: &Scalar, is_whole: &dyn Fn(&Scalar) -> bool) -> Scalar {
        expr.replaced(&mut |expr| {
            let is_constant =
                expr.columns().is_empty() && expr.aggregates().is_empty() && expr.windows().is_empty();
            (is_whole(expr) && !is_constant).then(|| self.column(expr, None))
        })
    }

    pub(super) fn column(&mut self, expr: &Scalar, name: Option<&str>) -> Scalar {
        let known = self.outputs.iter().position(|output| output.expr == *expr);
        let column = known.unwrap_or_else(|| {
            self.outputs.push(Output { name: self.free_name(name), expr: expr.clone() });
            self.outputs.len() - 1
        });
        Scalar::Column(ColumnRef { relation: 0, column })
    }

    fn free_name(&self, wanted: Option<&str>) -> String {
        let numbered = || format!("c{}", self.outputs.len());
        let mut name = wanted.map_or_else(numbered, str::to_owned);
        while self.outputs.iter().any(|output| output.name.eq_ignore_ascii_case(&name)) {
            name.push('_');
        }
        name
    }

    fn sorted(&mut self, order: &[Sort], is_whole: &dyn Fn(&Scalar) -> bool) -> Vec<Sort> {
        order.iter().map(|sort| Sort { expr: self.lift(&sort.expr, is_whole), ..sort.clone() }).collect()
    }

    pub(super) fn outputs(&mut self, outputs: &[Output], is_whole: &dyn Fn(&Scalar) -> bool) -> Vec<Output> {
        let lift = |output: &Output| {
            let expr = match output.expr.windows().is_empty() && !output.expr.columns().is_empty() {
                true => self.column(&output.expr, Some(&output.name)),
                false => self.lift(&output.expr, is_whole),
            };
            Output { name: output.name.clone(), expr }
        };
        outputs.iter().map(lift).collect()
    }
}

impl Below {
    pub(super) fn is_empty(&self) -> bool {
        self.outputs.is_empty()
    }

    /// The lower layer, which selects these columns.
    pub(super) fn into_query(self, query: SelectQuery) -> SelectQuery {
        SelectQuery { outputs: self.outputs, order_by: vec![], ..query }
    }
}

fn has_no_window(expr: &Scalar) -> bool {
    expr.windows().is_empty()
}

/// A layer that only reads rows of the one below.
pub(super) fn reading(query: &SelectQuery, outputs: Vec<Output>) -> SelectQuery {
    SelectQuery {
        dialect: query.dialect,
        relations: vec![],
        filter: vec![],
        group: None,
        having: None,
        qualify: None,
        distinct: false,
        outputs,
        top: None,
        order_by: query.order_by.clone(),
        location: query.location,
    }
}

fn below_top(mut query: SelectQuery) -> (SelectQuery, SelectQuery) {
    let mut below = Below::default();
    let top = query.top.take();
    // A row number of a partition's first rows stands with them, everything else below.
    let by_partition = top.as_ref().is_some_and(|top| !top.partition.is_empty());
    let is_whole = |expr: &Scalar| !by_partition || has_no_window(expr);
    let outputs = below.outputs(&query.outputs, &is_whole);
    let top = top.map(|top| Top {
        partition: top.partition.iter().map(|expr| below.lift(expr, &is_whole)).collect(),
        order: below.sorted(&top.order, &is_whole),
        ..top
    });
    let upper = SelectQuery { top, ..reading(&query, outputs) };
    (below.into_query(query), upper)
}

/// The second is missing where the condition only keeps the first rows of each partition.
fn below_qualify(mut query: SelectQuery) -> (SelectQuery, Option<SelectQuery>) {
    let mut conditions = query.qualify.take().map_or_else(Vec::new, Scalar::conjuncts);
    query.top = first_rows(&query, &mut conditions);
    if query.top.is_some() && conditions.is_empty() && !query.distinct {
        return (query, None);
    }
    let mut below = Below::default();
    let is_whole = |expr: &Scalar| matches!(expr, Scalar::Window(_)) || has_no_window(expr);
    let outputs = below.outputs(&query.outputs, &is_whole);
    let filter = conditions.iter().map(|condition| below.lift(condition, &is_whole)).collect();
    let upper = SelectQuery { filter, distinct: query.distinct, ..reading(&query, outputs) };
    query.distinct = false;
    (below.into_query(query), Some(upper))
}

fn below_windows(query: SelectQuery) -> (SelectQuery, SelectQuery) {
    let mut below = Below::default();
    let outputs = below.outputs(&query.outputs, &has_no_window);
    let upper = reading(&query, outputs);
    (below.into_query(query), upper)
}

/// The first rows of each partition, if a condition says `row_number() OVER (…) <= n` and there is no other window
/// function; that condition is taken out.
fn first_rows(query: &SelectQuery, conditions: &mut Vec<Scalar>) -> Option<Top> {
    let (place, window, limit) = conditions.iter().enumerate().find_map(|(place, condition)| {
        let (window, limit) = numbered(condition)?;
        Some((place, window.clone(), limit))
    })?;
    let of_conditions = conditions.iter().flat_map(Scalar::windows);
    let only = query.windows().chain(of_conditions).all(|other| *other == window);
    if !only {
        return None;
    }
    conditions.remove(place);
    Some(Top { partition: window.partition, order: window.order, limit, offset: 0 })
}

/// The window and the limit of a condition on `row_number()`.
fn numbered(condition: &Scalar) -> Option<(&Window, u64)> {
    let Scalar::Binary(left, operator, right) = condition else { return None };
    let (window, operator, limit) = match (&**left, &**right) {
        (Scalar::Window(window), Scalar::Literal(limit)) => (window, *operator, limit),
        (Scalar::Literal(limit), Scalar::Window(window)) => (window, mirrored(operator), limit),
        _ => return None,
    };
    let limit: u64 = limit.parse().ok().filter(|limit| i64::try_from(*limit).is_ok())?;
    let limit = match operator {
        "<=" => limit,
        "<" => limit.checked_sub(1)?,
        "=" if limit == 1 => 1,
        _ => return None,
    };
    window.is_row_number().then_some((window, limit))
}

/// The comparison with its sides exchanged.
fn mirrored(operator: &'static str) -> &'static str {
    match operator {
        "<" => ">",
        "<=" => ">=",
        ">" => "<",
        ">=" => "<=",
        other => other,
    }
}
