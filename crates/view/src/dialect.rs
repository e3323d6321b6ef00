//! What the replicas' SQL spells differently.
//!
//! The rules emit statements that both understand. Where there is no such statement, the two spellings are here; how
//! expressions differ is in `sql/postgres.rs`.

use deltamesh_change::ColumnType;

use crate::sql::quote;

/// SQL dialect of a replica.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Dialect {
    /// SQLite 3.46 or newer.
    #[default]
    Sqlite,
    /// PostgreSQL 13 or newer, or a database that speaks its SQL.
    Postgres,
}

/// Bytes of a name that PostgreSQL tells apart.
const LONGEST_NAME: usize = 63;

impl Dialect {
    /// The type that replicas declare for mirrored columns.
    ///
    /// SQLite: its affinity keeps what is stored there as it is, and readers recognise truth values and JSON by it; whatever
    /// the source holds has none. PostgreSQL: texts have the order of their bytes, and JSON is what any source value is.
    #[must_use]
    pub fn declared_type(self, column_type: ColumnType) -> Option<&'static str> {
        let (sqlite, postgres) = match column_type {
            ColumnType::Bool => (Some("BOOLEAN"), "boolean"),
            ColumnType::Int => (Some("INTEGER"), "bigint"),
            ColumnType::Float => (Some("REAL"), "double precision"),
            ColumnType::Decimal => (Some("DECIMAL_TEXT"), "text COLLATE \"C\""),
            ColumnType::Text => (Some("TEXT"), "text COLLATE \"C\""),
            ColumnType::Bytes => (Some("BLOB"), "bytea"),
            ColumnType::Json => (Some("JSON_TEXT"), "jsonb"),
            ColumnType::Any => (None, "jsonb"),
        };
        match self {
            Self::Sqlite => sqlite,
            Self::Postgres => Some(postgres),
        }
    }

    /// Quoted name of a table that holds rows of one batch: a TEMP table, or an unlogged one, which outlives a connection.
    #[must_use]
    pub fn batch_table(self, name: &str) -> String {
        match self {
            Self::Sqlite => format!("temp.{}", quote(name)),
            Self::Postgres => quote(name),
        }
    }

    /// `CREATE TABLE` of such a table, whose quoted name is given, with these declarations.
    #[must_use]
    pub fn create_batch_table(self, table: &str, declarations: &str) -> String {
        let unlogged = if self == Self::Postgres { "UNLOGGED " } else { "" };
        format!("CREATE {unlogged}TABLE IF NOT EXISTS {table} ({declarations})")
    }

    /// `CREATE TABLE` of a table of the program's own; SQLite keeps any value as it is where no type is declared.
    pub(crate) fn create_scratch(self, table: &str, columns: &[(String, ColumnType)]) -> String {
        let declared = columns.iter().map(|(name, column_type)| match self {
            Self::Sqlite => name.clone(),
            Self::Postgres => {
                format!("{name} {}", self.declared_type(*column_type).unwrap_or_default())
            }
        });
        self.create_batch_table(table, &declared.collect::<Vec<_>>().join(", "))
    }

    /// Equality for which NULLs are equal, in a form that an index serves.
    pub(crate) fn same(self, left: &str, right: &str) -> String {
        match self {
            Self::Sqlite => format!("{left} IS {right}"),
            Self::Postgres => format!("({left} = {right} OR ({left} IS NULL AND {right} IS NULL))"),
        }
    }

    /// What stands behind a column of an index in which NULL is the smallest value.
    pub(crate) fn index_order(self, descends: bool) -> &'static str {
        match (self, descends) {
            (Self::Sqlite, false) => "",
            (Self::Sqlite, true) => " DESC",
            (Self::Postgres, false) => " NULLS FIRST",
            (Self::Postgres, true) => " DESC NULLS LAST",
        }
    }

    /// A number as a double.
    pub(crate) fn double(self, number: &str) -> String {
        match self {
            Self::Sqlite => format!("CAST({number} AS REAL)"),
            Self::Postgres => format!("CAST({number} AS double precision)"),
        }
    }

    /// `CREATE VIEW`, up to its name.
    pub(crate) fn create_view(self) -> &'static str {
        match self {
            Self::Sqlite => "CREATE VIEW IF NOT EXISTS",
            Self::Postgres => "CREATE OR REPLACE VIEW",
        }
    }

    /// Whether the database would take only the beginning of a name.
    #[must_use]
    pub fn is_too_long(self, name: &str) -> bool {
        self == Self::Postgres && name.len() > LONGEST_NAME
    }
}

/// A name of the program's own that every database takes whole: a long one ends in a number made of it.
pub(crate) fn short(name: String) -> String {
    if name.len() <= LONGEST_NAME {
        return name;
    }
    // FNV-1a: the same at every planning.
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let end = (0..=LONGEST_NAME - 17).rev().find(|end| name.is_char_boundary(*end)).unwrap_or(0);
    format!("{}_{hash:016x}", &name[..end])
}
