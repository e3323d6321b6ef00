//! The TPC-H tables as relations: money in cents, discount and tax in hundredths, dates as text. So every sum is exact.

use std::sync::Arc;

use deltamesh_change::{Column, ColumnType, RelationSchema, Value};
use tpchgen::decimal::TPCHDecimal;
use tpchgen::distribution::Distributions;
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator, PartSuppGenerator,
    RegionGenerator, SupplierGenerator,
};
use tpchgen::text::TextPool;

/// Size of the text that comments are cut from: the generator's own of 300 MB takes longer than everything else.
const TEXT: i32 = 1 << 20;

/// Rows of a relation.
pub(crate) struct Table {
    pub(crate) schema: Arc<RelationSchema>,
    pub(crate) rows: Vec<Vec<Value>>,
}

/// The eight tables at a scale factor; `region` first, `orders` and `lineitem` last.
pub(crate) fn tables(scale: f64) -> Vec<Table> {
    let words = Distributions::static_default();
    let text = TextPool::new(TEXT, words);
    let region = RegionGenerator::new_with_distributions_and_text_pool(words, &text);
    let nation = NationGenerator::new_with_distributions_and_text_pool(words, &text);
    let regions =
        region.iter().map(|row| vec![int(row.r_regionkey), row.r_name.into(), row.r_comment.into()]);
    let nations = nation
        .iter()
        .map(|row| vec![int(row.n_nationkey), row.n_name.into(), int(row.n_regionkey), row.n_comment.into()]);
    vec![
        table("region", "r_regionkey r_name$ r_comment$", 1, regions),
        table("nation", "n_nationkey n_name$ n_regionkey n_comment$", 1, nations),
        suppliers(scale, words, &text),
        customers(scale, words, &text),
        parts(scale, words, &text),
        supplies(scale, &text),
        orders(scale, words, &text),
        items(scale, words, &text),
    ]
}

fn suppliers(scale: f64, words: &Distributions, text: &TextPool) -> Table {
    let columns = "s_suppkey s_name$ s_address$ s_nationkey s_phone$ s_acctbal s_comment$";
    let rows = SupplierGenerator::new_with_distributions_and_text_pool(scale, 1, 1, words, text);
    let rows = rows.iter().map(|row| {
        vec![
            int(row.s_suppkey),
            said(row.s_name),
            said(row.s_address),
            int(row.s_nationkey),
            said(row.s_phone),
            cents(row.s_acctbal),
            row.s_comment.into(),
        ]
    });
    table("supplier", columns, 1, rows)
}

fn customers(scale: f64, words: &Distributions, text: &TextPool) -> Table {
    let columns = "c_custkey c_name$ c_address$ c_nationkey c_phone$ c_acctbal c_mktsegment$ c_comment$";
    let rows = CustomerGenerator::new_with_distributions_and_text_pool(scale, 1, 1, words, text);
    let rows = rows.iter().map(|row| {
        vec![
            int(row.c_custkey),
            said(row.c_name),
            said(row.c_address),
            int(row.c_nationkey),
            said(row.c_phone),
            cents(row.c_acctbal),
            row.c_mktsegment.into(),
            row.c_comment.into(),
        ]
    });
    table("customer", columns, 1, rows)
}

fn parts(scale: f64, words: &Distributions, text: &TextPool) -> Table {
    let columns = "p_partkey p_name$ p_mfgr$ p_brand$ p_type$ p_size p_container$ p_retailprice p_comment$";
    let rows = PartGenerator::new_with_distributions_and_text_pool(scale, 1, 1, words, text);
    let rows = rows.iter().map(|row| {
        vec![
            int(row.p_partkey),
            said(row.p_name),
            said(row.p_mfgr),
            said(row.p_brand),
            row.p_type.into(),
            int(row.p_size),
            row.p_container.into(),
            cents(row.p_retailprice),
            row.p_comment.into(),
        ]
    });
    table("part", columns, 1, rows)
}

fn supplies(scale: f64, text: &TextPool) -> Table {
    let columns = "ps_partkey ps_suppkey ps_availqty ps_supplycost ps_comment$";
    let rows = PartSuppGenerator::new_with_text_pool(scale, 1, 1, text);
    let rows = rows.iter().map(|row| {
        vec![
            int(row.ps_partkey),
            int(row.ps_suppkey),
            int(row.ps_availqty),
            cents(row.ps_supplycost),
            row.ps_comment.into(),
        ]
    });
    table("partsupp", columns, 2, rows)
}

fn orders(scale: f64, words: &Distributions, text: &TextPool) -> Table {
    let columns = "o_orderkey o_custkey o_orderstatus$ o_totalprice o_orderdate$ o_orderpriority$ o_clerk$ o_shippriority o_comment$";
    let rows = OrderGenerator::new_with_distributions_and_text_pool(scale, 1, 1, words, text);
    let rows = rows.iter().map(|row| {
        vec![
            int(row.o_orderkey),
            int(row.o_custkey),
            said(row.o_orderstatus),
            cents(row.o_totalprice),
            said(row.o_orderdate),
            row.o_orderpriority.into(),
            said(row.o_clerk),
            int(row.o_shippriority),
            row.o_comment.into(),
        ]
    });
    table("orders", columns, 1, rows)
}

fn items(scale: f64, words: &Distributions, text: &TextPool) -> Table {
    let columns = "l_orderkey l_linenumber l_partkey l_suppkey l_quantity l_extendedprice l_discount l_tax l_returnflag$ l_linestatus$ l_shipdate$ l_commitdate$ l_receiptdate$ l_shipinstruct$ l_shipmode$ l_comment$";
    let rows = LineItemGenerator::new_with_distributions_and_text_pool(scale, 1, 1, words, text);
    let rows = rows.iter().map(|row| {
        vec![
            int(row.l_orderkey),
            int(row.l_linenumber),
            int(row.l_partkey),
            int(row.l_suppkey),
            int(row.l_quantity),
            cents(row.l_extendedprice),
            cents(row.l_discount),
            cents(row.l_tax),
            row.l_returnflag.into(),
            row.l_linestatus.into(),
            said(row.l_shipdate),
            said(row.l_commitdate),
            said(row.l_receiptdate),
            row.l_shipinstruct.into(),
            row.l_shipmode.into(),
            row.l_comment.into(),
        ]
    });
    table("lineitem", columns, 2, rows)
}

/// A table with these columns, texts marked by `$`, whose key is the first of them.
fn table(name: &str, columns: &str, key: usize, rows: impl Iterator<Item = Vec<Value>>) -> Table {
    let columns = columns.split(' ').map(|column| match column.strip_suffix('$') {
        Some(name) => Column::new(name, ColumnType::Text, false),
        None => Column::new(column, ColumnType::Int, false),
    });
    let schema = RelationSchema {
        relation: name.to_owned(),
        dsid: 1,
        columns: columns.collect(),
        key: (0..key).collect(),
    };
    Table { schema: Arc::new(schema), rows: rows.collect() }
}

fn int(value: impl Into<i64>) -> Value {
    Value::Int(value.into())
}

fn cents(amount: TPCHDecimal) -> Value {
    Value::Int(amount.into_inner())
}

fn said(value: impl ToString) -> Value {
    Value::Text(value.to_string())
}
