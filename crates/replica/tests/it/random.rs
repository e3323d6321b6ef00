//! Random views, and those that have names, in both replicas at once: after each batch every view equals its own SQL, its feed says
//! what it holds, and both hold the same.
//!
//! `PROPTEST_CASES` asks for so many cases in the short runs, `DELTAMESH_RANDOM_CHANGES` for so many row changes in the long one.

use std::sync::Arc;

use deltamesh_change::{Item, RelationSchema};
use deltamesh_replica::{Limits, Reader};
use proptest::prelude::*;

use crate::fixture::*;
use crate::oracle::{Rows, replay, stored};
use crate::random_case::{Host, Length, RowChange, Seen, case, config, run, run_many};
use crate::random_views::{VIEWS, batches, change, relations};

/// One of both replicas, with a reader beside its writer.
struct Kept {
    fixture: Fixture,
    reader: Reader,
    /// What a subscriber to everything has, and up to where.
    fed: Rows,
    position: u64,
}

impl Kept {
    /// With `fills` views are filled in slices of three rows, else as a whole.
    fn new(mut fixture: Fixture, defined: Vec<Item>, fills: bool) -> Self {
        if fills {
            fixture.fill_in_slices(1, 3);
        }
        fixture.apply(defined);
        let reader = fixture.reader();
        Self { fixture, reader, fed: Rows::new(), position: 0 }
    }

    fn create(&mut self, sql: &str, explained: &dyn std::fmt::Display) {
        let replica = self.fixture.replica();
        replica.execute(sql).unwrap_or_else(|error| panic!("{error}\n{sql}\n{explained}"));
        while replica.fill().unwrap().goes_on {}
    }

    /// Rows of its views, which are what their SQL gives and what the feed said. (Hidden keys are spelled by each in its way.)
    fn rows(&mut self) -> Result<Vec<String>, String> {
        let views = self.fixture.replica().views();
        if let Some(view) = views.iter().find(|view| view.fault.is_some()) {
            return Err(format!("view {}: {:?}", view.definition.name, view.fault));
        }
        let verified = self.reader.verify(&views, Limits::default()).map_err(|error| error.to_string())?;
        if let Some(differs) = verified.iter().find(|verified| (verified.missing, verified.extra) != (0, 0)) {
            return Err(format!("{differs:?}"));
        }
        self.position = replay(&mut self.reader, self.position, &mut self.fed);
        let stored = stored(&mut self.reader, &views);
        if self.fed != stored {
            return Err(format!("feed\n  has {:?}\n  should have {stored:?}", self.fed));
        }
        let mut rows: Vec<String> = stored.iter().map(|((view, _), row)| format!("{view} {row}")).collect();
        rows.sort();
        Ok(rows)
    }
}

/// The same relations and views in a file and in a schema; one of them is filled in slices.
struct Pair {
    file: Kept,
    schema: Kept,
    relations: Vec<Arc<RelationSchema>>,
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.schema.fixture.drop_schema();
    }
}

fn open(relations: &[Arc<RelationSchema>]) -> Pair {
    let defined: Vec<Item> = relations.iter().map(define).collect();
    let fills = relations.len().is_multiple_of(2);
    let file = Kept::new(Fixture::new(), defined.clone(), fills);
    let schema = Kept::new(Fixture::on_postgres(), defined, !fills);
    Pair { file, schema, relations: relations.to_vec() }
}

impl Host for Pair {
    /// What PostgreSQL keeps, SQLite keeps too.
    fn create(&mut self, sql: &str) -> Result<String, String> {
        let explained = self.schema.fixture.replica().explain(sql);
        let explained = explained.map_err(|error| error.reason().to_owned())?;
        self.schema.create(sql, &explained);
        self.file.create(sql, &explained);
        Ok(format!("{:?}", explained.tier))
    }

    fn apply(&mut self, changes: &[RowChange]) {
        let item = |(relation, row, is_delete): &RowChange| {
            let schema = &self.relations[*relation];
            if *is_delete { delete(schema, key(schema, row)) } else { upsert(schema, row.clone()) }
        };
        let items: Vec<Item> = changes.iter().map(item).collect();
        self.file.fixture.apply(items.clone());
        self.schema.fixture.apply(items);
    }

    fn check(&mut self) -> Result<(), String> {
        let (file, schema) = (self.file.rows()?, self.schema.rows()?);
        let different = || format!("in a file\n  {file:?}\nin a schema\n  {schema:?}");
        if file == schema { Ok(()) } else { Err(different()) }
    }
}

const SHORT: Length = Length { batches: 4, step: 2 };
const LONG: Length = Length { batches: 12, step: 4 };

proptest! {
    #![proptest_config(config(12))]

    #[test]
    fn random_views_are_the_same_in_both(case in case(SHORT)) {
        run(open, &case, SHORT, &mut Seen::default())?;
    }
}

/// The long run; tells what it has seen. A failure is shrunk.
#[test]
#[ignore = "runs for an hour"]
fn a_million_random_changes_in_both() {
    run_many(open, LONG);
}

proptest! {
    #![proptest_config(config(1))]

    #[test]
    #[ignore = "takes a minute"]
    fn named_views_are_the_same_in_both(before in prop::collection::vec(change(), 0..12), batches in batches()) {
        let mut pair = open(&relations());
        pair.apply(&before);
        for view in VIEWS {
            pair.create(&view.replace("main.", "app.")).ok();
        }
        prop_assert_eq!(pair.check(), Ok(()), "after filling");
        for batch in &batches {
            pair.apply(batch);
            prop_assert_eq!(pair.check(), Ok(()), "after {:?}", batch);
        }
    }
}
