//! What a module consists of once it is compiled.

use std::sync::Arc;

use deltamesh_change::{Column, ColumnType, RelationSchema, Value};
use prost_reflect::{DescriptorPool, MessageDescriptor};

use crate::{Error, place};

/// A file of a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Path within the module.
    pub path: String,
    /// Content.
    pub text: String,
}

impl SourceFile {
    /// A file of that path and content.
    pub fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        Self { path: path.into(), text: text.into() }
    }
}

/// A compiled module.
///
/// # Inference
/// Where nothing in a module is annotated:
/// - a message taken by a method that does not stream its answer is a relation, named like the message in `snake_case`, and the
///   method its mutation (upsert);
/// - a method that streams its answer is the feed of the relation of its result. If the request's type is also the type of a field
///   of the result (`Channel` in `Message`), that field's identity must equal the request's (its field `id`,
///   `<message>_id`, `key` or `name`, else the field numbered 1). Otherwise request fields of the same name and type as fields of
///   the result must be equal; an `optional` one that is not set does not filter, and others are ignored, but one at least must be there;
/// - the feed's view, unless the module's SQL defines it, is `SELECT * FROM` the relation, under the relation's name.
///
/// In a module with annotations, an un-annotated method is bound the same way, but only to annotated messages.
#[derive(Debug, Clone)]
pub struct ModuleDefinition {
    /// Name under which the module is applied.
    pub name: String,
    /// Descriptors of the module's files and everything that they import.
    pub pool: DescriptorPool,
    /// Relations that the module declares.
    pub relations: Vec<Arc<RelationDefinition>>,
    /// Methods of all services.
    pub methods: Vec<Arc<MethodDefinition>>,
    /// SQL texts in file name order; the views that inference adds come last.
    pub sql: Vec<SourceFile>,
    /// Migrations of the replicas that keep its views, in order of their numbers.
    pub migrations: Vec<SourceFile>,
    /// The module's own proto files, as given.
    pub protos: Vec<SourceFile>,
}

impl ModuleDefinition {
    /// The relation of that name.
    #[must_use]
    pub fn relation(&self, name: &str) -> Option<&Arc<RelationDefinition>> {
        self.relations.iter().find(|relation| relation.name == name)
    }

    /// Full names of the module's services, each once.
    #[must_use]
    pub fn services(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.methods.iter().map(|method| method.service.as_str()).collect();
        names.dedup();
        names
    }
}

/// A relation that a module declares.
#[derive(Debug, Clone, PartialEq)]
pub struct RelationDefinition {
    /// Name within its source.
    pub name: String,
    /// Source that holds it; the only hosted one where not given.
    pub source: Option<String>,
    /// Its message.
    pub message: MessageDescriptor,
    /// Fields in declaration order.
    pub fields: Vec<FieldDefinition>,
    /// Names of the key fields, in key order. Empty: the source numbers the rows.
    pub key: Vec<String>,
    /// Fields with a unique index each.
    pub unique: Vec<String>,
    /// Fields with an index each.
    pub index: Vec<String>,
}

impl RelationDefinition {
    /// Column that numbers the rows of a relation without key fields.
    pub const DOCID: &'static str = "__docid";

    /// The schema that a source of this relation has.
    #[must_use]
    pub fn schema(&self, dsid: u64) -> RelationSchema {
        let mut columns = Vec::with_capacity(self.fields.len() + 1);
        if self.key.is_empty() {
            columns.push(Column::new(Self::DOCID, ColumnType::Int, false));
        }
        columns.extend(
            self.fields
                .iter()
                .map(|field| Column::new(field.name.clone(), field.field_type.column_type(), field.nullable)),
        );
        let index = |name: &String| columns.iter().position(|column| &column.name == name);
        let key = if self.key.is_empty() { vec![0] } else { self.key.iter().filter_map(index).collect() };
        RelationSchema { relation: self.name.clone(), dsid, columns, key }
    }

    /// Whether the message keeps the name from use: its rows may still hold a field that the message has no more.
    #[must_use]
    pub fn is_reserved(&self, name: &str) -> bool {
        self.message.reserved_names().any(|reserved| reserved == name)
    }

    /// An error at the field of that name; at the message where it has none.
    #[must_use]
    pub fn error_at(&self, name: &str, reason: impl Into<String>) -> Error {
        match self.message.get_field_by_name(name) {
            Some(field) => place::at_field(&field, reason),
            None => place::at_message(&self.message, &[], reason),
        }
    }

    /// The field of that name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&FieldDefinition> {
        self.fields.iter().find(|field| field.name == name)
    }
}

/// A field of a relation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldDefinition {
    /// Name in the proto file and in the relation.
    pub name: String,
    /// Type of its values.
    pub field_type: FieldType,
    /// Whether it can be absent (NULL).
    pub nullable: bool,
    /// Its value until it is set: NULL where it can be absent, else the zero value of its type, for an enum that value's name.
    pub default: Value,
}

/// Type of a field, by the rules at the top of this crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FieldType {
    /// Truth value.
    Bool,
    /// 64-bit signed integer.
    Int,
    /// 64-bit IEEE 754 number.
    Float,
    /// Unicode text.
    Text,
    /// Raw bytes.
    Bytes,
    /// Ordered list.
    Array,
    /// Named fields.
    Document,
}

impl FieldType {
    /// The column type of the field in every replica.
    #[must_use]
    pub fn column_type(self) -> ColumnType {
        match self {
            Self::Bool => ColumnType::Bool,
            Self::Int => ColumnType::Int,
            Self::Float => ColumnType::Float,
            Self::Text => ColumnType::Text,
            Self::Bytes => ColumnType::Bytes,
            Self::Array | Self::Document => ColumnType::Json,
        }
    }

    /// Name for errors.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Int => "integer",
            Self::Float => "double",
            Self::Text => "text",
            Self::Bytes => "bytes",
            Self::Array => "array",
            Self::Document => "document",
        }
    }
}

/// A method and what it does.
#[derive(Debug, Clone)]
pub struct MethodDefinition {
    /// Full name of its service, `package.Service`.
    pub service: String,
    /// Name within the service.
    pub name: String,
    /// Message taken.
    pub input: MessageDescriptor,
    /// Message answered.
    pub output: MessageDescriptor,
    /// Whether the caller streams.
    pub client_streaming: bool,
    /// Whether the answer is a stream.
    pub server_streaming: bool,
    /// What it does.
    pub binding: MethodBinding,
}

impl MethodDefinition {
    /// gRPC path: `/package.Service/Method`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/{}/{}", self.service, self.name)
    }
}

/// What a method does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MethodBinding {
    /// Writes each request message into a relation.
    Mutation {
        /// Name of the relation, declared by the same module.
        relation: String,
        /// How it writes.
        kind: MutationKind,
    },
    /// Streams a view: its rows, then its changes.
    Feed {
        /// Name of the view.
        view: String,
        /// Conditions that a row must meet, all of them.
        filters: Vec<FeedFilter>,
        /// How rows and changes become messages.
        delivery: Delivery,
    },
    /// Answers from a SELECT.
    Query {
        /// SQL with `?1`, `?2` … for the request fields of `parameters`.
        sql: String,
        /// Request fields bound to `?1`, `?2` … in order.
        parameters: Vec<String>,
        /// Repeated message field of the answer that takes the rows of a unary query; the answer itself is the row where absent.
        rows: Option<String>,
    },
}

/// How a mutation writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MutationKind {
    /// Insert, or replace the row of the same key.
    Upsert,
    /// Fails where the key is taken.
    Insert,
    /// Fails where the key is absent; absent fields keep their values.
    Update,
    /// Deletes by key.
    Delete,
}

/// One condition of a feed: a field of the request equals a column of the row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedFilter {
    /// Path of the field within the request.
    pub request: Vec<String>,
    /// Column of the view, then the path within it where it is a document.
    pub column: Vec<String>,
    /// Applies where the request's field is absent too: then the column must be NULL.
    pub always: bool,
}

/// How the rows and changes of a feed become messages.
///
/// A result that has no field for the operation carries rows only: the row of each snapshot row, insert and update. A result
/// with a string or enum field `operation` says which it is (`read`, `insert`, `update`, `delete`, `snapshot_begin`, `snapshot_end`) and gets
/// deletes and snapshot marks too; with a message field `row` the row is there and not in the result itself; a string field
/// `cursor` resumes behind the message when a later request has it in its own `cursor`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Delivery {
    /// The result has a field `operation`.
    pub operation: bool,
    /// The row is in the field `row`.
    pub row: bool,
    /// The result has a field `cursor`.
    pub cursor: bool,
    /// The request has a field `cursor`.
    pub resume: bool,
}
