//! Queries as they are written, answered by SQLite over the mirrors.

use rusqlite::Connection;

use crate::fixture::Fixture;

/// Numbers that look random and are the same in every run.
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }

    pub(crate) fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }
}

/// A replica's file with the relations under their own names.
pub(crate) struct Written {
    file: Connection,
    /// The standard's spelling, and SQLite's.
    spellings: &'static [(&'static str, &'static str)],
}

impl Written {
    pub(crate) fn open<'n>(
        fixture: &Fixture,
        relations: impl Iterator<Item = &'n str>,
        spellings: &'static [(&'static str, &'static str)],
    ) -> Self {
        let file = Connection::open(fixture.path()).unwrap();
        for name in relations {
            file.execute_batch(&format!("CREATE TEMP VIEW {name} AS SELECT * FROM app__{name}")).unwrap();
        }
        Self { file, spellings }
    }

    /// Compares a view with its query; gives how many rows there are.
    pub(crate) fn check(&self, view: &str, sql: &str, when: &str) -> usize {
        let spelled =
            self.spellings.iter().fold(sql.to_owned(), |sql, (written, ours)| sql.replace(written, ours));
        let (kept, expected) = (self.rows(&format!("SELECT * FROM {view}")), self.rows(&spelled));
        assert_eq!(kept, expected, "{view} after {when}");
        kept.len()
    }

    fn rows(&self, sql: &str) -> Vec<String> {
        let mut statement = self.file.prepare(sql).unwrap_or_else(|error| panic!("{error}: {sql}"));
        let width = statement.column_count();
        let rows = statement.query_map([], |row| {
            let values = (0..width).map(|column| row.get_ref(column).map(|value| format!("{value:?}")));
            values.collect::<Result<Vec<_>, _>>()
        });
        let mut rows: Vec<String> = rows.unwrap().map(|row| row.unwrap().join(" ")).collect();
        rows.sort_unstable();
        rows
    }
}
