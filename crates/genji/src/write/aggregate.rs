//! GROUP BY and the functions over the rows of a group.

use std::cmp::Ordering;
use std::collections::HashMap;

use deltamesh_change::Value;

use super::row::Document;
use super::select::project;
use crate::sql::compare::{equal, order_any, sort_order};
use crate::sql::evaluate::Scope;
use crate::sql::{Aggregate, Expression, Parameters, Projection, Select, render};
use crate::{Error, ErrorKind, value};

/// Bytes of memory that a value takes, about.
pub(crate) fn size(value: &Value) -> usize {
    32 + match value {
        Value::Text(text) | Value::Decimal(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Document(fields) => fields.iter().map(|(name, value)| name.len() + size(value)).sum(),
        _ => 0,
    }
}

/// One function of a SELECT.
struct Term<'s> {
    aggregate: Aggregate,
    inner: Option<&'s Expression>,
    name: String,
}

/// The groups of a SELECT, as far as rows were added.
pub(crate) struct Groups<'s> {
    by: Option<&'s Expression>,
    by_name: String,
    terms: Vec<Term<'s>>,
    groups: HashMap<Vec<u8>, Group>,
    size: usize,
}

struct Group {
    value: Value,
    states: Vec<State>,
}

#[derive(Clone, Default)]
struct State {
    count: i64,
    best: Option<Value>,
    sum: Option<Value>,
    total: f64,
}

impl<'s> Groups<'s> {
    /// The groups of a SELECT that has any; `None` where each row is returned for itself.
    pub(crate) fn new(select: &'s Select) -> Result<Option<Self>, Error> {
        let mut terms = Vec::new();
        let by_name = select.group.as_ref().map(render::expression).unwrap_or_default();
        let mut other = false;
        for projection in &select.projections {
            match projection {
                Projection::Named(_, Expression::Aggregate(aggregate, inner, _)) => terms.push(Term {
                    aggregate: *aggregate,
                    inner: inner.as_deref(),
                    name: render::aggregate(*aggregate, inner.as_deref()),
                }),
                Projection::Named(_, expression) => other |= render::expression(expression) != by_name,
                Projection::All => other = true,
            }
        }
        if select.group.is_some() && other {
            return Err(Error::new(
                ErrorKind::Syntax,
                "a returned expression is neither grouped by nor a function over rows",
            ));
        }
        if select.group.is_none() && terms.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self { by: select.group.as_ref(), by_name, terms, groups: HashMap::new(), size: 0 }))
    }

    /// Bytes of memory that the groups take, about.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Adds the row of the scope to its group.
    pub(crate) fn add(&mut self, scope: &mut Scope<'_>) -> Result<(), Error> {
        let group = self.by.map(|by| by.evaluate(scope)).transpose()?.unwrap_or_default();
        let mut key = Vec::new();
        value::encode(&mut key, &group)?;
        let length = key.len();
        let group = self.groups.entry(key).or_insert_with(|| {
            self.size += length + size(&group) + self.terms.len() * size_of::<State>();
            Group { value: group, states: vec![State::default(); self.terms.len()] }
        });
        for (term, state) in self.terms.iter().zip(&mut group.states) {
            match term.inner {
                Some(inner) => state.add(term.aggregate, inner.evaluate(scope)?),
                None => state.count += 1,
            }
        }
        Ok(())
    }

    /// The results of each group, and what is returned of them. Without a row there is one group, of nothing.
    pub(crate) fn finish(
        mut self,
        projections: &[Projection],
        parameters: Parameters<'_>,
    ) -> Result<Vec<(Document, Document)>, Error> {
        if self.groups.is_empty() {
            let states = vec![State::default(); self.terms.len()];
            self.groups.insert(Vec::new(), Group { value: Value::Null, states });
        }
        let mut groups: Vec<Group> = self.groups.into_values().collect();
        groups.sort_by(|left, right| sort_order(&left.value, &right.value));
        merged(&self.terms, groups)
            .into_iter()
            .map(|group| {
                let mut results = Document::new();
                if self.by.is_some() {
                    results.push((self.by_name.clone(), group.value));
                }
                for (term, state) in self.terms.iter().zip(group.states) {
                    results.push((term.name.clone(), state.result(term.aggregate)));
                }
                let returned = returned(projections, &self.by_name, &results, parameters)?;
                Ok((results, returned))
            })
            .collect()
    }
}

fn returned(
    projections: &[Projection],
    by_name: &str,
    results: &[(String, Value)],
    parameters: Parameters<'_>,
) -> Result<Document, Error> {
    let mut returned = Document::new();
    for projection in projections {
        match projection {
            Projection::Named(name, expression)
                if !by_name.is_empty() && render::expression(expression) == by_name =>
            {
                let value = results.iter().find(|(field, _)| field == by_name);
                returned.push((name.clone(), value.map(|(_, value)| value.clone()).unwrap_or_default()));
            }
            other => {
                let mut scope = Scope::row(results, parameters);
                returned.extend(project(std::slice::from_ref(other), &mut scope)?);
            }
        }
    }
    Ok(returned)
}

/// Groups in order, neighbours of equal values made one: values that are encoded differently may be equal still.
fn merged(terms: &[Term<'_>], groups: Vec<Group>) -> Vec<Group> {
    let mut merged: Vec<Group> = Vec::with_capacity(groups.len());
    for group in groups {
        match merged.last_mut() {
            Some(last) if equal(&last.value, &group.value) => {
                for ((term, state), other) in terms.iter().zip(&mut last.states).zip(group.states) {
                    state.merge(term.aggregate, other);
                }
            }
            _ => merged.push(group),
        }
    }
    merged
}

impl State {
    fn merge(&mut self, aggregate: Aggregate, other: Self) {
        self.count += other.count;
        self.total += other.total;
        if let Some(sum) = other.sum {
            self.add_number(&sum);
        }
        if let Some(best) = other.best {
            self.add(aggregate, best);
        }
    }

    fn add(&mut self, aggregate: Aggregate, value: Value) {
        match aggregate {
            Aggregate::Count => self.count += i64::from(!value.is_null()),
            Aggregate::Min => self.keep(value, Ordering::Less),
            Aggregate::Max => self.keep(value, Ordering::Greater),
            Aggregate::Sum => self.add_number(&value),
            Aggregate::Average => {
                let number = match value {
                    Value::Int(value) => value as f64,
                    Value::Float(value) => value,
                    _ => return,
                };
                self.total += number;
                self.count += 1;
            }
        }
    }

    fn keep(&mut self, value: Value, wanted: Ordering) {
        let is_better = |best: &Value| order_any(&value, best) == Some(wanted);
        if !value.is_null() && self.best.as_ref().is_none_or(is_better) {
            self.best = Some(value);
        }
    }

    /// Integers stay integers until the first double, and wrap around like Genji's.
    fn add_number(&mut self, value: &Value) {
        self.sum = Some(match (self.sum.take(), value) {
            (None, Value::Int(value)) => Value::Int(*value),
            (None, Value::Float(value)) => Value::Float(*value),
            (Some(Value::Int(sum)), Value::Int(value)) => Value::Int(sum.wrapping_add(*value)),
            (Some(Value::Int(sum)), Value::Float(value)) => Value::Float(sum as f64 + value),
            (Some(Value::Float(sum)), Value::Int(value)) => Value::Float(sum + *value as f64),
            (Some(Value::Float(sum)), Value::Float(value)) => Value::Float(sum + value),
            (before, _) => {
                self.sum = before;
                return;
            }
        });
    }

    fn result(self, aggregate: Aggregate) -> Value {
        match aggregate {
            Aggregate::Count => Value::Int(self.count),
            Aggregate::Min | Aggregate::Max => self.best.unwrap_or_default(),
            Aggregate::Sum => self.sum.unwrap_or_default(),
            Aggregate::Average if self.count == 0 => Value::Float(0.0),
            Aggregate::Average => Value::Float(self.total / self.count as f64),
        }
    }
}
