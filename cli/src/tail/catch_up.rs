//! Changes that catch a subscriber up after a resume.
//!
//! The gateway nets what was missed to one change a key, so that no cursor stands between two of them: if the call breaks
//! there, all of them come again. They are held back until the cursor moves, so that no line is ever printed twice.

use deltamesh_wire::proto::feed::v1::feed_message::Message as Kind;

/// Changes that are held back at most; more are given out as they come, and come again if the call breaks.
const HELD: usize = 100_000;

/// The state of one call.
#[derive(Debug, Default)]
pub(super) struct CatchUp {
    held: Vec<Kind>,
    in_snapshot: bool,
}

impl CatchUp {
    /// Takes the next message of a call; `cursor` is the last one that was told, and moves. Returns what may be given out.
    pub(super) fn take(&mut self, message: Kind, cursor: &mut String) -> Vec<Kind> {
        let moved = match &message {
            Kind::SnapshotBegin(_) => {
                self.in_snapshot = true;
                true
            }
            Kind::SnapshotEnd(end) => {
                self.in_snapshot = false;
                cursor.clone_from(&end.cursor);
                true
            }
            Kind::Progress(progress) => {
                cursor.clone_from(&progress.cursor);
                true
            }
            Kind::Delta(_) if self.in_snapshot => true,
            Kind::Delta(delta) if delta.cursor.is_empty() || delta.cursor == *cursor => false,
            Kind::Delta(delta) => {
                cursor.clone_from(&delta.cursor);
                true
            }
        };
        self.held.push(message);
        if moved || self.held.len() > HELD { std::mem::take(&mut self.held) } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use deltamesh_wire::proto::feed::v1::{Progress, RowDelta, SnapshotBegin, SnapshotEnd};

    use super::*;

    fn delta(cursor: &str) -> Kind {
        Kind::Delta(RowDelta { cursor: cursor.to_owned(), ..RowDelta::default() })
    }

    #[test]
    fn rows_of_a_snapshot_and_live_changes_come_at_once() {
        let (mut call, mut cursor) = (CatchUp::default(), String::new());
        let end = Kind::SnapshotEnd(SnapshotEnd { cursor: "1".to_owned() });
        for message in [Kind::SnapshotBegin(SnapshotBegin::default()), delta(""), end, delta("2"), delta("3")]
        {
            assert_eq!(call.take(message.clone(), &mut cursor), [message]);
        }
        assert_eq!(cursor, "3");
    }

    #[test]
    fn a_catch_up_comes_whole() {
        let mut cursor = "1".to_owned();
        let mut broken = CatchUp::default();
        assert_eq!(broken.take(delta("1"), &mut cursor), []);
        let mut call = CatchUp::default();
        assert_eq!(call.take(delta("1"), &mut cursor), []);
        assert_eq!(call.take(delta(""), &mut cursor), []);
        let progress = Kind::Progress(Progress { cursor: "9".to_owned() });
        assert_eq!(call.take(progress.clone(), &mut cursor), [delta("1"), delta(""), progress]);
        assert_eq!(cursor, "9");
    }
}
