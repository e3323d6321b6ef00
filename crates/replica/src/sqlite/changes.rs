//! The change log of the views: what is published, what is kept.

use deltamesh_view::ViewDefinition;
use rusqlite::{Connection, params};

use super::SqliteReplica;
use super::delta::Stamp;
use super::mirror::quote;
use super::rows::RowReader;
use super::state::last_sequence;
use crate::error::{At, Error, ErrorKind, Result};
use crate::group::OutboxRow;

/// Rows that are trimmed at once: the transaction that does it stays short.
const TRIM_ROWS: u64 = 2_000;

const COLUMNS: &str = "seq, view, op, key, row, before, subject, position, dsid, tx_end, captured_us";

/// How much of the change log is kept behind the published position.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Newest changes that are kept.
    pub changes: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { changes: 1_000_000 }
    }
}

/// Changes behind `sequence`, oldest first; of one view, or of all.
pub(crate) fn changes_after(
    connection: &Connection,
    sequence: u64,
    view: Option<&str>,
    limit: usize,
) -> Result<Vec<OutboxRow>> {
    let place = || "read changes";
    let filter = if view.is_some() { "view = ?2" } else { "view <> '' AND ?2 IS NULL" };
    let sql = format!(
        "SELECT {COLUMNS} FROM __deltamesh_changes WHERE seq > ?1 AND {filter} ORDER BY seq LIMIT ?3"
    );
    let mut statement = connection.prepare_cached(&sql).at(place)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement.query_map(params![sequence.cast_signed(), view, limit], outbox_row).at(place)?;
    rows.collect::<rusqlite::Result<_>>().at(place)
}

fn outbox_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<OutboxRow> {
    let text = |index| Ok::<_, rusqlite::Error>(row.get::<_, Option<String>>(index)?.unwrap_or_default());
    let number = |index| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(index)?.unwrap_or_default());
    Ok(OutboxRow {
        sequence: row.get::<_, i64>(0)?.cast_unsigned(),
        view: row.get(1)?,
        operation: row.get(2)?,
        key: row.get(3)?,
        row: text(4)?,
        before: row.get(5)?,
        subject: text(6)?,
        position: text(7)?,
        dsid: number(8)?.cast_unsigned(),
        transaction_end: number(9)? != 0,
        captured_us: number(10)?,
    })
}

/// The oldest change that is still there; behind the newest where there is none. A cursor `c` can be resumed while
/// `c + 1` is not below it.
pub(crate) fn retained_from(connection: &Connection) -> Result<u64> {
    let sql = "SELECT seq, view FROM __deltamesh_changes ORDER BY seq LIMIT 1";
    let mut statement = connection.prepare_cached(sql).at(|| "read changes")?;
    let mut rows = statement.query([]).at(|| "read changes")?;
    let Some(row) = rows.next().at(|| "read changes")? else { return Ok(1) };
    let sequence: i64 = row.get(0).at(|| "read changes")?;
    let is_start: bool = row.get::<_, String>(1).at(|| "read changes")?.is_empty();
    Ok(sequence.cast_unsigned() + u64::from(is_start))
}

impl SqliteReplica {
    /// Marks the end of the transaction, stores the published position, trims a little.
    pub(super) fn finish_changes(&mut self, before: u64) -> Result<()> {
        let place = || "finish changes";
        let last = last_sequence(&self.connection)?;
        if last > before {
            let sql = "UPDATE __deltamesh_changes SET tx_end = 1 WHERE seq = ?1";
            let mut statement = self.connection.prepare_cached(sql).at(place)?;
            statement.execute([last.cast_signed()]).at(place)?;
        }
        self.state.last_sequence = last;
        self.store_published()?;
        self.trim()
    }

    fn store_published(&mut self) -> Result<()> {
        if self.published == self.state.published {
            return Ok(());
        }
        let sql = "UPDATE __deltamesh_meta SET value = ?1 WHERE name = 'published'";
        let mut statement = self.connection.prepare_cached(sql).at(|| "store published position")?;
        statement.execute([self.published.cast_signed()]).at(|| "store published position")?;
        self.state.published = self.published;
        Ok(())
    }

    /// Removes the oldest changes that are published and beyond retention. The newest one always stays: it carries the
    /// numbering on.
    fn trim(&mut self) -> Result<()> {
        let keep = self.retention.changes.max(1);
        let boundary = self.state.published.min(self.state.last_sequence.saturating_sub(keep));
        if boundary < self.retained_from {
            return Ok(());
        }
        let until = boundary.min(self.retained_from.saturating_add(TRIM_ROWS));
        let sql = "DELETE FROM __deltamesh_changes WHERE seq <= ?1 AND seq < ?2";
        let mut statement = self.connection.prepare_cached(sql).at(|| "trim changes")?;
        statement
            .execute([until.cast_signed(), self.state.last_sequence.cast_signed()])
            .at(|| "trim changes")?;
        self.retained_from = until + 1;
        Ok(())
    }

    /// See [`crate::Replica::continue_after`].
    pub(super) fn renumber(&mut self, sequence: u64) -> Result<()> {
        let place = || "renumber changes";
        if sequence < self.published {
            let reason = format!("published up to {}, asked to continue after {sequence}", self.published);
            return Err(Error::new(ErrorKind::Conflict, place(), reason));
        }
        let published = self.published.cast_signed();
        let shift = sequence.cast_signed() - published;
        // By way of negative numbers: shifted rows must not meet rows that are still to be shifted.
        let steps = [
            format!("DELETE FROM __deltamesh_changes WHERE seq <= {published}"),
            format!("UPDATE __deltamesh_changes SET seq = -(seq + {shift})"),
            "UPDATE __deltamesh_changes SET seq = -seq".to_owned(),
            format!(
                "INSERT INTO __deltamesh_changes(seq, view, op, key) VALUES ({}, '', 'start', '[]')",
                sequence.cast_signed()
            ),
            format!(
                "UPDATE __deltamesh_meta SET value = {} WHERE name = 'published'",
                sequence.cast_signed()
            ),
            "UPDATE __deltamesh_meta SET value = lower(hex(randomblob(8))) WHERE name = 'incarnation'"
                .to_owned(),
        ];
        super::state::execute_all(&self.connection, &steps, place())?;
        self.published = sequence;
        self.state.published = sequence;
        self.state.last_sequence = last_sequence(&self.connection)?;
        self.retained_from = sequence + 1;
        Ok(())
    }

    /// Records every row of a view that has no program any more as deleted.
    pub(super) fn record_deletes(&self, definition: &ViewDefinition, stamp: &Stamp) -> Result<()> {
        let place = || definition.name.as_str();
        let reader = RowReader::new(definition);
        let tokens = definition.subject.iter().map(|name| format!("deltamesh_token({})", quote(name)));
        let tokens = tokens.collect::<Vec<_>>().join(" || '.' || ");
        let tokens = if tokens.is_empty() { "'%'".to_owned() } else { tokens };
        let columns = reader.columns();
        let width = columns.split(", ").count();
        let sql = format!(
            "SELECT {columns}, 'feed.' || deltamesh_token(?1) || '.' || {tokens} FROM main.{}",
            quote(&definition.storage)
        );
        let exists = "SELECT EXISTS (SELECT 1 FROM main.sqlite_schema WHERE name = ?1)";
        if !self.connection.query_row(exists, [&definition.storage], |row| row.get::<_, bool>(0)).at(place)? {
            return Ok(());
        }
        let mut select = self.connection.prepare(&sql).at(place)?;
        let mut insert = self
            .connection
            .prepare_cached(
                "INSERT INTO __deltamesh_changes(view, op, key, row, subject, position, dsid, captured_us)
                 VALUES (?1, 'delete', ?2, ?3, ?4, ?5, ?6, ?7)",
            )
            .at(place)?;
        let mut rows = select.query([&definition.name]).at(place)?;
        while let Some(row) = rows.next().at(place)? {
            let (key, values) = reader.read(row).at(place)?;
            let subject: String = row.get(width).at(place)?;
            let key = serde_json::Value::Array(key).to_string();
            let values = serde_json::Value::Object(values).to_string();
            let dsid = stamp.dsid.cast_signed();
            insert
                .execute(params![
                    definition.name,
                    key,
                    values,
                    subject,
                    stamp.position,
                    dsid,
                    stamp.captured_us
                ])
                .at(place)?;
        }
        Ok(())
    }
}
