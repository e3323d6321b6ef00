//! The changes of a view, from its rows before and after a batch.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value as Json};

use super::cells::of_json;
use crate::error::{Error, ErrorKind, Result};
use crate::maintenance::cell::Cell;
use crate::maintenance::changes::Change;
use crate::maintenance::rows::RowReader;

/// One image of a row of a view.
pub(super) struct Image {
    key: Vec<Json>,
    row: Map<String, Json>,
    subject: String,
}

/// Reads rows that the server gave as JSON objects, a field for each selected column.
pub(super) fn read(reader: &RowReader<'_>, rows: &[String]) -> Result<Vec<Image>> {
    rows.iter().map(|row| image(reader, row)).collect()
}

fn image(reader: &RowReader<'_>, row: &str) -> Result<Image> {
    let broken = || Error::new(ErrorKind::Sql, "read images", "a row is not the expected JSON");
    let Fields(values) = serde_json::from_str(row).map_err(|_| broken())?;
    let cells = values.into_iter().zip(reader.selected());
    let cells = cells.map(|(value, column)| of_json(value, column.column_type).ok_or_else(broken));
    let cells: Vec<Cell> = cells.collect::<Result<_>>()?;
    let (key, row) = reader.read(&cells);
    Ok(Image { key, row, subject: reader.subject(&cells) })
}

/// The values of a JSON object, whose names are not needed.
struct Fields(Vec<Json>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_map(Values)
    }
}

struct Values;

impl<'de> Visitor<'de> for Values {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a row")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut row: A) -> std::result::Result<Fields, A::Error> {
        let mut values = Vec::new();
        while let Some((IgnoredAny, value)) = row.next_entry()? {
            values.push(value);
        }
        Ok(Fields(values))
    }
}

/// What differs: rows that went first, then those that came or changed.
pub(super) fn changes(old: Vec<Image>, new: Vec<Image>) -> Vec<Change> {
    let name = |key: &[Json]| Json::Array(key.to_vec()).to_string();
    let mut former: BTreeMap<String, Image> =
        old.into_iter().map(|image| (name(&image.key), image)).collect();
    let mut changes = Vec::new();
    let mut gone = Vec::new();
    for Image { key, row, subject } in new {
        let (operation, before) = match former.remove(&name(&key)) {
            // Gone from the old subject and new on the new one: a subscriber of either sees a consistent history.
            Some(before) if before.subject != subject => {
                gone.push(before);
                ("insert", None)
            }
            Some(before) if before.row == row => continue,
            Some(before) => ("update", Some(different(before.row, &row))),
            None => ("insert", None),
        };
        changes.push(Change { operation, key, row, before, subject });
    }
    let gone = gone.into_iter().chain(former.into_values());
    let deletes = gone.map(|Image { key, row, subject }| Change {
        operation: "delete",
        key,
        row,
        before: None,
        subject,
    });
    deletes.chain(changes).collect()
}

/// The former values that are others now.
fn different(before: Map<String, Json>, now: &Map<String, Json>) -> Map<String, Json> {
    before.into_iter().filter(|(name, value)| now.get(name) != Some(value)).collect()
}
