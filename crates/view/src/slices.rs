//! By what a view can be filled a part at a time, beside the flow of changes.
//!
//! What is maintained by changed rows costs the same in any slices. What is computed again by groups must get each group
//! whole, or it would be computed with each slice that has a row of it: so the slices are of whole values of a column that
//! all rows of a group share.

use crate::query::{ColumnRef, Scalar, SelectQuery, Top};
use crate::strategy::Strategy;
use crate::{Catalog, Index, Program, ViewDefinition, facts};

/// How a view is filled a part at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slices {
    /// In slices of any of its relations.
    Any,
    /// In slices of whole values of one of these columns.
    By(Vec<SliceColumn>),
    /// Not at all, for this reason.
    Whole(&'static str),
}

/// A column of a relation that a view reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceColumn {
    /// Table of the relation.
    pub table: String,
    /// Name of the column.
    pub column: String,
}

/// What is known of one block of a view.
#[derive(Debug, Clone)]
pub(crate) struct Sliced {
    slices: Slices,
    /// Columns of the block's result that are columns of what it reads, with all that they are equal to.
    origins: Vec<(String, Vec<SliceColumn>)>,
}

impl Sliced {
    /// Of a block that is kept by a rule; `columns` are the names and values of its storage.
    pub(crate) fn block(query: &SelectQuery, strategy: &Strategy, columns: &[(String, Scalar)]) -> Self {
        let slices = match strategy {
            Strategy::Linear | Strategy::Aggregate => Slices::Any,
            Strategy::Recompute(affected) => by(query, affected),
            Strategy::Top(top) => of_first_rows(query, top),
            Strategy::Full => Slices::Whole("it is computed as a whole"),
        };
        Self { slices, origins: origins(query, columns) }
    }

    /// Of a `UNION ALL`, whose branches agree in the names of the columns.
    pub(crate) fn union_all(branches: &[SelectQuery]) -> Self {
        let names = branches.first().map_or(&[][..], |query| &query.outputs);
        let origins = names.iter().enumerate().map(|(index, output)| {
            let values = branches.iter().filter_map(|query| Some((query, &query.outputs.get(index)?.expr)));
            (output.name.clone(), values.flat_map(|(query, expr)| equal_to(query, expr)).collect())
        });
        Self { slices: Slices::Any, origins: origins.collect() }
    }
}

fn by(query: &SelectQuery, exprs: &[Scalar]) -> Slices {
    let columns: Vec<SliceColumn> = exprs.iter().flat_map(|expr| equal_to(query, expr)).collect();
    match columns.is_empty() {
        true => Slices::Whole("its groups are those of an expression, not of a column"),
        false => Slices::By(columns),
    }
}

fn of_first_rows(query: &SelectQuery, top: &Top) -> Slices {
    let is_of_base = query.relations.iter().any(|joined| joined.base.is_mirror());
    match (is_of_base, top.partition.is_empty()) {
        // Among the rows of a slice they would be looked for in an index of all.
        (true, true) => Slices::Whole("its first rows are read by an index"),
        // In the rows that a part has they are found at once.
        (false, true) => Slices::Any,
        (_, false) => by(query, &top.partition),
    }
}

/// The columns that always have the value of an expression, if it is one.
fn equal_to(query: &SelectQuery, expr: &Scalar) -> Vec<SliceColumn> {
    let columns = expr.as_column().map_or_else(Vec::new, |column| facts::equals(query, column));
    columns.into_iter().map(|column| named(query, column)).collect()
}

fn named(query: &SelectQuery, column: ColumnRef) -> SliceColumn {
    let table = query.relations[column.relation].base.base.table.clone();
    SliceColumn { table, column: query.column(column).name.clone() }
}

fn origins(query: &SelectQuery, columns: &[(String, Scalar)]) -> Vec<(String, Vec<SliceColumn>)> {
    let origin = |(name, expr): &(String, Scalar)| (name.clone(), equal_to(query, expr));
    columns.iter().map(origin).filter(|(_, columns)| !columns.is_empty()).collect()
}

/// How a view of these blocks is filled: each part stands behind those that it reads, the view is the last.
pub(crate) fn compose<'a>(blocks: impl Iterator<Item = &'a Program> + Clone) -> Slices {
    blocks.clone().fold(Slices::Any, |known, block| match (known, traced(blocks.clone(), block)) {
        (Slices::Whole(reason), _) | (_, Slices::Whole(reason)) => Slices::Whole(reason),
        (Slices::Any, other) | (other, Slices::Any) => other,
        (Slices::By(mut columns), Slices::By(others)) => {
            columns.retain(|column| others.contains(column));
            match columns.is_empty() {
                true => Slices::Whole("its groups are those of several columns"),
                false => Slices::By(columns),
            }
        }
    })
}

/// Leaves the columns by which rows are found: those that begin a key or an index. Only relations feed a view.
pub(crate) fn found(slices: Slices, catalog: &Catalog, definition: &ViewDefinition) -> Slices {
    let ViewDefinition { bases, indexes, .. } = definition;
    if !bases.is_empty() && bases.iter().all(|base| base.source.is_none()) {
        return Slices::Whole("it reads only views");
    }
    let Slices::By(mut columns) = slices else { return slices };
    columns.retain(|SliceColumn { table, column }| {
        // One that waits for the first change of a relation is made with its first slice.
        let is_there = |index: &Index| index.is_made_at_once() || index.changes_of.contains(table);
        let is_first =
            |index: &Index| index.table == *table && index.columns.first() == Some(column) && is_there(index);
        let relation = catalog.table(table).filter(|relation| relation.is_mirror());
        relation.is_some_and(|relation| {
            let key = relation.key.first().and_then(|key| relation.columns.get(*key));
            key.is_some_and(|key| key.name == *column) || indexes.iter().any(is_first)
        })
    });
    match columns.is_empty() {
        true => Slices::Whole("no index finds the rows of its groups"),
        false => Slices::By(columns),
    }
}

/// What a block says of parts, of the relations that these read.
fn traced<'a>(blocks: impl Iterator<Item = &'a Program> + Clone, block: &Program) -> Slices {
    let Slices::By(columns) = &block.sliced.slices else { return block.sliced.slices.clone() };
    let mut waiting = columns.clone();
    let mut found: Vec<SliceColumn> = vec![];
    while let Some(column) = waiting.pop() {
        match blocks.clone().find(|part| part.definition.name == column.table) {
            // Parts read only those before them.
            Some(part) => {
                let origins = part.sliced.origins.iter().filter(|(name, _)| *name == column.column);
                waiting.extend(origins.flat_map(|(_, origins)| origins.iter().cloned()));
            }
            None if !found.contains(&column) => found.push(column),
            None => {}
        }
    }
    match found.is_empty() {
        true => Slices::Whole("its groups are those of a calculated column"),
        false => Slices::By(found),
    }
}

impl Slices {
    /// For people, where it is not like with every other view.
    pub(crate) fn note(&self) -> Option<String> {
        match self {
            Self::Any => None,
            Self::By(columns) => {
                let columns = columns.iter().map(|SliceColumn { table, column }| format!("{table}.{column}"));
                let columns = columns.collect::<Vec<_>>().join(" or ");
                Some(format!("over a large relation filled beside the flow, by whole values of {columns}"))
            }
            Self::Whole(reason) => Some(format!("filled in one transaction: {reason}")),
        }
    }
}
