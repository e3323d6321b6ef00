//! Filter, projection and inner join: the signed rows, netted, are the change of the view.
//!
//! Where each row of the view is one row of one relation with those that it points to, and only that relation changes, its
//! images are those of the view: nothing has to be netted.

use super::delta::{Image, Indexes, Signed, bases, from_changed_where, occurrences, same_value, signed};
use super::layout::Layout;
use super::select::{Render, conjunction};
use super::{Parts, quote, render};
use crate::query::{ColumnRef, Scalar, SelectQuery};
use crate::{Action, Step, facts, image_tables};

/// Alias of the other image of a changed row; no relation of a query may have it.
const OTHER: &str = "__deltamesh_other";

pub(crate) fn plan(query: &SelectQuery, layout: Layout) -> Parts {
    let mut indexes = Indexes::default();
    let exprs = stored_exprs(&layout);
    let owner = owner(query);
    let mut maintain =
        owner.map_or_else(Vec::new, |owner| direct(query, &layout, &exprs, owner, &mut indexes));
    let (mut connect, mut scratch) = (layout.connect(), vec![]);
    if owner.is_none() || query.relations.len() > 1 {
        let mut signed = signed(query, &layout.scratch("delta"), &exprs, &mut indexes);
        if let Some(owner) = owner {
            with_others(query, owner, &mut signed);
        }
        maintain.extend(layout.net_signed(signed));
        connect.push(layout.connect_delta());
        scratch.push(layout.scratch("delta"));
    }
    Parts {
        fill: fill(query, &layout, &exprs),
        scratch,
        layout,
        connect,
        maintain,
        indexes: indexes.into_vec(),
        notes: vec![],
    }
}

/// The relation whose rows are those of the view. Which others change must be known when its turn comes: of a view among
/// several relations it is not.
fn owner(query: &SelectQuery) -> Option<usize> {
    let key = facts::row_key(query);
    let owner = key.first()?.relation;
    let base = &query.relations.get(owner)?.base.base;
    let mirrors = query.relations.iter().all(|joined| joined.base.base.source.is_some());
    let is_owner = key.iter().all(|column| column.relation == owner)
        && occurrences(query, base).len() == 1
        && (mirrors || query.relations.len() == 1);
    is_owner.then_some(owner)
}

/// Tables of images of the relations besides the owner.
fn others(query: &SelectQuery, owner: usize) -> Vec<String> {
    let own = &query.relations[owner].base.base;
    let others = bases(query).into_iter().filter(|base| base != own);
    others.flat_map(|base| image_tables(query.dialect, &base.table)).collect()
}

/// Steps that take the images from the owner's, where no other relation changes.
fn direct(
    query: &SelectQuery,
    layout: &Layout,
    exprs: &[Scalar],
    owner: usize,
    indexes: &mut Indexes,
) -> Vec<Step> {
    let names = Render(query);
    let joined = &query.relations[owner];
    let all: Vec<usize> = (0..query.relations.len()).collect();
    let values = exprs.iter().map(|expr| render(expr, &names)).collect::<Vec<_>>().join(", ");
    let others = others(query, owner);
    let sides =
        [(Image::Old, Image::New, layout.old_images()), (Image::New, Image::Old, layout.new_images())];
    let step = |(image, other, target): (Image, Image, String)| {
        let mut conditions: Vec<String> = conjunction(query.conditions(), &names).into_iter().collect();
        conditions.extend(differs(query, exprs, owner, &other.table(joined, query.dialect)));
        let from = from_changed_where(query, &[owner], image, &all, &conditions, indexes);
        let sql = format!("INSERT INTO {target} ({}) SELECT {values}{from}", layout.all(""));
        let mut action = Action::over(&[image.table(joined, query.dialect)], sql).unless(&others);
        if !others.is_empty() {
            action = action.when("only this relation changes");
        }
        Step { phase: image.phase(&joined.base.base.table), action: action.filling(&target) }
    };
    sides.map(step).into()
}

/// What leaves out the changed rows that are the same to the view; none where it reads every column.
fn differs(query: &SelectQuery, exprs: &[Scalar], owner: usize, other: &str) -> Option<String> {
    let joined = &query.relations[owner];
    let read = exprs.iter().chain(query.conditions()).flat_map(Scalar::columns);
    let mut read: Vec<ColumnRef> =
        read.filter(|column| column.relation == owner).chain(query.key_of(owner)).collect();
    read.sort_unstable();
    read.dedup();
    if read.len() == joined.base.columns.len() {
        return None;
    }
    let same = read.into_iter().map(|column| {
        let name = quote(&query.column(column).name);
        let (own, other) = (format!("{}.{name}", quote(&joined.alias)), format!("{OTHER}.{name}"));
        same_value(query, &Scalar::Column(column), &own, &other)
    });
    let same = same.collect::<Vec<_>>().join(" AND ");
    Some(format!("NOT EXISTS (SELECT 1 FROM {other} AS {OTHER} WHERE {same})"))
}

/// Leaves the owner's changes to [`direct`] where no other relation changes.
fn with_others(query: &SelectQuery, owner: usize, signed: &mut Signed) {
    let (own, others) = (&query.relations[owner].base.base.table, others(query, owner));
    for step in &mut signed.steps {
        if [Image::Old, Image::New].iter().any(|image| step.phase == image.phase(own)) {
            step.action = step.action.clone().and(&others).when("others change too");
        }
    }
}

/// Expressions of the storage columns of a view without state.
pub(crate) fn stored_exprs(layout: &Layout) -> Vec<Scalar> {
    layout.columns.iter().filter_map(|stored| stored.expr.clone()).collect()
}

/// `SELECT` of the storage columns over the bases as they stand.
pub(crate) fn select_stored(query: &SelectQuery, exprs: &[Scalar]) -> String {
    let names = Render(query);
    let values: Vec<String> = exprs.iter().map(|expr| render(expr, &names)).collect();
    let from = query.tables_clause(|joined| quote(&joined.base.storage));
    format!("SELECT {}{from}{}", values.join(", "), query.grouping_clause())
}

pub(crate) fn fill(query: &SelectQuery, layout: &Layout, exprs: &[Scalar]) -> Vec<String> {
    if !layout.stored {
        return vec![];
    }
    let select = select_stored(query, exprs);
    vec![format!("INSERT INTO {} ({}) {select}", quote(&layout.storage()), layout.all(""))]
}
