//! Values of expressions that a batch's changed rows have: what shares them is computed again.

use deltamesh_change::ColumnType;

use super::delta::same_value;
use super::keys::stored_index;
use super::layout::Layout;
use super::quote;
use crate::kinds;
use crate::query::{Scalar, SelectQuery};

/// Alias of the affected values; no relation of a query may have it.
pub(super) const AFFECTED: &str = "__deltamesh_affected";

/// The expressions, the table that collects their values, and the storage columns that have them.
pub(super) struct Affected<'a> {
    query: &'a SelectQuery,
    pub(super) exprs: &'a [Scalar],
    /// Quoted name of the table; its columns are `e0`, `e1`, ….
    pub(super) table: String,
    positions: Vec<usize>,
}

impl<'a> Affected<'a> {
    /// Adds what the storage needs to be found by the values.
    pub(super) fn new(query: &'a SelectQuery, exprs: &'a [Scalar], layout: &mut Layout) -> Self {
        let position = |(place, expr)| stored_index(layout, query, expr, place);
        let positions: Vec<usize> = exprs.iter().enumerate().map(position).collect();
        layout.look_up(&positions);
        Self { query, exprs, table: layout.scratch("affected"), positions }
    }

    fn names(&self) -> Vec<String> {
        (0..self.exprs.len()).map(|index| format!("e{index}")).collect()
    }

    /// Makes the table.
    pub(super) fn create(&self) -> String {
        let kinds = self.exprs.iter().map(|expr| kinds::known(self.query, expr).unwrap_or(ColumnType::Text));
        let columns: Vec<(String, ColumnType)> = self.names().into_iter().zip(kinds).collect();
        self.query.dialect.create_scratch(&self.table, &columns)
    }

    /// The different values, as a subquery in FROM.
    pub(super) fn distinct(&self) -> String {
        format!("(SELECT DISTINCT {} FROM {})", self.names().join(", "), self.table)
    }

    /// The stored rows that have the values, as such that go.
    pub(super) fn stored(&self, layout: &Layout) -> String {
        let same = self.positions.iter().zip(self.exprs).zip(self.names()).map(|((position, expr), name)| {
            let stored = format!("s.{}", layout.name(*position));
            same_value(self.query, expr, &stored, &format!("{AFFECTED}.{name}"))
        });
        format!(
            "SELECT -1, {} FROM {} AS {AFFECTED} CROSS JOIN {} AS s WHERE {}",
            layout.all("s."),
            self.distinct(),
            quote(&layout.storage()),
            same.collect::<Vec<_>>().join(" AND ")
        )
    }
}
