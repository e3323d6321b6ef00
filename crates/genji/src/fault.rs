//! What could not be read: named, never skipped silently.

use std::collections::VecDeque;

const LIMIT: usize = 256;

/// A row, key or definition that could not be decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Name of the relation, or of the namespace (`namespace 12`) where no relation is known.
    pub relation: String,
    /// Length in bytes of the key of the first row concerned; none when the definition itself is at fault.
    pub key_length: Option<usize>,
    /// Why.
    pub reason: String,
    /// How many times in a row.
    pub count: u64,
}

/// Faults that were not yet taken; repetitions are counted, so that a damaged table does not fill the memory.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    list: VecDeque<Fault>,
}

impl Faults {
    pub(crate) fn add(&mut self, relation: &str, key_length: Option<usize>, reason: impl ToString) {
        let reason = reason.to_string();
        let same = |fault: &&mut Fault| fault.relation == relation && fault.reason == reason;
        if let Some(fault) = self.list.iter_mut().find(same) {
            fault.count += 1;
            return;
        }
        if self.list.len() == LIMIT {
            if let Some(last) = self.list.back_mut() {
                "more faults than are kept".clone_into(&mut last.reason);
                last.count += 1;
            }
            return;
        }
        self.list.push_back(Fault { relation: relation.to_owned(), key_length, reason, count: 1 });
    }

    pub(crate) fn take(&mut self) -> Vec<Fault> {
        std::mem::take(&mut self.list).into()
    }
}
