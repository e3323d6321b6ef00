//! One JSON object: `tables` by name with their rows, `changes` by transaction, values with their types.
//!
//! `{"int":"1"}`, `{"double":"1.5","bits":"3ff8000000000000"}`, `{"text":"a"}`, `{"blob":"AA=="}`, `{"array":[…]}`,
//! `{"doc":[["name",…],…]}`, `null`, `true`, `false`. A text or blob over 2048 bytes is its SHA-256 and length.

use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use deltamesh_change::Value;
use deltamesh_genji::{
    History, Image, LoggedChange, LoggedSchema, LoggedTransaction, RowOperation, SchemaOperation, Snapshot,
    StoredRow, StoredTable, TransactionKind,
};
use serde_json::{Map, Value as Tree, json};
use sha2::{Digest as _, Sha256};

use super::Form;

/// Longer texts and blobs are shown by their digest.
const LONGEST: usize = 2048;
/// From this exponent on a double is printed with it.
const FIRST_EXPONENT: i32 = 6;

/// Writes the object as its parts come.
pub(super) struct Json<W> {
    out: W,
    /// Between two parts of the list that is open.
    separator: &'static str,
    has_part: bool,
    has_table: bool,
}

impl<W: Write> Json<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, separator: "", has_part: false, has_table: false }
    }

    fn part(&mut self, name: &str, open: char) -> io::Result<()> {
        let before = if self.has_part { "," } else { "{" };
        self.has_part = true;
        self.separator = "";
        writeln!(self.out, "{before}\"{name}\":{open}")
    }

    fn item(&mut self, item: &Tree) -> io::Result<()> {
        write!(self.out, "{}{item}", self.separator)?;
        self.separator = ",\n";
        Ok(())
    }
}

impl<W: Write> Form for Json<W> {
    fn begin_tables(&mut self, _: &Snapshot) -> io::Result<()> {
        self.part("tables", '{')
    }

    fn table(&mut self, table: &StoredTable) -> io::Result<()> {
        let before = if self.has_table { "],\n" } else { "" };
        self.has_table = true;
        self.separator = "";
        writeln!(self.out, "{before}{}:[", Tree::from(table.entry.name.as_str()))
    }

    fn row(&mut self, row: &StoredRow) -> io::Result<()> {
        let mut fields = key_fields(&row.key, row.primary_key.as_deref());
        match &row.document {
            Ok(document) => fields.insert("doc".into(), document_of(document)),
            Err(error) => fields.insert("err".into(), error.to_string().into()),
        };
        self.item(&Tree::Object(fields))
    }

    fn end_tables(&mut self) -> io::Result<()> {
        self.out.write_all(if self.has_table { b"]}" } else { b"}" })
    }

    fn begin_changes(&mut self, _: &History) -> io::Result<()> {
        self.part("changes", '[')
    }

    fn transaction(&mut self, transaction: &LoggedTransaction) -> io::Result<()> {
        let schema: Vec<Tree> = transaction.schema.iter().map(schema_change).collect();
        let changes: Vec<Tree> = transaction.changes.iter().map(row_change).collect();
        let kind = kind_name(transaction.kind);
        self.item(&json!({"seq": transaction.sequence, "kind": kind, "schema": schema, "changes": changes}))
    }

    fn end_changes(&mut self) -> io::Result<()> {
        self.out.write_all(b"]")
    }

    fn finish(&mut self) -> io::Result<()> {
        self.out.write_all(b"}\n")?;
        self.out.flush()
    }
}

/// The word for how a transaction came into the logs.
pub(super) fn kind_name(kind: TransactionKind) -> &'static str {
    match kind {
        TransactionKind::Plain => "plain",
        TransactionKind::Spilled => "spilled",
        TransactionKind::Partial => "partial",
        TransactionKind::Open => "open",
    }
}

/// The word for what happened to a row.
pub(super) fn row_operation_name(operation: RowOperation) -> &'static str {
    match operation {
        RowOperation::Insert => "insert",
        RowOperation::Update => "update",
        RowOperation::Delete => "delete",
        RowOperation::Noop => "noop",
    }
}

/// The word for what happened to a catalog row.
pub(super) fn schema_operation_name(operation: &SchemaOperation) -> &'static str {
    match operation {
        SchemaOperation::Create => "create",
        SchemaOperation::Alter => "alter",
        SchemaOperation::Rename(_) => "rename",
        SchemaOperation::Drop => "drop",
    }
}

/// Bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn schema_change(change: &LoggedSchema) -> Tree {
    let entry = &change.entry;
    let sql = (change.operation != SchemaOperation::Drop).then_some(entry.sql.as_str());
    let mut tree = json!({
        "op": schema_operation_name(&change.operation),
        "kind": entry.kind.name(),
        "name": entry.name,
        "ns": entry.namespace,
        "sql": sql,
    });
    if let SchemaOperation::Rename(from) = &change.operation {
        tree["from"] = from.as_str().into();
    }
    tree
}

fn row_change(change: &LoggedChange) -> Tree {
    let mut fields = Map::new();
    fields.insert("table".into(), change.table.as_deref().into());
    fields.insert("op".into(), row_operation_name(change.operation).into());
    let is_noop = change.operation == RowOperation::Noop;
    let key = change.primary_key.as_deref().filter(|_| !is_noop);
    fields.append(&mut key_fields(&change.key, key));
    for (name, image) in [("before", &change.before), ("after", &change.after)] {
        if let Some(image) = image {
            fields.insert(name.into(), image_of(image));
        }
    }
    Tree::Object(fields)
}

fn key_fields(key: &[u8], primary_key: Option<&[Value]>) -> Map<String, Tree> {
    let mut fields = Map::new();
    fields.insert("key".into(), hex(key).into());
    if let Some(values) = primary_key {
        fields.insert("pk".into(), values.iter().map(typed).collect());
    }
    fields
}

fn image_of(image: &Image) -> Tree {
    match image {
        Ok(document) => document_of(document),
        Err(error) => json!({"err": error.to_string()}),
    }
}

fn document_of(fields: &[(String, Value)]) -> Tree {
    let fields: Vec<Tree> = fields.iter().map(|(name, value)| json!([name, typed(value)])).collect();
    json!({"doc": fields})
}

fn typed(value: &Value) -> Tree {
    let digest = |name: &str, bytes: &[u8]| {
        let mut tree = Map::new();
        tree.insert(name.into(), hex(&Sha256::digest(bytes)).into());
        tree.insert("len".into(), bytes.len().into());
        Tree::Object(tree)
    };
    match value {
        Value::Null | Value::Unchanged => Tree::Null,
        Value::Bool(value) => Tree::Bool(*value),
        Value::Int(value) => json!({"int": value.to_string()}),
        Value::Float(value) => {
            json!({"double": double_text(*value), "bits": format!("{:016x}", value.to_bits())})
        }
        Value::Decimal(value) => json!({"decimal": value.to_string()}),
        Value::Text(text) if text.len() > LONGEST => digest("text_sha256", text.as_bytes()),
        Value::Text(text) => json!({"text": text}),
        Value::Bytes(bytes) if bytes.len() > LONGEST => digest("blob_sha256", bytes),
        Value::Bytes(bytes) => json!({"blob": STANDARD.encode(bytes)}),
        Value::Array(values) => json!({"array": values.iter().map(typed).collect::<Vec<_>>()}),
        Value::Document(fields) => document_of(fields),
    }
}

/// A double in the shortest digits that read back the same, as Go formats it with `'g', -1`.
fn double_text(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.into();
    }
    let scientific = format!("{value:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..FIRST_EXPONENT).contains(&exponent) {
        return format!("{value}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_as_go_prints_them() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (-70000.0, "-70000"),
            (1.25, "1.25"),
            (1e21, "1e+21"),
            (-1e-7, "-1e-07"),
            (5e-324, "5e-324"),
            (123_456_789.125, "1.23456789125e+08"),
            (9_007_199_254_740_992.0, "9.007199254740992e+15"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(double_text(value), expected);
        }
    }
}
