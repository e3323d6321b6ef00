//! Lines to read: a table with its rows below it, a change of the log in each line.

use std::io::{self, Write};

use deltamesh_change::{Value, to_json};
use deltamesh_genji::{History, Image, LoggedTransaction, SchemaOperation, Snapshot, StoredRow, StoredTable};

use super::Form;
use super::json::{hex, kind_name, row_operation_name, schema_operation_name};

/// Writes the lines as they come.
pub(super) struct Text<W> {
    out: W,
    rows: u64,
    transactions: u64,
    has_table: bool,
}

impl<W: Write> Text<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, rows: 0, transactions: 0, has_table: false }
    }

    fn end_table(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.has_table) {
            let unit = if self.rows == 1 { "row" } else { "rows" };
            writeln!(self.out, "  {} {unit}\n", self.rows)?;
        }
        self.rows = 0;
        Ok(())
    }
}

impl<W: Write> Form for Text<W> {
    fn begin_tables(&mut self, snapshot: &Snapshot) -> io::Result<()> {
        let position = snapshot.position();
        let (sequence, log, offset) = (position.sequence, position.log, position.offset);
        writeln!(self.out, "before sequence {sequence}, log {log} at byte {offset}\n")
    }

    fn table(&mut self, table: &StoredTable) -> io::Result<()> {
        self.end_table()?;
        self.has_table = true;
        let entry = &table.entry;
        let namespace = entry.namespace.map_or_else(|| "-".into(), |namespace| namespace.to_string());
        writeln!(self.out, "table {} (namespace {namespace})\n  {}", entry.name, entry.sql)?;
        match table.fault() {
            Some(error) => writeln!(self.out, "  not readable: {error}"),
            None => Ok(()),
        }
    }

    fn row(&mut self, row: &StoredRow) -> io::Result<()> {
        self.rows += 1;
        let key = key_text(&row.key, row.primary_key.as_deref());
        writeln!(self.out, "  {key} {}", image_text(&row.document))
    }

    fn end_tables(&mut self) -> io::Result<()> {
        self.end_table()
    }

    fn begin_changes(&mut self, history: &History) -> io::Result<()> {
        let from = if history.is_whole() { "the first transaction" } else { "what the tables hold" };
        writeln!(self.out, "log from {from} on\nsequence namespace operation table key values")
    }

    fn transaction(&mut self, transaction: &LoggedTransaction) -> io::Result<()> {
        self.transactions += 1;
        let kind = kind_name(transaction.kind);
        let (sequence, log, offset) = (transaction.sequence, transaction.log, transaction.offset);
        writeln!(self.out, "transaction {sequence} {kind}, log {log} at byte {offset}")?;
        for change in &transaction.schema {
            let entry = &change.entry;
            let operation = schema_operation_name(&change.operation);
            write!(self.out, "  {} 1 {operation} {} {}", change.sequence, entry.kind.name(), entry.name)?;
            if let SchemaOperation::Rename(from) = &change.operation {
                write!(self.out, " from {from}")?;
            }
            writeln!(self.out, " {}", entry.sql)?;
        }
        for change in &transaction.changes {
            let namespace = change.namespace.map_or_else(|| "-".into(), |namespace| namespace.to_string());
            let operation = row_operation_name(change.operation);
            let table = change.table.as_deref().unwrap_or("-");
            let key = key_text(&change.key, change.primary_key.as_deref());
            write!(self.out, "  {} {namespace} {operation} {table} {key}", change.sequence)?;
            if let Some(before) = &change.before {
                write!(self.out, " before {}", image_text(before))?;
            }
            if let Some(after) = &change.after {
                write!(self.out, " {}", image_text(after))?;
            }
            writeln!(self.out)?;
        }
        Ok(())
    }

    fn end_changes(&mut self) -> io::Result<()> {
        writeln!(self.out, "{} transactions", self.transactions)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// The values of a key as a JSON array; its bytes where they do not decode.
fn key_text(key: &[u8], values: Option<&[Value]>) -> String {
    match values {
        Some(values) => to_json(&Value::Array(values.to_vec())).to_string(),
        None => format!("0x{}", hex(key)),
    }
}

fn image_text(image: &Image) -> String {
    match image {
        Ok(fields) => to_json(&Value::Document(fields.clone())).to_string(),
        Err(error) => format!("not readable: {error}"),
    }
}
