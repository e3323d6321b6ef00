//! The mirror of a relation: its tables and the statements over them.

use std::collections::BTreeSet;
use std::sync::Arc;

use deltamesh_change::{ColumnType, RelationSchema};
use deltamesh_view::{Dialect, image_tables, mirror_table};

/// A name as SQL takes it.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as SQL takes it.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Qualified name of a table that lasts.
pub(crate) fn durable(dialect: Dialect, name: &str) -> String {
    match dialect {
        Dialect::Sqlite => format!("main.{}", quote(name)),
        Dialect::Postgres => quote(name),
    }
}

/// A parameter for a value of a column of that type.
pub(crate) fn place(dialect: Dialect, number: usize, column: ColumnType) -> String {
    match (dialect, column) {
        (Dialect::Postgres, ColumnType::Json | ColumnType::Any) => format!("CAST(${number} AS jsonb)"),
        // A cell holds 0 or 1.
        (Dialect::Postgres, ColumnType::Bool) => format!("(CAST(${number} AS bigint) <> 0)"),
        _ => format!("${number}"),
    }
}

/// A mirrored relation and the SQL text that its maintenance needs.
#[derive(Debug, Clone)]
pub(crate) struct Mirror {
    pub(crate) source: String,
    pub(crate) schema: Arc<RelationSchema>,
    /// Name of the durable table, unquoted.
    pub(crate) table: String,
    pub(crate) dialect: Dialect,
    /// Qualified names of the tables of before and after images.
    images: [String; 2],
}

impl Mirror {
    pub(crate) fn new(source: &str, schema: Arc<RelationSchema>, dialect: Dialect) -> Self {
        let table = mirror_table(source, &schema.relation);
        let images = image_tables(dialect, &table);
        Self { source: source.to_owned(), table, schema, dialect, images }
    }

    /// The same relation in another table.
    pub(crate) fn in_table(&self, table: String) -> Self {
        Self { images: image_tables(self.dialect, &table), table, ..self.clone() }
    }

    /// Whether the key is SQLite's number of a row.
    pub(crate) fn is_rowid_key(&self) -> bool {
        let single = self.schema.key.len() == 1;
        single && self.schema.key_columns().all(|column| column.column_type == ColumnType::Int)
    }

    pub(crate) fn columns(&self) -> String {
        let columns = self.schema.columns.iter().map(|column| quote(&column.name));
        columns.collect::<Vec<_>>().join(", ")
    }

    pub(crate) fn key(&self, prefix: &str) -> String {
        let columns = self.schema.key_columns().map(|column| format!("{prefix}{}", quote(&column.name)));
        columns.collect::<Vec<_>>().join(", ")
    }

    /// Columns and key; in SQLite a single integer key is the rowid.
    fn declarations(&self) -> String {
        let column = |column: &deltamesh_change::Column| {
            let kind = self.dialect.declared_type(column.column_type);
            let kind = kind.map(|kind| format!(" {kind}")).unwrap_or_default();
            format!("{}{kind}", quote(&column.name))
        };
        let columns = self.schema.columns.iter().map(column).collect::<Vec<_>>().join(", ");
        format!("{columns}, PRIMARY KEY ({})", self.key(""))
    }

    fn tail(&self) -> &'static str {
        if self.is_rowid_key() || self.dialect == Dialect::Postgres { "" } else { " WITHOUT ROWID" }
    }

    pub(crate) fn create(&self) -> String {
        self.create_named(&self.table)
    }

    /// The mirror under another name, while it is rebuilt.
    pub(crate) fn create_named(&self, name: &str) -> String {
        let table = durable(self.dialect, name);
        format!("CREATE TABLE {table} ({}){}", self.declarations(), self.tail())
    }

    /// The tables of before and after images.
    pub(crate) fn connect(&self) -> [String; 2] {
        let create =
            |table: &String| self.dialect.create_batch_table(table, &self.declarations()) + self.tail();
        self.images.each_ref().map(create)
    }

    /// Qualified name of the table of before images.
    pub(crate) fn old(&self) -> &str {
        &self.images[0]
    }

    /// Qualified name of the table of after images.
    pub(crate) fn new_images(&self) -> &str {
        &self.images[1]
    }

    /// Qualified name of the durable table.
    pub(crate) fn table_name(&self) -> String {
        durable(self.dialect, &self.table)
    }

    /// Names and types of the columns.
    pub(crate) fn typed_columns(&self) -> Vec<(&str, ColumnType)> {
        self.schema.columns.iter().map(|column| (column.name.as_str(), column.column_type)).collect()
    }

    /// Removes the rows that have a before image and no after image.
    pub(crate) fn apply_deletes(&self) -> String {
        let (table, old, new) = (self.table_name(), self.old(), self.new_images());
        let same_as = |alias: &str| {
            let same = self.schema.key_columns().map(|column| {
                let name = quote(&column.name);
                format!("{alias}.{name} = o.{name}")
            });
            same.collect::<Vec<_>>().join(" AND ")
        };
        let same = same_as("n");
        if self.dialect == Dialect::Postgres {
            return format!(
                "DELETE FROM {table} AS m USING {old} AS o WHERE {} \
                 AND NOT EXISTS (SELECT 1 FROM {new} AS n WHERE {same})",
                same_as("m")
            );
        }
        let key = self.key("");
        let wanted = self.key("o.");
        format!(
            "DELETE FROM {table} WHERE ({key}) IN (SELECT {wanted} FROM {old} o \
             WHERE NOT EXISTS (SELECT 1 FROM {new} n WHERE {same}))"
        )
    }

    /// Writes the rows that have an after image; `changed` are the columns in which rows that were there differ. SQLite would
    /// write the indexes of all that it is told to assign; PostgreSQL compares.
    pub(crate) fn apply_upserts(&self, changed: &BTreeSet<usize>) -> String {
        let insert = format!("INSERT INTO {} SELECT * FROM {}", self.table_name(), self.new_images());
        if changed.is_empty() {
            return insert;
        }
        // Keys that are equal may be spelled otherwise (1 and 1.0); the first spelling stays.
        let columns = self.schema.columns.iter().enumerate().filter(|(index, _)| {
            !self.schema.key.contains(index) && (self.dialect == Dialect::Postgres || changed.contains(index))
        });
        let names = columns.map(|(_, column)| quote(&column.name));
        let assignments: Vec<String> = names.map(|name| format!("{name} = excluded.{name}")).collect();
        let action = if assignments.is_empty() {
            "NOTHING".to_owned()
        } else {
            format!("UPDATE SET {}", assignments.join(", "))
        };
        format!("{insert} WHERE true ON CONFLICT ({}) DO {action}", self.key(""))
    }

    /// A page of keys in key order, behind the bound key (the first page has nothing bound), that a table of keys seen does
    /// not have.
    pub(crate) fn keys_after(&self, first: bool, seen: Option<&str>) -> String {
        let places = self.schema.key_columns().enumerate();
        let places = places
            .map(|(index, column)| place(self.dialect, index + 1, column.column_type))
            .collect::<Vec<_>>();
        let key = self.key("m.");
        let mut conditions = Vec::new();
        if !first {
            conditions.push(format!("({key}) > ({})", places.join(", ")));
        }
        if let Some(seen) = seen {
            let same = self.schema.key_columns().enumerate();
            let same = same.map(|(index, column)| format!("s.k{} = m.{}", index + 1, quote(&column.name)));
            let same = same.collect::<Vec<_>>().join(" AND ");
            conditions.push(format!("NOT EXISTS (SELECT 1 FROM {seen} AS s WHERE {same})"));
        }
        let filter = if conditions.is_empty() {
            String::new()
        } else {
            format!(" WHERE {}", conditions.join(" AND "))
        };
        format!("SELECT {key} FROM {} AS m{filter} ORDER BY {key} LIMIT {KEY_PAGE}", self.table_name())
    }
}

/// Keys read at once where a whole mirror is walked.
pub(crate) const KEY_PAGE: usize = 10_000;

#[cfg(test)]
mod tests {
    use deltamesh_change::Column;
    use expect_test::expect;

    use super::*;

    #[test]
    fn statements_of_a_mirror() {
        let mirror = Mirror::new(
            "app",
            Arc::new(RelationSchema {
                relation: "user chat".into(),
                dsid: 1,
                columns: vec![
                    Column::new("chat", ColumnType::Int, false),
                    Column::new("a.b", ColumnType::Text, false),
                    Column::new("seen", ColumnType::Bool, true),
                    Column::new("x", ColumnType::Any, true),
                ],
                key: vec![0, 1],
            }),
            Dialect::Sqlite,
        );
        let statements = [
            mirror.create(),
            mirror.connect()[0].clone(),
            mirror.apply_deletes(),
            mirror.apply_upserts(&BTreeSet::from([2])),
            mirror.apply_upserts(&BTreeSet::new()),
            mirror.keys_after(false, None),
        ];
        expect![[r#"
            CREATE TABLE main."app__user chat" ("chat" INTEGER, "a.b" TEXT, "seen" BOOLEAN, "x", PRIMARY KEY ("chat", "a.b")) WITHOUT ROWID
            CREATE TABLE IF NOT EXISTS temp."old__app__user chat" ("chat" INTEGER, "a.b" TEXT, "seen" BOOLEAN, "x", PRIMARY KEY ("chat", "a.b")) WITHOUT ROWID
            DELETE FROM main."app__user chat" WHERE ("chat", "a.b") IN (SELECT o."chat", o."a.b" FROM temp."old__app__user chat" o WHERE NOT EXISTS (SELECT 1 FROM temp."new__app__user chat" n WHERE n."chat" = o."chat" AND n."a.b" = o."a.b"))
            INSERT INTO main."app__user chat" SELECT * FROM temp."new__app__user chat" WHERE true ON CONFLICT ("chat", "a.b") DO UPDATE SET "seen" = excluded."seen"
            INSERT INTO main."app__user chat" SELECT * FROM temp."new__app__user chat"
            SELECT m."chat", m."a.b" FROM main."app__user chat" AS m WHERE (m."chat", m."a.b") > ($1, $2) ORDER BY m."chat", m."a.b" LIMIT 10000"#]]
        .assert_eq(&statements.join("\n"));
    }
}
