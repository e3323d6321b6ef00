//! Numbers of rows, by what the replica counts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::{BlockCost, Effect, Hop, Lookup, Reach};
use crate::Explain;

/// How the rows of a table fall on the values of some columns.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Spread {
    /// Rows.
    pub rows: u64,
    /// Different values; one where there are no columns.
    pub values: u64,
    /// Rows with the most frequent value.
    pub largest: u64,
    /// Rows that have the value of a row, on the average of all rows.
    pub of_a_row: f64,
}

/// What was counted.
#[derive(Debug, Clone, Default)]
pub struct Counts(BTreeMap<Lookup, Spread>);

impl Counts {
    /// Makes a count known.
    pub fn add(&mut self, lookup: Lookup, spread: Spread) {
        self.0.insert(lookup, spread);
    }
}

/// A number of rows: what is to be expected, and the most.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Rows {
    typical: f64,
    most: f64,
}

impl Rows {
    const ONE: Self = Self { typical: 1.0, most: 1.0 };

    fn plus(self, other: Self) -> Self {
        Self { typical: self.typical + other.typical, most: self.most + other.most }
    }

    fn times(self, other: Self) -> Self {
        Self { typical: self.typical * other.typical, most: self.most * other.most }
    }
}

impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Number(self.typical))?;
        if Number(self.most).to_string() != Number(self.typical).to_string() {
            write!(f, " (most {})", Number(self.most))?;
        }
        Ok(())
    }
}

struct Number(f64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = usize::from(self.0 < 10.0 && (self.0 - self.0.round()).abs() >= 0.05);
        write!(f, "{:.places$}", self.0)
    }
}

/// What a changed row of one base costs.
#[derive(Default)]
struct Cost {
    read: Rows,
    /// Rows of the view.
    written: Rows,
    reasons: BTreeSet<String>,
}

/// Writes a line for each base, with the reasons below it.
pub(crate) fn write_costs(f: &mut fmt::Formatter<'_>, explain: &Explain, counts: &Counts) -> fmt::Result {
    for base in &explain.bases {
        let (before, after) = (format!("before {}", base.table), format!("after {}", base.table));
        let (before, after) = (before.as_str(), after.as_str());
        writeln!(f, "cost of a changed row of {}", base.table)?;
        let mut estimate = Estimate { counts, cost: Cost::default(), changed: BTreeMap::new() };
        estimate.changed.insert(base.table.clone(), Rows::ONE);
        match explain.costs.iter().try_for_each(|block| estimate.block(block)) {
            Ok(()) => {
                let Cost { read, written, reasons } = estimate.cost;
                writeln!(
                    f,
                    "  rows read: {read}, for an update at most twice that; rows written: up to {written}"
                )?;
                reasons.iter().try_for_each(|reason| writeln!(f, "  because {reason}"))?;
            }
            Err(table) => writeln!(f, "  unknown: the rows of {table} are not counted")?,
        }
        let [insert, delete, update] =
            [&[after][..], &[before], &[before, after]].map(|phases| explain.statements_of(phases));
        writeln!(
            f,
            "  runs at most {insert} statements for an insert, {delete} for a delete, {update} for an update"
        )?;
    }
    Ok(())
}

/// A table without counts.
type Unknown = String;

struct Estimate<'a> {
    counts: &'a Counts,
    cost: Cost,
    /// Changed rows of the base, and of the parts over it.
    changed: BTreeMap<String, Rows>,
}

impl Estimate<'_> {
    fn block(&mut self, block: &BlockCost) -> Result<(), Unknown> {
        let (mut joined, mut affected) = (Rows::default(), Rows::default());
        let mut sources = vec![];
        for reach in &block.reaches {
            let Some(&changed) = self.changed.get(&reach.base) else { continue };
            let found = self.walk(&reach.path, changed, None)?;
            joined = joined.plus(found);
            affected = affected.plus(if reach.spreads { found } else { changed });
            sources.push(reach);
        }
        if sources.is_empty() {
            return Ok(());
        }
        let written = self.effect(block, &sources, joined, affected)?;
        self.cost.written = written;
        self.changed.insert(block.block.clone(), written);
        Ok(())
    }

    /// Counts what the effect reads; gives the rows of the block that change.
    fn effect(
        &mut self,
        block: &BlockCost,
        sources: &[&Reach],
        joined: Rows,
        affected: Rows,
    ) -> Result<Rows, Unknown> {
        match &block.effect {
            Effect::Rows => Ok(joined),
            Effect::Groups => {
                self.read(affected);
                Ok(affected)
            }
            Effect::Again { path, is_one } => {
                let own = sources.first().filter(|_| sources.len() == 1).map(|reach| reach.base.as_str());
                let rows = self.walk(path, affected, own)?;
                let written = if *is_one { affected } else { rows };
                // The stored rows that the new ones are compared with.
                self.read(written);
                Ok(written)
            }
            Effect::First(rows) => {
                let first = Rows { typical: *rows as f64, most: *rows as f64 }.times(affected.at_least_one());
                self.cost.reasons.insert(format!("the first {rows} rows are read again and compared"));
                self.read(first.plus(first));
                Ok(affected.plus(affected))
            }
            Effect::Whole(tables) => {
                let mut all = Rows::default();
                for table in tables {
                    let lookup = Lookup { table: table.clone(), columns: vec![], finds_null: false };
                    let Ok(spread) = self.spread(&lookup) else {
                        self.cost.reasons.insert(format!("all rows of {table} are read"));
                        continue;
                    };
                    let rows = Rows { typical: spread.rows as f64, most: spread.rows as f64 };
                    self.cost.reasons.insert(format!("all {} rows of {table} are read", spread.rows));
                    self.read(rows);
                    all = rows;
                }
                Ok(all)
            }
        }
    }

    /// Reads the tables of a path for so many rows; gives the number of rows at its end. `own`: the table whose row's own
    /// values are looked up first.
    fn walk(&mut self, path: &[Hop], from: Rows, own: Option<&str>) -> Result<Rows, Unknown> {
        let mut rows = from;
        for hop in path {
            let found = if hop.is_one { Rows::ONE } else { self.found(&hop.lookup, own)? };
            rows = rows.times(found);
            self.read(rows);
        }
        Ok(rows)
    }

    /// How many rows a lookup finds.
    fn found(&mut self, lookup: &Lookup, own: Option<&str>) -> Result<Rows, Unknown> {
        let spread = self.spread(lookup)?;
        let Lookup { table, columns, .. } = lookup;
        if columns.is_empty() {
            let reason = format!("no equality leads to {table}: all {} rows are read", spread.rows);
            self.cost.reasons.insert(reason);
            return Ok(Rows { typical: spread.rows as f64, most: spread.rows as f64 });
        }
        let typical = if own == Some(table.as_str()) {
            spread.of_a_row
        } else {
            spread.rows as f64 / spread.values.max(1) as f64
        };
        let rows = Rows { typical, most: spread.largest as f64 };
        let columns = columns.join(", ");
        self.cost
            .reasons
            .insert(format!("{table} has {rows} of its {} rows for a value of {columns}", spread.rows));
        Ok(rows)
    }

    fn spread(&self, lookup: &Lookup) -> Result<Spread, Unknown> {
        self.counts.0.get(lookup).copied().ok_or_else(|| lookup.table.clone())
    }

    fn read(&mut self, rows: Rows) {
        self.cost.read = self.cost.read.plus(rows);
    }
}

impl Rows {
    fn at_least_one(self) -> Self {
        Self { typical: self.typical.max(1.0), most: self.most.max(1.0) }
    }
}
