//! What becoming, replaced and dropped views add to the change log.

use deltamesh_view::{Program, ViewDefinition, new_table, old_table};
use rusqlite::{OptionalExtension as _, params_from_iter};

use super::SqliteReplica;
use super::cell::Cell;
use super::delta::{Stamp, cells, record};
use super::mirror::quote;
use super::state::execute_all;
use super::views::former_table;
use crate::error::{At, Result};

/// Rows of a view that are recorded at once.
const SLICE_ROWS: usize = 10_000;

impl SqliteReplica {
    /// Records what differs between the filled view and the rows set aside; everything, where there are none.
    pub(super) fn record_difference(
        &self,
        name: &str,
        program: &Program,
        compare: bool,
        stamp: &Stamp,
    ) -> Result<()> {
        if !compare {
            return self.record_all(program, &new_table(name), stamp);
        }
        let storage = quote(&program.definition.storage);
        let former = quote(&former_table(name));
        for (images, from, without) in
            [(old_table(name), &former, &storage), (new_table(name), &storage, &former)]
        {
            let columns = self.image_columns(&images, &program.definition.storage)?;
            let sql = format!(
                "INSERT INTO temp.{} ({columns}) SELECT {columns} FROM main.{from} EXCEPT SELECT {columns} FROM main.{without}",
                quote(&images)
            );
            self.connection.execute(&sql, []).at(|| name)?;
        }
        record(&self.connection, program, stamp)?;
        execute_all(&self.connection, &program.clear, name)
    }

    /// Records all rows of a view as deletes (`images` is its table of before images) or inserts (of after images), a slice
    /// of the table at a time: TEMP tables are in memory.
    pub(super) fn record_all(&self, program: &Program, images: &str, stamp: &Stamp) -> Result<()> {
        let name = program.definition.name.as_str();
        let storage = program.definition.storage.as_str();
        let columns = self.image_columns(images, storage)?;
        let mut insert = format!(
            "INSERT INTO temp.{} ({columns}) SELECT {columns} FROM main.{}",
            quote(images),
            quote(storage)
        );
        let Some(order) = self.slice_columns(&program.definition)? else {
            self.connection.execute(&insert, []).at(|| name)?;
            record(&self.connection, program, stamp)?;
            return execute_all(&self.connection, &program.clear, name);
        };
        let width = order.len();
        let places = |first: usize| {
            (first..first + width).map(|index| format!("?{index}")).collect::<Vec<_>>().join(", ")
        };
        let columns = order.join(", ");
        let above = format!("({columns}) > ({})", places(1));
        insert.push_str(&format!(
            " WHERE ({columns}) <= ({}) AND (?{} OR {above})",
            places(width + 1),
            2 * width + 1
        ));
        let mut behind: Option<Vec<Cell>> = None;
        while let Some(end) = self.slice_end(storage, &order, behind.as_deref())? {
            let first = Cell::Integer(i64::from(behind.is_none()));
            let low = behind.unwrap_or_else(|| vec![Cell::Null; width]);
            let bound = low.iter().chain(&end).chain(std::iter::once(&first));
            let mut statement = self.connection.prepare_cached(&insert).at(|| name)?;
            statement.execute(params_from_iter(bound)).at(|| name)?;
            record(&self.connection, program, stamp)?;
            execute_all(&self.connection, &program.clear, name)?;
            behind = Some(end);
        }
        Ok(())
    }

    /// The last row, in the order of its primary key, of the slice behind a row.
    fn slice_end(
        &self,
        storage: &str,
        order: &[String],
        behind: Option<&[Cell]>,
    ) -> Result<Option<Vec<Cell>>> {
        let places = (1..=order.len()).map(|index| format!("?{index}")).collect::<Vec<_>>().join(", ");
        let columns = order.join(", ");
        let downwards = order.iter().map(|column| format!("{column} DESC")).collect::<Vec<_>>().join(", ");
        let condition =
            if behind.is_some() { format!(" WHERE ({columns}) > ({places})") } else { String::new() };
        let sql = format!(
            "SELECT {columns} FROM (SELECT {columns} FROM main.{}{condition} ORDER BY {columns} LIMIT {SLICE_ROWS})
             ORDER BY {downwards} LIMIT 1",
            quote(storage)
        );
        let mut statement = self.connection.prepare_cached(&sql).at(|| storage)?;
        let bound = behind.unwrap_or_default();
        statement.query_row(params_from_iter(bound), |row| cells(row, order.len())).optional().at(|| storage)
    }

    /// Columns that order the rows of a view's table by an index and are never NULL; none where it is no table.
    fn slice_columns(&self, definition: &ViewDefinition) -> Result<Option<Vec<String>>> {
        let sql = "SELECT wr FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND name = ?1";
        let without_rowid: Option<bool> = self
            .connection
            .query_row(sql, [&definition.storage], |row| row.get(0))
            .optional()
            .at(|| definition.storage.as_str())?;
        let hides_rowid = definition.columns.iter().any(|column| column.name.eq_ignore_ascii_case("rowid"));
        Ok(match without_rowid {
            Some(true) => Some(definition.key.iter().map(|name| quote(name)).collect()),
            Some(false) if !hides_rowid => Some(vec!["rowid".to_owned()]),
            _ => None,
        })
    }

    /// Columns of a TEMP table of images that the storage has too.
    fn image_columns(&self, images: &str, storage: &str) -> Result<String> {
        let names = |schema: &str, table: &str| -> Result<Vec<String>> {
            let sql = "SELECT name FROM pragma_table_info(?1, ?2) ORDER BY cid";
            let mut statement = self.connection.prepare_cached(sql).at(|| table)?;
            let names = statement.query_map([table, schema], |row| row.get(0)).at(|| table)?;
            names.collect::<rusqlite::Result<_>>().at(|| table)
        };
        let stored = names("main", storage)?;
        let shared = names("temp", images)?.into_iter().filter(|name| stored.contains(name));
        Ok(shared.map(|name| quote(&name)).collect::<Vec<_>>().join(", "))
    }
}
