//! From a document to the bytes of a row, its key and its index entries (format description §6, §7).

use deltamesh_change::Value;

use super::{cast, order};
use crate::catalog::{DocumentDefinition, FieldDefinition, FieldType, Path, PathSegment, TableDefinition};
use crate::relation::take_row;
use crate::{Error, ErrorKind, key, value};

/// Named values in order; what a row is to its writer.
pub type Document = Vec<(String, Value)>;

/// Says what an absent field gets.
pub(crate) type Defaults<'d> = &'d mut dyn FnMut(&FieldDefinition) -> Result<Option<Value>, Error>;

/// Validates a document: casts declared fields, and refuses what the table does not declare. A default comes in where its
/// field is at turn: those of later fields take no value of a sequence if an earlier field is refused.
///
/// The result has every declared field in order, NULL where there is no value, then the extra fields.
pub(crate) fn validate(
    definition: &DocumentDefinition,
    fields: &[(String, Value)],
    defaults: Defaults<'_>,
) -> Result<Document, Error> {
    let mut document = Vec::with_capacity(fields.len().max(definition.fields.len()));
    for field in &definition.fields {
        let given = fields.iter().find(|(name, _)| *name == field.name).map(|(_, value)| value);
        let default = if given.is_none() { defaults(field)? } else { None };
        document.push((field.name.clone(), validate_field(field, given.or(default.as_ref()), defaults)?));
    }
    for (index, (name, value)) in fields.iter().enumerate() {
        if fields.iter().take(index).any(|(earlier, _)| earlier == name) {
            return Err(Error::new(ErrorKind::Constraint, format!("field {name} is given twice")));
        }
        if definition.field(name).is_some() {
            continue;
        }
        if !definition.extra {
            return Err(Error::new(ErrorKind::NotFound, format!("field {name} is not declared")));
        }
        document.push((name.clone(), storable(name, value)?));
    }
    Ok(document)
}

fn validate_field(
    field: &FieldDefinition,
    given: Option<&Value>,
    defaults: Defaults<'_>,
) -> Result<Value, Error> {
    let value = given.unwrap_or(&Value::Null);
    if value.is_null() {
        if field.not_null {
            return Err(Error::new(ErrorKind::Constraint, format!("field {} must not be null", field.name)));
        }
        return Ok(Value::Null);
    }
    if let (FieldType::Any, Value::Document(_)) = (&field.field_type, value) {
        // Genji crashes on it; it stores documents only where the type says so.
        return Err(Error::new(ErrorKind::Type, format!("field {} cannot hold a document", field.name)));
    }
    let misfit = || {
        let reason =
            format!("{} does not fit field {} ({})", value.kind(), field.name, field.field_type.name());
        Error::new(ErrorKind::Type, reason)
    };
    match (cast::to(value, &field.field_type).ok_or_else(misfit)?, &field.field_type) {
        (Value::Document(fields), FieldType::Document(nested)) => {
            validate(nested, &fields, defaults).map(Value::Document)
        }
        (value, _) => storable(&field.name, &value),
    }
}

/// The value as it can be stored and read back: Genji has no negative zero and only one NaN.
fn storable(field: &str, value: &Value) -> Result<Value, Error> {
    Ok(match value {
        Value::Float(value) if *value == 0.0 => Value::Float(0.0),
        Value::Float(value) if value.is_nan() => Value::Float(f64::from_bits(u64::MAX)),
        Value::Array(values) => {
            Value::Array(values.iter().map(|value| storable(field, value)).collect::<Result<_, _>>()?)
        }
        Value::Document(fields) => Value::Document(
            fields
                .iter()
                .map(|(name, value)| Ok((name.clone(), storable(field, value)?)))
                .collect::<Result<_, Error>>()?,
        ),
        Value::Decimal(_) | Value::Unchanged => {
            return Err(Error::new(ErrorKind::Type, format!("field {field} cannot hold {}", value.kind())));
        }
        other => other.clone(),
    })
}

/// Reads a stored row: as [`document_as_read`].
pub(crate) fn read(definition: &DocumentDefinition, bytes: &[u8]) -> Result<Document, Error> {
    let (declared, extra) = take_row(definition, bytes)?;
    let names = definition.fields.iter().map(|field| field.name.clone());
    let declared = names.zip(declared).filter(|(_, value)| !value.is_null());
    Ok(declared.chain(extra).collect())
}

/// Puts a value at a path of a document, and makes the documents on the way where they are missing.
pub(crate) fn set_at(document: &mut Document, path: &Path, value: &Value) -> Result<(), Error> {
    let misfit = || Error::new(ErrorKind::Unsupported, format!("path {path} leads through something else"));
    let mut fields = document;
    let mut segments = path.0.iter().peekable();
    while let Some(segment) = segments.next() {
        let PathSegment::Field(name) = segment else { return Err(misfit()) };
        let at = match fields.iter().position(|(field, _)| field == name) {
            Some(at) => at,
            None => {
                fields.push((name.clone(), Value::Null));
                fields.len() - 1
            }
        };
        let Some((_, slot)) = fields.get_mut(at) else { return Err(misfit()) };
        if segments.peek().is_none() {
            slot.clone_from(value);
            return Ok(());
        }
        if slot.is_null() {
            *slot = Value::Document(Vec::new());
        }
        let Value::Document(nested) = slot else { return Err(misfit()) };
        fields = nested;
    }
    Err(misfit())
}

/// Encodes a validated document.
pub(crate) fn encode(
    definition: &DocumentDefinition,
    document: &[(String, Value)],
) -> Result<Vec<u8>, Error> {
    let mut out = Vec::with_capacity(64);
    put_document(&mut out, definition, document)?;
    if out.is_empty() {
        return Err(Error::new(ErrorKind::Unsupported, "row has no fields"));
    }
    Ok(out)
}

fn put_document(
    out: &mut Vec<u8>,
    definition: &DocumentDefinition,
    document: &[(String, Value)],
) -> Result<(), Error> {
    let (declared, extra) = document.split_at(definition.fields.len().min(document.len()));
    for (field, (_, value)) in definition.fields.iter().zip(declared) {
        match (&field.field_type, value) {
            (FieldType::Document(nested), Value::Document(fields)) => {
                value::put_array_head(out, nested.fields.len() + usize::from(nested.extra));
                put_document(out, nested, fields)?;
            }
            _ => value::encode(out, value)?,
        }
    }
    if definition.extra {
        value::put_document_head(out, extra.len());
        for (name, value) in extra {
            value::put_text(out, name);
            value::encode(out, value)?;
        }
    }
    Ok(())
}

/// The value as Genji's reader sees it: integers that no INTEGER field declares are doubles, null fields are absent.
pub(crate) fn as_read(field_type: &FieldType, value: &Value) -> Value {
    match (field_type, value) {
        (FieldType::Any | FieldType::Array, value) => doubles(value),
        (FieldType::Document(nested), Value::Document(fields)) => {
            Value::Document(document_as_read(nested, fields))
        }
        (_, value) => value.clone(),
    }
}

/// A validated document as Genji's reader sees it.
pub(crate) fn document_as_read(definition: &DocumentDefinition, document: &[(String, Value)]) -> Document {
    document
        .iter()
        .filter_map(|(name, value)| match definition.field(name) {
            Some(_) if value.is_null() => None,
            Some(field) => Some((name.clone(), as_read(&field.field_type, value))),
            None => Some((name.clone(), doubles(value))),
        })
        .collect()
}

fn doubles(value: &Value) -> Value {
    match value {
        Value::Int(value) => Value::Float(*value as f64),
        Value::Array(values) => Value::Array(values.iter().map(doubles).collect()),
        Value::Document(fields) => {
            Value::Document(fields.iter().map(|(name, value)| (name.clone(), doubles(value))).collect())
        }
        other => other.clone(),
    }
}

/// The values at the paths of a validated document, in the form that keys and index entries have.
pub(crate) fn values_at(table: &TableDefinition, paths: &[Path], document: &[(String, Value)]) -> Vec<Value> {
    paths
        .iter()
        .map(|path| path.find(document).map_or(Value::Null, |value| as_read(table.type_at(path), value)))
        .collect()
}

/// The values of a document's primary key. A field is NOT NULL by being part of it, but the document around it may be NULL.
pub(crate) fn key_values(
    table: &TableDefinition,
    paths: &[Path],
    document: &[(String, Value)],
) -> Result<Vec<Value>, Error> {
    let values = values_at(table, paths, document);
    match paths.iter().zip(&values).find(|(_, value)| value.is_null()) {
        Some((path, _)) => {
            Err(Error::new(ErrorKind::Constraint, format!("key field {path} must not be null")))
        }
        None => Ok(values),
    }
}

/// Encodes a key and refuses what Genji's comparer cannot order.
pub(crate) fn checked_key(namespace: i64, values: &[Value]) -> Result<Vec<u8>, Error> {
    let key = key::encode(namespace, values)?;
    if order::is_long(&key) {
        let reason = "text or blob of 128 bytes or more in a key or index";
        return Err(Error::new(ErrorKind::Unsupported, reason));
    }
    Ok(key)
}

/// Casts the values that a caller names a row by to the types of the key's fields.
pub(crate) fn cast_key(table: &TableDefinition, values: &[Value]) -> Result<Vec<Value>, Error> {
    let docid = [Path::field("docid")];
    let paths = table.primary_key().unwrap_or(&docid);
    if paths.len() != values.len() {
        let reason = format!("key of table {} has {} values, not {}", table.name, paths.len(), values.len());
        return Err(Error::new(ErrorKind::Type, reason));
    }
    let has_key = table.primary_key().is_some();
    paths
        .iter()
        .zip(values)
        .map(|(path, value)| {
            let field_type = if has_key { table.type_at(path).clone() } else { FieldType::Integer };
            let field = FieldDefinition { name: path.to_string(), field_type, not_null: true, default: None };
            validate_field(&field, Some(value), &mut |_| Ok(None))
                .map(|value| as_read(&field.field_type, &value))
        })
        .collect()
}
