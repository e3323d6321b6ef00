//! Parsed statements.

use super::expression::Expression;
use crate::catalog::{FieldDefinition, IndexDefinition, Path, TableDefinition};

/// One statement.
#[derive(Debug, Clone, PartialEq)]
pub enum Statement {
    /// `CREATE TABLE [IF NOT EXISTS] …`
    CreateTable {
        /// Do nothing if the table exists.
        if_not_exists: bool,
        /// The table, its constraints named.
        definition: TableDefinition,
    },
    /// `CREATE [UNIQUE] INDEX [IF NOT EXISTS] [name] ON table (paths)`
    CreateIndex {
        /// Do nothing if the index exists.
        if_not_exists: bool,
        /// The index; its name is empty if none was given.
        definition: IndexDefinition,
    },
    /// `DROP TABLE [IF EXISTS] name`
    DropTable {
        /// Do nothing if the table does not exist.
        if_exists: bool,
        /// Name of the table.
        name: String,
    },
    /// `DROP INDEX [IF EXISTS] name`
    DropIndex {
        /// Do nothing if the index does not exist.
        if_exists: bool,
        /// Name of the index.
        name: String,
    },
    /// `ALTER TABLE name RENAME TO name`
    RenameTable {
        /// Name until now.
        from: String,
        /// Name from here on.
        to: String,
    },
    /// `ALTER TABLE name ADD FIELD field`
    AddField {
        /// Name of the table.
        table: String,
        /// The new field.
        field: FieldDefinition,
    },
    /// `INSERT INTO …`
    Insert(Insert),
    /// `UPDATE table SET path = expression, … WHERE …`
    Update {
        /// Name of the table.
        table: String,
        /// What to set.
        set: Vec<(Path, Expression)>,
        /// Which rows.
        filter: Option<Expression>,
    },
    /// `DELETE FROM table WHERE …`
    Delete {
        /// Name of the table.
        table: String,
        /// Which rows.
        filter: Option<Expression>,
    },
}

/// `INSERT INTO table …`
#[derive(Debug, Clone, PartialEq)]
pub struct Insert {
    /// Name of the table.
    pub table: String,
    /// The rows: documents, or field names paired with values.
    pub rows: Vec<Expression>,
}
