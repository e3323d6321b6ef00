//! Messages to rows: values by field name, and the conditions that a request sets.

use deltamesh_change::{Value, to_json};
use prost_reflect::{
    DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey, ReflectMessage, Value as Proto,
};
use serde_json::{Map, Number, Value as Json};

use crate::field::{WellKnown, well_known};
use crate::{ConvertError, FeedFilter};

/// Largest magnitude up to which every integer is a double: 2^53.
pub(crate) const EXACT_IN_A_DOUBLE: u128 = 1 << 53;

/// A condition on rows: what stands at the path equals the value.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    /// Column, then the path within it where it is a document.
    pub path: Vec<String>,
    /// What must stand there, in canonical JSON.
    pub value: Json,
}

impl Filter {
    /// Whether the row meets the condition. A missing column reads as NULL, numbers compare by value, and a truth value is
    /// also 0 or 1.
    #[must_use]
    pub fn accepts(&self, row: &Map<String, Json>) -> bool {
        let mut path = self.path.iter();
        let mut found = path.next().and_then(|column| row.get(column));
        for name in path {
            found = found.and_then(|value| value.get(name));
        }
        equal(found.unwrap_or(&Json::Null), &self.value)
    }
}

fn equal(a: &Json, b: &Json) -> bool {
    let bit = |truth: bool, number: &Number| number.as_i64() == Some(i64::from(truth));
    match (a, b) {
        (Json::Number(a), Json::Number(b)) => {
            a == b || (a.as_f64() == b.as_f64() && !(a.is_i64() && b.is_i64()))
        }
        (Json::Bool(a), Json::Number(b)) | (Json::Number(b), Json::Bool(a)) => bit(*a, b),
        // Integers beyond 2^53 are strings in canonical JSON.
        (Json::String(a), Json::Number(b)) | (Json::Number(b), Json::String(a)) => *a == b.to_string(),
        _ => a == b,
    }
}

impl FeedFilter {
    /// The condition that a request sets; `None` where its field is absent and need not be there.
    ///
    /// # Errors
    /// [`ConvertError`] where the field's value has no column value.
    pub fn resolve(&self, request: &DynamicMessage) -> Result<Option<Filter>, ConvertError> {
        let value = at_path(request, &self.request)?;
        if value.is_null() && !self.always {
            return Ok(None);
        }
        Ok(Some(Filter { path: self.column.clone(), value: to_json(&value) }))
    }
}

fn at_path(message: &DynamicMessage, path: &[String]) -> Result<Value, ConvertError> {
    let Some((name, rest)) = path.split_first() else { return Ok(Value::Null) };
    let Some(field) = message.descriptor().get_field_by_name(name) else {
        return Err(ConvertError::new(name.as_str(), "is not in the request"));
    };
    if rest.is_empty() {
        return field_value(message, &field);
    }
    match message.get_field(&field).as_ref() {
        Proto::Message(inner) if message.has_field(&field) => {
            at_path(inner, rest).map_err(|error| error.within(name))
        }
        _ => Ok(Value::Null),
    }
}

/// The fields of a message as a row: each field of its type by name, in the order of their numbers.
///
/// # Errors
/// [`ConvertError`] naming the field whose value no column can hold.
pub fn fields_of(message: &DynamicMessage) -> Result<Vec<(String, Value)>, ConvertError> {
    let descriptor = message.descriptor();
    let value = |field: FieldDescriptor| Ok((field.name().to_owned(), field_value(message, &field)?));
    descriptor.fields().map(value).collect()
}

/// The value of one field; NULL where it tracks presence and is absent.
///
/// # Errors
/// [`ConvertError`] naming the field whose value no column can hold.
pub fn field_value(message: &DynamicMessage, field: &FieldDescriptor) -> Result<Value, ConvertError> {
    if field.supports_presence() && !message.has_field(field) {
        return Ok(Value::Null);
    }
    column_value(&message.get_field(field), &field.kind()).map_err(|reason| reason.at(field))
}

/// The fields of a message that is written over the row of its key: a field that is absent keeps its value and is left out, unless
/// another member of its oneof is set: then it is NULL.
///
/// # Errors
/// [`ConvertError`] naming the field whose value no column can hold.
pub fn update_of(message: &DynamicMessage) -> Result<Vec<(String, Value)>, ConvertError> {
    let descriptor = message.descriptor();
    let written = |field: &FieldDescriptor| {
        !field.supports_presence() || message.has_field(field) || is_displaced(message, field)
    };
    let value = |field: FieldDescriptor| Ok((field.name().to_owned(), field_value(message, &field)?));
    descriptor.fields().filter(written).map(value).collect()
}

/// The fields that a row named, whether set or not, and NULL for the members of a oneof that a named one displaces.
///
/// # Errors
/// [`ConvertError`] naming the field whose value no column can hold.
pub fn named_of(
    message: &DynamicMessage,
    named: impl Fn(&str) -> bool,
) -> Result<Vec<(String, Value)>, ConvertError> {
    let descriptor = message.descriptor();
    let written = |field: &FieldDescriptor| named(field.name()) || is_displaced(message, field);
    let value = |field: FieldDescriptor| Ok((field.name().to_owned(), field_value(message, &field)?));
    descriptor.fields().filter(written).map(value).collect()
}

/// Whether a member of a oneof is to be NULL because another one is set.
fn is_displaced(message: &DynamicMessage, field: &FieldDescriptor) -> bool {
    let members = field.containing_oneof().filter(|_| !message.has_field(field));
    members.is_some_and(|oneof| oneof.fields().any(|member| message.has_field(&member)))
}

/// Where a value is kept: documents and arrays of the source hold every number as a double.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Column,
    Nested,
}

#[derive(Debug)]
pub(crate) enum Reason {
    Here(&'static str),
    Within(ConvertError),
}

impl Reason {
    fn at(self, field: &FieldDescriptor) -> ConvertError {
        match self {
            Self::Here(reason) => ConvertError::new(field.name(), reason),
            Self::Within(error) => error.within(field.name()),
        }
    }
}

/// The value of a column.
pub(crate) fn column_value(proto: &Proto, kind: &Kind) -> Result<Value, Reason> {
    value(proto, kind, Place::Column)
}

fn value(proto: &Proto, kind: &Kind, place: Place) -> Result<Value, Reason> {
    Ok(match proto {
        Proto::Bool(value) => Value::Bool(*value),
        Proto::I32(value) => integer(i128::from(*value), place)?,
        Proto::I64(value) => integer(i128::from(*value), place)?,
        Proto::U32(value) => integer(i128::from(*value), place)?,
        Proto::U64(value) => integer(i128::from(*value), place)?,
        Proto::F32(value) => double(f64::from(*value), place)?,
        Proto::F64(value) => double(*value, place)?,
        Proto::String(value) => Value::Text(value.clone()),
        Proto::Bytes(value) => Value::Bytes(value.to_vec()),
        Proto::EnumNumber(number) => Value::Text(enum_name(*number, kind)),
        Proto::Message(message) => message_value(message, place)?,
        Proto::List(values) => {
            let item = |item| value(item, kind, Place::Nested);
            Value::Array(values.iter().map(item).collect::<Result<_, _>>()?)
        }
        Proto::Map(entries) => {
            let values = match kind {
                Kind::Message(entry) => entry.map_entry_value_field().kind(),
                other => other.clone(),
            };
            let mut fields = entries
                .iter()
                .map(|(key, item)| Ok((key_text(key), value(item, &values, Place::Nested)?)))
                .collect::<Result<Vec<_>, Reason>>()?;
            fields.sort_by(|(a, _), (b, _)| a.cmp(b));
            Value::Document(fields)
        }
    })
}

/// An integer; the decimal text of one that a double does not hold exactly, where the source keeps doubles.
fn integer(value: i128, place: Place) -> Result<Value, Reason> {
    if place == Place::Nested && value.unsigned_abs() > EXACT_IN_A_DOUBLE {
        return Ok(Value::Text(value.to_string()));
    }
    i64::try_from(value).map(Value::Int).map_err(|_| Reason::Here("exceeds a signed 64-bit integer"))
}

/// A double. As a column of its own NaN would be NULL in a replica, and so become zero.
fn double(value: f64, place: Place) -> Result<Value, Reason> {
    if place == Place::Column && value.is_nan() {
        return Err(Reason::Here("is NaN, which no column holds"));
    }
    Ok(Value::Float(value))
}

fn enum_name(number: i32, kind: &Kind) -> String {
    let named = kind.as_enum().and_then(|kind: &EnumDescriptor| kind.get_value(number));
    named.map_or_else(|| number.to_string(), |value| value.name().to_owned())
}

fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}

fn document(message: &DynamicMessage) -> Result<Value, ConvertError> {
    let descriptor = message.descriptor();
    let member = |field: FieldDescriptor| {
        let absent = field.supports_presence() && !message.has_field(&field);
        let held = if absent {
            Ok(Value::Null)
        } else {
            value(&message.get_field(&field), &field.kind(), Place::Nested)
        };
        Ok((field.name().to_owned(), held.map_err(|reason| reason.at(&field))?))
    };
    descriptor.fields().map(member).collect::<Result<_, _>>().map(Value::Document)
}

fn message_value(message: &DynamicMessage, place: Place) -> Result<Value, Reason> {
    let descriptor = message.descriptor();
    match well_known(&descriptor) {
        None => document(message).map_err(Reason::Within),
        Some(WellKnown::Wrapper) => {
            let inner = descriptor.get_field(1);
            let inner = inner.map(|field| value(&message.get_field(&field), &field.kind(), place));
            inner.unwrap_or(Ok(Value::Null))
        }
        Some(WellKnown::Timestamp) => {
            let time: prost_types::Timestamp =
                message.transcode_to().map_err(|_| Reason::Here("is not a timestamp"))?;
            timestamp_text(&time).map(Value::Text).ok_or(Reason::Here("is outside the years 1 to 9999"))
        }
        Some(WellKnown::Duration) => {
            let span: prost_types::Duration =
                message.transcode_to().map_err(|_| Reason::Here("is not a duration"))?;
            Ok(Value::Text(span.to_string()))
        }
        Some(known @ (WellKnown::Struct | WellKnown::List | WellKnown::Value)) => {
            let json = serde_json::to_value(message).map_err(|_| Reason::Here("has no JSON form"))?;
            // A column of any type would not tell the text "1" from the number, nor null from absent.
            let as_text = known == WellKnown::Value;
            Ok(if as_text { Value::Text(json.to_string()) } else { deltamesh_change::from_json(&json) })
        }
    }
}

/// RFC 3339 in UTC with nine fractional digits: sorts as time. `None` outside the years 1 to 9999.
fn timestamp_text(time: &prost_types::Timestamp) -> Option<String> {
    const FIRST: i64 = -62_135_596_800;
    const LAST: i64 = 253_402_300_799;
    let in_range = (FIRST..=LAST).contains(&time.seconds) && (0..1_000_000_000).contains(&time.nanos);
    let whole = prost_types::Timestamp { seconds: time.seconds, nanos: 0 }.to_string();
    let second = whole.strip_suffix('Z').filter(|_| in_range)?;
    Some(format!("{second}.{:09}Z", time.nanos))
}
