//! What a random source holds, and how it changes: rows of four relations, and their schemas.

use std::collections::BTreeMap;
use std::sync::Arc;

use deltamesh_change::{Column, ColumnType, Item, RelationSchema, SchemaChange, Value, to_json};
use proptest::prelude::*;

use crate::fixture::*;

pub(crate) const NAMES: [&str; 5] = ["message", "note", "user", "person", "Message"];

/// Columns and key.
type Shape = (&'static [(&'static str, ColumnType)], &'static [usize]);

/// Shapes that a relation can be created with. The first is the usual one of `message` and `note`, the second
/// of `user` and `person`.
const SHAPES: [Shape; 6] = {
    use ColumnType::{Any, Int, Text};
    [
        (&[("id", Int), ("chat", Int), ("sender", Int), ("body", Text)], &[0]),
        (&[("id", Int), ("login", Text)], &[0]),
        (&[("id", Text), ("chat", Int), ("sender", Int), ("body", Text)], &[0]),
        (&[("chat", Int), ("body", Text), ("id", Int), ("sender", Int)], &[2, 0]),
        (&[("body", Text), ("id", Int), ("chat", Any), ("login", Text)], &[0]),
        (&[("login", Text), ("sender", Text), ("id", Int), ("chat", Text)], &[2]),
    ]
};

/// One change in a transaction; a relation is an index into [`NAMES`]. What the source cannot do (write into a relation that is
/// not there) is left out.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// A row of the values that the number stands for.
    Put(usize, u64),
    /// The row of that number goes, if there is one.
    Remove(usize, u64),
    Truncate(usize),
    Create(usize, usize),
    Drop(usize),
    /// Dropped, and created again with another shape.
    Replace(usize, usize),
    Rename(usize, usize),
    AddColumn(usize, ColumnType),
}

pub(crate) fn row() -> impl Strategy<Value = Change> {
    let relation = prop_oneof![5 => Just(0_usize), 1 => Just(1), 3 => Just(2), 1 => 3..NAMES.len()];
    (relation, any::<u64>(), 0..10).prop_map(|(relation, number, kind)| match kind {
        0..=7 => Change::Put(relation, number),
        _ => Change::Remove(relation, number),
    })
}

fn schema_change() -> impl Strategy<Value = Change> {
    use ColumnType::{Any, Bool, Float, Int, Text};
    let relation = 0..NAMES.len();
    let kind = prop::sample::select(vec![Int, Text, Float, Bool, Any]);
    prop_oneof![
        3 => (relation.clone(), 0..SHAPES.len()).prop_map(|(relation, shape)| Change::Create(relation, shape)),
        2 => relation.clone().prop_map(Change::Drop),
        3 => (relation.clone(), 0..SHAPES.len()).prop_map(|(relation, shape)| Change::Replace(relation, shape)),
        3 => (relation.clone(), relation.clone()).prop_map(|(from, to)| Change::Rename(from, to)),
        2 => (relation.clone(), kind).prop_map(|(relation, kind)| Change::AddColumn(relation, kind)),
        1 => relation.prop_map(Change::Truncate),
    ]
}

/// The changes of one transaction.
pub(crate) fn changes() -> impl Strategy<Value = Vec<Change>> {
    proptest::collection::vec(prop_oneof![3 => row(), 1 => schema_change()], 0..10)
}

#[derive(Debug)]
struct Table {
    schema: Arc<RelationSchema>,
    rows: BTreeMap<String, Vec<Value>>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Model {
    tables: BTreeMap<&'static str, Table>,
    dsid: u64,
}

impl Model {
    /// Makes one change; gives what the log says of it.
    pub(crate) fn take(&mut self, change: &Change) -> Vec<Item> {
        match *change {
            Change::Put(relation, number) => self.put(NAMES[relation], number),
            Change::Remove(relation, number) => self.remove(NAMES[relation], number),
            Change::Truncate(relation) => self.truncate(NAMES[relation]),
            Change::Create(relation, shape) => self.create(NAMES[relation], shape),
            Change::Drop(relation) => self.drop_relation(NAMES[relation]),
            Change::Replace(relation, shape) => {
                let mut items = self.drop_relation(NAMES[relation]);
                items.append(&mut self.create(NAMES[relation], shape));
                items
            }
            Change::Rename(from, to) => self.rename(NAMES[from], NAMES[to]),
            Change::AddColumn(relation, kind) => self.add_column(NAMES[relation], kind),
        }
    }

    /// SQL takes names that differ in case for the same.
    fn is_taken(&self, name: &str) -> bool {
        self.tables.keys().any(|known| known.eq_ignore_ascii_case(name))
    }

    fn put(&mut self, name: &str, mut number: u64) -> Vec<Item> {
        let Some(table) = self.tables.get_mut(name) else { return vec![] };
        let columns = table.schema.columns.iter();
        let row = columns.map(|column| value(column, &mut number)).collect::<Vec<_>>();
        table.rows.insert(text(&key(&table.schema, &row)), row.clone());
        vec![upsert(&table.schema, row)]
    }

    fn remove(&mut self, name: &str, number: u64) -> Vec<Item> {
        let Some(table) = self.tables.get_mut(name) else { return vec![] };
        let place = usize::try_from(number).unwrap_or_default() % table.rows.len().max(1);
        let Some(found) = table.rows.keys().nth(place).cloned() else { return vec![] };
        let row = table.rows.remove(&found).unwrap_or_default();
        vec![delete(&table.schema, key(&table.schema, &row))]
    }

    fn truncate(&mut self, name: &str) -> Vec<Item> {
        let Some(table) = self.tables.get_mut(name) else { return vec![] };
        table.rows.clear();
        vec![event(&table.schema, deltamesh_change::Operation::Truncate, vec![], None)]
    }

    fn create(&mut self, name: &'static str, shape: usize) -> Vec<Item> {
        if self.is_taken(name) {
            return vec![];
        }
        let (columns, key) = SHAPES[shape];
        self.dsid += 1;
        let schema = schema(name, self.dsid, columns, key);
        self.tables.insert(name, Table { schema: schema.clone(), rows: BTreeMap::new() });
        vec![define(&schema)]
    }

    fn drop_relation(&mut self, name: &str) -> Vec<Item> {
        if self.tables.remove(name).is_none() {
            return vec![];
        }
        self.dsid += 1;
        vec![Item::Schema(SchemaChange::Drop { relation: name.into(), dsid: self.dsid })]
    }

    fn rename(&mut self, from: &'static str, to: &'static str) -> Vec<Item> {
        let Some(table) = self.tables.remove(from) else { return vec![] };
        if self.is_taken(to) || from == to {
            self.tables.insert(from, table);
            return vec![];
        }
        self.dsid += 1;
        let schema = RelationSchema { relation: to.into(), dsid: self.dsid, ..(*table.schema).clone() };
        let schema = Arc::new(schema);
        self.tables.insert(to, Table { schema: schema.clone(), ..table });
        vec![Item::Schema(SchemaChange::Rename { from: from.into(), to: schema })]
    }

    fn add_column(&mut self, name: &str, kind: ColumnType) -> Vec<Item> {
        let Some(table) = self.tables.get_mut(name) else { return vec![] };
        self.dsid += 1;
        let mut schema = RelationSchema { dsid: self.dsid, ..(*table.schema).clone() };
        let usual = ["sender", "login", "body"].into_iter().find(|name| schema.column_index(name).is_none());
        let column = usual.map_or_else(|| format!("extra{}", schema.columns.len()), str::to_owned);
        schema.columns.push(Column::new(column, kind, true));
        table.schema = Arc::new(schema);
        table.rows.values_mut().for_each(|row| row.push(Value::Null));
        vec![define(&table.schema)]
    }

    /// The complete state, as a snapshot carries it.
    pub(crate) fn snapshot(&self) -> Vec<Item> {
        let tables = self.tables.values();
        let items = tables.flat_map(|table| {
            let rows = table.rows.values().map(|row| read(&table.schema, row.clone()));
            std::iter::once(define(&table.schema)).chain(rows)
        });
        items.collect()
    }

    /// Every relation with its rows, in order of their text.
    pub(crate) fn lines(&self) -> Vec<(Arc<RelationSchema>, Vec<String>)> {
        let tables = self.tables.values();
        let lines = tables.map(|table| {
            let mut lines = table.rows.values().map(|row| text(row)).collect::<Vec<_>>();
            lines.sort();
            (table.schema.clone(), lines)
        });
        lines.collect()
    }
}

fn text(row: &[Value]) -> String {
    serde_json::Value::Array(row.iter().map(to_json).collect()).to_string()
}

/// The next value that a number stands for: one of few, so that rows meet.
fn value(column: &Column, number: &mut u64) -> Value {
    const TEXTS: [&str; 6] = ["a", "b", "z", "", "7", "é\""];
    const FLOATS: [f64; 4] = [0.5, 2.0, -1.25, 3.0];
    let mut next = |limit: usize| {
        let limit = limit as u64;
        let digit = *number % limit;
        *number /= limit;
        digit as usize
    };
    if column.nullable && next(6) == 0 {
        return Value::Null;
    }
    match column.column_type {
        ColumnType::Int if column.name == "id" => Value::Int(next(12) as i64),
        ColumnType::Int => Value::Int(next(4) as i64),
        ColumnType::Bool => Value::Bool(next(2) == 1),
        ColumnType::Float => Value::Float(FLOATS[next(FLOATS.len())]),
        ColumnType::Any if next(2) == 0 => Value::Int(next(4) as i64),
        _ => Value::from(TEXTS[next(TEXTS.len())]),
    }
}
