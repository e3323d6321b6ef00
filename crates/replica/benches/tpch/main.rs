//! `cargo xtask bench tpch`: each TPC-H query as a view of a SQLite replica, at refreshes of a thousandth of the orders, beside
//! computing it again in the same replica.
//!
//! A refresh inserts a thousandth of the orders with their items and deletes as many others (RF1 and RF2 in one batch). Each view
//! has a copy of the loaded replica, and every batch goes in turn to the replica without views and to that copy: the difference is
//! what the view costs, with its indexes on the mirrors.

#![allow(clippy::print_stdout, clippy::cast_precision_loss, clippy::expect_used)]

#[path = "../../tests/tpch/data.rs"]
mod data;
#[path = "../../tests/tpch/schema.rs"]
mod tpch_schema;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use deltamesh_change::{
    ChangeEvent, EnginePosition, Item, Operation, RelationSchema, SchemaChange, SourcePosition, Value,
};
use deltamesh_replica::{Group, Items, Replica as _, Retention, SqliteReplica};
use rusqlite::Connection;

/// TPC-H views under refreshes, beside computing them again.
#[derive(Debug, Parser)]
#[command(name = "bench tpch")]
struct Plan {
    /// Scale factor: 1 is 6 million items.
    #[arg(long, default_value_t = 0.1)]
    scale: f64,
    /// Refreshes measured for each view.
    #[arg(long, default_value_t = 5)]
    refreshes: usize,
    /// Only queries whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// A smoke test: few rows.
    #[arg(long)]
    quick: bool,
    /// Given by `cargo bench`.
    #[arg(long = "bench", hide = true)]
    _bench: bool,
}

/// An order with its items.
type Order = (Vec<Value>, Vec<Vec<Value>>);

struct Shop {
    path: PathBuf,
    plain: SqliteReplica,
    ordinal: u64,
    orders: Arc<RelationSchema>,
    items: Arc<RelationSchema>,
    coming: Vec<Order>,
    /// Those that go next, oldest first.
    present: std::collections::VecDeque<Order>,
    /// Orders of one refresh.
    refresh: usize,
}

fn main() -> Result<()> {
    let mut plan = Plan::parse();
    if plan.quick {
        (plan.scale, plan.refreshes) = (0.002, 2);
    }
    let dir = tempfile::tempdir()?;
    let mut shop = Shop::load(dir.path(), plan.scale)?;
    println!(
        "scale factor {}, {} orders in and as many out per batch, medians of {}",
        plan.scale, shop.refresh, plan.refreshes
    );
    println!(
        "query   mirrors with view   again    ratio   fill   rows  (ms; ratio: again / (with view - mirrors))"
    );
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tpch");
    let mut files: Vec<_> =
        std::fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "sql"));
    files.sort();
    let mut ratios = vec![];
    for file in files {
        let name = file.file_stem().and_then(|name| name.to_str()).context("name of a query")?.to_owned();
        if name.contains(&plan.only) {
            ratios.push(shop.measure(&name, &std::fs::read_to_string(&file)?, &plan)?);
        }
    }
    let mean = (ratios.iter().map(|ratio: &f64| ratio.ln()).sum::<f64>() / ratios.len() as f64).exp();
    println!("geometric mean of {} ratios: {mean:.0}", ratios.len());
    Ok(())
}

impl Shop {
    fn load(dir: &Path, scale: f64) -> Result<Self> {
        let mut tables = data::tables(scale);
        let path = dir.join("plain.db");
        let mut plain = SqliteReplica::open(&path, Retention::default())?;
        let (items, orders) = (tables.pop().context("items")?, tables.pop().context("orders")?);
        let mut lines: BTreeMap<i64, Vec<Vec<Value>>> = BTreeMap::new();
        for row in items.rows {
            lines.entry(key_of(&row)).or_default().push(row);
        }
        let all = orders.rows.into_iter().map(|row| {
            let lines = lines.remove(&key_of(&row)).unwrap_or_default();
            (row, lines)
        });
        let (mut coming, mut present) = (vec![], std::collections::VecDeque::new());
        for (number, order) in all.enumerate() {
            if number % 4 == 0 { coming.push(order) } else { present.push_back(order) }
        }
        let refresh = ((coming.len() + present.len()) / 1000).max(1);
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
        plain.apply(&[group(1, rows)])?;
        Ok(Self {
            path,
            plain,
            ordinal: 1,
            orders: orders.schema,
            items: items.schema,
            coming,
            present,
            refresh,
        })
    }

    /// The next refresh.
    fn refresh(&mut self) -> Result<Vec<Group>> {
        let mut rows = vec![];
        for _ in 0..self.refresh {
            let (order, lines) = self.coming.pop().context("more refreshes than orders")?;
            rows.push(put(&self.orders, order.clone()));
            rows.extend(lines.iter().map(|line| put(&self.items, line.clone())));
            self.present.push_back((order, lines));
            let (order, lines) = self.present.pop_front().context("orders")?;
            rows.push(gone(&self.orders, &order));
            rows.extend(lines.iter().map(|line| gone(&self.items, line)));
        }
        self.ordinal += 1;
        Ok(vec![group(self.ordinal, rows)])
    }

    /// A copy of the replica without views.
    fn copy(&mut self) -> Result<(PathBuf, SqliteReplica)> {
        let copy = self.path.with_file_name("kept.db");
        Connection::open(&self.path)?.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        for stale in ["kept.db-wal", "kept.db-shm"] {
            let stale = self.path.with_file_name(stale);
            if stale.exists() {
                std::fs::remove_file(stale)?;
            }
        }
        std::fs::copy(&self.path, &copy)?;
        let replica = SqliteReplica::open(&copy, Retention::default())?;
        Ok((copy, replica))
    }

    fn measure(&mut self, name: &str, sql: &str, plan: &Plan) -> Result<f64> {
        let (path, mut kept) = self.copy()?;
        let filling = Instant::now();
        kept.execute(&format!("CREATE MATERIALIZED VIEW {name} AS {sql}"))?;
        let fill = filling.elapsed();
        let (mut mirrors, mut views) = (vec![], vec![]);
        for number in 0..=plan.refreshes {
            let groups = self.refresh()?;
            let (plain, view) = (apply(&mut self.plain, &groups)?, apply(&mut kept, &groups)?);
            // The first one prepares the statements.
            if number > 0 {
                mirrors.push(plain);
                views.push(view);
            }
        }
        let state = kept.views().into_iter().find(|view| view.definition.name == name);
        let oracle = state.and_then(|view| view.oracle).context("SQL of the view")?;
        let connection = Connection::open(&path)?;
        let started = Instant::now();
        connection.execute_batch(&format!("CREATE TEMP TABLE again AS {oracle}"))?;
        let again = started.elapsed();
        let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
        let differences =
            count(&format!("SELECT count(*) FROM (SELECT * FROM {name} EXCEPT SELECT * FROM again)"))?;
        ensure!(differences == 0, "{name} differs from its SQL");
        let (mirrors, view, again) = (median(mirrors), median(views), again.as_secs_f64() * 1000.0);
        let ratio = again / (view - mirrors).max(0.1);
        println!(
            "{name:6} {mirrors:8.1} {view:9.1} {again:7.0} {ratio:8.1} {:6.0} {:6}",
            fill.as_secs_f64() * 1000.0,
            count("SELECT count(*) FROM again")?,
        );
        Ok(ratio)
    }
}

fn apply(replica: &mut SqliteReplica, groups: &[Group]) -> Result<Duration> {
    let started = Instant::now();
    let applied = replica.apply(groups)?;
    let took = started.elapsed();
    ensure!(applied.faults.is_empty(), "{:?}", applied.faults);
    replica.mark_published(replica.last_sequence());
    replica.rest()?;
    Ok(took)
}

/// In milliseconds.
fn median(mut took: Vec<Duration>) -> f64 {
    took.sort_unstable();
    took.get(took.len() / 2).map_or(0.0, Duration::as_secs_f64) * 1000.0
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
