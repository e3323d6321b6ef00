//! The change log of the views: what is published, what is kept.

use deltamesh_change::ColumnType;
use deltamesh_view::ViewDefinition;
use serde_json::{Map, Value as Json};

use super::Maintainer;
use super::cell::Cell;
use super::database::{Database, Read};
use super::delta::Stamp;
use super::mirror::durable;
use super::rows::RowReader;
use super::state::{Columns, last_sequence};
use crate::error::{Error, ErrorKind, Result};
use crate::group::OutboxRow;

/// Rows that are trimmed at once in idle times: the transaction that does it stays short.
const TRIM_ROWS: u64 = 2_000;

/// Rows that a busy replica trims at least, if it trims.
const BUSY_TRIM_ROWS: u64 = 256;

/// A busy replica stores the published position each time it has moved by so many changes.
const STORE_PUBLISHED: u64 = 1_000;

const COLUMNS: &str = "seq, view, op, key, row, before, subject, position, dsid, tx_end, captured_us";

/// Changes behind `sequence`, oldest first; of one view, or of all.
pub(crate) fn changes_after(
    read: &dyn Read,
    sequence: u64,
    view: Option<&str>,
    limit: usize,
) -> Result<Vec<OutboxRow>> {
    let filter = if view.is_some() { "view = $2" } else { "view <> ''" };
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let sql = format!(
        "SELECT {COLUMNS} FROM __deltamesh_changes WHERE seq > $1 AND {filter} ORDER BY seq LIMIT {limit}"
    );
    let mut parameters = vec![Cell::Integer(sequence.cast_signed())];
    parameters.extend(view.map(|view| Cell::Text(view.to_owned())));
    Ok(read.rows("read changes", &sql, &parameters)?.into_iter().map(outbox_row).collect())
}

fn outbox_row(row: Vec<Cell>) -> OutboxRow {
    let mut row = Columns::new(row);
    OutboxRow {
        sequence: row.unsigned(),
        view: row.text(),
        operation: row.text(),
        key: row.text(),
        row: row.text(),
        before: row.maybe_text(),
        subject: row.text(),
        position: row.text(),
        dsid: row.unsigned(),
        transaction_end: row.integer() != 0,
        captured_us: row.integer(),
    }
}

/// The oldest change that is still there; behind the newest where there is none. A cursor `c` can be resumed while
/// `c + 1` is not below it.
pub(crate) fn retained_from(read: &dyn Read) -> Result<u64> {
    let sql = "SELECT seq, view FROM __deltamesh_changes ORDER BY seq LIMIT 1";
    let Some(row) = read.rows("read changes", sql, &[])?.pop() else { return Ok(1) };
    let mut row = Columns::new(row);
    let sequence = row.unsigned();
    Ok(sequence + u64::from(row.text().is_empty()))
}

/// One change of a view, with key, row and former values in canonical JSON.
pub(crate) struct Change {
    pub(crate) operation: &'static str,
    pub(crate) key: Vec<Json>,
    pub(crate) row: Map<String, Json>,
    /// Former values of the columns that differ.
    pub(crate) before: Option<Map<String, Json>>,
    pub(crate) subject: String,
}

/// Columns of a change in the change log, without those of its stamp.
const LOGGED: [(&str, ColumnType); 6] = [
    ("view", ColumnType::Text),
    ("op", ColumnType::Text),
    ("key", ColumnType::Text),
    ("row", ColumnType::Text),
    ("before", ColumnType::Text),
    ("subject", ColumnType::Text),
];

/// Appends changes of views to the change log; gives their number.
pub(crate) fn append<'v, D: Database>(
    database: &D,
    changes: impl IntoIterator<Item = (&'v str, Change)>,
    stamp: &Stamp,
) -> Result<u64> {
    let text = |text: &str| Cell::Text(text.to_owned());
    let rows = changes.into_iter().map(|(view, change)| {
        let before = change.before.map(|before| Cell::Text(Json::Object(before).to_string()));
        vec![
            text(view),
            text(change.operation),
            Cell::Text(Json::Array(change.key).to_string()),
            Cell::Text(Json::Object(change.row).to_string()),
            before.unwrap_or(Cell::Null),
            Cell::Text(change.subject),
        ]
    });
    let rows: Vec<Vec<Cell>> = rows.collect();
    let stamped = [
        ("position", text(&stamp.position)),
        ("dsid", Cell::Integer(stamp.dsid.cast_signed())),
        ("captured_us", Cell::Integer(stamp.captured_us)),
    ];
    database.append(&LOGGED, &rows, &stamped)?;
    Ok(rows.len() as u64)
}

impl<D: Database> Maintainer<D> {
    /// Marks the end of the transaction, stores the published position, trims a little.
    pub(super) fn finish_changes(&mut self, before: u64) -> Result<()> {
        let last = self.database.end_changes(before)?;
        self.state.last_sequence = last;
        // Under load the published position is not worth a page in every transaction.
        if last == before || self.published.saturating_sub(self.state.published) >= STORE_PUBLISHED {
            self.store_published()?;
        }
        self.trim(last.saturating_sub(before))
    }

    fn store_published(&mut self) -> Result<()> {
        if self.published == self.state.published {
            return Ok(());
        }
        let sql = D::STORE_PUBLISHED;
        let published = Cell::Integer(self.published.cast_signed());
        self.database.execute("store published position", sql, &[published])?;
        self.state.published = self.published;
        Ok(())
    }

    /// Removes some of the oldest changes that are published and beyond retention. A busy replica does so a little faster than
    /// it appends, and only where a number of them can go: each time costs a page. What is left over is for idle times.
    fn trim(&mut self, appended: u64) -> Result<()> {
        let (rows, least) = match appended {
            0 => (TRIM_ROWS, 1),
            _ => (BUSY_TRIM_ROWS + appended + appended / 4, BUSY_TRIM_ROWS),
        };
        let until = self.beyond_retention(rows)?;
        if until + 1 < self.retained_from + least {
            return Ok(());
        }
        let sql = "DELETE FROM __deltamesh_changes WHERE seq <= $1";
        self.database.execute("trim changes", sql, &[Cell::Integer(until.cast_signed())])?;
        self.retained_from = until + 1;
        Ok(())
    }

    /// Whether there is something to trim.
    pub(super) fn is_beyond_retention(&self) -> Result<bool> {
        Ok(self.beyond_retention(TRIM_ROWS)? >= self.retained_from)
    }

    /// The last change that may go, within about that many of the oldest. What is not published stays, and so does the newest
    /// one: it carries the numbering on.
    fn beyond_retention(&self, rows: u64) -> Result<u64> {
        let last = self.state.last_sequence;
        let most = self.retained_from.saturating_add(rows);
        let most = most.min(self.state.published).min(last.saturating_sub(1));
        let too_many = self.retention.changes.map_or(0, |changes| last.saturating_sub(changes.get()));
        let too_old = match self.retention.oldest_us() {
            Some(oldest) if most >= self.retained_from => self.captured_before(oldest, most)?,
            _ => 0,
        };
        Ok(too_many.max(too_old).min(most))
    }

    /// The last change up to `most` that is older and has no younger one before it. One without time (a view was filled) is as
    /// old as the next that has one.
    fn captured_before(&self, oldest_us: i64, most: u64) -> Result<u64> {
        let [first, most, oldest] =
            [self.retained_from.cast_signed(), most.cast_signed(), oldest_us].map(Cell::Integer);
        let sql = "SELECT coalesce(max(seq), 0) FROM __deltamesh_changes
             WHERE seq >= $1 AND seq <= $2 AND captured_us > 0 AND seq < coalesce(
               (SELECT seq FROM __deltamesh_changes WHERE seq >= $1 AND seq <= $2 AND captured_us >= $3 ORDER BY seq LIMIT 1),
               $2 + 1)";
        let rows = self.database.rows("trim changes", sql, &[first, most, oldest])?;
        Ok(Columns::new(rows.into_iter().next().unwrap_or_default()).unsigned())
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
            format!("UPDATE __deltamesh_meta SET value = {} WHERE name = 'incarnation'", D::FRESH),
        ];
        self.database.define(place(), &steps)?;
        self.published = sequence;
        self.state.published = sequence;
        self.state.last_sequence = last_sequence(&self.database)?;
        self.retained_from = sequence + 1;
        Ok(())
    }

    /// Records every row of a view that has no program any more as deleted.
    pub(super) fn record_deletes(&self, definition: &ViewDefinition, stamp: &Stamp) -> Result<()> {
        let name = definition.name.as_str();
        if self.database.object(&definition.storage)?.is_none() {
            return Ok(());
        }
        let reader = RowReader::new(definition);
        let sql = format!("SELECT {} FROM {}", reader.columns(), durable(D::DIALECT, &definition.storage));
        let rows = self.database.rows(name, &sql, &[])?;
        let changes = rows.iter().map(|cells| {
            let (key, row) = reader.read(cells);
            (name, Change { operation: "delete", key, row, before: None, subject: reader.subject(cells) })
        });
        append(&self.database, changes, stamp).map(|_| ())
    }
}
