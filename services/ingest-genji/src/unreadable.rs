//! What could not be read, as faults of its relations on the status board.
//!
//! A fault stands until a snapshot has read everything again, or its relation is gone.

use std::collections::BTreeMap;
use std::path::Path;

use deltamesh_change::{Item, SchemaChange};
use deltamesh_genji::Fault;
use deltamesh_jetstream::StatusBoard;

/// Reasons that are kept of one relation.
const REASONS: usize = 4;
/// Relations whose faults are kept.
const RELATIONS: usize = 256;

#[derive(Default)]
pub(crate) struct Unreadable {
    /// By relation, the reasons and how often each was met.
    relations: BTreeMap<String, Reasons>,
}

#[derive(Default)]
struct Reasons {
    /// Length in bytes of the first key concerned.
    key_length: Option<usize>,
    known: Vec<(String, u64)>,
    further: u64,
}

impl Unreadable {
    /// Shows further faults.
    pub(crate) fn add(&mut self, faults: Vec<Fault>, dir: &Path, board: &StatusBoard) {
        for fault in faults {
            if self.relations.len() >= RELATIONS && !self.relations.contains_key(&fault.relation) {
                board.raise("relations", dir.display().to_string(), "more faults than are kept");
                continue;
            }
            let reasons = self.relations.entry(fault.relation.clone()).or_default();
            reasons.add(&fault);
            let key = reasons.key_length.map(|length| format!(", key of {length} bytes"));
            let place = format!("{}{}", dir.display(), key.unwrap_or_default());
            board.raise(&part(&fault.relation), place, reasons.text());
        }
    }

    /// Everything is read again.
    pub(crate) fn clear(&mut self, board: &StatusBoard) {
        for relation in std::mem::take(&mut self.relations).into_keys() {
            board.clear(&part(&relation));
        }
        board.clear("relations");
    }

    /// Takes back the faults of relations that these items drop or rename.
    pub(crate) fn forget(&mut self, items: &[Item], board: &StatusBoard) {
        if self.relations.is_empty() {
            return;
        }
        for item in items {
            let (Item::Schema(SchemaChange::Drop { relation, .. })
            | Item::Schema(SchemaChange::Rename { from: relation, .. })) = item
            else {
                continue;
            };
            if self.relations.remove(relation).is_some() {
                board.clear(&part(relation));
            }
        }
    }
}

impl Reasons {
    fn add(&mut self, fault: &Fault) {
        self.key_length = self.key_length.or(fault.key_length);
        if let Some((_, count)) = self.known.iter_mut().find(|(reason, _)| *reason == fault.reason) {
            *count += fault.count;
        } else if self.known.len() < REASONS {
            self.known.push((fault.reason.clone(), fault.count));
        } else {
            self.further += fault.count;
        }
    }

    fn text(&self) -> String {
        let known = self.known.iter().map(|(reason, count)| format!("{reason} ({})", times(*count)));
        let further = (self.further > 0).then(|| format!("further reasons ({})", times(self.further)));
        known.chain(further).collect::<Vec<_>>().join("; ")
    }
}

/// A count by its order of magnitude: each new text of a fault is a line in the log.
fn times(count: u64) -> String {
    match count.checked_ilog10() {
        None | Some(0) if count <= 1 => "once".to_owned(),
        None | Some(0) => "several times".to_owned(),
        Some(digits) => format!("at least {} times", 10_u64.pow(digits)),
    }
}

fn part(relation: &str) -> String {
    format!("relation {relation}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(relation: &str, reason: &str, count: u64) -> Fault {
        Fault { relation: relation.into(), key_length: Some(3), reason: reason.into(), count }
    }

    #[test]
    fn reasons_of_a_relation_stand_together_until_it_is_gone() {
        let board = StatusBoard::new("ingest-genji", "app");
        let mut unreadable = Unreadable::default();
        let faults = vec![fault("t", "a", 1), fault("t", "b", 2), fault("u", "c", 1), fault("t", "a", 40)];
        unreadable.add(faults, Path::new("/d"), &board);
        let status = board.status();
        let shown: Vec<_> = status.faults.iter().map(|fault| (&*fault.part, &*fault.reason)).collect();
        assert_eq!(
            shown,
            [("relation t", "a (at least 10 times); b (several times)"), ("relation u", "c (once)")]
        );
        assert_eq!(status.faults[0].place, "/d, key of 3 bytes");

        let drop = Item::Schema(SchemaChange::Drop { relation: "t".into(), dsid: 0 });
        unreadable.forget(&[drop], &board);
        assert_eq!(board.status().faults.len(), 1);
        unreadable.clear(&board);
        assert_eq!(board.status().faults.len(), 0);
    }
}
