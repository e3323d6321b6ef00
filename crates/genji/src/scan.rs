//! The visible rows of one namespace, from tables and logs.
//!
//! The visible version of a key is the one with the highest sequence number. Tables and logs are merged by key order, with
//! one block of each run in memory. Genji's order is not total, though: with texts or blobs on both sides of 128 bytes the
//! keys of a table need not keep it. So where keys may hold such, the tables are read once to see whether they keep it, and
//! if not, the rows are found by exact keys, in several passes ([`passes`]).
//!
//! **Bound of the memory**: what the logs hold, a block of each run, and in the second way 64 MiB of keys.

use crate::Error;
use crate::engine::Engine;
use crate::overlay::Overlay;
use crate::table::{RangeDelete, may_hold};
use crate::view::LiveTable;

mod merge;
pub(crate) mod order;
mod passes;
mod run;

use merge::Merge;
use passes::Passes;
use run::{Run, Stand};

/// A visible row, still encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) key: Vec<u8>,
    pub(crate) sequence: u64,
    pub(crate) value: Vec<u8>,
}

/// Reads the visible rows of a namespace: in key order, where its tables keep it.
pub(crate) struct Scan<'a> {
    way: Way<'a>,
    engine: Engine,
    /// Ranges of keys that were deleted.
    deleted: Vec<RangeDelete>,
}

/// Whether the tables keep the order of the keys of a namespace.
pub(crate) enum Order<'a> {
    /// They do: no key of it holds a text or blob.
    Certain,
    /// To be found out, by reading them. What the caller has to do in time is called now and then.
    Unknown(&'a dyn Fn()),
}

/// Keys that are read between two calls of what the caller has to do.
const KEYS_PER_BREAK: usize = 1024;

enum Way<'a> {
    Merge(Merge<'a>),
    Passes(Box<Passes<'a>>),
}

impl<'a> Scan<'a> {
    /// Starts to read the namespace with that prefix.
    pub(crate) fn new(tables: &'a [LiveTable], overlay: &'a Overlay, prefix: Vec<u8>) -> Result<Self, Error> {
        Self::with_order(tables, overlay, prefix, Order::Unknown(&|| {}))
    }

    /// The same, where the caller may know that the tables keep the order.
    pub(crate) fn with_order(
        tables: &'a [LiveTable],
        overlay: &'a Overlay,
        prefix: Vec<u8>,
        order: Order<'_>,
    ) -> Result<Self, Error> {
        let holds = |table: &&LiveTable| may_hold(&table.meta.smallest, &table.meta.largest, &prefix);
        let held: Vec<_> = tables.iter().filter(holds).collect();
        let engine = overlay.engine();
        let mut deleted = overlay.ranges.clone();
        // Genji deletes no range of rows.
        if engine == Engine::Chai {
            for table in &held {
                deleted.extend(table.range_deletes()?);
            }
        }
        let keeps_order = match order {
            Order::Certain => true,
            Order::Unknown(meanwhile) => keeps_order(&held, overlay, &prefix, meanwhile)?,
        };
        if !keeps_order {
            // Only on levels below 0 is a key in one table at most.
            let deepest = held.iter().map(|table| table.level).max().filter(|&level| level > 0);
            let (deepest, upper): (Vec<_>, Vec<_>) =
                held.into_iter().partition(|table| Some(table.level) == deepest);
            let weight = weight(&upper, &prefix)?;
            let passes = Passes::new(upper, deepest, overlay, prefix, weight)?;
            return Ok(Self { way: Way::Passes(Box::new(passes)), engine, deleted });
        }
        let mut runs = Run::of_tables(&held, overlay);
        runs.push(Run::of_logs(overlay, &prefix));
        Ok(Self { way: Way::Merge(Merge::new(runs, prefix, engine)?), engine, deleted })
    }

    /// The next visible row.
    pub(crate) fn next(&mut self) -> Result<Option<Found>, Error> {
        loop {
            let found = match &mut self.way {
                Way::Merge(merge) => merge.next()?,
                Way::Passes(passes) => passes.next()?,
            };
            if !found.as_ref().is_some_and(|found| self.is_deleted(found)) {
                return Ok(found);
            }
        }
    }

    fn is_deleted(&self, found: &Found) -> bool {
        self.deleted.iter().any(|range| {
            range.sequence > found.sequence
                && self.engine.compare(&range.start, &found.key).is_le()
                && self.engine.compare(&found.key, &range.end).is_lt()
        })
    }
}

/// Whether the keys of every run ascend.
fn keeps_order(
    held: &[&LiveTable],
    overlay: &Overlay,
    prefix: &[u8],
    meanwhile: &dyn Fn(),
) -> Result<bool, Error> {
    let before: Vec<u64> = held.iter().map(|table| table.taken()).collect();
    let ascend = runs_ascend(Run::of_tables(held, overlay), prefix, meanwhile);
    // Read for no row: what tells how far a reading is does not count it.
    held.iter().zip(before).for_each(|(table, before)| table.put_aside(table.taken().saturating_sub(before)));
    ascend
}

fn runs_ascend(runs: Vec<Run<'_>>, prefix: &[u8], meanwhile: &dyn Fn()) -> Result<bool, Error> {
    let mut until_break = KEYS_PER_BREAK;
    for mut run in runs {
        while run.stand == Stand::Entry {
            run.advance(prefix)?;
            until_break -= 1;
            if until_break == 0 {
                until_break = KEYS_PER_BREAK;
                meanwhile();
            }
        }
        if run.stand == Stand::Disorder {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Bytes of memory that the keys of some tables would take, about.
fn weight(tables: &[&LiveTable], prefix: &[u8]) -> Result<u64, Error> {
    let mut weight = 0;
    for table in tables {
        let mut entries = table.entries(prefix.to_vec())?;
        while let Some(entry) = entries.next()? {
            weight += entry.key.len() as u64 + passes::PER_KEY;
        }
    }
    Ok(weight)
}

#[cfg(test)]
mod tests;
