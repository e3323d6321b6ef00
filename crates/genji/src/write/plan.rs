//! Which rows a WHERE clause can hold for, found without looking at each: by primary key or by index.
//!
//! `WHERE id = 1 AND a > 2` reads the one row of key 1; whether `a > 2` holds is for the caller to see, who evaluates the
//! whole clause on each row that is found here.

use std::sync::Arc;

use deltamesh_change::Value;

use super::row;
use super::schema::{Index, Table};
use crate::catalog::{FieldType, Path};
use crate::sql::evaluate::Scope;
use crate::sql::{Expression, Operator, Parameters};
use crate::{Error, key};

/// Beyond this many keys, a scan.
const MAX_KEYS: usize = 1000;
/// Integers up to this are exact as doubles.
const EXACT: i64 = 1 << 53;

/// Where to look for the rows.
pub(crate) enum Access {
    /// At these keys of rows, exactly.
    Keys(Vec<Vec<u8>>),
    /// Under these beginnings of keys of rows.
    Rows(Vec<Vec<u8>>),
    /// Under these beginnings of keys of an index.
    Index(Vec<Vec<u8>>),
}

/// What a path must be equal to: one of these values.
struct Wanted {
    path: Path,
    values: Vec<Value>,
}

/// The best way to the rows of a filter.
pub(crate) fn access(
    table: &Table,
    filter: Option<&Expression>,
    parameters: Parameters<'_>,
) -> Result<Access, Error> {
    let all = || Ok(Access::Rows(vec![key::prefix(table.namespace)]));
    let Some(filter) = filter else { return all() };
    let mut wanted = Vec::new();
    let mut keys = None;
    collect(table, filter, parameters, &mut wanted, &mut keys)?;
    if let Some(key) = keys {
        return Ok(Access::Keys(key.into_iter().collect()));
    }
    let paths = table.primary_key().unwrap_or_default();
    let (prefixes, covered) = prefixes(table.namespace, paths, &wanted)?;
    if covered > 0 && covered == paths.len() {
        return Ok(Access::Keys(prefixes));
    }
    let mut best = (covered, Access::Rows(prefixes));
    for index in &table.indexes {
        let (prefixes, covered) = self::prefixes(index.namespace, &index.definition.paths, &wanted)?;
        if covered > best.0 || (covered == best.0 && covered > 0 && is_better(index)) {
            best = (covered, Access::Index(prefixes));
        }
    }
    Ok(best.1)
}

fn is_better(index: &Arc<Index>) -> bool {
    index.definition.unique
}

/// The beginnings of keys for as many of the paths as are wanted, and how many those are.
fn prefixes(namespace: i64, paths: &[Path], wanted: &[Wanted]) -> Result<(Vec<Vec<u8>>, usize), Error> {
    let mut found = vec![Vec::new()];
    let mut covered = 0;
    for path in paths {
        let Some(wanted) = wanted.iter().find(|wanted| wanted.path == *path) else { break };
        if found.len().saturating_mul(wanted.values.len()) > MAX_KEYS {
            break;
        }
        let with =
            |begun: &Vec<Value>, value: &Value| [begun.as_slice(), std::slice::from_ref(value)].concat();
        found = found
            .iter()
            .flat_map(|begun| wanted.values.iter().map(move |value| with(begun, value)))
            .collect();
        covered += 1;
    }
    let prefixes = found.iter().map(|values| key::encode(namespace, values)).collect::<Result<_, _>>()?;
    Ok((prefixes, covered))
}

/// Takes the equalities with constants out of a conjunction.
fn collect(
    table: &Table,
    filter: &Expression,
    parameters: Parameters<'_>,
    wanted: &mut Vec<Wanted>,
    keys: &mut Option<Option<Vec<u8>>>,
) -> Result<(), Error> {
    let constant = |expression: &Expression| -> Result<Option<Value>, Error> {
        if !expression.is_constant() {
            return Ok(None);
        }
        expression.evaluate(&mut Scope::constant(parameters)).map(Some)
    };
    match filter {
        Expression::Group(inner) => collect(table, inner, parameters, wanted, keys),
        Expression::Binary(left, Operator::And, right) => {
            collect(table, left, parameters, wanted, keys)?;
            collect(table, right, parameters, wanted, keys)
        }
        Expression::Binary(left, Operator::Equal, right) => {
            for (target, other) in [(left, right), (right, left)] {
                match (target.as_ref(), constant(other)?) {
                    (Expression::Path(path, _), Some(value)) => {
                        add(table, path, &[value], wanted);
                    }
                    (Expression::Key(_), Some(Value::Array(values))) if keys.is_none() => {
                        *keys = key_of(table, &values)?;
                    }
                    _ => {}
                }
            }
            Ok(())
        }
        Expression::Binary(left, Operator::In, right) => {
            if let Expression::Path(path, _) = left.as_ref()
                && let Some(Value::Array(values)) = constant(right)?
            {
                add(table, path, &values, wanted);
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// `pk() = [values]`: the key, or `Some(None)` where no row can have it.
fn key_of(table: &Table, values: &[Value]) -> Result<Option<Option<Vec<u8>>>, Error> {
    let docid = [Path::field("docid")];
    let paths = table.primary_key().unwrap_or(&docid);
    if paths.len() != values.len() {
        return Ok(Some(None));
    }
    let mut stored = Vec::with_capacity(values.len());
    for (path, value) in paths.iter().zip(values) {
        let field_type =
            if table.primary_key().is_some() { table.definition.type_at(path) } else { &FieldType::Integer };
        match convert(field_type, value) {
            Some(Some(value)) => stored.push(value),
            Some(None) => return Ok(Some(None)),
            None => return Ok(None),
        }
    }
    Ok(Some(Some(key::encode(table.namespace, &stored)?)))
}

fn add(table: &Table, path: &Path, values: &[Value], wanted: &mut Vec<Wanted>) {
    if wanted.iter().any(|wanted| wanted.path == *path) {
        return;
    }
    let field_type = table.definition.type_at(path);
    let Some(stored) = values.iter().map(|value| convert(field_type, value)).collect::<Option<Vec<_>>>()
    else {
        return;
    };
    let mut values: Vec<Value> = Vec::new();
    for value in stored.into_iter().flatten() {
        if !values.contains(&value) {
            values.push(value);
        }
    }
    wanted.push(Wanted { path: path.clone(), values });
}

/// The value as keys of that type hold it; `Some(None)` if none of them can be equal to it, `None` if several can, or it is
/// not known.
fn convert(field_type: &FieldType, value: &Value) -> Option<Option<Value>> {
    let same = |fits: bool| Some(fits.then(|| value.clone()));
    match (field_type, value) {
        (FieldType::Array | FieldType::Document(_), _) => None,
        (_, Value::Array(_) | Value::Document(_) | Value::Decimal(_) | Value::Unchanged) => None,
        (_, Value::Null) => Some(None),
        (FieldType::Integer, Value::Float(number)) => {
            if number.fract() != 0.0 {
                return Some(None);
            }
            (number.abs() < EXACT as f64).then_some(Some(Value::Int(*number as i64)))
        }
        (FieldType::Integer, other) => same(matches!(other, Value::Int(_))),
        (FieldType::Double | FieldType::Any, Value::Float(_) | Value::Int(_)) => {
            let Value::Float(number) = row::as_read(&FieldType::Any, value) else { return None };
            // No key holds the negative zero, and nothing is equal to NaN.
            Some((!number.is_nan()).then_some(Value::Float(number + 0.0)))
        }
        (FieldType::Double, _) => Some(None),
        (FieldType::Text, other) => same(matches!(other, Value::Text(_))),
        (FieldType::Blob, other) => same(matches!(other, Value::Bytes(_))),
        (FieldType::Boolean, other) => same(matches!(other, Value::Bool(_))),
        (FieldType::Any, _) => same(true),
    }
}
