//! Filter, projection and inner join: the signed rows, netted, are the change of the view.

use super::delta::{Indexes, signed};
use super::layout::Layout;
use super::select::Render;
use super::{Parts, quote, render};
use crate::query::{Scalar, SelectQuery};

pub(crate) fn plan(query: &SelectQuery, layout: Layout) -> Parts {
    let mut indexes = Indexes::default();
    let exprs = stored_exprs(&layout);
    let maintain = layout.net_signed(signed(query, &layout.scratch("delta"), &exprs, &mut indexes));
    let mut connect = layout.connect();
    connect.push(layout.connect_delta());
    Parts {
        fill: fill(query, &layout, &exprs),
        scratch: vec![layout.scratch("delta")],
        layout,
        connect,
        maintain,
        indexes: indexes.into_vec(),
        notes: vec![],
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
