//! A random case: relations, views over them, and batches under them, on any host that keeps views.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use deltamesh_change::{Column, RelationSchema, Value};
use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestRunner};

use crate::random_query::{Choices, Generator, Query, relations, row};

/// Change of one row of the relation with that index: its new values, and whether it is a delete of their key.
pub(crate) type RowChange = (usize, Vec<Value>, bool);

/// Views of one case; each may read those before it.
const VIEWS: usize = 4;
/// What proptest may try to make a failure smaller.
const SHRINKS: u32 = 300;

/// What keeps views over some relations.
pub(crate) trait Host {
    /// Creates and fills a view; tells its tier, or why it is refused.
    fn create(&mut self, sql: &str) -> Result<String, String>;

    /// Applies a batch.
    fn apply(&mut self, changes: &[RowChange]);

    /// Whether a view has become so large that nothing more is asked: joins over joins have no end.
    fn is_large(&self) -> bool {
        false
    }

    /// Says which view is not what its own SQL gives, or what its feed said.
    fn check(&mut self) -> Result<(), String>;
}

/// What a run has seen.
#[derive(Default)]
pub(crate) struct Seen {
    changes: u64,
    views: u64,
    /// Views by the tier that keeps them.
    tiers: BTreeMap<String, u64>,
    /// Refusals by what they say, without names.
    refused: BTreeMap<String, u64>,
}

/// How many batches a case has behind its first rows, and by how much each is larger than the one before.
#[derive(Clone, Copy)]
pub(crate) struct Length {
    pub(crate) batches: usize,
    pub(crate) step: usize,
}

impl Length {
    /// Rows of a batch: 1 at first, and again after each fifth.
    fn rows(self, batch: usize) -> usize {
        1 + batch % 5 * self.step
    }
}

/// Choices of relations, of views, of changes.
pub(crate) type Case = (Vec<u8>, Vec<Vec<u8>>, Vec<u8>);

pub(crate) fn case(length: Length) -> impl Strategy<Value = Case> {
    let bytes = |most| prop::collection::vec(any::<u8>(), 0..most);
    let rows: usize = (0..length.batches).map(|batch| length.rows(batch)).sum();
    (bytes(40), prop::collection::vec(bytes(120), 1..=VIEWS), bytes(200 + rows * 12))
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

/// Creates the views of a case; gives the statements of those that are kept.
fn create(
    host: &mut impl Host,
    schemas: &[Arc<RelationSchema>],
    views: &[Vec<u8>],
    seen: &mut Seen,
) -> Vec<String> {
    let mut kept = vec![];
    let mut bases: Vec<(String, Query)> = vec![];
    for (number, bytes) in views.iter().enumerate() {
        let mut choices = Choices::new(bytes);
        let mut generator = Generator::new(&mut choices, schemas);
        bases.iter().for_each(|(name, query)| generator.add_view(name, query));
        let query = generator.query();
        // Ties of a limit may be decided otherwise by what is written; truths and a separator SQLite does not know.
        let ansi = ["LIMIT", " OVER ", "bool_", "string_agg(DISTINCT"];
        let ties = if ansi.iter().any(|word| query.sql.contains(word)) { "_ansi" } else { "" };
        let name = format!("view{number}{ties}");
        let sql = format!("CREATE MATERIALIZED VIEW {name} AS {}", query.sql);
        seen.views += 1;
        match host.create(&sql) {
            Ok(tier) => *seen.tiers.entry(tier).or_default() += 1,
            Err(reason) => {
                *seen.refused.entry(reason).or_default() += 1;
                continue;
            }
        }
        kept.push(sql);
        if host.is_large() {
            break;
        }
        if ties.is_empty() {
            bases.push((name, query));
        }
    }
    kept
}

/// Runs one case on a host that `open` gives for relations.
pub(crate) fn run<H: Host>(
    open: impl Fn(&[Arc<RelationSchema>]) -> H,
    (relation_choices, views, changes): &Case,
    length: Length,
    seen: &mut Seen,
) -> Result<(), TestCaseError> {
    let schemas = relations(&mut Choices::new(relation_choices));
    let mut host = open(&schemas);
    let mut changes = Choices::new(changes);
    let mut batch = |seen: &mut Seen, rows: usize| -> Vec<RowChange> {
        let change = |_| {
            let relation = changes.below(schemas.len());
            (relation, row(&schemas[relation], &mut changes), changes.chance(30))
        };
        seen.changes += rows as u64;
        (0..rows).map(change).collect()
    };
    host.apply(&batch(seen, 12));
    let kept = create(&mut host, &schemas, views, seen);
    let story = format!("{}\n{}", tables(&schemas), kept.join("\n"));
    prop_assert_eq!(host.check(), Ok(()), "after filling\n{}", story);
    for number in 0..length.batches {
        if host.is_large() {
            break;
        }
        let batch = batch(seen, length.rows(number));
        host.apply(&batch);
        prop_assert_eq!(host.check(), Ok(()), "after {:?}\n{}", batch, story);
    }
    Ok(())
}

/// So many cases, unless `PROPTEST_CASES` asks for others. A failure is shrunk.
pub(crate) fn config(cases: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    let cases = asked.unwrap_or(cases);
    ProptestConfig {
        failure_persistence: None,
        max_shrink_iters: SHRINKS,
        ..ProptestConfig::with_cases(cases)
    }
}

/// Runs cases until there were as many changes of rows as `DELTAMESH_RANDOM_CHANGES` says, or a million; tells what it has
/// seen.
#[allow(clippy::print_stderr, reason = "a long run tells how far it is")]
pub(crate) fn run_many<H: Host>(open: impl Fn(&[Arc<RelationSchema>]) -> H, length: Length) {
    let wanted = std::env::var("DELTAMESH_RANDOM_CHANGES").map_or(Ok(1_000_000), |text| text.parse::<u64>());
    let wanted = wanted.expect("DELTAMESH_RANDOM_CHANGES is a number");
    let seen = RefCell::new(Seen::default());
    while seen.borrow().changes < wanted {
        let config = ProptestConfig { cases: 100, ..config(100) };
        let outcome = TestRunner::new(config)
            .run(&case(length), |case| run(&open, &case, length, &mut seen.borrow_mut()));
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
