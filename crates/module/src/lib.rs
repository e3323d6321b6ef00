//! A Protobuf module: which of its messages are relations, what its methods do, and its rows as messages.
//!
//! [`ModuleDefinition::compile`] takes the module's `*.proto` and `*.sql` texts and either accepts all of it or refuses it
//! with the place (`file:line:column`) and the reason. What is not annotated with `deltamesh/module/v1/options.proto` is
//! inferred (see [`infer`](crate::ModuleDefinition#inference)).
//!
//! # Types
//! | proto | column | value |
//! |---|---|---|
//! | `bool`; integers; `float`, `double`; `string`; `bytes` | bool; int; float; text; bytes | unsigned 64-bit values above 2^63-1 and NaN are refused |
//! | enum | text | the name of the value; an unknown number in decimal |
//! | `google.protobuf.Timestamp` | text | RFC 3339, UTC, always nine fractional digits, so that it sorts as time |
//! | `google.protobuf.Duration` | text | seconds with `s`, as in the Protobuf JSON mapping |
//! | `google.protobuf.Value` | text | its JSON |
//! | wrappers (`google.protobuf.Int64Value` …) | that of the wrapped value | nullable |
//! | `google.protobuf.Struct`, `ListValue` | document, array | |
//! | other message | document | its fields by name, by these same rules |
//! | `repeated` | array | |
//! | `map` | document | keys as text |
//!
//! Inside documents and arrays an integer beyond ±2^53 is its decimal text: sources keep numbers there as doubles.
//!
//! A field that tracks presence (`optional`, message, `oneof` member) is nullable: absent is NULL. Every other field always has a
//! value. What a changed proto may change: [`ModuleDefinition::check_successor_of`]. No I/O.

mod annotation;
mod compile;
mod definition;
mod error;
mod evolution;
mod feed;
mod field;
mod infer;
mod message;
mod method;
mod migration;
mod place;
mod relation;
mod row;
mod sql;

pub use definition::{
    Delivery, FeedFilter, FieldDefinition, FieldType, MethodBinding, MethodDefinition, ModuleDefinition,
    MutationKind, RelationDefinition, SourceFile,
};
pub use error::{ConvertError, Error};
pub use message::message_from_row;
pub use row::{Filter, field_value, fields_of, named_of, update_of};
