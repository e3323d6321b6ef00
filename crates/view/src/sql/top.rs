//! The first rows in an order, of everything or of each partition.
//!
//! An index has the order, so that what is kept costs the same to compute again whatever stands behind it. A batch computes
//! the first rows of the partitions that it touches; netting leaves what differs.

use super::affected::{AFFECTED, Affected};
use super::delta::{Indexes, same_value};
use super::layout::Layout;
use super::linear::stored_exprs;
use super::recompute::collect;
use super::select::{Render, sorted};
use super::{Parts, quote, render};
use crate::query::{ColumnRef, Scalar, SelectQuery, Top};
use crate::{Action, Dialect, Step};

/// Alias of the relation where the first rows of a partition are found.
const RANKED: &str = "__deltamesh_ranked";

/// Alias of the first rows.
const FIRST: &str = "__deltamesh_first";

/// Plans the first rows of one relation; partition and order are columns of it.
pub(crate) fn plan(query: &SelectQuery, top: &Top, mut layout: Layout) -> Parts {
    let mut indexes = Indexes::default();
    index(query, top, &mut indexes);
    let partitions = Affected::new(query, &top.partition, &mut layout);
    let delta = layout.scratch("delta");
    let mut maintain = vec![];
    let mut connect = layout.connect();
    connect.push(layout.connect_delta());
    let mut scratch = vec![delta.clone()];
    let fill = format!("INSERT INTO {} ({}) ", quote(&layout.storage()), layout.all(""));
    let (fill, gone, came) = if top.partition.is_empty() {
        let rows = first(query, top, &layout);
        let gone = format!("SELECT -1, {} FROM {}", layout.all(""), quote(&layout.storage()));
        (fill + &rows, gone, format!("SELECT 1, {FIRST}.* FROM ({rows}) AS {FIRST}"))
    } else {
        maintain = collect(query, &partitions.table, &top.partition, &mut indexes);
        connect.push(partitions.create());
        scratch.push(partitions.table.clone());
        let came = first_of_partitions(query, top, &layout, &partitions.distinct());
        let all = first_of_partitions(query, top, &layout, &every_partition(query, top));
        let came = format!("SELECT 1, {FIRST}.* FROM ({came}) AS {FIRST}");
        (fill + &all, partitions.stored(&layout), came)
    };
    let finish = [format!("INSERT INTO {delta} {gone}"), format!("INSERT INTO {delta} {came}")];
    let touched = |action: Action| {
        if top.partition.is_empty() { action } else { action.and(std::slice::from_ref(&partitions.table)) }
    };
    maintain.extend(finish.map(|sql| Step::finish(touched(Action::always(sql)).filling(&delta))));
    maintain.extend(layout.net());
    let note = format!(
        "each batch reads the first {} rows{}",
        top.limit.saturating_add(top.offset),
        if top.partition.is_empty() { "" } else { " of each partition that it touches" }
    );
    Parts {
        layout,
        connect,
        fill: vec![fill],
        maintain,
        scratch,
        indexes: indexes.into_vec(),
        notes: vec![note],
    }
}

/// An index that has the rows of a partition in order.
fn index(query: &SelectQuery, top: &Top, indexes: &mut Indexes) {
    let column = |expr: &Scalar| expr.as_column().map(|column: ColumnRef| column.column);
    // Within a partition its columns have no direction.
    let descends = top.order.first().is_some_and(|sort| sort.descending);
    let partition = top.partition.iter().filter_map(column).map(|column| (column, descends));
    let order = top.order.iter().filter_map(|sort| Some((column(&sort.expr)?, sort.descending)));
    let columns: Vec<(usize, bool)> = partition.chain(order).collect();
    indexes.make_ordered(&query.relations[0], &columns);
}

/// The values of the storage columns.
fn values(query: &SelectQuery, layout: &Layout) -> String {
    let names = Render(query);
    let values: Vec<String> = stored_exprs(layout).iter().map(|expr| render(expr, &names)).collect();
    values.join(", ")
}

fn source(query: &SelectQuery) -> String {
    let joined = &query.relations[0];
    format!("{} AS {}", quote(&joined.base.storage), quote(&joined.alias))
}

/// The first rows of all.
fn first(query: &SelectQuery, top: &Top, layout: &Layout) -> String {
    let order = sorted(&top.order, &Render(query));
    format!(
        "SELECT {} FROM {} ORDER BY {order} LIMIT {} OFFSET {}",
        values(query, layout),
        source(query),
        top.limit,
        top.offset
    )
}

/// Every partition.
fn every_partition(query: &SelectQuery, top: &Top) -> String {
    let names = Render(query);
    let partition: Vec<String> = top
        .partition
        .iter()
        .enumerate()
        .map(|(index, expr)| format!("{} AS e{index}", render(expr, &names)))
        .collect();
    format!("(SELECT DISTINCT {} FROM {})", partition.join(", "), source(query))
}

/// The first rows of each of some partitions.
fn first_of_partitions(query: &SelectQuery, top: &Top, layout: &Layout, partitions: &str) -> String {
    let mut ranked = query.clone();
    RANKED.clone_into(&mut ranked.relations[0].alias);
    let names = Render(&ranked);
    let same: Vec<String> = top
        .partition
        .iter()
        .enumerate()
        .map(|(index, expr)| same_value(query, expr, &render(expr, &names), &format!("{AFFECTED}.e{index}")))
        .collect();
    let first = |columns: &str| {
        let (source, same, order) = (source(&ranked), same.join(" AND "), sorted(&top.order, &names));
        format!("(SELECT {columns} FROM {source} WHERE {same} ORDER BY {order} LIMIT {})", top.limit)
    };
    let values = values(query, layout);
    if query.dialect == Dialect::Postgres {
        let alias = quote(&query.relations[0].alias);
        return format!(
            "SELECT {values} FROM {partitions} AS {AFFECTED} CROSS JOIN LATERAL {} AS {alias}",
            first("*")
        );
    }
    let (key, ranked_key) = (row(query).join(", "), row(&ranked).join(", "));
    format!(
        "SELECT {values} FROM {partitions} AS {AFFECTED} CROSS JOIN {} WHERE ({key}) IN {}",
        source(query),
        first(&ranked_key)
    )
}

/// SQLite: what names a row of the relation, its key, or its place where there is no key without NULL.
fn row(query: &SelectQuery) -> Vec<String> {
    let joined = &query.relations[0];
    let base = &joined.base;
    let key = query.key_of(0);
    if key.is_empty() || base.key.iter().any(|column| base.columns[*column].nullable) {
        return vec![format!("{}.rowid", quote(&joined.alias))];
    }
    let names = Render(query);
    key.into_iter().map(|column| render(&Scalar::Column(column), &names)).collect()
}
