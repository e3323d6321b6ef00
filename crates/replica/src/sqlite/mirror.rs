//! The mirror of a relation: its tables and the statements over them.

use std::sync::Arc;

use deltamesh_change::{ColumnType, RelationSchema};
use deltamesh_view::{Dialect, mirror_table, new_table, old_table};

/// A name as SQL takes it.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A mirrored relation and the SQL text that its maintenance needs.
#[derive(Debug, Clone)]
pub(crate) struct Mirror {
    pub(crate) source: String,
    pub(crate) schema: Arc<RelationSchema>,
    /// Name of the durable table, unquoted.
    pub(crate) table: String,
}

impl Mirror {
    pub(crate) fn new(source: &str, schema: Arc<RelationSchema>) -> Self {
        Self { source: source.to_owned(), table: mirror_table(source, &schema.relation), schema }
    }

    fn is_rowid_key(&self) -> bool {
        let single = self.schema.key.len() == 1;
        single && self.schema.key_columns().all(|column| column.column_type == ColumnType::Int)
    }

    fn columns(&self) -> String {
        let columns = self.schema.columns.iter().map(|column| quote(&column.name));
        columns.collect::<Vec<_>>().join(", ")
    }

    fn key(&self, prefix: &str) -> String {
        let columns = self.schema.key_columns().map(|column| format!("{prefix}{}", quote(&column.name)));
        columns.collect::<Vec<_>>().join(", ")
    }

    /// `CREATE TABLE` of the mirror under the given (already quoted) name. An all-integer key is the rowid.
    fn create_as(&self, verb: &str, name: &str) -> String {
        let column = |column: &deltamesh_change::Column| {
            let kind = Dialect::Sqlite.declared_type(column.column_type);
            let kind = kind.map(|kind| format!(" {kind}")).unwrap_or_default();
            format!("{}{kind}", quote(&column.name))
        };
        let columns = self.schema.columns.iter().map(column).collect::<Vec<_>>().join(", ");
        let tail = if self.is_rowid_key() { "" } else { " WITHOUT ROWID" };
        format!("CREATE {verb} {name} ({columns}, PRIMARY KEY ({})){tail}", self.key(""))
    }

    pub(crate) fn create(&self) -> String {
        self.create_as("TABLE", &format!("main.{}", quote(&self.table)))
    }

    /// The mirror under another name, while it is rebuilt.
    pub(crate) fn create_named(&self, name: &str) -> String {
        self.create_as("TABLE", &format!("main.{}", quote(name)))
    }

    /// The TEMP tables of before and after images.
    pub(crate) fn connect(&self) -> [String; 2] {
        [self.old(), self.new_images()]
            .map(|name| self.create_as("TEMP TABLE IF NOT EXISTS", name.trim_start_matches("temp.")))
    }

    /// Qualified name of the TEMP table of before images.
    pub(crate) fn old(&self) -> String {
        format!("temp.{}", quote(&old_table(&self.table)))
    }

    /// Qualified name of the TEMP table of after images.
    pub(crate) fn new_images(&self) -> String {
        format!("temp.{}", quote(&new_table(&self.table)))
    }

    fn table_name(&self) -> String {
        format!("main.{}", quote(&self.table))
    }

    /// The row of one key; binds the key in key order.
    pub(crate) fn select_by_key(&self) -> String {
        let conditions = self.schema.key_columns().enumerate();
        let conditions =
            conditions.map(|(index, column)| format!("{} = ?{}", quote(&column.name), index + 1));
        let conditions = conditions.collect::<Vec<_>>().join(" AND ");
        format!("SELECT {} FROM {} WHERE {conditions}", self.columns(), self.table_name())
    }

    /// Adds one image; binds all columns.
    pub(crate) fn insert_image(&self, qualified: &str) -> String {
        let places = (1..=self.schema.columns.len()).map(|index| format!("?{index}"));
        format!("INSERT OR REPLACE INTO {qualified} VALUES ({})", places.collect::<Vec<_>>().join(", "))
    }

    /// Removes the rows that have a before image and no after image.
    pub(crate) fn apply_deletes(&self) -> String {
        let (table, old, new) = (self.table_name(), self.old(), self.new_images());
        let same = self.schema.key_columns().map(|column| {
            let name = quote(&column.name);
            format!("n.{name} = o.{name}")
        });
        let same = same.collect::<Vec<_>>().join(" AND ");
        let key = self.key("");
        let wanted = self.key("o.");
        format!(
            "DELETE FROM {table} WHERE ({key}) IN (SELECT {wanted} FROM {old} o \
             WHERE NOT EXISTS (SELECT 1 FROM {new} n WHERE {same}))"
        )
    }

    /// Writes the rows that have an after image.
    pub(crate) fn apply_upserts(&self) -> String {
        let assignments = self.schema.columns.iter().enumerate();
        let assignments =
            assignments.filter(|(index, _)| !self.schema.key.contains(index)).map(|(_, column)| {
                let name = quote(&column.name);
                format!("{name} = excluded.{name}")
            });
        let assignments = assignments.collect::<Vec<_>>().join(", ");
        let action =
            if assignments.is_empty() { "NOTHING".to_owned() } else { format!("UPDATE SET {assignments}") };
        format!(
            "INSERT INTO {} SELECT * FROM {} WHERE true ON CONFLICT ({}) DO {action}",
            self.table_name(),
            self.new_images(),
            self.key("")
        )
    }

    pub(crate) fn clear(&self) -> [String; 2] {
        [self.old(), self.new_images()].map(|name| format!("DELETE FROM {name}"))
    }

    /// A page of keys in key order, behind the bound key; the first page has nothing bound.
    pub(crate) fn keys_after(&self, first: bool) -> String {
        let places =
            (1..=self.schema.key.len()).map(|index| format!("?{index}")).collect::<Vec<_>>().join(", ");
        let key = self.key("");
        let behind = if first { String::new() } else { format!(" WHERE ({key}) > ({places})") };
        format!("SELECT {key} FROM {}{behind} ORDER BY {key} LIMIT {KEY_PAGE}", self.table_name())
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
        );
        let statements = [
            mirror.create(),
            mirror.connect()[0].clone(),
            mirror.select_by_key(),
            mirror.apply_deletes(),
            mirror.apply_upserts(),
            mirror.keys_after(false),
        ];
        expect![[r#"
            CREATE TABLE main."app__user chat" ("chat" INTEGER, "a.b" TEXT, "seen" BOOLEAN, "x", PRIMARY KEY ("chat", "a.b")) WITHOUT ROWID
            CREATE TEMP TABLE IF NOT EXISTS "old__app__user chat" ("chat" INTEGER, "a.b" TEXT, "seen" BOOLEAN, "x", PRIMARY KEY ("chat", "a.b")) WITHOUT ROWID
            SELECT "chat", "a.b", "seen", "x" FROM main."app__user chat" WHERE "chat" = ?1 AND "a.b" = ?2
            DELETE FROM main."app__user chat" WHERE ("chat", "a.b") IN (SELECT o."chat", o."a.b" FROM temp."old__app__user chat" o WHERE NOT EXISTS (SELECT 1 FROM temp."new__app__user chat" n WHERE n."chat" = o."chat" AND n."a.b" = o."a.b"))
            INSERT INTO main."app__user chat" SELECT * FROM temp."new__app__user chat" WHERE true ON CONFLICT ("chat", "a.b") DO UPDATE SET "seen" = excluded."seen", "x" = excluded."x"
            SELECT "chat", "a.b" FROM main."app__user chat" WHERE ("chat", "a.b") > (?1, ?2) ORDER BY "chat", "a.b" LIMIT 10000"#]]
        .assert_eq(&statements.join("\n"));
    }
}
