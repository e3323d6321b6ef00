//! The rows of the TPC-H tables.

use std::sync::Arc;

use deltamesh_change::{RelationSchema, Value};
use tpchgen::decimal::TPCHDecimal;
use tpchgen::distribution::Distributions;
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator, PartSuppGenerator,
    RegionGenerator, SupplierGenerator,
};
use tpchgen::text::TextPool;

use crate::tpch_schema::schemas;

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
        table("region", regions),
        table("nation", nations),
        suppliers(scale, words, &text),
        customers(scale, words, &text),
        parts(scale, words, &text),
        supplies(scale, &text),
        orders(scale, words, &text),
        items(scale, words, &text),
    ]
}

fn suppliers(scale: f64, words: &Distributions, text: &TextPool) -> Table {
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
    table("supplier", rows)
}

fn customers(scale: f64, words: &Distributions, text: &TextPool) -> Table {
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
    table("customer", rows)
}

fn parts(scale: f64, words: &Distributions, text: &TextPool) -> Table {
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
    table("part", rows)
}

fn supplies(scale: f64, text: &TextPool) -> Table {
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
    table("partsupp", rows)
}

fn orders(scale: f64, words: &Distributions, text: &TextPool) -> Table {
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
    table("orders", rows)
}

fn items(scale: f64, words: &Distributions, text: &TextPool) -> Table {
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
    table("lineitem", rows)
}

fn table(name: &str, rows: impl Iterator<Item = Vec<Value>>) -> Table {
    let schema = schemas().into_iter().find(|schema| schema.relation == name);
    Table { schema: schema.expect("a table of TPC-H"), rows: rows.collect() }
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
