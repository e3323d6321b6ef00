//! The tables of a view: storage, before and after images, and how images reach the storage.

use deltamesh_change::{Column, ColumnType};

use super::delta::Signed;
use crate::query::{AggregateFunction, Scalar, SelectQuery};
use crate::sql::quote;
use crate::{Action, Dialect, Step, dialect, facts, new_table, old_table};

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
    /// SQLite's declared type, where the column repeats a base column that has one.
    pub(crate) affinity: Option<&'static str>,
}

impl Stored {
    /// A column that holds the values of an expression.
    pub(crate) fn of(query: &SelectQuery, expr: &Scalar, column: Column, role: Role) -> Self {
        let mut affinity = affinity(query, expr);
        if column.column_type == ColumnType::Bool {
            // Computed truth values are 0 and 1 too, and readers know them by the declared type.
            affinity = Dialect::Sqlite.declared_type(ColumnType::Bool);
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
    pub(crate) fn extreme(name: String, dialect: Dialect, kind: ColumnType) -> Self {
        let kind = if dialect == Dialect::Sqlite { ColumnType::Any } else { kind };
        let column = Column::new(name, kind, true);
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

/// SQLite's declared type of a base column that is repeated as it is.
pub(crate) fn affinity(query: &SelectQuery, expr: &Scalar) -> Option<&'static str> {
    let Scalar::Column(column) = expr else {
        return None;
    };
    if !query.relations[column.relation].base.typed[column.column] {
        return None;
    }
    Dialect::Sqlite.declared_type(query.column(*column).column_type)
}

/// The tables of one view.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(crate) dialect: Dialect,
    /// Name of which those of the tables are made.
    pub(crate) view: String,
    /// Name that changes are recorded under.
    pub(crate) shown: String,
    pub(crate) columns: Vec<Stored>,
    /// Indexes of the key columns; empty for a single row.
    pub(crate) key: Vec<usize>,
    /// Columns by which rows are found, where the key does not begin with them.
    pub(crate) lookup: Vec<usize>,
    /// Whether the rows are kept.
    pub(crate) stored: bool,
    /// Tables of the batch without whose rows no row of the view is gone, if that is known: its images only change.
    pub(crate) gone_by: Option<Vec<String>>,
    /// Further durable tables of the program's own: quoted name and `CREATE TABLE`.
    pub(crate) tables: Vec<(String, String)>,
}

impl Layout {
    /// Names of the columns that hold values of the query, and these.
    pub(crate) fn values(&self) -> Vec<(String, Scalar)> {
        let value = |stored: &Stored| Some((stored.column.name.clone(), stored.expr.clone()?));
        self.columns.iter().filter_map(value).collect()
    }

    /// Table that holds the rows.
    pub(crate) fn storage(&self) -> String {
        let hidden = self.columns.iter().any(|stored| stored.role != Role::Visible);
        if hidden { format!("__deltamesh_rows_{}", self.view) } else { self.view.clone() }
    }

    /// Table of before images.
    pub(crate) fn old_images(&self) -> String {
        self.dialect.batch_table(&old_table(&self.view))
    }

    /// Table of after images.
    pub(crate) fn new_images(&self) -> String {
        self.dialect.batch_table(&new_table(&self.view))
    }

    /// A table of the program's own for the rows of a batch.
    pub(crate) fn scratch(&self, kind: &str) -> String {
        self.dialect.batch_table(&format!("{kind}__{}", self.view))
    }

    /// Notes that rows are found by these columns.
    pub(crate) fn look_up(&mut self, columns: &[usize]) {
        if !self.key.starts_with(columns) {
            self.lookup = columns.to_vec();
        }
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

    /// Equality of two values of the key.
    pub(crate) fn same(&self, left: &str, right: &str) -> String {
        if self.nullable_key() { self.dialect.same(left, right) } else { format!("{left} = {right}") }
    }

    /// Equality of the key in two tables; NULLs are equal.
    pub(crate) fn same_key(&self, left: &str, right: &str) -> String {
        let pair = |index: &usize| {
            let name = self.name(*index);
            self.same(&format!("{left}.{name}"), &format!("{right}.{name}"))
        };
        let pairs: Vec<String> = self.key.iter().map(pair).collect();
        if pairs.is_empty() { "TRUE".to_owned() } else { pairs.join(" AND ") }
    }

    fn declarations(&self, checked: bool) -> String {
        let columns: Vec<String> = self
            .columns
            .iter()
            .enumerate()
            .map(|(index, stored)| {
                if self.dialect == Dialect::Postgres {
                    let declared = self.dialect.declared_type(stored.column.column_type);
                    return format!("{} {}", self.name(index), declared.unwrap_or_default());
                }
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
            return vec![format!("{} {} AS {oracle}", self.dialect.create_view(), quote(&self.view))];
        }
        let mut statements = vec![];
        let columns = self.declarations(true);
        if self.has_primary_key() {
            let integer =
                matches!(self.key.as_slice(), [only] if self.columns[*only].affinity == Some("INTEGER"));
            let rowid = integer || self.dialect == Dialect::Postgres;
            let without = if rowid { "" } else { " WITHOUT ROWID" };
            statements.push(format!(
                "CREATE TABLE IF NOT EXISTS {} ({columns}, PRIMARY KEY ({})){without}",
                quote(&storage),
                self.keys("")
            ));
        } else {
            statements.push(format!("CREATE TABLE IF NOT EXISTS {} ({columns})", quote(&storage)));
            if !self.key.is_empty() {
                let index = quote(&dialect::short(format!("__deltamesh_key_{}", self.view)));
                statements.push(format!(
                    "CREATE INDEX IF NOT EXISTS {index} ON {} ({})",
                    quote(&storage),
                    self.keys("")
                ));
            }
        }
        if !self.lookup.is_empty() {
            let index = quote(&dialect::short(format!("__deltamesh_lookup_{}", self.view)));
            let columns: Vec<String> = self.lookup.iter().map(|index| self.name(*index)).collect();
            statements.push(format!(
                "CREATE INDEX IF NOT EXISTS {index} ON {} ({})",
                quote(&storage),
                columns.join(", ")
            ));
        }
        if storage != self.view {
            let visible: Vec<String> = (0..self.columns.len())
                .filter(|index| self.columns[*index].role == Role::Visible)
                .map(|index| self.name(index))
                .collect();
            statements.push(format!(
                "{} {} AS SELECT {} FROM {}",
                self.dialect.create_view(),
                quote(&self.view),
                visible.join(", "),
                quote(&storage)
            ));
        }
        statements.extend(self.tables.iter().map(|(_, create)| create.clone()));
        statements
    }

    /// Tables of before and after images.
    pub(crate) fn connect(&self) -> Vec<String> {
        let mut statements = vec![];
        let columns = self.declarations(false);
        for (table, name) in
            [(self.old_images(), old_table(&self.view)), (self.new_images(), new_table(&self.view))]
        {
            if self.has_primary_key() {
                let declarations = format!("{columns}, PRIMARY KEY ({})", self.keys(""));
                statements.push(self.dialect.create_batch_table(&table, &declarations));
            } else {
                statements.push(self.dialect.create_batch_table(&table, &columns));
                if !self.key.is_empty() {
                    let index = self.dialect.batch_table(&dialect::short(format!("key_{name}")));
                    let keys = self.keys("");
                    statements
                        .push(format!("CREATE INDEX IF NOT EXISTS {index} ON {} ({keys})", quote(&name)));
                }
            }
        }
        statements
    }

    /// Table of signed images: `w` = -1 for a row that goes, +1 for one that comes.
    pub(crate) fn connect_delta(&self) -> String {
        let weight = if self.dialect == Dialect::Postgres { " bigint" } else { "" };
        let declarations = format!("\"__deltamesh_w\"{weight}, {}", self.declarations(false));
        self.dialect.create_batch_table(&self.scratch("delta"), &declarations)
    }

    /// Nets the signed images into before and after images. An image that goes and comes is neither.
    pub(crate) fn net(&self) -> [Step; 2] {
        let delta = [self.scratch("delta")];
        self.netting().map(|(table, sql)| Step::finish(Action::over(&delta, sql).filling(&table)))
    }

    /// [`Self::net`], where it is known what signed rows come from. Where none goes, or none comes, the others are the images.
    pub(crate) fn net_signed(&self, signed: Signed) -> Vec<Step> {
        let Signed { mut steps, minus, plus } = signed;
        let copy = |table: &str| {
            format!(
                "INSERT INTO {table} ({all}) SELECT {all} FROM {}",
                self.scratch("delta"),
                all = self.all("")
            )
        };
        let delta = [self.scratch("delta")];
        let sides = [(&minus, &plus, "no row comes"), (&plus, &minus, "no row goes")];
        for ((table, sql), (of, other, when)) in self.netting().into_iter().zip(sides) {
            let over = |sql| Action::over(&delta, sql).and(of);
            let actions =
                [over(copy(&table)).unless(other).when(when), over(sql).and(other).when("rows come and go")];
            steps.extend(actions.map(|action| Step::finish(action.filling(&table))));
        }
        steps
    }

    /// The tables of before and after images, and what fills each from the signed images.
    fn netting(&self) -> [(String, String); 2] {
        // Key first: rows then differ in their first columns, which makes the sort cheap.
        let mut order = self.key.clone();
        order.extend((0..self.columns.len()).filter(|index| !self.key.contains(index)));
        let group: Vec<String> = order.into_iter().map(|index| self.name(index)).collect();
        [(self.old_images(), "<"), (self.new_images(), ">")].map(|(table, sign)| {
            let sql = format!(
                "INSERT INTO {table} ({all}) SELECT {all} FROM {} GROUP BY {} HAVING sum(\"__deltamesh_w\") {sign} 0",
                self.scratch("delta"),
                group.join(", "),
                all = self.all(""),
            );
            (table, sql)
        })
    }

    /// Writes the images into the storage.
    pub(crate) fn apply(&self) -> Vec<Action> {
        if !self.stored {
            return vec![];
        }
        let [goes, comes] = self.writes();
        let comes = Action::over(&[self.new_images()], comes);
        // Where the key may be NULL, or there is none, a row that changes goes and comes.
        let by_key = !self.key.is_empty() && !self.nullable_key();
        vec![if by_key { self.gone(goes) } else { Action::over(&[self.old_images()], goes) }, comes]
    }

    /// A statement over the before images that have no after image.
    pub(crate) fn gone(&self, sql: String) -> Action {
        let gone = Action::over(&[self.old_images()], sql);
        self.gone_by.iter().fold(gone, |gone, tables| gone.and(tables))
    }

    /// What removes the rows that go, and what writes those that come.
    fn writes(&self) -> [String; 2] {
        let (storage, old, new, all) =
            (quote(&self.storage()), self.old_images(), self.new_images(), self.all(""));
        if self.key.is_empty() {
            return [
                format!("DELETE FROM {storage} WHERE EXISTS (SELECT 1 FROM {old})"),
                format!("INSERT INTO {storage} ({all}) SELECT {all} FROM {new}"),
            ];
        }
        if self.nullable_key() {
            let insert = format!("INSERT INTO {storage} ({all}) SELECT {all} FROM {new}");
            if self.dialect == Dialect::Postgres {
                let same = self.same_key("s", "o");
                return [format!("DELETE FROM {storage} AS s USING {old} AS o WHERE {same}"), insert];
            }
            return [
                format!(
                    "DELETE FROM {storage} WHERE rowid IN (SELECT s.rowid FROM {old} AS o CROSS JOIN {storage} AS s WHERE {})",
                    self.same_key("s", "o")
                ),
                insert,
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
        let gone = format!("NOT EXISTS (SELECT 1 FROM {new} AS n WHERE {})", self.same_key("n", "o"));
        let delete = match self.dialect {
            Dialect::Sqlite => format!(
                "DELETE FROM {storage} WHERE ({}) IN (SELECT {} FROM {old} AS o WHERE {gone})",
                self.keys(""),
                self.keys("o."),
            ),
            Dialect::Postgres => {
                let same = self.same_key("s", "o");
                format!("DELETE FROM {storage} AS s USING {old} AS o WHERE {same} AND {gone}")
            }
        };
        [
            delete,
            format!(
                "INSERT INTO {storage} ({all}) SELECT {all} FROM {new} WHERE TRUE ON CONFLICT ({}) DO {conflict}",
                self.keys("")
            ),
        ]
    }

    /// Empties the durable tables.
    pub(crate) fn empty(&self) -> Vec<String> {
        if !self.stored {
            return vec![];
        }
        let storage = quote(&self.storage());
        let tables = self.tables.iter().map(|(table, _)| table);
        [&storage].into_iter().chain(tables).map(|table| format!("DELETE FROM {table}")).collect()
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
        statements.extend(self.tables.iter().map(|(table, _)| format!("DROP TABLE IF EXISTS {table}")));
        statements
    }
}
