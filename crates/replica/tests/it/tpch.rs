//! The 22 queries of TPC-H as views, under the refresh functions (new orders, old orders gone) and under updates of every table.
//! After each batch every view has the rows of its query, as SQLite itself answers it over the mirrors.

use deltamesh_change::{Item, Value};

use crate::fixture::*;
use crate::tpch_data::{Table, tables};
use crate::written::{Numbers, Written};

const SCALE: f64 = 0.002;
const ROUNDS: usize = 2;
/// Orders that one refresh brings, and that another takes.
const REFRESH: usize = 20;

macro_rules! queries {
    ($($number:literal)*) => { [$((concat!("q", $number), include_str!(concat!("../tpch/q", $number, ".sql")))),*] };
}

const QUERIES: [(&str, &str); 22] = queries!("01" "02" "03" "04" "05" "06" "07" "08" "09" "10" "11" "12" "13" "14" "15" "16" "17" "18" "19" "20" "21" "22");

/// The standard's spelling, and SQLite's.
const SPELLINGS: [(&str, &str); 13] = [
    ("date '1998-12-01' - interval '90' day", "'1998-09-02'"),
    ("date '1993-07-01' + interval '3' month", "'1993-10-01'"),
    ("date '1994-01-01' + interval '1' year", "'1995-01-01'"),
    ("date '1993-10-01' + interval '3' month", "'1994-01-01'"),
    ("date '1995-09-01' + interval '1' month", "'1995-10-01'"),
    ("date '1996-01-01' + interval '3' month", "'1996-04-01'"),
    ("date '", "'"),
    ("extract(year FROM l_shipdate)", "CAST(substr(l_shipdate, 1, 4) AS INTEGER)"),
    ("extract(year FROM o_orderdate)", "CAST(substr(o_orderdate, 1, 4) AS INTEGER)"),
    ("substring(c_phone FROM 1 FOR 2)", "substr(c_phone, 1, 2)"),
    ("count(o_orderkey)\n", "count(o_orderkey) AS c_count\n"),
    (") AS c_orders (c_custkey, c_count)", ") AS c_orders"),
    ("AS double precision", "AS REAL"),
];

/// The source: what it holds, and the orders that are still to come.
struct Shop {
    tables: Vec<Table>,
    coming: Vec<(Vec<Value>, Vec<Vec<Value>>)>,
    numbers: Numbers,
}

const ORDERS: usize = 6;
const ITEMS: usize = 7;

impl Shop {
    fn new() -> Self {
        let mut shop = Self { tables: tables(SCALE), coming: vec![], numbers: Numbers::new(5) };
        let keys: Vec<Value> = shop.tables[ORDERS].rows.iter().map(|row| row[0].clone()).collect();
        for key in keys.iter().step_by(keys.len() / (ROUNDS * REFRESH)).take(ROUNDS * REFRESH) {
            let (order, items) = shop.take(key);
            shop.coming.push((order, items));
        }
        shop
    }

    /// Removes an order with its items.
    fn take(&mut self, key: &Value) -> (Vec<Value>, Vec<Vec<Value>>) {
        let place = self.tables[ORDERS].rows.iter().position(|row| row[0] == *key).unwrap();
        let order = self.tables[ORDERS].rows.remove(place);
        let (items, rest) =
            std::mem::take(&mut self.tables[ITEMS].rows).into_iter().partition(|row| row[0] == *key);
        self.tables[ITEMS].rows = rest;
        (order, items)
    }

    fn everything(&self) -> Vec<Item> {
        let schemas = self.tables.iter().map(|table| define(&table.schema));
        let rows = self
            .tables
            .iter()
            .flat_map(|table| table.rows.iter().map(|row| upsert(&table.schema, row.clone())));
        schemas.chain(rows).collect()
    }

    /// New orders.
    fn refresh(&mut self) -> Vec<Item> {
        let mut items = vec![];
        for (order, lines) in self.coming.split_off(self.coming.len() - REFRESH) {
            items.push(upsert(&self.tables[ORDERS].schema, order.clone()));
            items.extend(lines.iter().map(|line| upsert(&self.tables[ITEMS].schema, line.clone())));
            self.tables[ORDERS].rows.push(order);
            self.tables[ITEMS].rows.extend(lines);
        }
        items
    }

    /// Old orders gone.
    fn retire(&mut self) -> Vec<Item> {
        let mut items = vec![];
        for _ in 0..REFRESH {
            let place = self.numbers.below(self.tables[ORDERS].rows.len());
            let key = self.tables[ORDERS].rows[place][0].clone();
            let (order, lines) = self.take(&key);
            items.push(delete(&self.tables[ORDERS].schema, vec![order[0].clone()]));
            items.extend(lines.iter().map(|line| delete(&self.tables[ITEMS].schema, line[..2].to_vec())));
        }
        items
    }

    /// Rows of a table take values with which the queries make a difference.
    fn update(&mut self, table: usize) -> Vec<Item> {
        let count = [1, 2, 4, 8, 12, 16, 16, 24][table];
        (0..count).map(|_| self.update_row(table)).collect()
    }

    fn update_row(&mut self, table: usize) -> Item {
        let place = self.numbers.below(self.tables[table].rows.len());
        let choices = WORDS.iter().filter(|(of, ..)| *of == self.tables[table].schema.relation);
        let choices: Vec<_> = choices.collect();
        for _ in 0..2 {
            let (_, column, values) = self.numbers.one(&choices);
            let value = match self.numbers.one(values) {
                "" => Value::Int(i64::try_from(self.numbers.below(9_000)).unwrap()),
                word => word.parse().map_or_else(|_| word.into(), Value::Int),
            };
            let schema = &self.tables[table].schema;
            let column = schema.columns.iter().position(|known| known.name == *column).unwrap();
            self.tables[table].rows[place][column] = value;
        }
        upsert(&self.tables[table].schema, self.tables[table].rows[place].clone())
    }
}

/// What updates set: relation, column, and values that queries ask for (an empty one is any number).
const WORDS: &[(&str, &str, &[&str])] = &[
    ("region", "r_name", &["EUROPE", "ASIA", "AMERICA", "AFRICA"]),
    ("region", "r_comment", &["a", "b"]),
    ("nation", "n_name", &["FRANCE", "GERMANY", "BRAZIL", "CANADA", "SAUDI ARABIA", "KENYA"]),
    ("nation", "n_regionkey", &["0", "1", "2", "3"]),
    ("supplier", "s_nationkey", &["2", "3", "6", "7", "20"]),
    ("supplier", "s_comment", &["slow Customer of Complaints", "fine"]),
    ("supplier", "s_acctbal", &[""]),
    ("customer", "c_mktsegment", &["BUILDING", "MACHINERY"]),
    ("customer", "c_nationkey", &["2", "3", "6", "7", "20"]),
    ("customer", "c_phone", &["13-1", "31-2", "23-3", "99-4"]),
    ("customer", "c_acctbal", &[""]),
    (
        "part",
        "p_type",
        &["ECONOMY ANODIZED STEEL", "PROMO BRUSHED TIN", "LARGE PLATED BRASS", "MEDIUM POLISHED TIN"],
    ),
    ("part", "p_brand", &["Brand#12", "Brand#23", "Brand#34", "Brand#45"]),
    ("part", "p_container", &["MED BOX", "SM CASE", "LG BOX"]),
    ("part", "p_name", &["forest green", "forest pink", "sea green", "red"]),
    ("part", "p_size", &["1", "3", "15", "49"]),
    ("partsupp", "ps_availqty", &["", "1", "10"]),
    ("partsupp", "ps_supplycost", &[""]),
    ("orders", "o_orderdate", &["1993-08-01", "1993-11-05", "1994-03-01", "1995-03-14", "1996-02-02"]),
    ("orders", "o_orderstatus", &["F", "O"]),
    ("orders", "o_comment", &["special silent requests", "plain"]),
    ("orders", "o_custkey", &["1", "2", "3", "4"]),
    ("orders", "o_orderpriority", &["1-URGENT", "5-LOW"]),
    ("lineitem", "l_quantity", &["1", "2", "15", "25", "290"]),
    ("lineitem", "l_discount", &["0", "6"]),
    ("lineitem", "l_shipdate", &["1994-02-01", "1995-03-20", "1995-09-10", "1996-02-01"]),
    ("lineitem", "l_commitdate", &["1993-01-01", "1994-02-02", "1998-01-01"]),
    ("lineitem", "l_receiptdate", &["1993-02-01", "1994-02-03", "1998-02-01"]),
    ("lineitem", "l_shipmode", &["MAIL", "AIR"]),
    ("lineitem", "l_shipinstruct", &["DELIVER IN PERSON"]),
    ("lineitem", "l_returnflag", &["R", "N"]),
    ("lineitem", "l_suppkey", &["1", "2", "3"]),
    ("lineitem", "l_partkey", &["1", "2", "3", "4", "5", "6"]),
];

/// Makes every query a view, none of which is computed as a whole.
fn create(fixture: &mut Fixture) {
    for (name, sql) in QUERIES {
        fixture
            .replica()
            .execute(&format!("CREATE MATERIALIZED VIEW {name} AS {sql}"))
            .unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let explained = fixture.replica().explain(name).unwrap().to_string();
        let full = explained.lines().find(|line| line.contains("(tier F)") || line.ends_with("[F]"));
        assert_eq!(full, None, "{name} is computed as a whole");
    }
}

/// Refreshes and updates, and a check after each.
fn shop_around(fixture: &mut Fixture, shop: &mut Shop, check: &mut dyn FnMut(&mut Fixture, &str)) {
    check(fixture, "filling");
    for round in 0..ROUNDS {
        fixture.apply(shop.refresh());
        check(fixture, &format!("new orders {round}"));
        fixture.apply(shop.retire());
        check(fixture, &format!("orders gone {round}"));
        for table in 0..shop.tables.len() {
            fixture.apply(shop.update(table));
            check(fixture, &format!("update {round} of {}", shop.tables[table].schema.relation));
        }
        let all = (0..shop.tables.len()).flat_map(|table| shop.update(table)).collect();
        fixture.apply(all);
        check(fixture, &format!("update {round} of all"));
    }
}

#[test]
fn every_query_is_kept() {
    let mut shop = Shop::new();
    let mut fixture = Fixture::new();
    fixture.apply(shop.everything());
    create(&mut fixture);
    let names = shop.tables.iter().map(|table| table.schema.relation.as_str());
    let written = Written::open(&fixture, names, &SPELLINGS);
    let mut seen = [0; QUERIES.len()];
    shop_around(&mut fixture, &mut shop, &mut |fixture, what| {
        fixture.verify();
        for (number, (name, sql)) in QUERIES.iter().enumerate() {
            seen[number] = seen[number].max(written.check(name, sql, what));
        }
    });
    let empty: Vec<&str> =
        QUERIES.iter().zip(seen).filter(|(_, rows)| *rows == 0).map(|((name, _), _)| *name).collect();
    assert_eq!(empty, [""; 0], "had rows");
}

#[test]
fn every_query_is_kept_on_postgres() {
    let mut shop = Shop::new();
    let mut fixture = Fixture::on_postgres();
    fixture.apply(shop.everything());
    create(&mut fixture);
    shop_around(&mut fixture, &mut shop, &mut |fixture, _| fixture.verify());
}
