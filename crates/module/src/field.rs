//! The column type of a proto field.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

use crate::{FieldDefinition, FieldType};

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

/// Type of one value of that kind.
fn kind_type(kind: &Kind) -> FieldType {
    match kind {
        Kind::Bool => FieldType::Bool,
        Kind::Double | Kind::Float => FieldType::Float,
        Kind::String | Kind::Enum(_) => FieldType::Text,
        Kind::Bytes => FieldType::Bytes,
        Kind::Message(message) => match well_known(message) {
            Some(WellKnown::Timestamp | WellKnown::Duration) => FieldType::Text,
            Some(WellKnown::List) => FieldType::Array,
            Some(WellKnown::Value) => FieldType::Any,
            Some(WellKnown::Wrapper) => {
                message.get_field(1).map_or(FieldType::Any, |value| kind_type(&value.kind()))
            }
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

/// The fields of a message as columns, in declaration order.
pub(crate) fn fields(message: &MessageDescriptor) -> Vec<FieldDefinition> {
    let mut fields: Vec<FieldDescriptor> = message.fields().collect();
    fields.sort_by_key(|field| field.path().last().copied());
    let define = |field: &FieldDescriptor| FieldDefinition {
        name: field.name().to_owned(),
        field_type: field_type(field),
        nullable: field.supports_presence(),
    };
    fields.iter().map(define).collect()
}
