//! Where a descriptor stands in its file.

use prost_reflect::{FieldDescriptor, FileDescriptor, MessageDescriptor, MethodDescriptor};

use crate::Error;

/// Field numbers of `google/protobuf/descriptor.proto`, for paths into source info.
pub(crate) const MESSAGE_FIELD: i32 = 2;
pub(crate) const MESSAGE_OPTIONS: i32 = 7;
pub(crate) const METHOD_OPTIONS: i32 = 4;

/// An error at the element of that path; at its nearest enclosing element where the path has no place of its own.
fn error_at(file: &FileDescriptor, path: &[i32], reason: impl Into<String>) -> Error {
    let proto = file.file_descriptor_proto();
    let locations = proto.source_code_info.as_ref().map(|info| info.location.as_slice()).unwrap_or_default();
    let place = (1..=path.len()).rev().find_map(|length| {
        let location = locations.iter().find(|location| location.path == path[..length])?;
        let line = usize::try_from(*location.span.first()?).ok()?;
        let column = usize::try_from(*location.span.get(1)?).ok()?;
        Some((line + 1, column + 1))
    });
    Error::new(file.name(), place, reason)
}

/// An error at a message, or at the part of it that `inner` names.
pub(crate) fn at_message(message: &MessageDescriptor, inner: &[i32], reason: impl Into<String>) -> Error {
    let path: Vec<i32> = message.path().iter().chain(inner).copied().collect();
    error_at(&message.parent_file(), &path, reason)
}

/// An error at a method, or at the part of it that `inner` names.
pub(crate) fn at_method(method: &MethodDescriptor, inner: &[i32], reason: impl Into<String>) -> Error {
    let path: Vec<i32> = method.path().iter().chain(inner).copied().collect();
    error_at(&method.parent_file(), &path, reason)
}

/// An error at a field of a message.
pub(crate) fn at_field(field: &FieldDescriptor, reason: impl Into<String>) -> Error {
    error_at(&field.parent_message().parent_file(), field.path(), reason)
}
