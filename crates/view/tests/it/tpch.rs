//! How the queries of TPC-H are planned.

use std::path::{Path, PathBuf};

use deltamesh_view::Tier;
use expect_test::expect;

use crate::database::Database;
use crate::tpch_schema::schemas;

/// Every query with its tier and what its steps read as a whole: a change of the few rows of `nation` or of a total may, changed orders
/// and items must not.
#[test]
fn steps_seek() {
    let found = queries().iter().map(|(name, sql)| plan(name, sql)).collect::<String>();
    expect![[r#"
        q01 B
        q02 E
        q03 E
        q04 C
        q05 C
        q06 B
            SCAN s: temp."groups__q06" AS g CROSS JOIN "__deltamesh_rows_q06" AS s
            SCAN __deltamesh_rows_q06: "__deltamesh_rows_q06"
        q07 C
        q08 C
        q09 C
        q10 E
        q11 C
            SCAN __deltamesh_sub_one1: temp."old____deltamesh_part1_q11" AS "groups" CROSS JOIN "__deltamesh_rows___deltamesh_part2_q11" AS "__deltamesh_sub_one1"
            SCAN __deltamesh_sub_one1: temp."new____deltamesh_part1_q11" AS "groups" CROSS JOIN "__deltamesh_rows___deltamesh_part2_q11" AS "__deltamesh_sub_one1"
            SCAN s: temp."groups____deltamesh_part2_q11" AS g CROSS JOIN "__deltamesh_rows___deltamesh_part2_q11" AS s
            SCAN groups: temp."old____deltamesh_part2_q11" AS "__deltamesh_sub_one1" CROSS JOIN "__deltamesh_rows___deltamesh_part1_q11" AS "groups"
            SCAN __deltamesh_rows___deltamesh_part2_q11: "__deltamesh_rows___deltamesh_part2_q11"
            SCAN groups: temp."new____deltamesh_part2_q11" AS "__deltamesh_sub_one1" CROSS JOIN "__deltamesh_rows___deltamesh_part1_q11" AS "groups"
        q12 C
        q13 D
        q14 C
            SCAN s: temp."groups__q14" AS g CROSS JOIN "__deltamesh_rows_q14" AS s
            SCAN __deltamesh_rows_q14: "__deltamesh_rows_q14"
        q15 C
            SEARCH __deltamesh_sub_one1 USING AUTOMATIC COVERING INDEX (one=?): temp."old__main__supplier" AS "supplier" CROSS JOIN "__deltamesh_rows___deltamesh_part1_q15" AS "revenue" CROSS JOIN "__deltamesh_rows___deltamesh_part2_q15" AS "__deltamesh_sub_one1"
            SEARCH __deltamesh_sub_one1 USING AUTOMATIC COVERING INDEX (one=?): temp."new__main__supplier" AS "supplier" CROSS JOIN "__deltamesh_rows___deltamesh_part1_q15" AS "revenue" CROSS JOIN "__deltamesh_rows___deltamesh_part2_q15" AS "__deltamesh_sub_one1"
            SEARCH __deltamesh_sub_one1 USING AUTOMATIC COVERING INDEX (one=?): temp."old____deltamesh_part1_q15" AS "revenue" CROSS JOIN "main__supplier" AS "supplier" CROSS JOIN "__deltamesh_rows___deltamesh_part2_q15" AS "__deltamesh_sub_one1"
            SEARCH __deltamesh_sub_one1 USING AUTOMATIC COVERING INDEX (one=?): temp."new____deltamesh_part1_q15" AS "revenue" CROSS JOIN "main__supplier" AS "supplier" CROSS JOIN "__deltamesh_rows___deltamesh_part2_q15" AS "__deltamesh_sub_one1"
            SCAN s: temp."groups____deltamesh_part2_q15" AS g CROSS JOIN "__deltamesh_rows___deltamesh_part2_q15" AS s
            SCAN __deltamesh_rows___deltamesh_part2_q15: "__deltamesh_rows___deltamesh_part2_q15"
        q16 D
        q17 C
            SCAN s: temp."groups__q17" AS g CROSS JOIN "__deltamesh_rows_q17" AS s
            SCAN __deltamesh_rows_q17: "__deltamesh_rows_q17"
        q18 E
        q19 C
            SCAN s: temp."groups__q19" AS g CROSS JOIN "__deltamesh_rows_q19" AS s
            SCAN __deltamesh_rows_q19: "__deltamesh_rows_q19"
        q20 C
        q21 E
        q22 D
            SCAN __deltamesh_sub_one1: temp."old__main__customer" AS "customer" CROSS JOIN "__deltamesh_rows___deltamesh_part2_q22" AS "__deltamesh_sub_one1"
            SCAN __deltamesh_sub_one1: temp."new__main__customer" AS "customer" CROSS JOIN "__deltamesh_rows___deltamesh_part2_q22" AS "__deltamesh_sub_one1"
            SCAN s: temp."groups____deltamesh_part2_q22" AS g CROSS JOIN "__deltamesh_rows___deltamesh_part2_q22" AS s
            SCAN customer: temp."old____deltamesh_part2_q22" AS "__deltamesh_sub_one1" CROSS JOIN "main__customer" AS "customer"
            SCAN __deltamesh_rows___deltamesh_part2_q22: "__deltamesh_rows___deltamesh_part2_q22"
            SCAN customer: temp."new____deltamesh_part2_q22" AS "__deltamesh_sub_one1" CROSS JOIN "main__customer" AS "customer"
            SCAN __deltamesh_sub_one1: temp."old____deltamesh_part3_q22" AS "__deltamesh_sub2" CROSS JOIN "main__customer" AS "customer" CROSS JOIN "__deltamesh_rows___deltamesh_part2_q22" AS "__deltamesh_sub_one1"
            SCAN __deltamesh_sub_one1: temp."new____deltamesh_part3_q22" AS "__deltamesh_sub2" CROSS JOIN "main__customer" AS "customer" CROSS JOIN "__deltamesh_rows___deltamesh_part2_q22" AS "__deltamesh_sub_one1"
            SCAN __deltamesh_sub_one1: (SELECT DISTINCT e0
    "#]].assert_eq(&found);
}

pub(crate) fn queries() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../replica/tests/tpch");
    let files =
        std::fs::read_dir(folder).expect("folder of queries").map(|entry| entry.expect("entry").path());
    let is_query = |file: &PathBuf| file.extension().is_some_and(|extension| extension == "sql");
    let mut queries: Vec<_> = files
        .filter(is_query)
        .map(|file| {
            let name = file.file_stem().expect("name").to_string_lossy().into_owned();
            (name, std::fs::read_to_string(&file).expect("query"))
        })
        .collect();
    queries.sort();
    queries
}

fn plan(name: &str, sql: &str) -> String {
    let mut database = Database::new(schemas());
    database.create(&format!("CREATE MATERIALIZED VIEW {name} AS {sql}"));
    let tier = database.programs[0].explain.tier;
    assert_ne!(tier, Tier::F, "{name}");
    let mut scans = database.scans(name);
    scans.dedup();
    let scans = scans.into_iter().map(|(detail, sql)| {
        let from = sql.split(" FROM ").nth(1).and_then(|from| from.split(" WHERE ").next());
        format!("    {detail}: {}\n", from.unwrap_or_default())
    });
    format!("{name} {tier:?}\n{}", scans.collect::<String>())
}
