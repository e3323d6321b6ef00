//! The TPC-H tables as relations: money in cents, discount and tax in hundredths, dates as text. So every sum is exact.

use std::sync::Arc;

use deltamesh_change::{Column, ColumnType, RelationSchema};

/// Name, columns (texts end in `$`), and how many of them are the key.
const TABLES: [(&str, &str, usize); 8] = [
    ("region", "r_regionkey r_name$ r_comment$", 1),
    ("nation", "n_nationkey n_name$ n_regionkey n_comment$", 1),
    ("supplier", "s_suppkey s_name$ s_address$ s_nationkey s_phone$ s_acctbal s_comment$", 1),
    ("customer", "c_custkey c_name$ c_address$ c_nationkey c_phone$ c_acctbal c_mktsegment$ c_comment$", 1),
    ("part", "p_partkey p_name$ p_mfgr$ p_brand$ p_type$ p_size p_container$ p_retailprice p_comment$", 1),
    ("partsupp", "ps_partkey ps_suppkey ps_availqty ps_supplycost ps_comment$", 2),
    (
        "orders",
        "o_orderkey o_custkey o_orderstatus$ o_totalprice o_orderdate$ o_orderpriority$ o_clerk$ o_shippriority o_comment$",
        1,
    ),
    (
        "lineitem",
        "l_orderkey l_linenumber l_partkey l_suppkey l_quantity l_extendedprice l_discount l_tax l_returnflag$ l_linestatus$ l_shipdate$ l_commitdate$ l_receiptdate$ l_shipinstruct$ l_shipmode$ l_comment$",
        2,
    ),
];

/// The eight tables; `region` first, `orders` and `lineitem` last.
pub(crate) fn schemas() -> Vec<Arc<RelationSchema>> {
    let schema = |(name, columns, key): (&str, &str, usize)| {
        let columns = columns.split(' ').map(|column| match column.strip_suffix('$') {
            Some(name) => Column::new(name, ColumnType::Text, false),
            None => Column::new(column, ColumnType::Int, false),
        });
        let (columns, key) = (columns.collect(), (0..key).collect());
        Arc::new(RelationSchema { relation: name.to_owned(), dsid: 1, columns, key })
    };
    TABLES.into_iter().map(schema).collect()
}
