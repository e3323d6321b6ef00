//! A view's changes as one subscription sees them: through its filters, and netted where it fell behind.

use std::sync::Arc;

use deltamesh_module::Filter;
use serde_json::Value as Json;

use crate::event::{Encoded, Event, Operation, Row};

/// Whether the row meets all conditions.
pub(crate) fn accepts(filters: &[Filter], row: &Row) -> bool {
    filters.iter().all(|filter| filter.accepts(row))
}

/// A change as seen through the filters: a row that moves in is an insert, one that moves out a delete.
pub(crate) fn narrow(filters: &[Filter], event: &Arc<Event>) -> Option<Arc<Event>> {
    if filters.is_empty() {
        return Some(Arc::clone(event));
    }
    let after = event.row_after().is_some_and(|row| accepts(filters, row));
    let before = event.row_before().filter(|row| accepts(filters, row));
    match (event.operation, before, after) {
        (_, None, false) => None,
        (Operation::Update, None, true) => {
            let insert = Event { operation: Operation::Insert, before: None, ..Event::clone(event) };
            Some(Arc::new(insert))
        }
        (Operation::Update, Some(row), false) => {
            let delete = Event { operation: Operation::Delete, row, before: None, ..Event::clone(event) };
            Some(Arc::new(delete))
        }
        _ => Some(Arc::clone(event)),
    }
}

/// The change between the row before the first of some changes of a key and the row after the last of them.
pub(crate) fn net(filters: &[Filter], first: &Event, last: &Event) -> Option<Event> {
    let before = first.row_before().filter(|row| accepts(filters, row));
    let after = last.row_after().filter(|row| accepts(filters, row));
    let (operation, row, before) = match (before, after) {
        (None, None) => return None,
        (None, Some(after)) => (Operation::Insert, after.clone(), None),
        (Some(before), None) => (Operation::Delete, before, None),
        (Some(before), Some(after)) => {
            let changed = |(name, value): &(&String, &Json)| after.get(*name) != Some(value);
            let former: Row =
                before.iter().filter(changed).map(|(name, value)| (name.clone(), value.clone())).collect();
            if former.is_empty() {
                return None;
            }
            (Operation::Update, after.clone(), Some(former))
        }
    };
    Some(Event {
        sequence: last.sequence,
        operation,
        key: last.key.clone(),
        row,
        before,
        positions: last.positions.clone(),
        transaction_end: false,
        captured_us: last.captured_us,
        encoded: Encoded::default(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(value: Json) -> Row {
        match value {
            Json::Object(row) => row,
            _ => Row::new(),
        }
    }

    fn event(operation: Operation, after: Json, before: Json) -> Event {
        Event {
            sequence: 1,
            operation,
            key: vec![json!(1)],
            row: row(after),
            before: (operation == Operation::Update).then(|| row(before)),
            positions: vec![],
            transaction_end: true,
            captured_us: None,
            encoded: Encoded::default(),
        }
    }

    fn in_a() -> Vec<Filter> {
        vec![Filter { path: vec!["room".into()], value: json!("a") }]
    }

    #[test]
    fn moves_through_a_filter() {
        let check = |operation, after: Json, before: Json, expected: Option<(Operation, Json)>| {
            let seen = narrow(&in_a(), &Arc::new(event(operation, after, before)));
            let seen = seen.map(|event| (event.operation, Json::Object(event.row.clone())));
            assert_eq!(seen, expected);
        };
        use Operation::{Delete, Insert, Update};
        check(
            Insert,
            json!({"id": 1, "room": "a"}),
            json!({}),
            Some((Insert, json!({"id": 1, "room": "a"}))),
        );
        check(Insert, json!({"id": 1, "room": "b"}), json!({}), None);
        check(
            Update,
            json!({"id": 1, "room": "a"}),
            json!({"id": 2}),
            Some((Update, json!({"id": 1, "room": "a"}))),
        );
        check(
            Update,
            json!({"id": 1, "room": "a"}),
            json!({"room": "b"}),
            Some((Insert, json!({"id": 1, "room": "a"}))),
        );
        check(
            Update,
            json!({"id": 1, "room": "b"}),
            json!({"room": "a"}),
            Some((Delete, json!({"id": 1, "room": "a"}))),
        );
        check(Update, json!({"id": 1, "room": "b"}), json!({"id": 2}), None);
        check(
            Delete,
            json!({"id": 1, "room": "a"}),
            json!({}),
            Some((Delete, json!({"id": 1, "room": "a"}))),
        );
        check(Delete, json!({"id": 1, "room": "b"}), json!({}), None);
    }

    #[test]
    fn nets_what_was_missed() {
        use Operation::{Delete, Insert, Update};
        let insert = event(Insert, json!({"room": "a", "n": 1}), json!({}));
        let update = event(Update, json!({"room": "a", "n": 2}), json!({"n": 1}));
        let back = event(Update, json!({"room": "a", "n": 1}), json!({"n": 2}));
        let out = event(Update, json!({"room": "b", "n": 2}), json!({"room": "a"}));
        let delete = event(Delete, json!({"room": "a", "n": 2}), json!({}));
        let check = |first: &Event, last: &Event, expected: Option<(Operation, Json)>| {
            let seen = net(&in_a(), first, last).map(|event| (event.operation, Json::Object(event.row)));
            assert_eq!(seen, expected);
        };
        check(&insert, &update, Some((Insert, json!({"room": "a", "n": 2}))));
        check(&insert, &delete, None);
        check(&insert, &out, None);
        check(&update, &back, None);
        check(&update, &update, Some((Update, json!({"room": "a", "n": 2}))));
        check(&update, &out, Some((Delete, json!({"room": "a", "n": 1}))));
        check(&update, &delete, Some((Delete, json!({"room": "a", "n": 1}))));
        check(&delete, &insert, Some((Update, json!({"room": "a", "n": 1}))));
    }
}
