//! The source: orders with their items come, and the oldest go.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use deltamesh_change::{
    ChangeEvent, EnginePosition, Item, Operation, RelationSchema, SchemaChange, SourcePosition, Value,
};
use deltamesh_replica::{Group, Items};

use crate::data;

/// An order with its items.
type Order = (Vec<Value>, Vec<Vec<Value>>);

/// See the module.
pub(crate) struct Shop {
    ordinal: u64,
    orders: Arc<RelationSchema>,
    items: Arc<RelationSchema>,
    /// A quarter of the orders; those that have gone come again.
    coming: VecDeque<Order>,
    /// Those that go next, oldest first.
    present: VecDeque<Order>,
    /// Orders of one refresh.
    pub(crate) refresh: usize,
}

impl Shop {
    /// With what is there at first.
    pub(crate) fn new(scale: f64) -> Result<(Self, [Group; 1])> {
        let mut tables = data::tables(scale);
        let (items, orders) = (tables.pop().context("items")?, tables.pop().context("orders")?);
        let mut lines: BTreeMap<i64, Vec<Vec<Value>>> = BTreeMap::new();
        for row in items.rows {
            lines.entry(key_of(&row)).or_default().push(row);
        }
        let (mut coming, mut present) = (VecDeque::new(), VecDeque::new());
        for (number, row) in orders.rows.into_iter().enumerate() {
            let lines = lines.remove(&key_of(&row)).unwrap_or_default();
            if number % 4 == 0 { coming.push_back((row, lines)) } else { present.push_back((row, lines)) }
        }
        let mut rows: Vec<Item> = [&orders.schema, &items.schema]
            .into_iter()
            .chain(tables.iter().map(|table| &table.schema))
            .map(|schema| Item::Schema(SchemaChange::Define(schema.clone())))
            .collect();
        for table in tables {
            rows.extend(table.rows.into_iter().map(|row| put(&table.schema, row)));
        }
        for (order, lines) in &present {
            rows.push(put(&orders.schema, order.clone()));
            rows.extend(lines.iter().map(|line| put(&items.schema, line.clone())));
        }
        let refresh = ((coming.len() + present.len()) / 1000).max(1);
        let shop = Self { ordinal: 1, orders: orders.schema, items: items.schema, coming, present, refresh };
        Ok((shop, [group(1, rows)]))
    }

    /// The next refresh.
    pub(crate) fn refresh(&mut self) -> Result<Group> {
        let mut rows = vec![];
        for _ in 0..self.refresh {
            let (order, lines) = self.coming.pop_front().context("orders to come")?;
            rows.push(put(&self.orders, order.clone()));
            rows.extend(lines.iter().map(|line| put(&self.items, line.clone())));
            self.present.push_back((order, lines));
            let (order, lines) = self.present.pop_front().context("orders")?;
            rows.push(gone(&self.orders, &order));
            rows.extend(lines.iter().map(|line| gone(&self.items, line)));
            self.coming.push_back((order, lines));
        }
        self.ordinal += 1;
        Ok(group(self.ordinal, rows))
    }
}

fn key_of(row: &[Value]) -> i64 {
    match row.first() {
        Some(Value::Int(key)) => *key,
        _ => 0,
    }
}

fn put(schema: &Arc<RelationSchema>, row: Vec<Value>) -> Item {
    event(schema, Operation::Upsert, &row.clone(), Some(row))
}

fn gone(schema: &Arc<RelationSchema>, row: &[Value]) -> Item {
    event(schema, Operation::Delete, row, None)
}

fn event(
    schema: &Arc<RelationSchema>,
    operation: Operation,
    row: &[Value],
    after: Option<Vec<Value>>,
) -> Item {
    let key = schema.key.iter().map(|&index| row[index].clone()).collect();
    Item::Row(ChangeEvent { schema: schema.clone(), operation, key, before: None, after })
}

fn group(ordinal: u64, items: Vec<Item>) -> Group {
    Group {
        source: "app".into(),
        first_ordinal: ordinal,
        position: SourcePosition {
            incarnation: "i1".into(),
            ordinal,
            engine: EnginePosition { sequence: ordinal, log: 1, offset: ordinal },
        },
        captured_us: 0,
        stream_sequence: ordinal,
        snapshot: false,
        items: Items::Memory(items),
    }
}
