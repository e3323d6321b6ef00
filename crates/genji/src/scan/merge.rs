//! Rows by merging what keeps the order: in memory is one block of each run.

use std::cmp::Ordering;

use crate::Error;
use crate::engine::Engine;
use crate::scan::Found;
use crate::scan::run::{Run, Stand};

/// Merges runs.
pub(super) struct Merge<'a> {
    runs: Vec<Run<'a>>,
    prefix: Vec<u8>,
    engine: Engine,
}

impl<'a> Merge<'a> {
    /// Starts at the first key of each run.
    pub(super) fn new(runs: Vec<Run<'a>>, prefix: Vec<u8>, engine: Engine) -> Result<Self, Error> {
        let mut merge = Self { runs, prefix, engine };
        for index in 0..merge.runs.len() {
            merge.advance(index)?;
        }
        merge.runs.retain(|run| run.stand == Stand::Entry);
        Ok(merge)
    }

    fn advance(&mut self, index: usize) -> Result<(), Error> {
        let run = &mut self.runs[index];
        run.advance(&self.prefix)?;
        if run.stand == Stand::Disorder { Err(Run::disorder()) } else { Ok(()) }
    }

    /// The next visible row, in key order.
    pub(super) fn next(&mut self) -> Result<Option<Found>, Error> {
        while let Some((best, shadowed)) = self.first() {
            let run = &mut self.runs[best];
            let (sequence, value) = (run.sequence, run.value.take());
            let found = value.map(|value| Found { key: run.key.clone(), sequence, value });
            if shadowed {
                let key = self.runs[best].key.clone();
                for index in 0..self.runs.len() {
                    if index != best && self.runs[index].key == key {
                        self.advance(index)?;
                    }
                }
            }
            self.advance(best)?;
            self.runs.retain(|run| run.stand == Stand::Entry);
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The run with the newest version of the lowest key, and whether others have that key too.
    fn first(&self) -> Option<(usize, bool)> {
        let mut runs = self.runs.iter().enumerate();
        let (mut best, mut lowest) = runs.next()?;
        let mut shadowed = false;
        for (index, run) in runs {
            match self.engine.compare(&run.key, &lowest.key) {
                Ordering::Less => {
                    (best, lowest) = (index, run);
                    shadowed = false;
                }
                Ordering::Equal => {
                    shadowed = true;
                    if run.sequence > lowest.sequence {
                        (best, lowest) = (index, run);
                    }
                }
                Ordering::Greater => {}
            }
        }
        Some((best, shadowed))
    }
}
