//! Paths into documents: `a`, `a.b`, `a[0].b`.

use deltamesh_change::Value;

/// A path into a document.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Path(pub Vec<PathSegment>);

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PathSegment {
    /// The field of that name.
    Field(String),
    /// The array element at that index.
    Index(usize),
}

impl Path {
    /// The path of a top-level field.
    pub fn field(name: impl Into<String>) -> Self {
        Self(vec![PathSegment::Field(name.into())])
    }

    /// The name, if the path is a top-level field.
    #[must_use]
    pub fn as_field(&self) -> Option<&str> {
        match self.0.as_slice() {
            [PathSegment::Field(name)] => Some(name),
            _ => None,
        }
    }

    /// The value at the path in a document's fields.
    #[must_use]
    pub fn find<'a>(&self, document: &'a [(String, Value)]) -> Option<&'a Value> {
        let (PathSegment::Field(first), rest) = self.0.split_first()? else { return None };
        let named = |fields: &'a [(String, Value)], name: &str| {
            fields.iter().find(|(field, _)| field == name).map(|(_, value)| value)
        };
        rest.iter().try_fold(named(document, first)?, |value, segment| match (segment, value) {
            (PathSegment::Field(name), Value::Document(fields)) => named(fields, name),
            (PathSegment::Index(index), Value::Array(values)) => values.get(*index),
            _ => None,
        })
    }
}
