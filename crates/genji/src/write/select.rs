//! SELECT: which rows, what of them, in which order.

use std::collections::BTreeSet;
use std::sync::Arc;

use deltamesh_change::Value;

use super::aggregate::Groups;
use super::row::Document;
use super::rows::Row;
use super::schema::Table;
use super::transaction::WriteTransaction;
use crate::sql::compare::sort_order;
use crate::sql::evaluate::{Scope, Sequences};
use crate::sql::{Expression, Parameters, Projection, Select, Window};
use crate::{Error, ErrorKind, value};

/// Takes returned rows, and says whether it wants more.
pub(crate) type Sink<'s> = &'s mut dyn FnMut(Document) -> Result<bool, Error>;

impl WriteTransaction<'_> {
    /// Runs a SELECT; rows go to the sink as they are found, unless they have to be ordered first.
    pub(crate) fn select(
        &mut self,
        select: &Select,
        parameters: Parameters<'_>,
        sink: Sink<'_>,
    ) -> Result<(), Error> {
        if !select.compound.is_empty() {
            return self.select_compound(select, parameters, sink);
        }
        let mut output = Output::new(&select.window, select.distinct, parameters, self.byte_limit(), sink)?;
        let Some(name) = &select.table else {
            let row = project(
                &select.projections,
                &mut Scope { row: None, key: None, parameters, sequences: Some(self) },
            )?;
            output.push(&[], &[], row)?;
            return output.finish();
        };
        let table = self.schema.readable_table(name)?;
        if let Some(groups) = Groups::new(select)? {
            self.select_groups(&table, select, groups, parameters, &mut output)?;
        } else if select.projections.iter().any(Projection::takes_values) {
            self.select_with_values(&table, select, parameters, &mut output)?;
        } else {
            self.visit(&table, select.filter.as_ref(), parameters, &mut |row| {
                let mut scope = scope_of(&row, parameters, None);
                let returned = project(&select.projections, &mut scope)?;
                output.push(&row.document, &row.key, returned)
            })?;
        }
        output.finish()
    }

    /// Runs the parts of a UNION one after the other. Those before a UNION that is not of ALL lose what is equal, and come in
    /// the order of their values.
    fn select_compound(
        &mut self,
        select: &Select,
        parameters: Parameters<'_>,
        sink: Sink<'_>,
    ) -> Result<(), Error> {
        let mut output = Output::new(&select.window, false, parameters, self.byte_limit(), sink)?;
        let first = Select { compound: Vec::new(), window: Window::default(), ..select.clone() };
        let mut rows: Vec<Value> =
            self.selected(&first, parameters)?.into_iter().map(Value::Document).collect();
        for other in &select.compound {
            rows.extend(self.selected(&other.select, parameters)?.into_iter().map(Value::Document));
            if rows.iter().map(super::aggregate::size).sum::<usize>() > self.byte_limit() {
                return Err(self.size_error());
            }
            if !other.all {
                rows.sort_by(sort_order);
                rows.dedup_by(|next, row| sort_order(row, next).is_eq());
            }
        }
        for row in rows {
            let Value::Document(row) = row else { continue };
            if !output.push(&[], &[], row)? {
                break;
            }
        }
        output.finish()
    }

    fn select_groups(
        &self,
        table: &Table,
        select: &Select,
        mut groups: Groups<'_>,
        parameters: Parameters<'_>,
        output: &mut Output<'_>,
    ) -> Result<(), Error> {
        self.visit(table, select.filter.as_ref(), parameters, &mut |row| {
            let mut scope = scope_of(&row, parameters, None);
            groups.add(&mut scope)?;
            if groups.size() > self.byte_limit() { Err(self.size_error()) } else { Ok(true) }
        })?;
        for (results, returned) in groups.finish(&select.projections, parameters)? {
            if !output.push(&results, &[], returned)? {
                break;
            }
        }
        Ok(())
    }

    /// Sequences move while rows are returned, so the rows are found first.
    fn select_with_values(
        &mut self,
        table: &Arc<Table>,
        select: &Select,
        parameters: Parameters<'_>,
        output: &mut Output<'_>,
    ) -> Result<(), Error> {
        let mut rows = Vec::new();
        let mut size = 0;
        self.visit(table, select.filter.as_ref(), parameters, &mut |row| {
            size += row.size;
            rows.push(row);
            if size > self.byte_limit() { Err(self.size_error()) } else { Ok(true) }
        })?;
        for row in rows {
            let returned = project(&select.projections, &mut scope_of(&row, parameters, Some(self)))?;
            if !output.push(&row.document, &row.key, returned)? {
                break;
            }
        }
        Ok(())
    }

    /// The keys of rows to delete, in the window's order and number.
    pub(crate) fn windowed_keys(
        &self,
        table: &Table,
        filter: Option<&Expression>,
        window: &Window,
        parameters: Parameters<'_>,
    ) -> Result<Vec<Vec<u8>>, Error> {
        if *window == Window::default() {
            return self.matching(table, filter, parameters);
        }
        let mut keys = Vec::new();
        let mut take = |row: Document| {
            keys.extend(row.into_iter().filter_map(|(_, key)| match key {
                Value::Bytes(key) => Some(key),
                _ => None,
            }));
            Ok(true)
        };
        let mut output = Output::new(window, false, parameters, self.byte_limit(), &mut take)?;
        self.visit(table, filter, parameters, &mut |row| {
            let key = vec![(String::new(), Value::Bytes(row.key.clone()))];
            output.push(&row.document, &row.key, key)
        })?;
        output.finish()?;
        Ok(keys)
    }
}

fn scope_of<'a>(
    row: &'a Row,
    parameters: Parameters<'a>,
    sequences: Option<&'a mut dyn Sequences>,
) -> Scope<'a> {
    Scope { row: Some(&row.document), key: Some(&row.values), parameters, sequences }
}

/// What is returned of the row in the scope.
pub(crate) fn project(projections: &[Projection], scope: &mut Scope<'_>) -> Result<Document, Error> {
    let mut returned = Document::with_capacity(projections.len());
    for projection in projections {
        match projection {
            Projection::All => {
                let row = scope.row.ok_or_else(|| Error::new(ErrorKind::Syntax, "* needs a table"))?;
                returned.extend(row.iter().cloned());
            }
            Projection::Named(name, expression) => {
                returned.push((name.clone(), expression.evaluate(scope)?));
            }
        }
    }
    Ok(returned)
}

/// Where returned rows go: made distinct, ordered, and cut to the window.
struct Output<'s> {
    window: &'s Window,
    distinct: bool,
    seen: BTreeSet<Vec<u8>>,
    skip: u64,
    left: u64,
    held: Vec<Held>,
    size: usize,
    limit: usize,
    sink: Sink<'s>,
}

/// A row that waits for its turn.
struct Held {
    order: Value,
    key: Vec<u8>,
    row: Document,
}

impl<'s> Output<'s> {
    fn new(
        window: &'s Window,
        distinct: bool,
        parameters: Parameters<'_>,
        limit: usize,
        sink: Sink<'s>,
    ) -> Result<Self, Error> {
        let count = |expression: &Option<Expression>, otherwise| match expression {
            None => Ok(otherwise),
            Some(expression) => match expression.evaluate(&mut Scope::constant(parameters))? {
                Value::Int(count) => Ok(u64::try_from(count).unwrap_or(0)),
                // A double is cut off, and nothing is below zero.
                Value::Float(count) => Ok(count as u64),
                _ => Err(Error::new(ErrorKind::Type, "LIMIT and OFFSET take a number")),
            },
        };
        let (skip, left) = (count(&window.offset, 0)?, count(&window.limit, u64::MAX)?);
        Ok(Self { window, distinct, seen: BTreeSet::new(), skip, left, held: vec![], size: 0, limit, sink })
    }

    /// Takes a row with what it was made of; says whether more are wanted.
    fn push(&mut self, source: &[(String, Value)], key: &[u8], row: Document) -> Result<bool, Error> {
        if self.distinct {
            let mut encoded = Vec::new();
            value::encode(&mut encoded, &Value::Document(row.clone()))?;
            self.hold(encoded.len())?;
            if !self.seen.insert(encoded) {
                return Ok(true);
            }
        }
        let Some(path) = &self.window.order else {
            if self.distinct {
                self.held.push(Held { order: Value::Document(row.clone()), key: Vec::new(), row });
                return Ok(true);
            }
            return self.send(row);
        };
        let order = path.find(&row).filter(|value| !value.is_null()).or_else(|| path.find(source));
        let order = order.cloned().unwrap_or_default();
        self.hold(
            key.len()
                + super::aggregate::size(&order)
                + row.iter().map(|(_, value)| super::aggregate::size(value)).sum::<usize>(),
        )?;
        self.held.push(Held { order, key: key.to_vec(), row });
        Ok(true)
    }

    fn hold(&mut self, bytes: usize) -> Result<(), Error> {
        self.size += bytes;
        if self.size > self.limit {
            let reason = format!("rows to order exceed {} bytes", self.limit);
            return Err(Error::new(ErrorKind::Unsupported, reason));
        }
        Ok(())
    }

    fn send(&mut self, row: Document) -> Result<bool, Error> {
        if self.skip > 0 {
            self.skip -= 1;
            return Ok(true);
        }
        if self.left == 0 {
            return Ok(false);
        }
        self.left -= 1;
        Ok((self.sink)(row)? && self.left > 0)
    }

    fn finish(mut self) -> Result<(), Error> {
        let mut held = std::mem::take(&mut self.held);
        held.sort_by(|left, right| {
            sort_order(&left.order, &right.order).then_with(|| left.key.cmp(&right.key))
        });
        if self.window.descending {
            held.reverse();
        }
        for held in held {
            if !self.send(held.row)? {
                break;
            }
        }
        Ok(())
    }
}
