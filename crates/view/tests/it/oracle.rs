//! Random batches: after each, every view equals its own SQL and its feed equals the view.

use proptest::prelude::*;

use crate::database::Database;
use crate::random_views::{VIEWS, batches, change, relations};

/// Few cases by default, for a debug build; `PROPTEST_CASES` asks for more.
fn configuration() -> ProptestConfig {
    let default = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_CASES").is_some() {
        default
    } else {
        ProptestConfig { cases: 16, ..default }
    }
}

proptest! {
    #![proptest_config(configuration())]

    #[test]
    fn views_equal_their_own_sql(before in prop::collection::vec(change(), 0..12), batches in batches()) {
        let mut database = Database::new(relations());
        database.apply(&before);
        for view in VIEWS {
            database.create(view);
        }
        prop_assert_eq!(database.check(), Ok(()), "after filling");
        for batch in &batches {
            database.apply(batch);
            prop_assert_eq!(database.check(), Ok(()), "after {:?}", batch);
        }
    }
}
