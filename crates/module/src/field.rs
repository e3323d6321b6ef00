//! The column type of a proto field.

use deltamesh_change::Value;
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

use crate::{FieldDefinition, FieldType, row};

/// A message type with a value of its own, not a document of its fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WellKnown {
    Timestamp,
    Duration,
    Struct,
    List,
    Value,
    Wrapper,
}

pub(crate) fn well_known(message: &MessageDescriptor) -> Option<WellKnown> {
    Some(match message.full_name().strip_prefix("google.protobuf.")? {
        "Timestamp" => WellKnown::Timestamp,
        "Duration" => WellKnown::Duration,
        "Struct" => WellKnown::Struct,
        "ListValue" => WellKnown::List,
        "Value" => WellKnown::Value,
        "DoubleValue" | "FloatValue" | "Int64Value" | "UInt64Value" | "Int32Value" | "UInt32Value"
        | "BoolValue" | "StringValue" | "BytesValue" => WellKnown::Wrapper,
        _ => return None,
    })
}

/// The kind of what a wrapper holds; any other kind as it is.
pub(crate) fn unwrapped(kind: &Kind) -> Kind {
    let wrapper = kind.as_message().filter(|message| well_known(message) == Some(WellKnown::Wrapper));
    wrapper.and_then(|message| message.get_field(1)).map_or_else(|| kind.clone(), |value| value.kind())
}

/// Type of one value of that kind.
fn kind_type(kind: &Kind) -> FieldType {
    match kind {
        Kind::Bool => FieldType::Bool,
        Kind::Double | Kind::Float => FieldType::Float,
        Kind::String | Kind::Enum(_) => FieldType::Text,
        Kind::Bytes => FieldType::Bytes,
        Kind::Message(message) => match well_known(message) {
            Some(WellKnown::Timestamp | WellKnown::Duration | WellKnown::Value) => FieldType::Text,
            Some(WellKnown::List) => FieldType::Array,
            Some(WellKnown::Wrapper) => kind_type(&unwrapped(kind)),
            Some(WellKnown::Struct) | None => FieldType::Document,
        },
        _ => FieldType::Int,
    }
}

/// Type of a field's value.
pub(crate) fn field_type(field: &FieldDescriptor) -> FieldType {
    if field.is_map() {
        FieldType::Document
    } else if field.is_list() {
        FieldType::Array
    } else {
        kind_type(&field.kind())
    }
}

/// What a field that tracks no presence holds until it is set; NULL for others.
fn default(field: &FieldDescriptor) -> Value {
    let unset = || row::column_value(&field.default_value(), &field.kind());
    if field.supports_presence() { Value::Null } else { unset().unwrap_or_default() }
}

/// The fields of a message as columns, in declaration order.
pub(crate) fn fields(message: &MessageDescriptor) -> Vec<FieldDefinition> {
    let mut fields: Vec<FieldDescriptor> = message.fields().collect();
    fields.sort_by_key(|field| field.path().last().copied());
    let define = |field: &FieldDescriptor| FieldDefinition {
        name: field.name().to_owned(),
        field_type: field_type(field),
        nullable: field.supports_presence(),
        default: default(field),
    };
    fields.iter().map(define).collect()
}
