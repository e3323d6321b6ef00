//! The tables of a view: storage, before and after images, and how images reach the storage.

use deltamesh_change::{Column, ColumnType};

use crate::query::{AggregateFunction, Scalar, SelectQuery};
use crate::sqlite::quote;
use crate::{facts, new_table, old_table};

/// What a storage column is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Seen by applications.
    Visible,
    /// Part of the key only.
    Key,
    /// Maintenance state.
    State,
}

/// How a value is spelled in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A number, or a text beyond ±2^53.
    Int,
    Bool,
    Text,
    /// Base64 text.
    Bytes,
    /// JSON text, embedded.
    Json,
    /// By the value's own kind.
    Own,
}

/// One column of the storage.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) column: Column,
    /// What it holds; state holds none of the query's own expressions.
    pub(crate) expr: Option<Scalar>,
    pub(crate) role: Role,
    pub(crate) form: Form,
    /// Declared type, where the column repeats a base column that has one.
    pub(crate) affinity: Option<&'static str>,
}

impl Stored {
    /// A column that holds the values of an expression.
    pub(crate) fn of(query: &SelectQuery, expr: &Scalar, column: Column, role: Role) -> Self {
        let mut affinity = affinity(query, expr);
        if column.column_type == ColumnType::Bool {
            // Computed truth values are 0 and 1 too, and readers know them by the declared type.
            affinity = declared_type(ColumnType::Bool);
        }
        let form = match column.column_type {
            ColumnType::Bool => Form::Bool,
            ColumnType::Bytes => Form::Bytes,
            ColumnType::Json => Form::Json,
            ColumnType::Int if affinity.is_some() || is_exact_aggregate(query, expr) => Form::Int,
            ColumnType::Text if affinity.is_some() || is_extreme_of_text(query, expr) => Form::Text,
            _ => Form::Own,
        };
        Self { column, expr: Some(expr.clone()), role, form, affinity }
    }

    /// A least or greatest value that the program keeps for itself.
    pub(crate) fn extreme(name: String) -> Self {
        let column = Column::new(name, ColumnType::Any, true);
        Self { column, expr: None, role: Role::State, form: Form::Own, affinity: None }
    }

    /// An integer that the program keeps for itself.
    pub(crate) fn state(name: String) -> Self {
        let column = Column::new(name, ColumnType::Int, false);
        Self { column, expr: None, role: Role::State, form: Form::Int, affinity: None }
    }
}

fn is_exact_aggregate(query: &SelectQuery, expr: &Scalar) -> bool {
    match expr {
        Scalar::Aggregate(aggregate) => match (aggregate.function, &aggregate.argument) {
            (AggregateFunction::Count, _) => true,
            (AggregateFunction::Sum, Some(argument)) => facts::exact_integer(query, argument),
            (AggregateFunction::Min | AggregateFunction::Max, Some(argument)) => {
                affinity(query, argument).is_some()
            }
            _ => false,
        },
        _ => false,
    }
}

fn is_extreme_of_text(query: &SelectQuery, expr: &Scalar) -> bool {
    match expr {
        Scalar::Aggregate(aggregate) => {
            matches!(aggregate.function, AggregateFunction::Min | AggregateFunction::Max)
                && aggregate.argument.as_ref().is_some_and(|argument| affinity(query, argument).is_some())
        }
        _ => false,
    }
}

/// Declared type of a base column that is repeated as it is.
pub(crate) fn affinity(query: &SelectQuery, expr: &Scalar) -> Option<&'static str> {
    let Scalar::Column(column) = expr else {
        return None;
    };
    if !query.relations[column.relation].base.typed[column.column] {
        return None;
    }
    declared_type(query.column(*column).column_type)
}

/// The type that replicas declare for mirrored columns: its affinity keeps what is stored there as it is, and readers recognise
/// truth values and JSON by it. Whatever the source holds has none.
#[must_use]
pub fn declared_type(column_type: ColumnType) -> Option<&'static str> {
    match column_type {
        ColumnType::Bool => Some("BOOLEAN"),
        ColumnType::Int => Some("INTEGER"),
        ColumnType::Float => Some("REAL"),
        ColumnType::Decimal => Some("DECIMAL_TEXT"),
        ColumnType::Text => Some("TEXT"),
        ColumnType::Bytes => Some("BLOB"),
        ColumnType::Json => Some("JSON_TEXT"),
        ColumnType::Any => None,
    }
}

/// The tables of one view.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(crate) view: String,
    pub(crate) columns: Vec<Stored>,
    /// Indexes of the key columns; empty for a single row.
    pub(crate) key: Vec<usize>,
    /// Whether the rows are kept.
    pub(crate) stored: bool,
}

impl Layout {
    /// Table that holds the rows.
    pub(crate) fn storage(&self) -> String {
        let hidden = self.columns.iter().any(|stored| stored.role != Role::Visible);
        if hidden { format!("__deltamesh_rows_{}", self.view) } else { self.view.clone() }
    }

    /// TEMP table of before images.
    pub(crate) fn old_images(&self) -> String {
        format!("temp.{}", quote(&old_table(&self.view)))
    }

    /// TEMP table of after images.
    pub(crate) fn new_images(&self) -> String {
        format!("temp.{}", quote(&new_table(&self.view)))
    }

    /// A TEMP table of the program's own.
    pub(crate) fn scratch(&self, kind: &str) -> String {
        format!("temp.{}", quote(&format!("{kind}__{}", self.view)))
    }

    /// Quoted name of a column.
    pub(crate) fn name(&self, index: usize) -> String {
        quote(&self.columns[index].column.name)
    }

    /// All columns, quoted, after a prefix such as `o.`.
    pub(crate) fn all(&self, prefix: &str) -> String {
        let names: Vec<String> =
            (0..self.columns.len()).map(|index| format!("{prefix}{}", self.name(index))).collect();
        names.join(", ")
    }

    fn keys(&self, prefix: &str) -> String {
        let names: Vec<String> =
            self.key.iter().map(|index| format!("{prefix}{}", self.name(*index))).collect();
        names.join(", ")
    }

    pub(crate) fn nullable_key(&self) -> bool {
        self.key.iter().any(|index| self.columns[*index].column.nullable)
    }

    /// Equality of the key in two tables; NULLs are equal.
    pub(crate) fn same_key(&self, left: &str, right: &str) -> String {
        let operator = if self.nullable_key() { "IS" } else { "=" };
        let pairs: Vec<String> = self
            .key
            .iter()
            .map(|index| format!("{left}.{name} {operator} {right}.{name}", name = self.name(*index)))
            .collect();
        if pairs.is_empty() { "TRUE".to_owned() } else { pairs.join(" AND ") }
    }

    fn declarations(&self, checked: bool) -> String {
        let columns: Vec<String> = self
            .columns
            .iter()
            .enumerate()
            .map(|(index, stored)| {
                let affinity = stored.affinity.map_or_else(String::new, |affinity| format!(" {affinity}"));
                // A sum beyond 64 bits must not turn into an approximation unnoticed.
                let check = match (checked, stored.role, stored.form, stored.affinity) {
                    (true, Role::State, Form::Int, _) => {
                        format!(" CHECK (typeof({}) = 'integer')", self.name(index))
                    }
                    (true, _, Form::Int, None) => {
                        format!(" CHECK (typeof({}) IN ('integer', 'null'))", self.name(index))
                    }
                    _ => String::new(),
                };
                format!("{}{affinity}{check}", self.name(index))
            })
            .collect();
        columns.join(", ")
    }

    fn has_primary_key(&self) -> bool {
        !self.key.is_empty() && !self.nullable_key()
    }

    /// Durable tables.
    pub(crate) fn create(&self, oracle: &str) -> Vec<String> {
        let storage = self.storage();
        if !self.stored {
            return vec![format!("CREATE VIEW IF NOT EXISTS {} AS {oracle}", quote(&self.view))];
        }
        let mut statements = vec![];
        let columns = self.declarations(true);
        if self.has_primary_key() {
            let integer =
                matches!(self.key.as_slice(), [only] if self.columns[*only].affinity == Some("INTEGER"));
            let without = if integer { "" } else { " WITHOUT ROWID" };
            statements.push(format!(
                "CREATE TABLE IF NOT EXISTS {} ({columns}, PRIMARY KEY ({})){without}",
                quote(&storage),
                self.keys("")
            ));
        } else {
            statements.push(format!("CREATE TABLE IF NOT EXISTS {} ({columns})", quote(&storage)));
            if !self.key.is_empty() {
                let index = quote(&format!("__deltamesh_key_{}", self.view));
                statements.push(format!(
                    "CREATE INDEX IF NOT EXISTS {index} ON {} ({})",
                    quote(&storage),
                    self.keys("")
                ));
            }
        }
        if storage != self.view {
            let visible: Vec<String> = (0..self.columns.len())
                .filter(|index| self.columns[*index].role == Role::Visible)
                .map(|index| self.name(index))
                .collect();
            statements.push(format!(
                "CREATE VIEW IF NOT EXISTS {} AS SELECT {} FROM {}",
                quote(&self.view),
                visible.join(", "),
                quote(&storage)
            ));
        }
        statements
    }

    /// TEMP tables of before and after images.
    pub(crate) fn connect(&self) -> Vec<String> {
        let mut statements = vec![];
        let columns = self.declarations(false);
        for (table, name) in
            [(self.old_images(), old_table(&self.view)), (self.new_images(), new_table(&self.view))]
        {
            if self.has_primary_key() {
                let keys = self.keys("");
                statements
                    .push(format!("CREATE TABLE IF NOT EXISTS {table} ({columns}, PRIMARY KEY ({keys}))"));
            } else {
                statements.push(format!("CREATE TABLE IF NOT EXISTS {table} ({columns})"));
                if !self.key.is_empty() {
                    let index = quote(&format!("key_{name}"));
                    let keys = self.keys("");
                    statements.push(format!(
                        "CREATE INDEX IF NOT EXISTS temp.{index} ON {} ({keys})",
                        quote(&name)
                    ));
                }
            }
        }
        statements
    }

    /// TEMP table of signed images: `w` = -1 for a row that goes, +1 for one that comes.
    pub(crate) fn connect_delta(&self) -> String {
        format!(
            "CREATE TABLE IF NOT EXISTS {} (\"__deltamesh_w\", {})",
            self.scratch("delta"),
            self.declarations(false)
        )
    }

    /// Nets the signed images into before and after images. An image that goes and comes is neither.
    pub(crate) fn net(&self) -> Vec<String> {
        // Key first: rows then differ in their first columns, which makes the sort cheap.
        let mut order = self.key.clone();
        order.extend((0..self.columns.len()).filter(|index| !self.key.contains(index)));
        let group: Vec<String> = order.into_iter().map(|index| self.name(index)).collect();
        [(self.old_images(), "<"), (self.new_images(), ">")]
            .into_iter()
            .map(|(table, sign)| {
                format!(
                    "INSERT INTO {table} ({all}) SELECT {all} FROM {} GROUP BY {} HAVING sum(\"__deltamesh_w\") {sign} 0",
                    self.scratch("delta"),
                    group.join(", "),
                    all = self.all(""),
                )
            })
            .collect()
    }

    /// Writes the images into the storage.
    pub(crate) fn apply(&self) -> Vec<String> {
        if !self.stored {
            return vec![];
        }
        let (storage, old, new, all) =
            (quote(&self.storage()), self.old_images(), self.new_images(), self.all(""));
        if self.key.is_empty() {
            return vec![
                format!("DELETE FROM {storage} WHERE EXISTS (SELECT 1 FROM {old})"),
                format!("INSERT INTO {storage} ({all}) SELECT {all} FROM {new}"),
            ];
        }
        if self.nullable_key() {
            return vec![
                format!(
                    "DELETE FROM {storage} WHERE rowid IN (SELECT s.rowid FROM {old} AS o CROSS JOIN {storage} AS s WHERE {})",
                    self.same_key("s", "o")
                ),
                format!("INSERT INTO {storage} ({all}) SELECT {all} FROM {new}"),
            ];
        }
        let others: Vec<String> = (0..self.columns.len())
            .filter(|index| !self.key.contains(index))
            .map(|index| format!("{name} = excluded.{name}", name = self.name(index)))
            .collect();
        let conflict = if others.is_empty() {
            "NOTHING".to_owned()
        } else {
            format!("UPDATE SET {}", others.join(", "))
        };
        vec![
            format!(
                "DELETE FROM {storage} WHERE ({keys}) IN (SELECT {of_old} FROM {old} AS o WHERE NOT EXISTS (SELECT 1 FROM {new} AS n WHERE {same}))",
                keys = self.keys(""),
                of_old = self.keys("o."),
                same = self.same_key("n", "o"),
            ),
            format!(
                "INSERT INTO {storage} ({all}) SELECT {all} FROM {new} WHERE TRUE ON CONFLICT ({}) DO {conflict}",
                self.keys("")
            ),
        ]
    }

    /// Removes what [`Self::create`] made.
    pub(crate) fn drop(&self) -> Vec<String> {
        if !self.stored {
            return vec![format!("DROP VIEW IF EXISTS {}", quote(&self.view))];
        }
        let storage = self.storage();
        let mut statements = vec![];
        if storage != self.view {
            statements.push(format!("DROP VIEW IF EXISTS {}", quote(&self.view)));
        }
        statements.push(format!("DROP TABLE IF EXISTS {}", quote(&storage)));
        statements
    }
}
