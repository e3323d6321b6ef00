//! What the change log keeps, and what it never loses.

use std::time::{SystemTime, UNIX_EPOCH};

use deltamesh_change::Item;

use crate::fixture::{Fixture, define, message_schema, upsert};

const VIEW: &str = "CREATE MATERIALIZED VIEW bodies AS SELECT id, body FROM message";

/// A replica with ten changes of a view, captured 1000, 900, … 100 seconds ago.
fn ten_changes(mut fixture: Fixture, retention: &str) -> Fixture {
    fixture.reopen_keeping(retention.parse().unwrap());
    let schema = message_schema();
    fixture.apply(vec![define(&schema)]);
    fixture.replica().execute(VIEW).unwrap();
    for number in 1..=10 {
        let group = captured(&mut fixture, (11 - number) * 100, vec![row(number)]);
        fixture.replica().apply(&[group]).unwrap();
    }
    fixture
}

fn row(id: i64) -> Item {
    upsert(&message_schema(), vec![id.into(), 1.into(), 1.into(), "x".into()])
}

/// The source's next transaction, captured that many seconds ago.
fn captured(fixture: &mut Fixture, seconds_ago: i64, items: Vec<Item>) -> deltamesh_replica::Group {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
    let captured_us = i64::try_from(now).unwrap() - seconds_ago * 1_000_000;
    deltamesh_replica::Group { captured_us, ..fixture.group(items) }
}

/// The oldest change that is still there after everything up to a position was published.
fn kept_from(fixture: &mut Fixture, published: u64) -> u64 {
    fixture.replica().mark_published(published);
    fixture.replica().rest().unwrap();
    fixture.reader().retained_from().unwrap()
}

#[test]
fn what_is_unpublished_stays_whatever_the_retention() {
    for retention in ["1", "1s", "1s,1"] {
        let mut fixture = ten_changes(Fixture::new(), retention);
        assert_eq!(kept_from(&mut fixture, 0), 1, "{retention}");
        assert_eq!(kept_from(&mut fixture, 4), 5, "{retention}");
        assert_eq!(fixture.replica().unpublished(100).unwrap().len(), 6, "{retention}");
    }
}

#[test]
fn a_number_and_a_time_bound_the_log() {
    let check = |retention: &str, expected: u64| {
        for fixture in [Fixture::new(), Fixture::on_postgres()] {
            assert_eq!(kept_from(&mut ten_changes(fixture, retention), 10), expected, "{retention}");
        }
    };
    check("forever", 1);
    check("100", 1);
    check("3", 8);
    check("1h", 1);
    check("450s", 7);
    check("450s,3", 8);
    check("250s,8", 9);
    check("1s", 10);
}

#[test]
fn changes_without_time_go_with_those_behind_them() {
    let mut fixture = ten_changes(Fixture::new(), "1h");
    // Filling a view has no time of capture.
    fixture.replica().execute("CREATE MATERIALIZED VIEW again AS SELECT id FROM message").unwrap();
    assert_eq!(kept_from(&mut fixture, 20), 1);
    let old = captured(&mut fixture, 10_000, vec![row(11)]);
    fixture.replica().apply(&[old]).unwrap();
    // A young one before it keeps it.
    assert_eq!(kept_from(&mut fixture, 22), 1);
    fixture.reopen_keeping("1s".parse().unwrap());
    // The newest change always stays.
    assert_eq!(kept_from(&mut fixture, 22), 22);
}
