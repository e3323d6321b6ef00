//! Counting rows for the estimated cost of a change.

use std::time::Instant;

use deltamesh_view::{Counts, Lookup, Spread};

use super::{Limits, Reader, Source};
use crate::error::{Error, ErrorKind, Result};
use crate::maintenance::cell::Cell;
use crate::maintenance::mirror::{durable, quote};

impl Reader {
    /// Counts how rows fall on values, as far as the tables are there and the time allows.
    ///
    /// # Errors
    /// The replica cannot be read.
    pub fn count(&mut self, lookups: &[Lookup], limits: Limits) -> Result<Counts> {
        let begun = Instant::now();
        let mut counts = Counts::default();
        for lookup in lookups {
            let time = limits.time.saturating_sub(begun.elapsed());
            if time.is_zero() {
                break;
            }
            match self.at_one_state(Limits { time }, |source| spread(source, lookup)) {
                Ok(spread) => counts.add(lookup.clone(), spread),
                Err(error) if error.kind() == ErrorKind::Interrupted => break,
                // The table of a view that is not created yet.
                Err(error) if error.kind() == ErrorKind::Sql => {}
                Err(error) => return Err(error),
            }
        }
        Ok(counts)
    }
}

fn spread(source: &dyn Source, lookup: &Lookup) -> Result<Spread> {
    let place = format!("count rows of {}", lookup.table);
    let columns: Vec<String> = lookup.columns.iter().map(|column| quote(column)).collect();
    let from = durable(source.dialect(), &lookup.table);
    let groups = if columns.is_empty() {
        format!("SELECT count(*) AS n FROM {from}")
    } else {
        let found = columns.iter().map(|column| format!("{column} IS NOT NULL")).collect::<Vec<_>>();
        let found = if lookup.finds_null { String::new() } else { format!(" WHERE {}", found.join(" AND ")) };
        format!("SELECT count(*) AS n FROM {from}{found} GROUP BY {}", columns.join(", "))
    };
    let sql = format!(
        "SELECT CAST(coalesce(sum(n), 0) AS bigint), count(*), CAST(coalesce(max(n), 0) AS bigint),
                CAST(coalesce(sum(CAST(n AS double precision) * n), 0) AS double precision) FROM ({groups}) AS g"
    );
    let row = source.rows(&place, &sql, &[])?.pop();
    let Some([Cell::Integer(rows), Cell::Integer(values), Cell::Integer(largest), squares]) = row.as_deref()
    else {
        return Err(Error::new(ErrorKind::Corrupt, place, "counts are no numbers"));
    };
    let squares = match squares {
        Cell::Real(squares) => *squares,
        other => other.integer() as f64,
    };
    let of_a_row = if *rows == 0 { 0.0 } else { squares / *rows as f64 };
    let [rows, values, largest] = [*rows, *values, *largest].map(i64::cast_unsigned);
    Ok(Spread { rows, values, largest, of_a_row })
}
