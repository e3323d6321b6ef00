//! Values on their way to PostgreSQL and back.

use deltamesh_change::ColumnType;
use serde_json::Value as Json;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgArguments, PgRow, PgTypeInfo, PgValueFormat};
use sqlx::{Arguments as _, Column as _, Encode, Postgres, Row as _, Type, TypeInfo as _, ValueRef as _};

use crate::error::{Error, ErrorKind, Result};
use crate::maintenance::cell::{Cell, normal};

/// NULL of the type that the statement wants.
struct Null;

impl Type<Postgres> for Null {
    fn type_info() -> PgTypeInfo {
        // `unknown`
        PgTypeInfo::with_oid(Oid(705))
    }
}

impl Encode<'_, Postgres> for Null {
    fn encode_by_ref(&self, _buffer: &mut PgArgumentBuffer) -> std::result::Result<IsNull, BoxDynError> {
        Ok(IsNull::Yes)
    }
}

/// PostgreSQL has no NUL in a text; U+FFFD stands for it.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// The parameters of a statement.
pub(super) fn arguments(place: &str, cells: &[Cell]) -> Result<PgArguments> {
    let mut arguments = PgArguments::default();
    cells.iter().try_for_each(|cell| add(place, &mut arguments, cell))?;
    Ok(arguments)
}

/// Adds a parameter.
pub(super) fn add(place: &str, arguments: &mut PgArguments, cell: &Cell) -> Result<()> {
    let added = match cell {
        Cell::Null | Cell::Unchanged => arguments.add(Null),
        Cell::Integer(value) => arguments.add(*value),
        Cell::Real(value) => arguments.add(*value),
        Cell::Text(text) | Cell::Json(text) => arguments.add(storable(text)),
        Cell::Blob(bytes) => arguments.add(bytes.as_slice()),
    };
    added.map_err(|error| Error::new(ErrorKind::Sql, place, "parameter has no form").caused_by(error))
}

/// Columns as one array each, for `unnest`.
pub(super) fn arrays(
    place: &str,
    columns: &[(&str, ColumnType)],
    rows: &[impl AsRef<[Cell]>],
) -> Result<PgArguments> {
    let mut arguments = PgArguments::default();
    for (index, (name, kind)) in columns.iter().enumerate() {
        let misfit =
            || Error::new(ErrorKind::Decode, place, format!("value of column {name} is of another type"));
        let cells = rows.iter().map(|row| row.as_ref().get(index).unwrap_or(&Cell::Null));
        let added = match kind {
            ColumnType::Int => arguments.add(array(
                cells,
                |cell| match cell {
                    Cell::Integer(value) => Some(*value),
                    _ => None,
                },
                misfit,
            )?),
            ColumnType::Bool => arguments.add(array(
                cells,
                |cell| match cell {
                    Cell::Integer(value) => Some(*value != 0),
                    _ => None,
                },
                misfit,
            )?),
            ColumnType::Float => arguments.add(array(
                cells,
                |cell| match cell {
                    Cell::Real(value) => Some(*value),
                    _ => None,
                },
                misfit,
            )?),
            ColumnType::Bytes => arguments.add(array(
                cells,
                |cell| match cell {
                    Cell::Blob(value) => Some(value.clone()),
                    _ => None,
                },
                misfit,
            )?),
            ColumnType::Text | ColumnType::Decimal | ColumnType::Json | ColumnType::Any => {
                arguments.add(array(
                    cells,
                    |cell| match cell {
                        Cell::Text(text) => Some(storable(text)),
                        // Escaped, it is no NUL yet; jsonb would refuse it all the same.
                        Cell::Json(text) => Some(text.replace("\\u0000", "\u{fffd}")),
                        _ => None,
                    },
                    misfit,
                )?)
            }
        };
        added.map_err(|error| Error::new(ErrorKind::Sql, place, "array has no form").caused_by(error))?;
    }
    Ok(arguments)
}

fn array<'c, T>(
    cells: impl Iterator<Item = &'c Cell>,
    fit: impl Fn(&Cell) -> Option<T>,
    misfit: impl Fn() -> Error,
) -> Result<Vec<Option<T>>> {
    let fitted = cells.map(|cell| match cell {
        Cell::Null => Ok(None),
        cell => fit(cell).map(Some).ok_or_else(&misfit),
    });
    fitted.collect()
}

/// Type of the array that holds a column's values. JSON travels as text.
pub(super) fn array_type(kind: ColumnType) -> &'static str {
    match kind {
        ColumnType::Int => "bigint[]",
        ColumnType::Bool => "boolean[]",
        ColumnType::Float => "double precision[]",
        ColumnType::Bytes => "bytea[]",
        ColumnType::Text | ColumnType::Decimal | ColumnType::Json | ColumnType::Any => "text[]",
    }
}

/// A column of `unnest` as what the table holds.
pub(super) fn unnested(name: &str, kind: ColumnType) -> String {
    match kind {
        ColumnType::Json | ColumnType::Any => format!("CAST({name} AS jsonb)"),
        _ => name.to_owned(),
    }
}

/// The cells of a row.
pub(super) fn cells(place: &str, row: &PgRow) -> Result<Vec<Cell>> {
    (0..row.len()).map(|index| cell(place, row, index)).collect()
}

fn cell(place: &str, row: &PgRow, index: usize) -> Result<Cell> {
    let broken =
        |error: BoxDynError| Error::new(ErrorKind::Sql, place, "value cannot be read").caused_by(error);
    let raw = row.try_get_raw(index).map_err(|error| broken(error.into()))?;
    if raw.is_null() {
        return Ok(Cell::Null);
    }
    let kind = raw.type_info().name().to_owned();
    let is_binary = raw.format() == PgValueFormat::Binary;
    let bytes = raw.as_bytes().map_err(broken)?;
    if !is_binary {
        return Ok(Cell::Text(String::from_utf8_lossy(bytes).into_owned()));
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let decoded = match kind.as_str() {
        "BOOL" => bytes.first().map(|truth| Cell::Integer(i64::from(*truth != 0))),
        "INT2" => bytes.try_into().ok().map(|bytes| Cell::Integer(i64::from(i16::from_be_bytes(bytes)))),
        "INT4" => bytes.try_into().ok().map(|bytes| Cell::Integer(i64::from(i32::from_be_bytes(bytes)))),
        "INT8" => bytes.try_into().ok().map(|bytes| Cell::Integer(i64::from_be_bytes(bytes))),
        "FLOAT4" => bytes.try_into().ok().map(|bytes| Cell::Real(f64::from(f32::from_be_bytes(bytes)))),
        "FLOAT8" => bytes.try_into().ok().map(|bytes| Cell::Real(f64::from_be_bytes(bytes))),
        "NUMERIC" => numeric(bytes).map(Cell::Text),
        "BYTEA" => Some(Cell::Blob(bytes.to_vec())),
        "JSON" => json(bytes),
        // The first byte is the version of the form.
        "JSONB" => bytes.get(1..).and_then(json),
        "TEXT" | "VARCHAR" | "CHAR" | "\"CHAR\"" | "NAME" | "UNKNOWN" => Some(Cell::Text(text(bytes))),
        _ => None,
    };
    decoded.ok_or_else(|| {
        let name = row.column(index).name();
        Error::new(ErrorKind::Sql, place, format!("column {name} has type {kind}: CAST it to text"))
    })
}

fn json(bytes: &[u8]) -> Option<Cell> {
    let json: Json = serde_json::from_slice(bytes).ok()?;
    Some(Cell::Json(normal(json).to_string()))
}

/// The digits of a `numeric`: groups of four, the first of which has the given weight.
fn numeric(bytes: &[u8]) -> Option<String> {
    let field =
        |index: usize| Some(i16::from_be_bytes(bytes.get(2 * index..2 * index + 2)?.try_into().ok()?));
    let (groups, weight, sign, scale) = (field(0)?, field(1)?, field(2)?.cast_unsigned(), field(3)?);
    let sign = match sign {
        0 => "",
        0x4000 => "-",
        _ => return Some("NaN".to_owned()),
    };
    let group = |place: i16| {
        let index = weight - place;
        let known = (0..groups).contains(&index).then(|| field(4 + usize::try_from(index).ok()?));
        known.flatten().unwrap_or(0)
    };
    let whole: String = (0..=weight.max(0)).rev().map(|place| format!("{:04}", group(place))).collect();
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let scale = usize::try_from(scale).ok()?;
    let fraction: String =
        (1..=i16::try_from(scale.div_ceil(4)).ok()?).map(|place| format!("{:04}", group(-place))).collect();
    let point = if scale > 0 { "." } else { "" };
    Some(format!("{sign}{whole}{point}{}", &fraction[..scale]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_of_a_numeric() {
        let check = |fields: &[u16], expected: &str| {
            let bytes: Vec<u8> = fields.iter().flat_map(|field| field.to_be_bytes()).collect();
            assert_eq!(numeric(&bytes).as_deref(), Some(expected));
        };
        check(&[0, 0, 0, 0], "0");
        check(&[2, 1, 0, 0, 1, 2], "10002");
        check(&[1, 2, 0x4000, 0, 7], "-700000000");
        check(&[2, 0, 0, 2, 3, 1400], "3.14");
        check(&[1, 0xffff, 0, 6, 12], "0.001200");
    }
}
