//! What expressions are worth, by Genji's rules.

use deltamesh_change::Value;

use super::SqlError;
use super::expression::{Aggregate, Expression, Function, Operator, Parameters};
use super::{arithmetic, compare, like, render};
use crate::write::cast;
use crate::{Error, ErrorKind};

/// What gives the values of sequences.
pub(crate) trait Sequences {
    /// Takes the next value of a sequence.
    fn next_value(&mut self, name: &str) -> Result<i64, Error>;
}

/// What an expression can refer to.
pub(crate) struct Scope<'a> {
    /// The row; without one a path is refused.
    pub(crate) row: Option<&'a [(String, Value)]>,
    /// The values of the row's key.
    pub(crate) key: Option<&'a [Value]>,
    pub(crate) parameters: Parameters<'a>,
    /// Absent where a value must not depend on how often it is asked for.
    pub(crate) sequences: Option<&'a mut dyn Sequences>,
}

impl<'a> Scope<'a> {
    /// Nothing but parameters.
    pub(crate) fn constant(parameters: Parameters<'a>) -> Self {
        Self { row: None, key: None, parameters, sequences: None }
    }

    /// A row and parameters.
    pub(crate) fn row(row: &'a [(String, Value)], parameters: Parameters<'a>) -> Self {
        Self { row: Some(row), key: None, parameters, sequences: None }
    }
}

impl Expression {
    /// The value in a scope.
    ///
    /// # Errors
    /// [`ErrorKind::Syntax`] with the place of what the scope does not have, [`ErrorKind::Type`] for a cast that fails, or
    /// what a sequence meets.
    pub(crate) fn evaluate(&self, scope: &mut Scope<'_>) -> Result<Value, Error> {
        let missing = |position, what: &str| Err(Error::from(SqlError::new(position, what)));
        match self {
            Self::Literal(value) => Ok(value.clone()),
            Self::Parameter(index, position) => match scope.parameters {
                Parameters::Positional(values) if *index < values.len() => {
                    Ok(values.get(*index).cloned().unwrap_or_default())
                }
                _ => missing(*position, "parameter was not given"),
            },
            Self::Named(name, position) => match scope.parameters.named(name) {
                Some(value) => Ok(value.clone()),
                None => missing(*position, "parameter was not given"),
            },
            Self::Path(path, position) => match scope.row {
                Some(row) => Ok(path.find(row).cloned().unwrap_or_default()),
                None => missing(*position, "expected a constant"),
            },
            Self::Key(position) => match (scope.key, scope.row) {
                (Some(key), _) => Ok(Value::Array(key.to_vec())),
                (None, Some(_)) => Ok(Value::Null),
                (None, None) => missing(*position, "expected a constant"),
            },
            Self::Array(items) => {
                items.iter().map(|item| item.evaluate(scope)).collect::<Result<_, _>>().map(Value::Array)
            }
            Self::Document(fields) => document(fields, scope).map(Value::Document),
            Self::Group(inner) => inner.evaluate(scope),
            Self::Not(inner) => Ok(Value::Bool(!compare::is_true(&inner.evaluate(scope)?))),
            Self::Binary(left, operator, right) => binary(left, *operator, right, scope),
            Self::Between(parts) => between(parts, scope),
            Self::Cast(inner, to, position) => cast::to(&inner.evaluate(scope)?, to)
                .ok_or_else(|| Error::new(ErrorKind::Type, SqlError::misfit(*position))),
            Self::Call(function, inner) => call(*function, &inner.evaluate(scope)?),
            Self::Aggregate(aggregate, inner, position) => {
                // Where rows were aggregated, the row holds the results by their text.
                let name = render::aggregate(*aggregate, inner.as_deref());
                let result = scope.row.and_then(|row| row.iter().find(|(field, _)| *field == name));
                result.map_or_else(
                    || missing(*position, "expected no function over rows"),
                    |(_, value)| Ok(value.clone()),
                )
            }
            Self::NextValue(name, position) => match &mut scope.sequences {
                Some(sequences) => sequences.next_value(name).map(Value::Int),
                None => missing(*position, "NEXT VALUE FOR cannot stand here"),
            },
        }
    }
}

impl Parameters<'_> {
    fn named(&self, name: &str) -> Option<&Value> {
        match self {
            Self::Named(values) => values.iter().find(|(given, _)| given == name).map(|(_, value)| value),
            Self::Positional(_) => None,
        }
    }
}

/// Where there is no row, the fields of a document can refer to those before them.
fn document(fields: &[(String, Expression)], scope: &mut Scope<'_>) -> Result<Vec<(String, Value)>, Error> {
    let mut document: Vec<(String, Value)> = Vec::with_capacity(fields.len());
    for (name, field) in fields {
        let value = if scope.row.is_some() {
            field.evaluate(scope)?
        } else {
            let sequences = scope.sequences.as_mut().map(|sequences| &mut **sequences as &mut dyn Sequences);
            let mut inner =
                Scope { row: Some(&document), key: None, parameters: scope.parameters, sequences };
            field.evaluate(&mut inner)?
        };
        document.push((name.clone(), value));
    }
    Ok(document)
}

fn binary(
    left: &Expression,
    operator: Operator,
    right: &Expression,
    scope: &mut Scope<'_>,
) -> Result<Value, Error> {
    let left = left.evaluate(scope)?;
    match operator {
        Operator::And if !compare::is_true(&left) => return Ok(Value::Bool(false)),
        Operator::Or if compare::is_true(&left) => return Ok(Value::Bool(true)),
        _ => {}
    }
    let right = right.evaluate(scope)?;
    Ok(apply(operator, &left, &right))
}

fn apply(operator: Operator, left: &Value, right: &Value) -> Value {
    let negated = |value: Value| match value {
        Value::Bool(value) => Value::Bool(!value),
        other => other,
    };
    match operator {
        Operator::And | Operator::Or => Value::Bool(compare::is_true(right)),
        Operator::Is => Value::Bool(compare::equal(left, right)),
        Operator::IsNot => Value::Bool(!compare::equal(left, right)),
        Operator::In => contains(left, right),
        Operator::NotIn => negated(contains(left, right)),
        Operator::Like => matches_pattern(left, right),
        Operator::NotLike => negated(matches_pattern(left, right)),
        Operator::Concatenate => match (left, right) {
            (Value::Text(left), Value::Text(right)) => Value::Text(format!("{left}{right}")),
            _ => Value::Null,
        },
        Operator::Equal
        | Operator::NotEqual
        | Operator::Less
        | Operator::LessOrEqual
        | Operator::Greater
        | Operator::GreaterOrEqual => {
            if left.is_null() || right.is_null() {
                return Value::Null;
            }
            Value::Bool(compare::holds(operator, left, right))
        }
        _ => arithmetic::calculate(operator, left, right),
    }
}

fn contains(value: &Value, list: &Value) -> Value {
    match (value, list) {
        (Value::Null, _) | (_, Value::Null) => Value::Null,
        (value, Value::Array(items)) => Value::Bool(items.iter().any(|item| compare::equal(item, value))),
        _ => Value::Bool(false),
    }
}

fn matches_pattern(value: &Value, pattern: &Value) -> Value {
    match (value, pattern) {
        (Value::Text(text), Value::Text(pattern)) => Value::Bool(like::matches(pattern, text)),
        _ => Value::Null,
    }
}

fn between([value, low, high]: &[Expression; 3], scope: &mut Scope<'_>) -> Result<Value, Error> {
    let value = value.evaluate(scope)?;
    let (low, high) = (low.evaluate(scope)?, high.evaluate(scope)?);
    if low.is_null() || high.is_null() {
        return Ok(Value::Null);
    }
    let inside = compare::holds(Operator::GreaterOrEqual, &value, &low)
        && compare::holds(Operator::LessOrEqual, &value, &high);
    Ok(Value::Bool(inside))
}

fn call(function: Function, value: &Value) -> Result<Value, Error> {
    let length = match (function, value) {
        (Function::TypeOf, value) => return Ok(Value::from(type_name(value))),
        (Function::Math(function), value) => return function.call(value),
        (Function::Length, Value::Text(text)) => text.len(),
        (Function::Length, Value::Array(items)) => items.len(),
        (Function::Length, Value::Document(fields)) => fields.len(),
        (Function::Length, _) => return Ok(Value::Null),
    };
    Ok(Value::Int(i64::try_from(length).unwrap_or(i64::MAX)))
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null | Value::Unchanged => "null",
        Value::Bool(_) => "boolean",
        Value::Int(_) => "integer",
        Value::Float(_) => "double",
        Value::Text(_) | Value::Decimal(_) => "text",
        Value::Bytes(_) => "blob",
        Value::Array(_) => "array",
        Value::Document(_) => "document",
    }
}

impl Aggregate {
    /// As Genji writes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Count => "COUNT",
            Self::Min => "MIN",
            Self::Max => "MAX",
            Self::Sum => "SUM",
            Self::Average => "AVG",
        }
    }
}

#[cfg(test)]
mod tests {
    use deltamesh_change::{Value, to_json};

    use super::*;
    use crate::sql::parse_expression;

    fn check(sql: &str, expected: &str) {
        let nested = Value::Array(vec![Value::Document(vec![("c".into(), 7.into())])]);
        let row = [("a".to_owned(), Value::Int(1)), ("b".to_owned(), nested), ("n".to_owned(), Value::Null)];
        let expression = parse_expression(sql).unwrap();
        let value = expression.evaluate(&mut Scope::row(&row, Parameters::Positional(&[]))).unwrap();
        assert_eq!(to_json(&value).to_string(), expected, "{sql}");
        // Its text means the same.
        let text = render::expression(&expression);
        assert_eq!(
            parse_expression(&text)
                .unwrap()
                .evaluate(&mut Scope::row(&row, Parameters::Positional(&[])))
                .unwrap(),
            value,
            "{text}"
        );
    }

    #[test]
    fn values_as_genji_finds_them() {
        check("a + 2 * 3 - 1", "6");
        check("(a + 2) * 3", "9");
        check("b[0].c = 7.0 AND NOT n", "true");
        check("b[1].c = 7", "null");
        check("n = n", "null");
        check("n IS NULL AND a IS NOT NULL", "true");
        check("a != 'x' OR false", "true");
        check("a IN [1, 2] AND a NOT IN (3, 4)", "true");
        check("a IN (1)", "false");
        check("n NOT IN [1]", "null");
        check("a BETWEEN 0 AND 1 + 1", "true");
        check("a BETWEEN n AND 1", "null");
        check("NOT a = 1 AND a = 2", "true");
        check("1 < 2 = true", "true");
        check("'a' || 'b' LIKE '_B'", "true");
        check("a NOT LIKE 'x'", "null");
        check("CAST('5.7' AS INTEGER)", "5");
        check("typeof(b), 'x'".split(',').next().unwrap(), "\"array\"");
        check("len('äb')", "3");
        check("math.abs(0 - a) + math.floor(2.5)", "3.0");
        check("math.abs('-1.5')", "1.5");
        check("[math.acos(1), math.asin(0), math.atan2(0, 1), math.atan(n)]", "[0.0,0.0,0.0,null]");
        check("{x: a, y: [n]}", r#"{"x":1,"y":[null]}"#);
        check("5 & 3 | 8 ^ 1", "8");
    }

    fn check_error(sql: &str, expected: &str) {
        let error = parse_expression(sql)
            .map_err(Error::from)
            .and_then(|parsed| parsed.evaluate(&mut Scope::constant(Parameters::Positional(&[]))))
            .unwrap_err();
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn refusals() {
        check_error("1 + a", "expected a constant at line 1, column 5");
        check_error("CAST('x' AS INTEGER)", "value cannot be cast at line 1, column 1");
        check_error("math.floor('x')", "math.floor takes a number");
        check_error("math.acos(2)", "math.acos takes a number from -1 to 1");
        check_error("math.abs(-9223372036854775808)", "math.abs has no integer for this");
        check_error("math.abs(1, 2)", "math.abs takes 1 arguments, not 2 at line 1, column 1");
        check_error("1 + COUNT(*)", "expected no function over rows at line 1, column 5");
        check_error("NEXT VALUE FOR s", "NEXT VALUE FOR cannot stand here at line 1, column 1");
        check_error("$x", "parameter was not given at line 1, column 1");
        check_error(&"1+".repeat(1001), "more than 1000 operators in an expression at line 1, column 2002");
    }
}
