//! What a former master had committed and never published.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use deltamesh_change::{ChangeEvent, EnginePosition, Item, Row, SchemaChange, to_json};
use deltamesh_genji::{GenjiTransaction, ObjectChange, ReadOptions, Tail};
use serde_json::{Value, json};

/// What was set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Aside {
    /// Nothing: everything was published.
    Nothing,
    /// The transactions are in that file, one JSON line each.
    Transactions { file: PathBuf, count: usize },
    /// The log does not reach back: the whole directory is there now.
    Directory { moved: PathBuf, reason: String },
}

/// Writes the transactions behind `published` to a file beside the directory, named by `name`. Moves the whole directory
/// away where they cannot be told any more.
pub(crate) fn set_aside(dir: &Path, published: Option<EnginePosition>, name: &str) -> Result<Aside, String> {
    let transactions = match published {
        Some(position) => read(dir, position),
        None => Err("change log does not say what was published".to_owned()),
    };
    match transactions {
        Ok(transactions) if transactions.is_empty() => Ok(Aside::Nothing),
        Ok(transactions) => {
            let file = beside(dir, &format!("unpublished-{name}.jsonl"));
            write(&file, &transactions)
                .map_err(|error| format!("cannot write {}: {error}", file.display()))?;
            Ok(Aside::Transactions { file, count: transactions.len() })
        }
        Err(reason) => {
            let moved = beside(dir, &format!("diverged-{name}"));
            std::fs::rename(dir, &moved)
                .map_err(|error| format!("cannot move {} to {}: {error}", dir.display(), moved.display()))?;
            Ok(Aside::Directory { moved, reason })
        }
    }
}

fn beside(dir: &Path, suffix: &str) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{suffix}"));
    dir.with_file_name(name)
}

fn read(dir: &Path, position: EnginePosition) -> Result<Vec<GenjiTransaction>, String> {
    let mut tail = Tail::resume(dir, position, &ReadOptions::default()).map_err(|error| error.to_string())?;
    let mut transactions = vec![];
    while let Some(transaction) = tail.poll().map_err(|error| error.to_string())? {
        let is_value = |object: &ObjectChange| matches!(object, ObjectChange::Value { .. });
        // Only a reservation of numbers: whoever writes now has made its own.
        if !(transaction.items.is_empty() && transaction.objects.iter().all(is_value)) {
            transactions.push(transaction);
        }
    }
    Ok(transactions)
}

fn write(file: &Path, transactions: &[GenjiTransaction]) -> std::io::Result<()> {
    let mut out = std::io::BufWriter::new(std::fs::File::create(file)?);
    for transaction in transactions {
        let definitions = transaction.objects.iter().filter_map(definition);
        let changes: Vec<_> = definitions.chain(transaction.items.iter().map(change)).collect();
        writeln!(out, "{}", json!({ "sequence": transaction.position.sequence, "changes": changes }))?;
    }
    out.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()
}

fn change(item: &Item) -> Value {
    match item {
        Item::Row(ChangeEvent { schema, key, after, .. }) => json!({
            "op": if after.is_some() { "upsert" } else { "delete" },
            "relation": schema.relation,
            "key": values(key),
            "row": after.as_ref().map(|row| named(schema, row)),
        }),
        Item::Schema(SchemaChange::Define(schema)) => json!({ "op": "define", "relation": schema.relation }),
        Item::Schema(SchemaChange::Rename { from, to }) => {
            json!({ "op": "rename", "relation": from, "to": to.relation })
        }
        Item::Schema(SchemaChange::Drop { relation, .. }) => json!({ "op": "drop", "relation": relation }),
    }
}

fn definition(object: &ObjectChange) -> Option<Value> {
    match object {
        ObjectChange::Define(entry) => {
            Some(json!({ "op": "define", "object": entry.name, "sql": entry.sql }))
        }
        ObjectChange::Drop(name) => Some(json!({ "op": "drop", "object": name })),
        ObjectChange::Value { .. } => None,
    }
}

fn values(row: &Row) -> Value {
    row.iter().map(to_json).collect::<Vec<_>>().into()
}

fn named(schema: &deltamesh_change::RelationSchema, row: &Row) -> Value {
    let fields = schema.columns.iter().zip(row).map(|(column, value)| (column.name.clone(), to_json(value)));
    Value::Object(fields.collect())
}
