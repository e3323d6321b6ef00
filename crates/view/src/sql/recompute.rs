//! Recomputation: of the rows that share the affected values, or of everything.
//!
//! The steps around each base collect the values of the affected expressions from changed rows, old and new. At the end the
//! stored rows with these values go and the freshly computed ones come; netting leaves what really differs.

use super::affected::{AFFECTED, Affected};
use super::delta::{Image, Indexes, bases, from_changed, join_order, occurrences, same_value};
use super::layout::Layout;
use super::linear::{fill, select_stored, stored_exprs};
use super::select::{Render, conjunction};
use super::{Parts, quote, render};
use crate::query::{ColumnRef, Scalar, SelectQuery};
use crate::{Action, Step, strategy};

/// Only the rows that share values of the `affected` expressions.
pub(crate) fn plan(query: &SelectQuery, mut layout: Layout, affected: &[Scalar]) -> Parts {
    let mut indexes = Indexes::default();
    let values = Affected::new(query, affected, &mut layout);
    let mut maintain = collect(query, &values.table, affected, &mut indexes);
    let exprs = stored_exprs(&layout);
    let delta = layout.scratch("delta");
    let finish = [
        format!("INSERT INTO {delta} {}", values.stored(&layout)),
        format!(
            "INSERT INTO {delta} {}",
            restricted(query, &exprs, affected, &values.distinct(), &mut indexes)
        ),
    ];
    let over = std::slice::from_ref(&values.table);
    maintain.extend(finish.map(|sql| Step::finish(Action::over(over, sql).filling(&delta))));
    maintain.extend(layout.net());
    let mut connect = layout.connect();
    connect.push(layout.connect_delta());
    connect.push(values.create());
    Parts {
        fill: fill(query, &layout, &exprs),
        scratch: vec![delta, values.table],
        layout,
        connect,
        maintain,
        indexes: indexes.into_vec(),
        notes: vec![],
    }
}

/// Everything, at every batch that touches a base.
pub(crate) fn plan_full(query: &SelectQuery, layout: Layout) -> Parts {
    let exprs = stored_exprs(&layout);
    let delta = layout.scratch("delta");
    let names: Vec<String> = exprs.iter().map(|expr| render(expr, &Render(query))).collect();
    let from = query.tables_clause(|joined| quote(&joined.base.storage));
    let finish = [
        format!("INSERT INTO {delta} SELECT -1, {} FROM {}", layout.all(""), quote(&layout.storage())),
        format!("INSERT INTO {delta} SELECT 1, {}{from}{}", names.join(", "), query.grouping_clause()),
    ];
    let finish = finish.map(|sql| Step::finish(Action::always(sql).filling(&delta)));
    let maintain = finish.into_iter().chain(layout.net()).collect();
    let mut connect = layout.connect();
    connect.push(layout.connect_delta());
    Parts {
        fill: vec![format!(
            "INSERT INTO {} ({}) {}",
            quote(&layout.storage()),
            layout.all(""),
            select_stored(query, &exprs)
        )],
        scratch: vec![delta],
        layout,
        connect,
        maintain,
        indexes: vec![],
        notes: vec!["every batch that touches a base computes the whole view again".to_owned()],
    }
}

/// Steps that collect the values of expressions from changed rows.
pub(crate) fn collect(
    query: &SelectQuery,
    target: &str,
    affected: &[Scalar],
    indexes: &mut Indexes,
) -> Vec<Step> {
    let preserved = strategy::preserved(query);
    let inner: Vec<usize> = (0..preserved).collect();
    let names = Render(query);
    let values: Vec<String> = affected.iter().map(|expr| render(expr, &names)).collect();
    let mut steps = vec![];
    for base in bases(query) {
        for image in [Image::Old, Image::New] {
            for changed in occurrences(query, &base) {
                let mut among = inner.clone();
                let mut conditions = preserved_conditions(query, preserved);
                for relation in strategy::joined_through(query, changed) {
                    among.push(relation);
                    conditions.extend(&query.relations[relation].on);
                }
                let from = from_changed(query, &[changed], image, &among, &conditions, indexes);
                let sql = format!("INSERT INTO {target} SELECT DISTINCT {}{from}", values.join(", "));
                let images = image.table(&query.relations[changed], query.dialect);
                let action = Action::over(&[images], sql).filling(target);
                steps.push(Step { phase: image.phase(&base.table), action });
            }
        }
    }
    steps
}

/// Conditions that read the preserved side alone.
fn preserved_conditions(query: &SelectQuery, preserved: usize) -> Vec<&Scalar> {
    let inner = query.relations[..preserved].iter().flat_map(|joined| &joined.on);
    let within = |condition: &&Scalar| condition.relations().iter().all(|relation| *relation < preserved);
    inner.chain(query.filter.iter().filter(within)).collect()
}

/// The view's own query, for the affected values alone.
fn restricted(
    query: &SelectQuery,
    exprs: &[Scalar],
    affected: &[Scalar],
    distinct: &str,
    indexes: &mut Indexes,
) -> String {
    let names = Render(query);
    let preserved = strategy::preserved(query);
    let inner: Vec<usize> = (0..preserved).collect();
    let given: Vec<ColumnRef> = affected.iter().filter_map(Scalar::as_column).collect();
    let mut from = format!("{distinct} AS {AFFECTED}");
    for relation in join_order(query, &[], &inner, &given, None, indexes) {
        let joined = &query.relations[relation];
        from.push_str(&format!(" CROSS JOIN {} AS {}", quote(&joined.base.storage), quote(&joined.alias)));
    }
    for (offset, joined) in query.relations[preserved..].iter().enumerate() {
        let on = conjunction(joined.on.iter(), &names).unwrap_or_else(|| "TRUE".to_owned());
        from.push_str(&format!(
            " LEFT JOIN {} AS {} ON {on}",
            quote(&joined.base.storage),
            quote(&joined.alias)
        ));
        let before: Vec<usize> = (0..preserved + offset).collect();
        join_order(query, &before, &[preserved + offset], &[], None, indexes);
    }
    let inner_on = query.relations[..preserved].iter().flat_map(|joined| &joined.on);
    let mut conditions: Vec<String> = affected
        .iter()
        .enumerate()
        .map(|(index, expr)| same_value(query, expr, &render(expr, &names), &format!("{AFFECTED}.e{index}")))
        .collect();
    conditions.extend(conjunction(inner_on.chain(&query.filter), &names));
    let values: Vec<String> = exprs.iter().map(|expr| render(expr, &names)).collect();
    format!(
        "SELECT 1, {} FROM {from} WHERE {}{}",
        values.join(", "),
        conditions.join(" AND "),
        query.grouping_clause()
    )
}
