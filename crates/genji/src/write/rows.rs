//! Goes through the rows of a table that a filter holds for.

use deltamesh_change::Value;

use super::plan::{self, Access};
use super::row::{self, Document};
use super::schema::Table;
use super::transaction::WriteTransaction;
use crate::sql::compare::{is_true, sort_lists};
use crate::sql::evaluate::Scope;
use crate::sql::{Expression, Parameters};
use crate::{Error, key};

/// A row that was found.
pub(crate) struct Row {
    /// Its encoded key.
    pub(crate) key: Vec<u8>,
    /// The values of its key.
    pub(crate) values: Vec<Value>,
    pub(crate) document: Document,
    /// Bytes of its key and value.
    pub(crate) size: usize,
}

impl WriteTransaction<'_> {
    /// Calls `each` with every row that the filter holds for, ordered by key where a table or index is gone through, until
    /// it returns false.
    pub(crate) fn visit(
        &self,
        table: &Table,
        filter: Option<&Expression>,
        parameters: Parameters<'_>,
        each: &mut dyn FnMut(Row) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let mut offer = |key: Vec<u8>, bytes: &[u8]| -> Result<bool, Error> {
            let document = row::read(&table.definition.document, bytes)?;
            let values = key::split(&key)?.values()?;
            if let Some(filter) = filter {
                let mut scope =
                    Scope { row: Some(&document), key: Some(&values), parameters, sequences: None };
                if !is_true(&filter.evaluate(&mut scope)?) {
                    return Ok(true);
                }
            }
            let size = key.len() + bytes.len();
            each(Row { key, values, document, size })
        };
        match plan::access(table, filter, parameters)? {
            Access::Keys(keys) => {
                for key in in_order(keys)? {
                    if let Some(bytes) = self.value(&key)?
                        && !offer(key, &bytes)?
                    {
                        break;
                    }
                }
            }
            Access::Rows(prefixes) => {
                for prefix in in_order(prefixes)? {
                    for entry in self.stream(&prefix)? {
                        let (key, bytes) = entry?;
                        if !offer(key, &bytes)? {
                            return Ok(());
                        }
                    }
                }
            }
            Access::Index(prefixes) => {
                for prefix in in_order(prefixes)? {
                    for entry in self.stream(&prefix)? {
                        let (entry, _) = entry?;
                        let Some(key) = row_of_entry(&entry)? else { continue };
                        // An index of the real engine can name rows that are gone.
                        if let Some(bytes) = self.value(&key)?
                            && !offer(key, &bytes)?
                        {
                            return Ok(());
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// The keys of the rows that the filter holds for.
    pub(crate) fn matching(
        &self,
        table: &Table,
        filter: Option<&Expression>,
        parameters: Parameters<'_>,
    ) -> Result<Vec<Vec<u8>>, Error> {
        let mut keys = Vec::new();
        let mut size = 0;
        self.visit(table, filter, parameters, &mut |row| {
            size += row.key.len();
            keys.push(row.key);
            if size > self.byte_limit() { Err(self.size_error()) } else { Ok(true) }
        })?;
        Ok(keys)
    }
}

fn in_order(keys: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, Error> {
    if keys.len() < 2 {
        return Ok(keys);
    }
    let mut keys = keys
        .into_iter()
        .map(|key| Ok((key::split(&key)?.values()?, key)))
        .collect::<Result<Vec<_>, Error>>()?;
    keys.sort_by(|left, right| sort_lists(&left.0, &right.0));
    Ok(keys.into_iter().map(|(_, key)| key).collect())
}

/// The key of the row that an index entry stands for: its last component.
pub(crate) fn row_of_entry(entry: &[u8]) -> Result<Option<Vec<u8>>, Error> {
    Ok(match key::split(entry)?.values()?.pop() {
        Some(Value::Bytes(key)) => Some(key),
        _ => None,
    })
}
