//! Rows of `__genji_catalog`: six positional fields, and the definition in the fourth.

use deltamesh_change::Value;

use crate::catalog::Definition;
use crate::{Error, key, value};

/// What a catalog row describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A table.
    Table,
    /// An index.
    Index,
    /// A sequence.
    Sequence,
}

/// Who an index or a sequence belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The table.
    pub table: String,
    /// The paths of the UNIQUE constraint that the index implements.
    pub paths: Option<Vec<String>>,
}

/// One row of `__genji_catalog`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogEntry {
    /// Name, unique over tables, indexes and sequences.
    pub name: String,
    /// What the row describes.
    pub kind: EntryKind,
    /// Namespace of the keys; sequences have none.
    pub namespace: Option<i64>,
    /// The CREATE statement.
    pub sql: String,
    /// The sequence that gives docids, for tables without primary key.
    pub docid_sequence: Option<String>,
    /// The table that an index or a docid sequence belongs to.
    pub owner: Option<Owner>,
}

impl EntryKind {
    /// The word that the catalog has for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Index => "index",
            Self::Sequence => "sequence",
        }
    }

    /// The kind that the catalog has that word for.
    pub(crate) fn of(name: &str) -> Result<Self, Error> {
        let kinds = [Self::Table, Self::Index, Self::Sequence];
        let kind = kinds.into_iter().find(|kind| kind.name() == name);
        kind.ok_or_else(|| Error::decode("unknown catalog type"))
    }
}

impl CatalogEntry {
    /// The name that a key of the catalog carries.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Decode`] when it is not a catalog key.
    pub fn name_of_key(key: &[u8]) -> Result<String, Error> {
        match key::split(key)?.values()?.as_mut_slice() {
            [Value::Text(name)] => Ok(std::mem::take(name)),
            _ => Err(Error::decode("catalog key is not a name")),
        }
    }

    /// The key of the row.
    #[must_use]
    pub fn key(&self) -> Vec<u8> {
        let mut out = key::prefix(key::CATALOG);
        value::put_text(&mut out, &self.name);
        out
    }

    /// Decodes the value of a catalog row.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Decode`] when the bytes are not such a row.
    pub fn decode(mut bytes: &[u8]) -> Result<Self, Error> {
        let input = &mut bytes;
        let name = text(input)?;
        let kind = EntryKind::of(&text(input)?)?;
        let namespace = match value::decode(input)? {
            Value::Null => None,
            Value::Int(namespace) => Some(namespace),
            _ => return Err(Error::decode("namespace is not an integer")),
        };
        let sql = optional_text(input)?.unwrap_or_default();
        let docid_sequence = optional_text(input)?;
        let owner = match value::decode(input)? {
            Value::Null => None,
            Value::Array(values) => Some(Owner::from_values(values)?),
            _ => return Err(Error::decode("owner is not a document")),
        };
        if !input.is_empty() {
            return Err(Error::decode("catalog row is too long"));
        }
        Ok(Self { name, kind, namespace, sql, docid_sequence, owner })
    }

    /// Encodes the value of the row.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.sql.len() + 64);
        let put_optional = |out: &mut Vec<u8>, text: Option<&str>| match text {
            Some(text) => value::put_text(out, text),
            None => out.push(value::NULL),
        };
        value::put_text(&mut out, &self.name);
        value::put_text(&mut out, self.kind.name());
        match self.namespace {
            Some(namespace) => value::put_int(&mut out, namespace),
            None => out.push(value::NULL),
        }
        value::put_text(&mut out, &self.sql);
        put_optional(&mut out, self.docid_sequence.as_deref());
        match &self.owner {
            Some(owner) => owner.encode(&mut out),
            None => out.push(value::NULL),
        }
        out
    }

    /// Parses the definition.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Syntax`] when the `sql` field is not a CREATE statement that Genji writes.
    pub fn definition(&self) -> Result<Definition, Error> {
        Definition::parse(&self.sql)
    }
}

impl Owner {
    fn from_values(values: Vec<Value>) -> Result<Self, Error> {
        let as_text = |value| match value {
            Value::Text(text) => Ok(text),
            _ => Err(Error::decode("owner holds no text")),
        };
        let mut values = values.into_iter();
        let table = values.next().map(as_text).transpose()?.unwrap_or_default();
        let paths = match values.next() {
            Some(Value::Array(paths)) => Some(paths.into_iter().map(as_text).collect::<Result<_, _>>()?),
            _ => None,
        };
        Ok(Self { table, paths })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        value::put_array_head(out, 2);
        value::put_text(out, &self.table);
        match &self.paths {
            Some(paths) => {
                value::put_array_head(out, paths.len());
                paths.iter().for_each(|path| value::put_text(out, path));
            }
            None => out.push(value::NULL),
        }
    }
}

fn optional_text(input: &mut &[u8]) -> Result<Option<String>, Error> {
    match value::decode(input)? {
        Value::Null => Ok(None),
        Value::Text(text) => Ok(Some(text)),
        _ => Err(Error::decode("catalog field is not text")),
    }
}

fn text(input: &mut &[u8]) -> Result<String, Error> {
    optional_text(input)?.ok_or_else(|| Error::decode("catalog field is not text"))
}
