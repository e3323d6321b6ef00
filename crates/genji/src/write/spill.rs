//! Transactions larger than memory (format description §9).
//!
//! When its batch has [`HostOptions::spill_bytes`](super::HostOptions), a transaction writes it to the log and goes on with an
//! empty one, as Genji does: each part carries the former values of the keys that it touches first, in the rollback segment,
//! and the batch that deletes the segment ends the transaction. Genji forgets to undo a transaction whose process died; this
//! host undoes its own. It knows them by a mark that each of its parts ends with: while the mark is the last operation of
//! the history, nobody has built on what is undone.

use std::sync::{PoisonError, RwLockWriteGuard};

use super::database::Database;
use super::merge::Live;
use super::sequence;
use super::transaction::WriteTransaction;
use crate::batch::BatchWriter;
use crate::{Error, key, value, varint};
use deltamesh_change::Value;

/// Stands for a key that did not exist.
const ABSENT: [u8; 1] = [0];
/// Stands for an index entry, whose value is what Genji means by absent.
const ENTRY: [u8; 2] = [0, 0];

/// The segment's key of a touched key.
fn segment_key(touched: &[u8]) -> Vec<u8> {
    let mut key = key::prefix(key::ROLLBACK);
    key.push(value::BLOB);
    varint::put_string(&mut key, touched);
    key
}

/// The segment's key of the mark: a sequence that never exists, so that undoing it as Genji would changes nothing.
pub(crate) fn mark() -> Vec<u8> {
    segment_key(&sequence::row_key("__deltamesh_spill"))
}

/// Ends a part with the mark.
fn set_mark(part: &mut BatchWriter) {
    part.set(&mark(), &ABSENT);
}

/// Ends the transaction to which the parts before belong.
fn set_end(last: &mut BatchWriter) {
    last.delete_range(&key::prefix(key::ROLLBACK), &key::prefix(key::ROLLBACK + 1));
}

/// Brings back what the rollback segment holds, in parts of about `limit` bytes; `commit` writes a part.
pub(crate) fn undo(
    segment: Live,
    limit: usize,
    mut commit: impl FnMut(BatchWriter) -> Result<(), Error>,
) -> Result<(), Error> {
    let mark = mark();
    let mut part = BatchWriter::new();
    for entry in segment {
        let (entry, before) = entry?;
        if entry == mark {
            continue;
        }
        // The real engine can leave keys that do not decode; this host's own always do.
        let values = key::split(&entry).and_then(|entry| entry.values());
        let Ok([Value::Bytes(touched)]) = values.as_deref() else { continue };
        if before == ABSENT {
            part.delete(touched);
        } else if before == ENTRY {
            part.set(touched, &ABSENT);
        } else {
            part.set(touched, &before);
        }
        if part.size() >= limit {
            set_mark(&mut part);
            commit(std::mem::take(&mut part))?;
        }
    }
    set_end(&mut part);
    commit(part)
}

/// Held by a transaction of which parts are written: readers wait until it ends.
pub(crate) type Spilled<'a> = RwLockWriteGuard<'a, ()>;

impl Database {
    fn hold_readers(&self) -> Spilled<'_> {
        self.readers.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WriteTransaction<'_> {
    /// Writes the batch as a part of the transaction. Nobody waits for it to be durable: the end is flushed after it.
    pub(crate) fn spill(&mut self) -> Result<(), Error> {
        if self.spilled.is_none() {
            self.spilled = Some(self.database.hold_readers());
        }
        let mut part = self.batch.clone();
        self.database.read(|state| {
            for touched in self.overlay.keys() {
                let entry = segment_key(touched);
                if state.store.get(&entry)?.is_some() {
                    continue;
                }
                match state.store.get(touched)? {
                    None => part.set(&entry, &ABSENT),
                    Some(before) if before == ABSENT => part.set(&entry, &ENTRY),
                    Some(before) => part.set(&entry, &before),
                }
            }
            Ok::<(), Error>(())
        })?;
        set_mark(&mut part);
        self.savepoint = None;
        self.batch = BatchWriter::new();
        self.overlay.clear();
        self.writer.commit(part, None, self.database).map(drop)
    }

    /// What has to be in the last batch.
    pub(crate) fn end_spilled(&mut self) {
        if self.spilled.is_some() {
            set_end(&mut self.batch);
        }
    }
}

impl Drop for WriteTransaction<'_> {
    /// Undoes the parts that are written. If that fails the database takes no more writes, and the next open undoes them.
    fn drop(&mut self) {
        self.pass_sequences();
        if self.spilled.is_none() {
            return;
        }
        let database = self.database;
        let segment = database.read(|state| state.store.stream(&key::prefix(key::ROLLBACK), Vec::new()));
        let commit = |part| self.writer.commit(part, None, database).map(drop);
        let undone = segment.and_then(|segment| undo(segment, database.options.spill_bytes, commit));
        if let Err(error) = undone {
            self.writer.fail(format!("undoing a large transaction failed: {error}"));
        }
    }
}
