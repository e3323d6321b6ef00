//! The number of different values per group: how often each value occurs is kept, and a group gains one where a value comes
//! to occur, and loses one where it no longer does.

use super::aggregate::Rule;
use super::layout::Layout;
use super::select::Render;
use super::{quote, render};
use crate::{Action, Dialect, dialect};

/// The tables of one argument.
pub(super) struct Counts {
    argument: usize,
    /// Table of group, value and number of occurrences, quoted.
    table: String,
    /// Table of a batch's netted signed values.
    pub(super) scratch: String,
    /// Names of group columns.
    group: Vec<String>,
    /// Columns of both tables, in order.
    columns: Vec<(String, deltamesh_change::ColumnType)>,
}

impl Counts {
    /// Adds the table to those of the view.
    pub(super) fn new(rule: &Rule<'_>, argument: usize, layout: &mut Layout) -> Self {
        let group: Vec<String> = rule.group_names().collect();
        let mut columns: Vec<_> = rule.typed_groups().collect();
        columns.push(("a".to_owned(), rule.argument_kind(argument)));
        columns.push(("n".to_owned(), deltamesh_change::ColumnType::Int));
        let table = quote(&dialect::short(format!("__deltamesh_values{argument}_{}", layout.view)));
        let declared = columns.iter().map(|(name, kind)| match layout.dialect {
            Dialect::Sqlite => name.clone(),
            Dialect::Postgres => {
                format!("{name} {}", layout.dialect.declared_type(*kind).unwrap_or_default())
            }
        });
        let declared = declared.collect::<Vec<_>>().join(", ");
        let key = group.iter().map(String::as_str).chain(["a"]).collect::<Vec<_>>().join(", ");
        let without = if layout.dialect == Dialect::Sqlite { " WITHOUT ROWID" } else { "" };
        let create = format!("CREATE TABLE IF NOT EXISTS {table} ({declared}, PRIMARY KEY ({key})){without}");
        layout.tables.push((table.clone(), create));
        let scratch = layout.scratch(&format!("values{argument}"));
        Self { argument, table, scratch, group, columns }
    }

    pub(super) fn connect(&self, dialect: Dialect) -> String {
        dialect.create_scratch(&self.scratch, &self.columns)
    }

    /// Group and value.
    fn key(&self, prefix: &str) -> String {
        let names = self.group.iter().map(String::as_str).chain(["a"]);
        names.map(|name| format!("{prefix}{name}")).collect::<Vec<_>>().join(", ")
    }

    /// Nets the signed values.
    pub(super) fn net(&self, delta: &String) -> Action {
        let group: String = self.group.iter().map(|name| format!("{name}, ")).collect();
        let value = format!("a{}", self.argument);
        let sql = format!(
            "INSERT INTO {} SELECT {group}{value}, sum(w) FROM {delta} WHERE {value} IS NOT NULL GROUP BY {group}{value} HAVING sum(w) <> 0",
            self.scratch
        );
        Action::over(std::slice::from_ref(delta), sql).filling(&self.scratch)
    }

    /// Writes the netted values into the table; `minus` are the tables without whose rows none goes.
    pub(super) fn apply(&self, minus: &[String]) -> [Action; 2] {
        let Self { table, scratch, .. } = self;
        let key = self.key("");
        let over = |sql| Action::over(std::slice::from_ref(scratch), sql);
        [
            over(format!(
                "INSERT INTO {table} SELECT {key}, n FROM {scratch} WHERE TRUE ON CONFLICT ({key}) DO UPDATE SET n = {table}.n + excluded.n"
            )),
            over(format!(
                "DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM {scratch} WHERE n < 0) AND n = 0"
            ))
            .and(minus),
        ]
    }

    pub(super) fn fill(&self, rule: &Rule<'_>) -> String {
        let names = Render(rule.query);
        let values = rule.group.iter().chain(rule.arguments.get(self.argument));
        let values =
            values.zip(&self.columns).map(|(expr, (name, _))| format!("{} AS {name}", render(expr, &names)));
        let values = values.collect::<Vec<_>>().join(", ");
        let from = rule.query.tables_clause(|joined| quote(&joined.base.storage));
        let key = self.key("");
        format!(
            "INSERT INTO {} SELECT {key}, count(*) FROM (SELECT {values}{from}) AS s WHERE a IS NOT NULL GROUP BY {key}",
            self.table
        )
    }

    /// Values that come to occur (1) or no longer do (-1).
    fn crossings(&self, rule: &Rule<'_>) -> String {
        let occurs = |number: &str| format!("CASE WHEN {number} > 0 THEN 1 ELSE 0 END");
        let group: String = self.group.iter().map(|name| format!("v.{name}, ")).collect();
        let arguments = "NULL, ".repeat(rule.arguments.len());
        let different = rule.different().map(|argument| {
            if argument == self.argument {
                format!("{} - {}", occurs("coalesce(s.n, 0) + v.n"), occurs("coalesce(s.n, 0)"))
            } else {
                "0".to_owned()
            }
        });
        let different = different.collect::<Vec<_>>().join(", ");
        let names = self.group.iter().map(String::as_str).chain(["a"]);
        let same = names.map(|name| format!("s.{name} = v.{name}")).collect::<Vec<_>>().join(" AND ");
        format!(
            "SELECT 0, {group}{arguments}{different} FROM {} AS v LEFT JOIN {} AS s ON {same}",
            self.scratch, self.table
        )
    }
}

impl Rule<'_> {
    /// The signed rows with what each adds to the number of different values.
    pub(super) fn with_crossings(&self, rows: &str, counts: &[Counts]) -> String {
        let arguments = (0..self.arguments.len()).map(|index| format!("a{index}"));
        let different = self.different().map(|argument| format!("0 AS d{argument}"));
        let columns: Vec<String> = self.group_names().chain(arguments).chain(different).collect();
        let crossings = counts.iter().map(|count| format!(" UNION ALL {}", count.crossings(self)));
        format!("(SELECT w, {} FROM {rows}{}) AS signed", columns.join(", "), crossings.collect::<String>())
    }
}
