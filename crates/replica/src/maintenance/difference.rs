//! What becoming, replaced and dropped views add to the change log.

use deltamesh_change::ColumnType;
use deltamesh_view::{Program, Stored, ViewDefinition};

use super::Maintainer;
use super::cell::Cell;
use super::compare::Comparison;
use super::database::{Database, Object};
use super::delta::{Filled, Stamp};
use super::mirror::{durable, place, quote};
use crate::error::Result;

/// Rows of a view that are recorded at once.
pub(super) const SLICE_ROWS: u64 = 10_000;

impl<D: Database> Maintainer<D> {
    /// Records what differs between the filled view and the table of its former rows; everything, where there is none.
    pub(super) fn record_difference(
        &self,
        name: &str,
        program: &Program,
        former: Option<&str>,
        stamp: &Stamp,
    ) -> Result<()> {
        let [old, new] = &program.images;
        let Some(former) = former else {
            return self.record_all(program, new, stamp);
        };
        let storage = durable(D::DIALECT, &program.definition.storage);
        let former = durable(D::DIALECT, former);
        let columns = self.image_columns(&program.definition)?;
        let difference = [(old, &former, &storage), (new, &storage, &former)];
        let statements = difference.map(|(images, from, without)| {
            format!(
                "INSERT INTO {images} ({columns}) SELECT {columns} FROM {from} EXCEPT SELECT {columns} FROM {without}"
            )
        });
        self.database.define(name, &statements)?;
        self.record_images(program, stamp)
    }

    /// Records what differs between a next view and the one whose place it takes, as far as the keys have been noted.
    pub(super) fn record_noted(
        &self,
        program: &Program,
        former: &ViewDefinition,
        noted: &Comparison,
        stamp: &Stamp,
    ) -> Result<()> {
        let definition = &program.definition;
        let names = self.image_column_names(definition)?;
        let columns = names.join(", ");
        let rows = [&former.storage, &definition.storage].map(|table| durable(D::DIALECT, table));
        let sides = program.images.iter().zip(&rows);
        let statements = sides
            .map(|(images, rows)| format!("INSERT INTO {images} ({columns}) {}", noted.noted(&names, rows)));
        self.database.define(&definition.name, &statements.collect::<Vec<_>>())?;
        self.record_images(program, stamp)
    }

    /// Records all rows of a view as deletes (`images` is its table of before images) or inserts (of after images), a slice
    /// of the table at a time: images may be in memory.
    pub(super) fn record_all(&self, program: &Program, images: &str, stamp: &Stamp) -> Result<()> {
        let name = program.definition.name.as_str();
        let storage = program.definition.storage.as_str();
        let columns = self.image_columns(&program.definition)?;
        let mut insert = format!(
            "INSERT INTO {images} ({columns}) SELECT {columns} FROM {}",
            durable(D::DIALECT, storage)
        );
        let Some(order) = self.database.order(&program.definition)? else {
            self.database.define(name, &[insert])?;
            return self.record_images(program, stamp);
        };
        let columns = names(&order);
        insert.push_str(&format!(" WHERE ({columns}) <= ({})", places::<D>(&order, 1)));
        let all = insert.clone();
        insert.push_str(&format!(" AND ({columns}) > ({})", places::<D>(&order, order.len() + 1)));
        let mut behind: Option<Vec<Cell>> = None;
        while let Some(end) = self.slice_end(storage, &order, behind.as_deref(), SLICE_ROWS)? {
            match &behind {
                Some(behind) => self.database.execute(name, &insert, &[end.as_slice(), behind].concat())?,
                None => self.database.execute(name, &all, &end)?,
            };
            self.record_images(program, stamp)?;
            behind = Some(end);
        }
        Ok(())
    }

    /// Records the images that a view's tables hold, and empties them.
    fn record_images(&self, program: &Program, stamp: &Stamp) -> Result<()> {
        let name = program.definition.name.as_str();
        self.database.record(program, &Filled::Unknown, stamp)?;
        let clear = program.clear.iter().map(|action| action.sql.clone());
        self.database.define(name, &clear.collect::<Vec<_>>())
    }

    /// The last row, in the order of an index, of the slice behind a row.
    pub(super) fn slice_end(
        &self,
        storage: &str,
        order: &[(String, ColumnType)],
        behind: Option<&[Cell]>,
        rows: u64,
    ) -> Result<Option<Vec<Cell>>> {
        let columns = names(order);
        let downwards = order.iter().map(|(name, _)| format!("{name} DESC")).collect::<Vec<_>>().join(", ");
        let condition = match behind {
            Some(_) => format!(" WHERE ({columns}) > ({})", places::<D>(order, 1)),
            None => String::new(),
        };
        let sql = format!(
            "SELECT {columns} FROM (SELECT {columns} FROM {}{condition} ORDER BY {columns} LIMIT {rows}) AS slice
             ORDER BY {downwards} LIMIT 1",
            durable(D::DIALECT, storage)
        );
        Ok(self.database.rows(storage, &sql, behind.unwrap_or_default())?.pop())
    }

    /// Columns of a view's images that its rows have too; those that are read from the mirrors have no hidden ones.
    fn image_columns(&self, definition: &ViewDefinition) -> Result<String> {
        Ok(self.image_column_names(definition)?.join(", "))
    }

    fn image_column_names(&self, definition: &ViewDefinition) -> Result<Vec<String>> {
        let is_view = self.database.object(&definition.storage)? == Some(Object::View);
        let is_read = is_view || definition.options.stored == Stored::Never;
        let hidden = definition.hidden.iter().map(|hidden| &hidden.column).filter(|_| !is_read);
        let columns = definition.columns.iter().chain(hidden).map(|column| quote(&column.name));
        Ok(columns.collect())
    }
}

fn names(order: &[(String, ColumnType)]) -> String {
    order.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
}

pub(super) fn places<D: Database>(order: &[(String, ColumnType)], first: usize) -> String {
    let places = order.iter().zip(first..).map(|((_, kind), number)| place(D::DIALECT, number, *kind));
    places.collect::<Vec<_>>().join(", ")
}
