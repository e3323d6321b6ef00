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
    let file = beside(dir, &format!("unpublished-{name}.jsonl"));
    let tail = match published {
        Some(position) => {
            Tail::resume(dir, position, &ReadOptions::default()).map_err(|error| error.to_string())
        }
        None => Err("change log does not say what was published".to_owned()),
    };
    let written = match tail {
        Ok(tail) => {
            write(tail, &file).map_err(|error| format!("cannot write {}: {error}", file.display()))?
        }
        Err(reason) => Err(reason),
    };
    match written {
        Ok(0) => Ok(Aside::Nothing),
        Ok(count) => Ok(Aside::Transactions { file, count }),
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

/// Writes what follows, one transaction a line and never one whole in memory; returns their number. The inner error says why
/// they cannot be told.
fn write(mut tail: Tail, file: &Path) -> std::io::Result<Result<usize, String>> {
    let mut lines: Option<Lines> = None;
    loop {
        let part = match tail.poll_part() {
            Ok(Some(part)) => part,
            Ok(None) => break,
            Err(error) => {
                if lines.take().is_some() {
                    std::fs::remove_file(file)?;
                }
                return Ok(Err(error.to_string()));
            }
        };
        match &mut lines {
            Some(lines) => lines.add(&part)?,
            // Only a reservation of numbers: whoever writes now has made its own.
            None if is_reservation(&part) => {}
            None => lines.insert(Lines::create(file)?).add(&part)?,
        }
    }
    lines.map_or(Ok(Ok(0)), |lines| lines.finish().map(Ok))
}

fn is_reservation(part: &GenjiTransaction) -> bool {
    let is_value = |object: &ObjectChange| matches!(object, ObjectChange::Value { .. });
    part.items.is_empty() && part.objects.iter().all(is_value)
}

/// A file of transactions.
struct Lines {
    out: std::io::BufWriter<std::fs::File>,
    count: usize,
    /// Whether more parts of the transaction of the last line follow.
    is_open: bool,
    /// Stands before the next change of the line.
    separator: &'static str,
}

impl Lines {
    fn create(file: &Path) -> std::io::Result<Self> {
        let out = std::io::BufWriter::new(std::fs::File::create(file)?);
        Ok(Self { out, count: 0, is_open: false, separator: "" })
    }

    fn add(&mut self, part: &GenjiTransaction) -> std::io::Result<()> {
        let definitions = part.objects.iter().filter_map(definition);
        if !self.is_open {
            if is_reservation(part) && !part.more {
                return Ok(());
            }
            write!(self.out, r#"{{"sequence":{},"changes":["#, part.position.sequence)?;
            self.count += 1;
            self.separator = "";
        }
        for change in definitions.chain(part.items.iter().map(change)) {
            write!(self.out, "{}{change}", self.separator)?;
            self.separator = ",";
        }
        self.is_open = part.more;
        if part.more { Ok(()) } else { self.out.write_all(b"]}\n") }
    }

    fn finish(self) -> std::io::Result<usize> {
        self.out.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
        Ok(self.count)
    }
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
