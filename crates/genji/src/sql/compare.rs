//! How Genji compares values: numbers by value whatever their type, other types only with their own.

use std::cmp::Ordering;

use deltamesh_change::Value;

use super::expression::Operator;

/// Whether the comparison holds. Values of different types compare with nothing: only [`Operator::NotEqual`] holds.
pub(crate) fn holds(operator: Operator, left: &Value, right: &Value) -> bool {
    let ordering = order(left, right);
    match operator {
        Operator::NotEqual => ordering != Some(Ordering::Equal),
        Operator::Less => ordering == Some(Ordering::Less),
        Operator::LessOrEqual => matches!(ordering, Some(Ordering::Less | Ordering::Equal)),
        Operator::Greater => ordering == Some(Ordering::Greater),
        Operator::GreaterOrEqual => matches!(ordering, Some(Ordering::Greater | Ordering::Equal)),
        _ => ordering == Some(Ordering::Equal),
    }
}

/// Whether the values are equal; NULL equals NULL.
pub(crate) fn equal(left: &Value, right: &Value) -> bool {
    order(left, right) == Some(Ordering::Equal)
}

/// The order of two values that can be compared.
pub(crate) fn order(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::Null, Value::Null) => Some(Ordering::Equal),
        (Value::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
        (Value::Int(left), Value::Int(right)) => Some(left.cmp(right)),
        (Value::Int(left), Value::Float(right)) => (*left as f64).partial_cmp(right),
        (Value::Float(left), Value::Int(right)) => left.partial_cmp(&(*right as f64)),
        (Value::Float(left), Value::Float(right)) => left.partial_cmp(right),
        (Value::Text(left), Value::Text(right)) => Some(left.as_bytes().cmp(right.as_bytes())),
        (Value::Bytes(left), Value::Bytes(right)) => Some(left.cmp(right)),
        (Value::Array(left), Value::Array(right)) => arrays(left, right),
        (Value::Document(left), Value::Document(right)) => documents(left, right),
        _ => None,
    }
}

/// The order of values of any two types: by type first, numbers as one type.
pub(crate) fn order_any(left: &Value, right: &Value) -> Option<Ordering> {
    if rank(left) == rank(right) { order(left, right) } else { Some(rank(left).cmp(&rank(right))) }
}

fn rank(value: &Value) -> u8 {
    match value {
        Value::Null | Value::Unchanged => 0,
        Value::Bool(_) => 1,
        Value::Int(_) | Value::Float(_) => 2,
        Value::Text(_) | Value::Decimal(_) => 3,
        Value::Bytes(_) => 4,
        Value::Array(_) => 5,
        Value::Document(_) => 6,
    }
}

/// Element by element; the first that differ decide, then the lengths.
fn arrays(left: &[Value], right: &[Value]) -> Option<Ordering> {
    for (left, right) in left.iter().zip(right) {
        match order_any(left, right) {
            Some(Ordering::Equal) => {}
            decided => return decided,
        }
    }
    Some(left.len().cmp(&right.len()))
}

/// Field by field in the order of the names. What one document has beyond the other counts only if the other is empty: so it
/// is in Genji, where `{a: 1} = {a: 1, b: 2}` holds.
fn documents(left: &[(String, Value)], right: &[(String, Value)]) -> Option<Ordering> {
    let sorted = |fields: &[(String, Value)]| {
        let mut order: Vec<usize> = (0..fields.len()).collect();
        order.sort_by(|a, b| fields.get(*a).map(|field| &field.0).cmp(&fields.get(*b).map(|field| &field.0)));
        order
    };
    for (left_at, right_at) in sorted(left).into_iter().zip(sorted(right)) {
        let (Some((left_name, left)), Some((right_name, right))) = (left.get(left_at), right.get(right_at))
        else {
            return None;
        };
        match left_name.cmp(right_name) {
            Ordering::Equal => {}
            decided => return Some(decided),
        }
        match order_any(left, right) {
            Some(Ordering::Equal) => {}
            decided => return decided,
        }
    }
    if left.is_empty() || right.is_empty() {
        Some(left.len().cmp(&right.len()))
    } else {
        Some(Ordering::Equal)
    }
}

/// The order in which keys and ORDER BY put any two values: by type, integers before doubles.
pub(crate) fn sort_order(left: &Value, right: &Value) -> Ordering {
    let class = |value: &Value| match value {
        Value::Float(_) => (2, true),
        other => (rank(other), false),
    };
    match (left, right) {
        (Value::Bool(left), Value::Bool(right)) => left.cmp(right),
        (Value::Int(left), Value::Int(right)) => left.cmp(right),
        (Value::Float(left), Value::Float(right)) => left.total_cmp(right),
        (Value::Text(left), Value::Text(right)) => left.as_bytes().cmp(right.as_bytes()),
        (Value::Bytes(left), Value::Bytes(right)) => left.cmp(right),
        (Value::Array(left), Value::Array(right)) => sort_lists(left, right),
        (Value::Document(left), Value::Document(right)) => {
            let pairs = left.iter().zip(right).map(|((left_name, left), (right_name, right))| {
                left_name.cmp(right_name).then_with(|| sort_order(left, right))
            });
            pairs.fold(Ordering::Equal, Ordering::then).then(left.len().cmp(&right.len()))
        }
        _ => class(left).cmp(&class(right)),
    }
}

/// [`sort_order`] of lists, such as the values of keys.
pub(crate) fn sort_lists(left: &[Value], right: &[Value]) -> Ordering {
    let pairs = left.iter().zip(right).map(|(left, right)| sort_order(left, right));
    pairs.fold(Ordering::Equal, Ordering::then).then(left.len().cmp(&right.len()))
}

/// Whether a value counts as true: anything but NULL, false, zero and what is empty. A blob is never empty.
pub(crate) fn is_true(value: &Value) -> bool {
    match value {
        Value::Null | Value::Unchanged => false,
        Value::Bool(value) => *value,
        Value::Int(value) => *value != 0,
        Value::Float(value) => *value != 0.0,
        Value::Text(text) | Value::Decimal(text) => !text.is_empty(),
        Value::Bytes(_) => true,
        Value::Array(items) => !items.is_empty(),
        Value::Document(fields) => !fields.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(left: impl Into<Value>, right: impl Into<Value>, expected: Option<Ordering>) {
        let (left, right) = (left.into(), right.into());
        assert_eq!(order(&left, &right), expected, "{left:?} {right:?}");
    }

    #[test]
    fn numbers_compare_across_types_and_nothing_else_does() {
        check(1, 1.0, Some(Ordering::Equal));
        check(2, 1.5, Some(Ordering::Greater));
        check("1", 1, None);
        check(Value::Null, Value::Null, Some(Ordering::Equal));
        check(Value::Null, 0, None);
        check(f64::NAN, f64::NAN, None);
        assert!(holds(Operator::NotEqual, &"1".into(), &Value::Int(1)));
    }

    #[test]
    fn arrays_and_documents() {
        let array = |items: &[i64]| Value::Array(items.iter().map(|&item| Value::Int(item)).collect());
        check(array(&[1, 2]), array(&[1, 3]), Some(Ordering::Less));
        check(array(&[1, 2]), array(&[1]), Some(Ordering::Greater));
        check(Value::Array(vec!["a".into()]), array(&[9]), Some(Ordering::Greater));
        let document = |fields: &[(&str, i64)]| {
            Value::Document(fields.iter().map(|&(name, value)| (name.to_owned(), value.into())).collect())
        };
        check(document(&[("b", 1), ("a", 2)]), document(&[("a", 2), ("b", 1)]), Some(Ordering::Equal));
        check(document(&[("a", 2)]), document(&[("b", 1)]), Some(Ordering::Less));
        check(document(&[("a", 2)]), document(&[("a", 2), ("b", 1)]), Some(Ordering::Equal));
        check(document(&[]), document(&[("b", 1)]), Some(Ordering::Less));
    }
}
