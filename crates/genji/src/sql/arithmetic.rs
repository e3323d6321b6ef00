//! Genji's arithmetic: integers become doubles where they overflow, and what has no result is NULL.

use deltamesh_change::Value;

use super::expression::Operator;

/// The result of an arithmetic operator; NULL unless both sides are numbers.
pub(crate) fn calculate(operator: Operator, left: &Value, right: &Value) -> Value {
    match (left, right) {
        (Value::Int(left), Value::Int(right)) => integers(operator, *left, *right),
        (Value::Int(left), Value::Float(right)) => doubles(operator, *left as f64, *right),
        (Value::Float(left), Value::Int(right)) => doubles(operator, *left, *right as f64),
        (Value::Float(left), Value::Float(right)) => doubles(operator, *left, *right),
        _ => Value::Null,
    }
}

fn integers(operator: Operator, left: i64, right: i64) -> Value {
    let exact = match operator {
        Operator::Add => left.checked_add(right),
        Operator::Subtract => left.checked_sub(right),
        Operator::Multiply => left.checked_mul(right),
        Operator::Divide if right == 0 => return Value::Null,
        Operator::Remainder if right == 0 => return Value::Null,
        Operator::Divide => Some(left.wrapping_div(right)),
        Operator::Remainder => Some(left.wrapping_rem(right)),
        _ => Some(bits(operator, left, right)),
    };
    exact.map_or_else(|| doubles(operator, left as f64, right as f64), Value::Int)
}

fn bits(operator: Operator, left: i64, right: i64) -> i64 {
    match operator {
        Operator::BitAnd => left & right,
        Operator::BitXor => left ^ right,
        _ => left | right,
    }
}

fn doubles(operator: Operator, left: f64, right: f64) -> Value {
    match operator {
        Operator::Add => Value::Float(left + right),
        Operator::Subtract => Value::Float(left - right),
        Operator::Multiply => Value::Float(left * right),
        Operator::Divide if right == 0.0 => Value::Null,
        Operator::Divide => Value::Float(left / right),
        Operator::Remainder => {
            let rest = left % right;
            if rest.is_nan() { Value::Null } else { Value::Float(rest) }
        }
        _ => Value::Int(bits(operator, left as i64, right as i64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        left: impl Into<Value>,
        operator: Operator,
        right: impl Into<Value>,
        expected: impl Into<Value>,
    ) {
        assert_eq!(calculate(operator, &left.into(), &right.into()), expected.into());
    }

    #[test]
    fn results() {
        check(7, Operator::Divide, 2, 3);
        check(7, Operator::Divide, 2.0, 3.5);
        check(7, Operator::Divide, 0, Value::Null);
        check(7.5, Operator::Remainder, 0, Value::Null);
        check(-7, Operator::Remainder, 3, -1);
        check(i64::MAX, Operator::Add, 1, 9_223_372_036_854_775_808.0);
        check(i64::MAX, Operator::Multiply, 2, 18_446_744_073_709_551_616.0);
        check(6, Operator::BitXor, 3.9, 5);
        check("1", Operator::Add, 1, Value::Null);
        check(true, Operator::Add, 1, Value::Null);
    }
}
