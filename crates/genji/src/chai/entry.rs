//! Rows of `__chai_catalog`: seven columns, and the definition in the fourth.

use deltamesh_change::Value;

use crate::Error;
use crate::catalog::{CatalogEntry, EntryKind, Owner};
use crate::chai::{key, value};

/// The name that a key of the catalog carries.
pub(crate) fn name_of_key(whole: &[u8]) -> Result<String, Error> {
    match value::take_all(key::split(whole)?.components)?.as_mut_slice() {
        [Value::Text(name)] => Ok(std::mem::take(name)),
        _ => Err(Error::decode("catalog key is not a name")),
    }
}

/// Decodes the value of a catalog row.
pub(crate) fn decode(mut bytes: &[u8]) -> Result<CatalogEntry, Error> {
    let input = &mut bytes;
    let name = text(input)?;
    let kind = EntryKind::of(&text(input)?)?;
    let namespace = match value::take(input)? {
        Value::Null => None,
        Value::Int(namespace) => Some(namespace),
        _ => return Err(Error::decode("namespace is not an integer")),
    };
    let sql = optional_text(input)?.unwrap_or_default();
    let docid_sequence = optional_text(input)?;
    let table = optional_text(input)?;
    let columns = optional_text(input)?;
    let paths = columns.map(|columns| columns.split(',').map(str::to_owned).collect());
    let owner = table.map(|table| Owner { table, paths });
    if !input.is_empty() {
        return Err(Error::decode("catalog row is too long"));
    }
    Ok(CatalogEntry { name, kind, namespace, sql, docid_sequence, owner })
}

fn optional_text(input: &mut &[u8]) -> Result<Option<String>, Error> {
    match value::take(input)? {
        Value::Null => Ok(None),
        Value::Text(text) => Ok(Some(text)),
        _ => Err(Error::decode("catalog field is not text")),
    }
}

fn text(input: &mut &[u8]) -> Result<String, Error> {
    optional_text(input)?.ok_or_else(|| Error::decode("catalog field is not text"))
}
