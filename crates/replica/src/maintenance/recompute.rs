//! Computing a view again where a batch changes much of what it reads.
//!
//! The steps of a program cost by the changed rows, the view's own SQL by the rows that there are. A view with few rows over a
//! relation of which a tenth changes at once is cheaper computed again; the change log then gets what differs, as always.

use std::collections::{HashMap, HashSet};

use deltamesh_view::Program;

use super::database::Database;
use super::delta::{Filled, Stamp};
use super::mirror::{durable, quote};
use super::state::{State, View};
use crate::error::Result;

/// From which size of a batch on views are computed again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recompute {
    /// Fewest changed rows of the relations that a view reads.
    rows: u64,
    /// How many times the changed rows these relations have at most, where the view is one statement over one of them.
    times_of_one: u64,
    /// The same for other views.
    times_of_several: u64,
    /// Whether the view may have more rows than change.
    is_large: bool,
}

impl Default for Recompute {
    /// Measured: ADR 14.
    fn default() -> Self {
        Self { rows: 5_000, times_of_one: 8, times_of_several: 2, is_large: false }
    }
}

impl Recompute {
    /// Wherever it is possible.
    pub(super) const ALWAYS: Self =
        Self { rows: 0, times_of_one: MOST, times_of_several: MOST, is_large: true };

    /// The views that are computed again, by the numbers of changed rows of the mirrors.
    pub(super) fn choose<'a, D: Database>(
        self,
        database: &D,
        state: &'a State,
        changed: &HashMap<&str, u64>,
    ) -> Result<HashSet<&'a str>> {
        let mut chosen = HashSet::new();
        if changed.values().sum::<u64>() < self.rows {
            return Ok(chosen);
        }
        for view in &state.views {
            let Some(program) = view.program.as_ref().filter(|program| program.definition.stored) else {
                continue;
            };
            if view.fed.is_some() || view.is_next() {
                continue;
            }
            let bases = program.definition.bases.iter();
            let rows: u64 = bases.filter_map(|base| changed.get(base.table.as_str())).sum();
            // Those that read the view need its rows as they were.
            let is_read = || !state.dependents(&[view.table().to_owned()]).is_empty();
            if rows > 0
                && rows >= self.rows
                && !is_read()
                && self.pays(database, state, (view, program), rows)?
            {
                chosen.insert(view.name.as_str());
            }
        }
        Ok(chosen)
    }

    /// Whether the view has fewer rows than change, and its bases not many times as many.
    fn pays<D: Database>(
        self,
        database: &D,
        state: &State,
        (view, program): (&View, &Program),
        changed: u64,
    ) -> Result<bool> {
        let count = |table: &str, most: u64| -> Result<u64> {
            let from = durable(D::DIALECT, table);
            let sql =
                format!("SELECT count(*) FROM (SELECT 1 FROM {from} LIMIT {}) AS found", most.min(MOST) + 1);
            let rows = database.rows(&view.name, &sql, &[])?;
            Ok(rows.first().and_then(|row| row.first()).map_or(0, |count| count.integer().cast_unsigned()))
        };
        if !self.is_large && count(&view.definition.storage, changed)? > changed {
            return Ok(false);
        }
        let is_one = view.definition.bases.len() == 1 && program.fill.len() == 1;
        let times = if is_one { self.times_of_one } else { self.times_of_several };
        let most = changed.saturating_mul(times);
        let mut rows = 0_u64;
        for base in &view.definition.bases {
            let upstream = state.by_table(&base.table).filter(|_| base.source.is_none());
            let table = upstream.map_or(base.table.as_str(), |view| view.definition.storage.as_str());
            rows = rows.saturating_add(count(table, most)?);
        }
        Ok(rows <= most)
    }
}

/// More rows are not counted.
const MOST: u64 = 1 << 40;

/// Fills the view anew and records what differs; gives the number of changes.
pub(super) fn run<D: Database>(
    database: &D,
    program: &Program,
    filled: &mut Filled,
    stamp: &Stamp,
) -> Result<u64> {
    let definition = &program.definition;
    let name = definition.name.as_str();
    let [old, new] = &program.images;
    let columns = definition.columns.iter().chain(definition.hidden.iter().map(|hidden| &hidden.column));
    let columns = columns.map(|column| quote(&column.name)).collect::<Vec<_>>().join(", ");
    let storage = durable(D::DIALECT, &definition.storage);
    let mut take_images = |images: &str| -> Result<()> {
        let sql = format!("INSERT INTO {images} ({columns}) SELECT {columns} FROM {storage}");
        if database.execute(name, &sql, &[])? > 0 {
            filled.note(images);
        }
        Ok(())
    };
    take_images(old)?;
    for sql in program.empty.iter().chain(&program.fill) {
        database.execute(name, sql, &[])?;
    }
    take_images(new)?;
    // Which rows went in the bases is not in the program's own tables.
    database.record(program, &Filled::Unknown, stamp)
}
