//! The schema of a relation.

use serde::{Deserialize, Serialize};

/// The type of a column, in the terms that every replica can represent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnType {
    /// Truth value; 0 or 1 in SQLite.
    Bool,
    /// 64-bit signed integer.
    Int,
    /// 64-bit IEEE 754 number.
    Float,
    /// Exact decimal.
    Decimal,
    /// Unicode text.
    Text,
    /// Raw bytes.
    Bytes,
    /// An array or a document, kept as canonical JSON text.
    Json,
    /// Whatever the source held: each row decides. Compared and stored by the value's own kind.
    Any,
}

/// One column of a relation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Name as the source spells it.
    pub name: String,
    /// Type of the values.
    #[serde(rename = "type")]
    pub column_type: ColumnType,
    /// Whether NULL can occur.
    pub nullable: bool,
}

impl Column {
    /// A column of that name, type and nullability.
    pub fn new(name: impl Into<String>, column_type: ColumnType, nullable: bool) -> Self {
        Self { name: name.into(), column_type, nullable }
    }
}

/// The columns and key of a relation, under the schema sequence id that names this state of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelationSchema {
    /// Name of the relation within its source.
    pub relation: String,
    /// Schema sequence id (DSID) of the source when this schema came into force.
    pub dsid: u64,
    /// Columns in order; a [`crate::Row`] has one value for each.
    pub columns: Vec<Column>,
    /// Indexes into `columns` of the key, in key order; never empty.
    pub key: Vec<usize>,
}

/// Why a schema is not usable.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SchemaError {
    /// The key is empty or names a column that does not exist.
    #[error("relation {relation} has no usable key")]
    Key {
        /// The relation.
        relation: String,
    },
    /// Two columns share a name (compared without case, as SQL does).
    #[error("relation {relation} has two columns named {column}")]
    DuplicateColumn {
        /// The relation.
        relation: String,
        /// The repeated name.
        column: String,
    },
}

impl RelationSchema {
    /// Checks that the key exists and that no two columns share a name.
    ///
    /// # Errors
    /// [`SchemaError`] naming the relation and, for a repeated name, the column.
    pub fn validate(&self) -> Result<(), SchemaError> {
        let relation = || self.relation.clone();
        if self.key.is_empty() || self.key.iter().any(|&index| index >= self.columns.len()) {
            return Err(SchemaError::Key { relation: relation() });
        }
        for (index, column) in self.columns.iter().enumerate() {
            if self.columns[..index].iter().any(|earlier| earlier.name.eq_ignore_ascii_case(&column.name)) {
                return Err(SchemaError::DuplicateColumn {
                    relation: relation(),
                    column: column.name.clone(),
                });
            }
        }
        Ok(())
    }

    /// Index of the column of that name, compared without case.
    #[must_use]
    pub fn column_index(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name.eq_ignore_ascii_case(name))
    }

    /// The key columns, in key order.
    pub fn key_columns(&self) -> impl Iterator<Item = &Column> {
        self.key.iter().filter_map(|&index| self.columns.get(index))
    }
}
