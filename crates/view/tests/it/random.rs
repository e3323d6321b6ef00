//! Random views over random relations under random batches: each is refused with a reason, or equals its own SQL.
//!
//! `PROPTEST_CASES` asks for so many cases in the short run, `DELTAMESH_RANDOM_CHANGES` for so many row changes in the long one.

use std::sync::Arc;

use deltamesh_change::RelationSchema;
use proptest::prelude::*;

use crate::database::Database;
use crate::random_case::{Host, Length, RowChange, Seen, case, config, run, run_many};

impl Host for Database {
    fn create(&mut self, sql: &str) -> Result<String, String> {
        self.try_create(sql).map(|tier| format!("{tier:?}"))
    }

    fn apply(&mut self, changes: &[RowChange]) {
        self.apply(changes);
    }

    fn is_large(&self) -> bool {
        self.has_more_rows(MOST_ROWS)
    }

    fn check(&mut self) -> Result<(), String> {
        self.check()
    }
}

/// Rows of a view in a case.
const MOST_ROWS: usize = 20_000;

const LENGTH: Length = Length { batches: 12, step: 2 };

fn open(schemas: &[Arc<RelationSchema>]) -> Database {
    Database::new(schemas.to_vec())
}

proptest! {
    #![proptest_config(config(60))]

    #[test]
    fn random_views_equal_their_own_sql(case in case(LENGTH)) {
        run(open, &case, LENGTH, &mut Seen::default())?;
    }
}

/// The long run; tells what it has seen. A failure is shrunk.
#[test]
#[ignore = "runs for an hour"]
fn a_million_random_changes() {
    run_many(open, LENGTH);
}
