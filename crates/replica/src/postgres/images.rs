//! The rows of a mirror that a batch really changes, found by the server: it gets the state afterwards, an array for each column,
//! and fills the tables of before and after images.

use deltamesh_change::ColumnType;

use super::cells::{array_type, arrays, unnested};
use super::script::Function;
use crate::error::Result;
use crate::maintenance::cell::Cell;
use crate::maintenance::delta::{Loaded, Net};
use crate::maintenance::mirror::{Mirror, quote};
use sqlx::postgres::PgArguments;

/// Columns of what the server gets: those of the relation, and whether the row is gone.
fn given(mirror: &Mirror) -> Vec<(&str, ColumnType)> {
    let columns = mirror.schema.columns.iter();
    let columns = columns.map(|column| (column.name.as_str(), column.column_type));
    columns.chain([("", ColumnType::Bool)]).collect()
}

/// A function that fills the tables of images and gives the numbers of rows that go, that change and that are there
/// afterwards.
pub(super) fn function(mirror: &Mirror) -> Function {
    let given = given(mirror);
    let gone = given.len() - 1;
    let columns = mirror.schema.columns.iter().map(|column| quote(&column.name)).collect::<Vec<_>>();
    let value = |index: usize| unnested(&format!("u.c{index}"), given[index].1);
    let differ = (0..gone).filter(|index| !mirror.schema.key.contains(index)).map(|index| {
        let text = |value: String| match given[index].1 {
            // 1 and 1.0 are equal in JSON.
            ColumnType::Json | ColumnType::Any => format!("CAST({value} AS text)"),
            _ => value,
        };
        format!("{} IS DISTINCT FROM {}", text(format!("m.{}", columns[index])), text(value(index)))
    });
    let differ = differ.collect::<Vec<_>>().join(" OR ");
    let differ = if differ.is_empty() { "false".to_owned() } else { differ };
    let key = || mirror.schema.key.iter().map(|&index| (format!("m.{}", columns[index]), value(index)));
    let same = key().map(|(known, given)| format!("{known} = {given}")).collect::<Vec<_>>().join(" AND ");
    let is_new = key().map(|(known, _)| format!("{known} IS NULL")).collect::<Vec<_>>().join(" AND ");
    let names = (0..given.len()).map(|index| format!("c{index}")).collect::<Vec<_>>().join(", ");
    let arrays = (0..given.len()).map(|index| format!("${}", index + 1)).collect::<Vec<_>>().join(", ");
    let from = format!("FROM unnest({arrays}) AS u ({names})");
    let (old, new, table) = (mirror.old(), mirror.new_images(), mirror.table_name());
    let former = columns.iter().map(|column| format!("m.{column}")).collect::<Vec<_>>().join(", ");
    let after = (0..gone).map(value).collect::<Vec<_>>().join(", ");
    let columns = columns.join(", ");
    let is_gone = format!("u.c{gone}");
    let body = format!(
        "IF true = ANY(${}) THEN
             INSERT INTO {old} ({columns}) SELECT {former} {from} JOIN {table} AS m ON {same} WHERE {is_gone};
             GET DIAGNOSTICS __deltamesh_gone = ROW_COUNT;
         END IF;
         INSERT INTO {old} ({columns}) SELECT {former} {from} JOIN {table} AS m ON {same} WHERE NOT {is_gone} AND ({differ});
         GET DIAGNOSTICS __deltamesh_changed = ROW_COUNT;
         INSERT INTO {new} ({columns}) SELECT {after} {from} LEFT JOIN {table} AS m ON {same}
             WHERE NOT {is_gone} AND ({is_new} OR {differ});
         GET DIAGNOSTICS __deltamesh_there = ROW_COUNT;
         RETURN QUERY SELECT __deltamesh_gone, __deltamesh_changed, __deltamesh_there;\n",
        gone + 1
    );
    let parameters = given.iter().map(|(_, kind)| array_type(*kind)).collect::<Vec<_>>().join(", ");
    let counts = ["gone", "changed", "there"].map(|count| format!("__deltamesh_{count} bigint"));
    let variables = counts.map(|count| format!("{count} := 0;")).join(" ");
    Function::new(&parameters, "TABLE (gone bigint, changed bigint, there bigint)", &variables, &body)
}

/// The statement that calls it.
pub(super) fn call(mirror: &Mirror, function: &Function) -> String {
    let places = (1..=given(mirror).len()).map(|number| format!("${number}")).collect::<Vec<_>>().join(", ");
    format!("SELECT * FROM {}({places})", function.name)
}

/// Its parameters. Of a row that is gone only the key is told.
pub(super) fn arguments(mirror: &Mirror, net: Net) -> Result<PgArguments> {
    let key = &mirror.schema.key;
    let rows = net.into_iter().map(|(cells, after)| {
        let is_gone = Cell::Integer(i64::from(after.is_none()));
        let mut row = after.unwrap_or_else(|| {
            let mut row = vec![Cell::Null; mirror.schema.columns.len()];
            key.iter().zip(cells).for_each(|(&index, cell)| row[index] = cell);
            row
        });
        row.push(is_gone);
        row
    });
    arrays(&mirror.table, &given(mirror), &rows.collect::<Vec<_>>())
}

/// What the counts say.
pub(super) fn loaded(mirror: &Mirror, [gone, changed, there]: [u64; 3]) -> Loaded {
    let all = 0..mirror.schema.columns.len();
    Loaded {
        rows: gone + there,
        filled: [gone + changed > 0, there > 0],
        gone: gone > 0,
        changed: all.filter(|_| changed > 0).collect(),
    }
}
