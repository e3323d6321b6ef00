//! Parsed statements.

use super::expression::Expression;
use crate::catalog::{
    FieldDefinition, IndexDefinition, Path, SequenceDefinition, TableConstraint, TableDefinition,
};

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
    /// `CREATE SEQUENCE [IF NOT EXISTS] name …`
    CreateSequence {
        /// Do nothing if the sequence exists.
        if_not_exists: bool,
        /// The sequence.
        definition: SequenceDefinition,
    },
    /// `DROP TABLE|INDEX|SEQUENCE [IF EXISTS] name`
    Drop {
        /// What the name stands for.
        object: Object,
        /// Do nothing if there is none.
        if_exists: bool,
        /// Its name.
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
        /// CHECK and UNIQUE of the field.
        constraints: Vec<TableConstraint>,
    },
    /// `REINDEX [table or index]`
    Reindex {
        /// A table or an index; without it, all indexes.
        name: Option<String>,
    },
    /// `INSERT INTO …`
    Insert(Insert),
    /// `UPDATE table SET … | UNSET … WHERE …`
    Update {
        /// Name of the table.
        table: String,
        /// What to do to each row, in order.
        changes: Vec<Change>,
        /// Which rows.
        filter: Option<Expression>,
    },
    /// `DELETE FROM table WHERE … ORDER BY … LIMIT … OFFSET …`
    Delete {
        /// Name of the table.
        table: String,
        /// Which rows.
        filter: Option<Expression>,
        /// In which order, and how many of them.
        window: Window,
    },
    /// `SELECT …`
    Select(Select),
    /// `BEGIN [TRANSACTION] [READ ONLY | READ WRITE]`
    Begin {
        /// Whether writes are refused.
        read_only: bool,
    },
    /// `COMMIT [TRANSACTION]`
    Commit,
    /// `ROLLBACK [TRANSACTION]`
    Rollback,
}

/// What can be dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Object {
    /// A table.
    Table,
    /// An index.
    Index,
    /// A sequence.
    Sequence,
}

/// `INSERT INTO table …`
#[derive(Debug, Clone, PartialEq)]
pub struct Insert {
    /// Name of the table.
    pub table: String,
    /// The rows.
    pub rows: Rows,
    /// What to do when a key or a unique value is taken.
    pub on_conflict: Option<OnConflict>,
    /// What to return of each inserted row.
    pub returning: Vec<Projection>,
}

/// Where the rows of an INSERT come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Rows {
    /// Documents, or fields paired with values.
    Documents(Vec<Expression>),
    /// Lists of values for the declared fields in order.
    Lists(Vec<Vec<Expression>>),
    /// The rows of a query; their values take these names, if there are any.
    Query(Box<Select>, Option<Vec<String>>),
}

/// What an INSERT does when a key or a unique value is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnConflict {
    /// Leaves the row out.
    Nothing,
    /// Replaces the rows that are in the way.
    Replace,
}

/// One change of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// `SET path = expression`
    Set(Path, Expression),
    /// `UNSET field`
    Unset(String),
}

/// `SELECT …`
#[derive(Debug, Clone, PartialEq)]
pub struct Select {
    /// Whether equal rows are returned once.
    pub distinct: bool,
    /// What to return of each row.
    pub projections: Vec<Projection>,
    /// Name of the table; without one there is a single empty row.
    pub table: Option<String>,
    /// Which rows.
    pub filter: Option<Expression>,
    /// What the rows are grouped by.
    pub group: Option<Expression>,
    /// The queries whose rows come to these.
    pub compound: Vec<Compound>,
    /// In which order, and how many of them.
    pub window: Window,
}

/// `UNION [ALL] SELECT …`
#[derive(Debug, Clone, PartialEq)]
pub struct Compound {
    /// Whether equal rows stay.
    pub all: bool,
    /// The query; it has no order or limit of its own.
    pub select: Select,
}

impl Select {
    /// The names of the tables that it reads.
    pub(crate) fn tables(&self) -> impl Iterator<Item = &str> {
        let others = self.compound.iter().filter_map(|other| other.select.table.as_deref());
        self.table.as_deref().into_iter().chain(others)
    }

    /// Whether it takes values of sequences, which is a write.
    #[must_use]
    pub fn takes_values(&self) -> bool {
        self.projections.iter().any(Projection::takes_values)
            || self.compound.iter().any(|other| other.select.takes_values())
    }
}

/// One part of what is returned of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Projection {
    /// `*`: the fields that are not null.
    All,
    /// An expression under a name.
    Named(String, Expression),
}

impl Projection {
    /// Whether it takes values of sequences.
    pub(crate) fn takes_values(&self) -> bool {
        matches!(self, Self::Named(_, expression) if expression.takes_values())
    }
}

/// `ORDER BY path [ASC | DESC] LIMIT n OFFSET n`
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Window {
    /// What to order by.
    pub order: Option<Path>,
    /// Whether the order is the other way round.
    pub descending: bool,
    /// How many rows to return.
    pub limit: Option<Expression>,
    /// How many rows to leave out first.
    pub offset: Option<Expression>,
}
