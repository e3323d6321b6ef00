//! Definitions and sequences on their way through the change log.

use deltamesh_genji::ObjectChange;
use deltamesh_genji::catalog::{CatalogEntry, Definition, EntryKind, Owner};
use deltamesh_wire::proto::change::v1 as wire;
use deltamesh_wire::proto::change::v1::object_change::Change;

/// As the change log carries it.
pub(crate) fn to_wire(object: ObjectChange) -> wire::ObjectChange {
    match object {
        ObjectChange::Define(entry) => {
            let (table, paths) = entry.owner.map(|owner| (owner.table, owner.paths)).unwrap_or_default();
            let definition = wire::ObjectDefinition {
                sql: entry.sql,
                docid_sequence: entry.docid_sequence.unwrap_or_default(),
                table,
                paths: paths.unwrap_or_default(),
            };
            wire::ObjectChange { name: entry.name, change: Some(Change::Define(definition)) }
        }
        ObjectChange::Drop(name) => {
            wire::ObjectChange { name, change: Some(Change::Drop(wire::Empty::default())) }
        }
        ObjectChange::Value { sequence, last } => {
            let value = wire::SequenceValue { last };
            wire::ObjectChange { name: sequence, change: Some(Change::Value(value)) }
        }
    }
}

/// As the engine has it.
///
/// # Errors
/// The definition cannot be read, with the reason.
pub(crate) fn from_wire(object: wire::ObjectChange) -> Result<ObjectChange, String> {
    let name = object.name;
    match object.change {
        Some(Change::Define(definition)) => entry(&name, definition).map(ObjectChange::Define),
        Some(Change::Drop(_)) => Ok(ObjectChange::Drop(name)),
        Some(Change::Value(value)) => Ok(ObjectChange::Value { sequence: name, last: value.last }),
        None => Err(format!("change of {name} is of an unknown kind")),
    }
}

fn entry(name: &str, definition: wire::ObjectDefinition) -> Result<CatalogEntry, String> {
    let wire::ObjectDefinition { sql, docid_sequence, table, paths } = definition;
    let parsed = Definition::parse(&sql).map_err(|error| format!("definition of {name}: {error}"))?;
    let kind = match parsed {
        Definition::Table(_) => EntryKind::Table,
        Definition::Index(_) => EntryKind::Index,
        Definition::Sequence(_) => EntryKind::Sequence,
    };
    let paths = Some(paths).filter(|paths| !paths.is_empty());
    Ok(CatalogEntry {
        name: name.to_owned(),
        kind,
        namespace: None,
        sql,
        docid_sequence: Some(docid_sequence).filter(|sequence| !sequence.is_empty()),
        owner: Some(Owner { table, paths }).filter(|owner| !owner.table.is_empty()),
    })
}
