//! A table: the CREATE TABLE statement of its catalog row, and how its keys and rows decode by it.
//!
//! `CREATE TABLE k (a INTEGER NOT NULL, b TEXT NOT NULL, CONSTRAINT k_pk PRIMARY KEY (a DESC, b))`. Names of columns stand
//! there without quotes whatever they contain, so a column's name ends where its type begins.

use deltamesh_change::{Row, Value};

use crate::Error;
use crate::catalog::scan::{Scanner, syntax};
use crate::chai::{timestamp, value};
use crate::varint::take_array;

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// INTEGER and BIGINT: one encoding.
    Integer,
    Double,
    Text,
    Bytea,
    Boolean,
    Timestamp,
}

const KINDS: [(&str, Kind); 7] = [
    ("INTEGER", Kind::Integer),
    ("BIGINT", Kind::Integer),
    ("DOUBLE PRECISION", Kind::Double),
    ("TEXT", Kind::Text),
    ("BYTEA", Kind::Bytea),
    ("BOOLEAN", Kind::Boolean),
    ("TIMESTAMP", Kind::Timestamp),
];

/// A component of the primary key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyColumn {
    /// Index of the column.
    pub(crate) column: usize,
    is_descending: bool,
}

/// A table's columns and key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) name: String,
    /// Names and types, in the order of the stored values.
    pub(crate) columns: Vec<(String, Kind)>,
    /// In key order; never empty.
    pub(crate) key: Vec<KeyColumn>,
}

impl Table {
    /// Parses the statement that Chai stores.
    pub(crate) fn parse(sql: &str) -> Result<Self, Error> {
        let mut scanner = Scanner::new(sql);
        if !scanner.take_words("CREATE TABLE") {
            return Err(syntax("catalog sql is not a table's"));
        }
        let mut table = Self { name: scanner.identifier()?, columns: Vec::new(), key: Vec::new() };
        scanner.expect("(")?;
        while !scanner.take(")") {
            if scanner.take_words("CONSTRAINT") {
                table.take_constraint(&mut scanner)?;
            } else {
                table.columns.push(column(&mut scanner)?);
            }
            separator(&mut scanner)?;
        }
        match (scanner.rest().is_empty(), table.key.is_empty()) {
            (true, false) => Ok(table),
            (true, true) => Err(syntax("table has no primary key")),
            (false, _) => Err(syntax("unexpected text in catalog sql")),
        }
    }

    fn take_constraint(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Error> {
        scanner.identifier()?;
        let is_key = scanner.take_words("PRIMARY KEY");
        if !is_key && !scanner.take_words("UNIQUE") && !scanner.take_words("CHECK") {
            return Err(syntax("unknown constraint in catalog sql"));
        }
        scanner.expect("(")?;
        while !scanner.take(")") {
            let text = scanner.expression()?;
            if is_key {
                self.key.push(self.key_column(&text)?);
            }
            separator(scanner)?;
        }
        Ok(())
    }

    fn key_column(&self, text: &str) -> Result<KeyColumn, Error> {
        let find = |name: &str| self.columns.iter().position(|(column, _)| column == name);
        let ascending = find(text).map(|column| KeyColumn { column, is_descending: false });
        let descending = || {
            let column = find(text.strip_suffix(" DESC")?)?;
            Some(KeyColumn { column, is_descending: true })
        };
        ascending.or_else(descending).ok_or_else(|| syntax("primary key names no column"))
    }

    /// Whether all key values have a fixed width.
    pub(crate) fn has_fixed_keys(&self) -> bool {
        let is_fixed = |part: &KeyColumn| {
            !matches!(self.columns.get(part.column), None | Some((_, Kind::Text | Kind::Bytea)))
        };
        self.key.iter().all(is_fixed)
    }

    /// The key's values.
    pub(crate) fn decode_key(&self, mut components: &[u8]) -> Result<Row, Error> {
        let input = &mut components;
        let mut key = Row::with_capacity(self.key.len());
        for part in &self.key {
            let [tag] = take_array(input).map_err(|_| Error::decode("key has too few components"))?;
            let tag = if part.is_descending { !tag } else { tag };
            let kind = self.columns.get(part.column).map_or(Kind::Integer, |(_, kind)| *kind);
            key.push(typed(kind, tag, input)?);
        }
        if input.is_empty() { Ok(key) } else { Err(Error::decode("key has too many components")) }
    }

    /// The row's values, one for each column.
    pub(crate) fn decode_row(&self, mut bytes: &[u8]) -> Result<Row, Error> {
        let input = &mut bytes;
        let mut row = Row::with_capacity(self.columns.len());
        for (_, kind) in &self.columns {
            let [tag] = take_array(input).map_err(|_| Error::decode("row is cut"))?;
            row.push(typed(*kind, tag, input)?);
        }
        if input.is_empty() { Ok(row) } else { Err(Error::decode("row is longer than its definition")) }
    }
}

/// Takes a comma, unless the list ends here.
fn separator(scanner: &mut Scanner<'_>) -> Result<(), Error> {
    if scanner.rest().starts_with(')') { Ok(()) } else { scanner.expect(",") }
}

fn column(scanner: &mut Scanner<'_>) -> Result<(String, Kind), Error> {
    let text = scanner.rest();
    let starts_type = |rest: &str| {
        KINDS.iter().find(|(word, _)| {
            let after = rest.strip_prefix(word);
            after.is_some_and(|after| after.is_empty() || after.starts_with([' ', ',', ')']))
        })
    };
    let mut blanks = text.match_indices(' ').filter(|(at, _)| *at > 0);
    let found = blanks.find_map(|(at, _)| Some((at, starts_type(&text[at + 1..])?)));
    let (length, (word, kind)) = found.ok_or_else(|| syntax("column has no type in catalog sql"))?;
    let name = text[..length].to_owned();
    scanner.advance(length + 1 + word.len());
    scanner.take_words("NOT NULL");
    if scanner.take_words("DEFAULT") {
        scanner.expression()?;
    }
    Ok((name, *kind))
}

/// The value of a declared type behind its tag.
fn typed(kind: Kind, tag: u8, input: &mut &[u8]) -> Result<Value, Error> {
    let fits = match kind {
        _ if tag == value::NULL => true,
        Kind::Integer | Kind::Timestamp => value::is_int(tag),
        Kind::Double => tag == value::DOUBLE || value::is_int(tag),
        Kind::Text => tag == value::TEXT,
        Kind::Bytea => tag == value::BYTEA,
        Kind::Boolean => value::is_boolean(tag),
    };
    if !fits {
        return Err(Error::decode("value does not fit its column"));
    }
    Ok(match (kind, value::take_tagged(tag, input)?) {
        (Kind::Double, Value::Int(value)) => Value::Float(value as f64),
        (Kind::Timestamp, Value::Int(value)) => Value::Text(timestamp::text(value)),
        (_, value) => value,
    })
}
