//! What a view is, as the replica records it.

use deltamesh_change::Column;
use serde::{Deserialize, Serialize};

use crate::Dialect;
use crate::sql::quote;

/// A planned view: what it shows, under which key, and where its rows live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewDefinition {
    /// Name, also that of the table (or SQL view) that applications read.
    pub name: String,
    /// Name of which those of its tables are made, and by which programs over it know it, where that is another one: the
    /// view was replaced beside the flow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stem: Option<String>,
    /// The complete `CREATE MATERIALIZED VIEW` statement as it was given.
    pub sql: String,
    /// Visible columns, in order.
    pub columns: Vec<Column>,
    /// Columns that the storage has beside the visible ones; not part of the row, though some may be part of the key.
    pub hidden: Vec<HiddenColumn>,
    /// Storage columns that repeat a base column and declare its type, so that comparisons with them use its affinity.
    pub typed: Vec<String>,
    /// Names of the key columns, visible or hidden. Empty for a view that never has more than one row.
    pub key: Vec<String>,
    /// Columns whose values are the tokens of the feed subject, in order: declared ones first, then the rest of the key.
    pub subject: Vec<String>,
    /// Reading order from a top-level `ORDER BY`; the table itself is unordered.
    pub order_by: Vec<Order>,
    /// Relations that the view reads, each once, in the order in which a batch applies them.
    pub bases: Vec<BaseRelation>,
    /// Table that holds the rows: the stem, or `__deltamesh_rows_<stem>` behind a SQL view of that name.
    pub storage: String,
    /// Whether that is a table; otherwise a SQL view over the bases.
    #[serde(default = "stored")]
    pub stored: bool,
    /// Indexes that the program needs on its bases.
    pub indexes: Vec<Index>,
    /// Options of the `WITH` clause.
    pub options: ViewOptions,
}

impl ViewDefinition {
    /// Name of which those of its tables are made; what [`crate::Phase`] names.
    #[must_use]
    pub fn stem(&self) -> &str {
        self.stem.as_deref().unwrap_or(&self.name)
    }

    /// Makes the SQL views over the table of the rows, where its name is another one than the view's: under its stem, and under
    /// its name if it is the one that is served.
    #[must_use]
    pub fn show(&self, dialect: Dialect, is_served: bool) -> Vec<String> {
        let columns = self.columns.iter().map(|column| quote(&column.name)).collect::<Vec<_>>().join(", ");
        let shown = if is_served { self.name.as_str() } else { self.stem() };
        let names = [self.storage.as_str(), self.stem(), shown];
        let steps = names.windows(2).filter(|pair| pair[0] != pair[1]);
        let show = |pair: &[&str]| {
            let (table, name) = (quote(pair[0]), quote(pair[1]));
            format!("{} {name} AS SELECT {columns} FROM {table}", dialect.create_view())
        };
        steps.map(show).collect()
    }
}

/// Views that were recorded before there was a choice.
fn stored() -> bool {
    true
}

/// A storage column that applications do not see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HiddenColumn {
    /// The column.
    pub column: Column,
    /// Whether it is maintenance state (a count or sum) rather than part of the key.
    pub state: bool,
}

/// One item of the reading order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Visible column.
    pub column: String,
    /// Largest first.
    pub descending: bool,
    /// Where NULLs come, if said: `Some(true)` is first.
    pub nulls_first: Option<bool>,
}

/// A relation that a view reads.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BaseRelation {
    /// Source of a mirrored relation; `None` for a view.
    pub source: Option<String>,
    /// Name of the relation within its source, or of the view.
    pub relation: String,
    /// Table that the program's statements name, and that [`crate::Phase`] names.
    pub table: String,
}

/// An index that a program reads a base table by; several views may share it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Index {
    /// Name of the index.
    pub name: String,
    /// Table (a mirror, or the storage of an upstream view).
    pub table: String,
    /// Indexed columns.
    pub columns: Vec<String>,
    /// Those of them that descend.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub descending: Vec<String>,
    /// Where only the changes of some mirrors are looked up by it: these. It is made with the first of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes_of: Vec<String>,
}

impl Index {
    /// Whether it is made with the view.
    #[must_use]
    pub fn is_made_at_once(&self) -> bool {
        self.changes_of.is_empty()
    }

    /// Whether who reads by the other can read by this one.
    #[must_use]
    pub fn serves(&self, other: &Self) -> bool {
        self.name == other.name || self.replaces(other)
    }

    /// Its `CREATE INDEX`.
    #[must_use]
    pub fn create(&self, dialect: Dialect) -> String {
        let column = |column: &String| {
            let direction = dialect.index_order(self.descending.contains(column));
            format!("{}{direction}", quote(column))
        };
        let columns: Vec<String> = self.columns.iter().map(column).collect();
        let (name, table) = (quote(&self.name), quote(&self.table));
        format!("CREATE INDEX IF NOT EXISTS {name} ON {table} ({})", columns.join(", "))
    }

    /// The indexes that serve all of these, each once: whoever reads by one that begins a longer one can read by that.
    #[must_use]
    pub fn serving<'a>(all: impl IntoIterator<Item = &'a Self>) -> Vec<&'a Self> {
        let mut indexes: Vec<&Self> = vec![];
        for index in all {
            if !indexes.iter().any(|known| known.serves(index)) {
                indexes.retain(|known| !index.replaces(known));
                indexes.push(index);
            }
        }
        indexes
    }

    fn replaces(&self, other: &Self) -> bool {
        let same_order =
            |column: &String| self.descending.contains(column) == other.descending.contains(column);
        self.table == other.table
            && self.columns.len() > other.columns.len()
            && self.columns.starts_with(&other.columns)
            && other.columns.iter().all(same_order)
    }
}

/// The `WITH (…)` clause of a view.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewOptions {
    /// `key = 'a, b'`: columns that identify a row.
    pub key: Vec<String>,
    /// `subject = 'a'`: columns that lead the feed subject.
    pub subject: Vec<String>,
    /// `stored = auto|always|never`.
    pub stored: Stored,
    /// `retain = 'last'`.
    pub retain: Retain,
    /// `indexes = auto|now`.
    #[serde(default)]
    pub indexes: Indexes,
}

/// When an index is made that only the changes of some relations are looked up by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Indexes {
    /// With the first of these changes.
    #[default]
    Auto,
    /// With the view.
    Now,
}

/// Whether the view's rows are kept in a table of their own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stored {
    /// The planner decides.
    #[default]
    Auto,
    /// Kept in a table.
    Always,
    /// Read from the mirrors; only the feed is maintained.
    Never,
}

/// What the feed's stream keeps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retain {
    /// The changes, as long as the stream's limits say.
    #[default]
    Changes,
    /// A stream of the view's own with the newest row of each key.
    Last,
}
