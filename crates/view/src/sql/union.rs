//! `UNION ALL`: the signed rows of every branch are the change of the view.
//!
//! A row's key is its branch and, as JSON, its key within the branch.

use deltamesh_change::{Column, ColumnType};

use super::delta::{Indexes, Signed, signed};
use super::layout::{Form, Layout, Role, Stored};
use super::linear::select_stored;
use super::{Parts, quote};
use crate::query::{Output, Scalar, SelectQuery};
use crate::{CreateView, Dialect, facts};

const BRANCH: &str = "__deltamesh_branch";
const ROW: &str = "__deltamesh_row";

/// Plans the branches, which are linear; `columns` are the typed outputs of each.
pub(crate) fn plan(
    view: &CreateView,
    branches: &[SelectQuery],
    columns: &[Vec<Column>],
) -> (Parts, Vec<Column>) {
    let dialect = branches.first().map_or(Dialect::Sqlite, |query| query.dialect);
    let layout = layout(view, branches, columns, dialect);
    let visible = layout.columns.iter().filter(|stored| stored.role == Role::Visible);
    let visible = visible.map(|stored| stored.column.clone()).collect();
    let mut indexes = Indexes::default();
    let (mut rows, mut fill) = (Signed::default(), vec![]);
    for (number, query) in branches.iter().enumerate() {
        let mut exprs: Vec<Scalar> = query.outputs.iter().map(|output| output.expr.clone()).collect();
        exprs.extend(key(number, query).map(|output| output.expr));
        rows.extend(signed(query, &layout.scratch("delta"), &exprs, &mut indexes));
        let select = select_stored(query, &exprs);
        fill.push(format!("INSERT INTO {} ({}) {select}", quote(&layout.storage()), layout.all("")));
    }
    let maintain = layout.net_signed(rows);
    let mut connect = layout.connect();
    connect.push(layout.connect_delta());
    let parts = Parts {
        scratch: vec![layout.scratch("delta")],
        layout,
        connect,
        fill,
        maintain,
        indexes: indexes.into_vec(),
        notes: vec![],
    };
    (parts, visible)
}

/// The hidden columns of a branch's rows.
pub(crate) fn key(number: usize, query: &SelectQuery) -> [Output; 2] {
    let output = |name: &str, expr| Output { name: name.to_owned(), expr };
    [output(BRANCH, Scalar::Literal(number.to_string())), output(ROW, row(query))]
}

/// The key of a row within its branch.
fn row(query: &SelectQuery) -> Scalar {
    let json = |column| Scalar::Call("deltamesh_json", vec![Scalar::Column(column)]);
    Scalar::Call("json_array", facts::row_key(query).into_iter().map(json).collect())
}

fn layout(view: &CreateView, branches: &[SelectQuery], columns: &[Vec<Column>], dialect: Dialect) -> Layout {
    let width = columns.first().map_or(0, Vec::len);
    let mut stored: Vec<Stored> = (0..width)
        .map(|index| {
            let of_branch = branches.iter().zip(columns).map(|(query, columns)| {
                let expr = &query.outputs[index].expr;
                let is_null = matches!(expr, Scalar::Literal(sql) if sql == "NULL");
                (Stored::of(query, expr, columns[index].clone(), Role::Visible), is_null)
            });
            merge(of_branch, dialect)
        })
        .collect();
    let hidden = |name: &str, column_type, form, affinity| Stored {
        column: Column::new(name, column_type, false),
        expr: None,
        role: Role::Key,
        form,
        affinity,
    };
    stored.push(hidden(BRANCH, ColumnType::Int, Form::Int, Some("INTEGER")));
    stored.push(hidden(ROW, ColumnType::Text, Form::Text, Some("TEXT")));
    Layout {
        dialect,
        view: view.stem().to_owned(),
        shown: view.name.clone(),
        columns: stored,
        key: vec![width, width + 1],
        lookup: vec![],
        stored: true,
        gone_by: None,
        tables: vec![],
    }
}

/// The column that takes the values of all branches; where they differ in type, each value keeps its own. NULL has no type.
fn merge(columns: impl Iterator<Item = (Stored, bool)>, dialect: Dialect) -> Stored {
    let merged = columns.reduce(|left, right| {
        let ((mut left, left_is_null), (mut right, right_is_null)) = (left, right);
        left.column.nullable |= right.column.nullable;
        right.column.nullable = left.column.nullable;
        if left_is_null {
            return (
                Stored { column: Column { name: left.column.name, ..right.column }, ..right },
                right_is_null,
            );
        }
        if right_is_null || dialect == Dialect::Postgres {
            return (left, false);
        }
        if left.column.column_type != right.column.column_type {
            left.column.column_type = ColumnType::Any;
        }
        if left.form != right.form || left.column.column_type == ColumnType::Any {
            left.form = Form::Own;
        }
        if left.affinity != right.affinity {
            left.affinity = None;
        }
        (left, false)
    });
    let none = || Stored::extreme(String::new(), dialect, ColumnType::Text);
    Stored { expr: None, ..merged.map_or_else(none, |(stored, _)| stored) }
}
