//! Definitions of tables, indexes and sequences, as the `sql` field of a catalog row states them.

use crate::catalog::{Path, PathSegment};

/// A table: `CREATE TABLE name (fields, constraints, ...)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableDefinition {
    /// Name of the table.
    pub name: String,
    /// Declared fields, and whether others are allowed.
    pub document: DocumentDefinition,
    /// Primary key, unique and check constraints, in the order written.
    pub constraints: Vec<TableConstraint>,
}

/// The fields of a table or of a nested document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DocumentDefinition {
    /// Declared fields, stored by position in this order.
    pub fields: Vec<FieldDefinition>,
    /// Whether it ends in `...`: undeclared fields are stored behind the declared ones.
    pub extra: bool,
}

/// One declared field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldDefinition {
    /// Name of the field; case matters.
    pub name: String,
    /// What it may hold.
    pub field_type: FieldType,
    /// Whether NULL is refused.
    pub not_null: bool,
    /// The DEFAULT expression as written.
    pub default: Option<String>,
}

/// The type of a declared field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldType {
    /// Anything; integers are doubles when read.
    Any,
    /// A 64-bit signed integer.
    Integer,
    /// A 64-bit IEEE 754 number.
    Double,
    /// Text.
    Text,
    /// Bytes.
    Blob,
    /// A truth value.
    Boolean,
    /// A list of anything.
    Array,
    /// A nested document.
    Document(DocumentDefinition),
}

impl FieldType {
    /// Genji's word for it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Any => "ANY",
            Self::Integer => "INTEGER",
            Self::Double => "DOUBLE",
            Self::Text => "TEXT",
            Self::Blob => "BLOB",
            Self::Boolean => "BOOLEAN",
            Self::Array => "ARRAY",
            Self::Document(_) => "DOCUMENT",
        }
    }
}

/// A named constraint of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableConstraint {
    /// Name, unique within the table.
    pub name: String,
    /// What it demands.
    pub kind: ConstraintKind,
}

/// What a table constraint demands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConstraintKind {
    /// The values at these paths identify a row.
    PrimaryKey(Vec<Path>),
    /// No two rows have the same values at these paths.
    Unique(Vec<Path>),
    /// The expression, as written, is not false.
    Check(String),
}

/// An index: `CREATE [UNIQUE] INDEX name ON table (paths)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexDefinition {
    /// Name of the index.
    pub name: String,
    /// Table that it covers.
    pub table: String,
    /// Whether inserts of an existing value are refused.
    pub unique: bool,
    /// Indexed paths in order.
    pub paths: Vec<Path>,
}

/// A sequence: `CREATE SEQUENCE name …`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SequenceDefinition {
    /// Name of the sequence.
    pub name: String,
    /// Step between values.
    pub increment: Option<i64>,
    /// Lowest value.
    pub min: Option<i64>,
    /// Highest value.
    pub max: Option<i64>,
    /// First value.
    pub start: Option<i64>,
    /// How many values are reserved at once.
    pub cache: Option<i64>,
    /// Whether it starts over at its end.
    pub cycle: bool,
}

impl TableDefinition {
    /// The paths of the primary key; none for a table whose rows are identified by docid.
    #[must_use]
    pub fn primary_key(&self) -> Option<&[Path]> {
        self.constraints.iter().find_map(|constraint| match &constraint.kind {
            ConstraintKind::PrimaryKey(paths) => Some(paths.as_slice()),
            _ => None,
        })
    }

    /// The declared type at a path; [`FieldType::Any`] for what is not declared.
    #[must_use]
    pub fn type_at(&self, path: &Path) -> &FieldType {
        self.document.type_at(&path.0)
    }
}

impl DocumentDefinition {
    /// The declared field of that name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&FieldDefinition> {
        self.fields.iter().find(|field| field.name == name)
    }

    fn type_at(&self, path: &[PathSegment]) -> &FieldType {
        let Some((PathSegment::Field(name), rest)) = path.split_first() else { return &FieldType::Any };
        match self.field(name).map(|field| &field.field_type) {
            Some(field_type) if rest.is_empty() => field_type,
            Some(FieldType::Document(nested)) => nested.type_at(rest),
            _ => &FieldType::Any,
        }
    }
}
