//! The key of a view and the columns of its storage.

use deltamesh_change::{Column, ColumnType};

use super::layout::{Layout, Role, Stored};
use crate::query::{Scalar, SelectQuery};
use crate::{CreateView, Dialect, Error, Stored as Keep, dialect, facts, kinds};

/// Storage columns of the outputs and of key parts that are not selected; the key is declared or derived.
pub(crate) fn layout(
    statement: &CreateView,
    query: &SelectQuery,
    columns: &[Column],
) -> Result<Layout, Error> {
    let stored = query
        .outputs
        .iter()
        .zip(columns)
        .map(|(output, column)| Stored::of(query, &output.expr, column.clone(), Role::Visible))
        .collect();
    let mut layout = Layout {
        dialect: query.dialect,
        view: statement.stem().to_owned(),
        shown: statement.name.clone(),
        columns: stored,
        key: vec![],
        lookup: vec![],
        stored: statement.options.stored != Keep::Never,
        gone_by: None,
        tables: vec![],
    };
    let is_one = query.top.as_ref().is_some_and(|top| top.partition.is_empty() && top.limit <= 1);
    let derived: Vec<Scalar> = match &query.group {
        _ if is_one => vec![],
        Some(group) => group.clone(),
        None => facts::row_key(query).into_iter().map(Scalar::Column).collect(),
    };
    let key: Vec<usize> = if statement.options.key.is_empty() {
        derived
            .iter()
            .enumerate()
            .map(|(place, part)| stored_index(&mut layout, query, part, place))
            .collect()
    } else {
        declared(statement, query, &derived)?
    };
    for index in key {
        if !layout.key.contains(&index) {
            layout.key.push(index);
        }
    }
    Ok(layout)
}

/// Index of the storage column that holds an expression; adds a hidden one, named after its place, if it is not selected.
pub(crate) fn stored_index(layout: &mut Layout, query: &SelectQuery, expr: &Scalar, place: usize) -> usize {
    if let Some(index) = selected(query, expr) {
        return index;
    }
    let equal = |candidate: &Scalar| match (candidate, expr) {
        (Scalar::Column(candidate), Scalar::Column(column)) if query.group.is_none() => {
            facts::equals(query, *column).contains(candidate)
        }
        _ => false,
    };
    if let Some(index) = query.outputs.iter().position(|output| equal(&output.expr)) {
        return index;
    }
    let name = hidden_name(query, expr, place);
    if let Some(index) = layout.columns.iter().position(|stored| stored.column.name == name) {
        return index;
    }
    let column_type = match expr {
        Scalar::Column(column) => query.column(*column).column_type,
        expr if query.dialect == Dialect::Postgres => kinds::known(query, expr).unwrap_or(ColumnType::Text),
        _ => ColumnType::Any,
    };
    let column = Column::new(name, column_type, facts::nullable(query, expr));
    layout.columns.push(Stored::of(query, expr, column, Role::Key));
    layout.columns.len() - 1
}

/// Name of the hidden column of an expression: by its place in the key, so that it is the same at every planning.
fn hidden_name(query: &SelectQuery, expr: &Scalar, place: usize) -> String {
    match expr {
        Scalar::Column(column) => {
            let name = &query.column(*column).name;
            dialect::short(format!("__deltamesh_key_{}_{name}", column.relation))
        }
        _ => format!("__deltamesh_key_{place}"),
    }
}

fn selected(query: &SelectQuery, expr: &Scalar) -> Option<usize> {
    query.outputs.iter().position(|output| output.expr == *expr)
}

/// Checks `key = '…'`: the columns exist and decide every part of the derived key.
fn declared(statement: &CreateView, query: &SelectQuery, derived: &[Scalar]) -> Result<Vec<usize>, Error> {
    let mut key = vec![];
    for name in &statement.options.key {
        let index = query.outputs.iter().position(|output| output.name.eq_ignore_ascii_case(name));
        let Some(index) = index else {
            let near = crate::resolve::nearest(name, query.outputs.iter().map(|output| output.name.as_str()));
            let message = format!("key column {name} is not selected{near}");
            return Err(Error::definition(message, statement.location));
        };
        if !key.contains(&index) {
            key.push(index);
        }
    }
    let known = facts::closure(
        query,
        key.iter().filter_map(|index| match &query.outputs[*index].expr {
            Scalar::Column(column) => Some(*column),
            _ => None,
        }),
    );
    let decided = |part: &Scalar| {
        key.iter().any(|index| query.outputs[*index].expr == *part)
            || matches!(part, Scalar::Column(column) if known.contains(column))
    };
    if let Some(part) = derived.iter().find(|part| !decided(part)) {
        let missing = super::render(part, &super::Render(query));
        let message = format!(
            "key '{}' does not identify rows: two may differ in {missing}; add it, or leave key out",
            statement.options.key.join(", ")
        );
        return Err(Error::definition(message, statement.location));
    }
    Ok(key)
}
