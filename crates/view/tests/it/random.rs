//! Random views over random relations under random batches: each is refused with a reason, or equals its own SQL.
//!
//! `PROPTEST_CASES` asks for so many cases in the short run, `DELTAMESH_RANDOM_CHANGES` for so many row changes in the long one.

use std::collections::BTreeMap;
use std::sync::Arc;

use deltamesh_change::{Column, RelationSchema};
use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestRunner};

use crate::database::{Database, RowChange};
use crate::random_query::{Choices, Generator, Query, relations, row};

/// Views of one case; each may read those before it.
const VIEWS: usize = 4;

/// What a run has seen.
#[derive(Default)]
struct Seen {
    changes: u64,
    views: u64,
    /// Views by the tier that keeps them.
    tiers: BTreeMap<String, u64>,
    /// Refusals by what they say, without names.
    refused: BTreeMap<String, u64>,
}

fn case() -> impl Strategy<Value = (Vec<u8>, Vec<Vec<u8>>, Vec<u8>)> {
    let bytes = |most| prop::collection::vec(any::<u8>(), 0..most);
    (bytes(40), prop::collection::vec(bytes(120), 1..=VIEWS), bytes(900))
}

/// The relations, for a reader.
fn tables(schemas: &[Arc<RelationSchema>]) -> String {
    let table = |schema: &Arc<RelationSchema>| {
        let column = |column: &Column| {
            format!("{} {:?}{}", column.name, column.column_type, if column.nullable { "?" } else { "" })
        };
        let columns: Vec<String> = schema.columns.iter().map(column).collect();
        format!("{} ({})", schema.relation, columns.join(", "))
    };
    schemas.iter().map(table).collect::<Vec<_>>().join("\n")
}

/// Runs one case: relations, views, and changes.
fn run(
    relation_choices: &[u8],
    views: &[Vec<u8>],
    changes: &[u8],
    seen: &mut Seen,
) -> Result<(), TestCaseError> {
    let schemas = relations(&mut Choices::new(relation_choices));
    let mut database = Database::new(schemas.clone());
    let mut changes = Choices::new(changes);
    let mut batch = |seen: &mut Seen, rows: usize| -> Vec<RowChange> {
        let change = |_| {
            let relation = changes.below(schemas.len());
            (relation, row(&schemas[relation], &mut changes), changes.chance(30))
        };
        seen.changes += rows as u64;
        (0..rows).map(change).collect()
    };
    database.apply(&batch(seen, 12));
    let mut bases: Vec<(String, Query)> = vec![];
    for (number, bytes) in views.iter().enumerate() {
        let mut choices = Choices::new(bytes);
        let mut generator = Generator::new(&mut choices, &schemas);
        bases.iter().for_each(|(name, query)| generator.add_view(name, query));
        let query = generator.query();
        // Ties of a limit may be decided otherwise by what is written.
        let ties = if query.sql.contains("LIMIT") || query.sql.contains(" OVER ") { "_ansi" } else { "" };
        let name = format!("view{number}{ties}");
        let sql = format!("CREATE MATERIALIZED VIEW {name} AS {}", query.sql);
        seen.views += 1;
        match database.try_create(&sql) {
            Ok(tier) => *seen.tiers.entry(format!("{tier:?}")).or_default() += 1,
            Err(reason) => {
                *seen.refused.entry(reason).or_default() += 1;
                continue;
            }
        }
        if ties.is_empty() {
            bases.push((name, query));
        }
    }
    let views: Vec<&str> = database.programs.iter().map(|program| program.definition.sql.as_str()).collect();
    let story = format!("{}\n{}", tables(&schemas), views.join("\n"));
    prop_assert_eq!(database.check(), Ok(()), "after filling\n{}", story);
    for number in 0..12 {
        let batch = batch(seen, 1 + number % 5 * 2);
        database.apply(&batch);
        prop_assert_eq!(database.check(), Ok(()), "after {:?}\n{}", batch, story);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, max_shrink_iters: 3000, ..ProptestConfig::with_cases(
        std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(60),
    ) })]

    #[test]
    fn random_views_equal_their_own_sql((relations, views, changes) in case()) {
        run(&relations, &views, &changes, &mut Seen::default())?;
    }
}

/// The long run; tells what it has seen. A failure is shrunk.
#[test]
#[ignore = "runs for an hour"]
fn a_million_random_changes() {
    let wanted = std::env::var("DELTAMESH_RANDOM_CHANGES").map_or(Ok(1_000_000), |text| text.parse::<u64>());
    let wanted = wanted.expect("DELTAMESH_RANDOM_CHANGES is a number");
    let seen = std::cell::RefCell::new(Seen::default());
    while seen.borrow().changes < wanted {
        let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100) };
        let outcome = TestRunner::new(config).run(&case(), |(relations, views, changes)| {
            run(&relations, &views, &changes, &mut seen.borrow_mut())
        });
        outcome.unwrap_or_else(|failure| panic!("{failure}"));
        let seen = seen.borrow();
        eprintln!("{} changes, {} views, by tier {:?}", seen.changes, seen.views, seen.tiers);
    }
    let seen = seen.into_inner();
    let refused: u64 = seen.refused.values().sum();
    let mut reasons: Vec<_> = seen.refused.into_iter().collect();
    reasons.sort_by_key(|(_, times)| std::cmp::Reverse(*times));
    eprintln!("{refused} views refused:");
    reasons.iter().take(25).for_each(|(reason, times)| eprintln!("{times:8} {reason}"));
}
