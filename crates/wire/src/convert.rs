//! Conversions between the generated messages and the domain.
//!
//! To the wire nothing can fail. From the wire, a field that must be present and is not, or a number that names nothing, is
//! a [`ConvertError`] that names the message and the field.

use deltamesh_change as domain;
use deltamesh_change::{EnginePosition, SourcePosition};

use crate::proto::change::v1 as wire;

/// Why a message is not a value of the domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// A field that must be set is not.
    Missing,
    /// An enum number that this version does not know.
    Unknown,
    /// A key index beyond the columns, or another broken reference.
    Inconsistent,
}

/// A decoded message that breaks its contract.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{field} is {}", match kind { ErrorKind::Missing => "missing", ErrorKind::Unknown => "unknown", ErrorKind::Inconsistent => "inconsistent" })]
pub struct ConvertError {
    /// What is wrong.
    pub kind: ErrorKind,
    /// Message and field, for example `RowChange.operation`.
    pub field: &'static str,
}

fn missing(field: &'static str) -> ConvertError {
    ConvertError { kind: ErrorKind::Missing, field }
}

fn unknown(field: &'static str) -> ConvertError {
    ConvertError { kind: ErrorKind::Unknown, field }
}

impl From<domain::Value> for wire::Value {
    fn from(value: domain::Value) -> Self {
        use domain::Value as V;
        use wire::value::Kind as K;
        let kind = match value {
            V::Null => K::Null(wire::Empty {}),
            V::Bool(value) => K::Bool(value),
            V::Int(value) => K::Int(value),
            V::Float(value) => K::Float(value),
            V::Decimal(value) => K::Decimal(value),
            V::Text(value) => K::Text(value),
            V::Bytes(value) => K::Bytes(value.into()),
            V::Array(values) => {
                K::Array(wire::Array { values: values.into_iter().map(Into::into).collect() })
            }
            V::Document(fields) => K::Document(fields.into()),
            V::Unchanged => K::Unchanged(wire::Empty {}),
        };
        Self { kind: Some(kind) }
    }
}

impl From<Vec<(String, domain::Value)>> for wire::Document {
    fn from(fields: Vec<(String, domain::Value)>) -> Self {
        let field = |(name, value): (String, domain::Value)| wire::Field { name, value: Some(value.into()) };
        Self { fields: fields.into_iter().map(field).collect() }
    }
}

impl TryFrom<wire::Value> for domain::Value {
    type Error = ConvertError;

    fn try_from(value: wire::Value) -> Result<Self, ConvertError> {
        use wire::value::Kind as K;
        Ok(match value.kind.ok_or_else(|| missing("Value.kind"))? {
            K::Null(_) => Self::Null,
            K::Bool(value) => Self::Bool(value),
            K::Int(value) => Self::Int(value),
            K::Float(value) => Self::Float(value),
            K::Decimal(value) => Self::Decimal(value),
            K::Text(value) => Self::Text(value),
            K::Bytes(value) => Self::Bytes(value.into()),
            K::Array(array) => Self::Array(values(array.values)?),
            K::Document(document) => Self::Document(document.try_into()?),
            K::Unchanged(_) => Self::Unchanged,
        })
    }
}

impl TryFrom<wire::Document> for Vec<(String, domain::Value)> {
    type Error = ConvertError;

    fn try_from(document: wire::Document) -> Result<Self, ConvertError> {
        let field = |field: wire::Field| {
            let value = field.value.ok_or_else(|| missing("Field.value"))?;
            Ok((field.name, value.try_into()?))
        };
        document.fields.into_iter().map(field).collect()
    }
}

fn values(values: Vec<wire::Value>) -> Result<Vec<domain::Value>, ConvertError> {
    values.into_iter().map(TryInto::try_into).collect()
}

fn row(values: domain::Row) -> wire::Row {
    wire::Row { values: values.into_iter().map(Into::into).collect() }
}

impl From<&SourcePosition> for wire::Position {
    fn from(position: &SourcePosition) -> Self {
        Self {
            incarnation: position.incarnation.clone(),
            ordinal: position.ordinal,
            engine_sequence: position.engine.sequence,
            engine_log: position.engine.log,
            engine_offset: position.engine.offset,
        }
    }
}

impl From<wire::Position> for SourcePosition {
    fn from(position: wire::Position) -> Self {
        Self {
            incarnation: position.incarnation,
            ordinal: position.ordinal,
            engine: EnginePosition {
                sequence: position.engine_sequence,
                log: position.engine_log,
                offset: position.engine_offset,
            },
        }
    }
}

impl From<domain::Operation> for wire::Operation {
    fn from(operation: domain::Operation) -> Self {
        use domain::Operation as O;
        match operation {
            O::Insert => Self::Insert,
            O::Update => Self::Update,
            O::Upsert => Self::Upsert,
            O::Delete => Self::Delete,
            O::Truncate => Self::Truncate,
            O::Read => Self::Read,
        }
    }
}

fn operation(number: i32) -> Result<domain::Operation, ConvertError> {
    use domain::Operation as O;
    match wire::Operation::try_from(number) {
        Ok(wire::Operation::Insert) => Ok(O::Insert),
        Ok(wire::Operation::Update) => Ok(O::Update),
        Ok(wire::Operation::Upsert) => Ok(O::Upsert),
        Ok(wire::Operation::Delete) => Ok(O::Delete),
        Ok(wire::Operation::Truncate) => Ok(O::Truncate),
        Ok(wire::Operation::Read) => Ok(O::Read),
        Ok(wire::Operation::Unspecified) | Err(_) => Err(unknown("RowChange.operation")),
    }
}

impl From<domain::ChangeEvent> for wire::RowChange {
    /// The key travels only where the row after does not carry it.
    fn from(event: domain::ChangeEvent) -> Self {
        let carried = event.after.as_ref().is_some_and(|after| {
            event.key.iter().zip(&event.schema.key).all(|(value, &index)| after.get(index) == Some(value))
        });
        let key = if carried { Vec::new() } else { event.key.into_iter().map(Into::into).collect() };
        Self {
            operation: wire::Operation::from(event.operation).into(),
            key,
            before: event.before.map(row),
            after: event.after.map(row),
        }
    }
}

impl wire::RowChange {
    /// The change event of a row under its relation's schema.
    ///
    /// # Errors
    /// [`ConvertError`] where the operation is unknown, a value has no kind, a row has not the schema's number of columns,
    /// or neither key nor row after is there.
    pub fn into_event(
        self,
        schema: &std::sync::Arc<domain::RelationSchema>,
    ) -> Result<domain::ChangeEvent, ConvertError> {
        let operation = operation(self.operation)?;
        let image = |image: Option<wire::Row>, field| match image {
            None => Ok(None),
            Some(row) if row.values.len() == schema.columns.len() => Ok(Some(values(row.values)?)),
            Some(_) => Err(ConvertError { kind: ErrorKind::Inconsistent, field }),
        };
        let before = image(self.before, "RowChange.before")?;
        let after = image(self.after, "RowChange.after")?;
        let mut key = values(self.key)?;
        if key.is_empty() && operation != domain::Operation::Truncate {
            let row = after.as_ref().or(before.as_ref()).ok_or_else(|| missing("RowChange.key"))?;
            key = schema.key.iter().filter_map(|&index| row.get(index).cloned()).collect();
        }
        if operation != domain::Operation::Truncate && key.len() != schema.key.len() {
            return Err(ConvertError { kind: ErrorKind::Inconsistent, field: "RowChange.key" });
        }
        Ok(domain::ChangeEvent { schema: schema.clone(), operation, key, before, after })
    }
}

impl From<domain::ColumnType> for wire::ColumnType {
    fn from(column_type: domain::ColumnType) -> Self {
        use domain::ColumnType as C;
        match column_type {
            C::Bool => Self::Bool,
            C::Int => Self::Int,
            C::Float => Self::Float,
            C::Decimal => Self::Decimal,
            C::Text => Self::Text,
            C::Bytes => Self::Bytes,
            C::Json => Self::Json,
            C::Any => Self::Any,
        }
    }
}

fn column_type(number: i32) -> Result<domain::ColumnType, ConvertError> {
    use domain::ColumnType as C;
    match wire::ColumnType::try_from(number) {
        Ok(wire::ColumnType::Bool) => Ok(C::Bool),
        Ok(wire::ColumnType::Int) => Ok(C::Int),
        Ok(wire::ColumnType::Float) => Ok(C::Float),
        Ok(wire::ColumnType::Decimal) => Ok(C::Decimal),
        Ok(wire::ColumnType::Text) => Ok(C::Text),
        Ok(wire::ColumnType::Bytes) => Ok(C::Bytes),
        Ok(wire::ColumnType::Json) => Ok(C::Json),
        Ok(wire::ColumnType::Any) => Ok(C::Any),
        Ok(wire::ColumnType::Unspecified) | Err(_) => Err(unknown("Column.type")),
    }
}

impl From<&domain::RelationSchema> for wire::RelationSchema {
    fn from(schema: &domain::RelationSchema) -> Self {
        let column = |column: &domain::Column| wire::Column {
            name: column.name.clone(),
            r#type: wire::ColumnType::from(column.column_type).into(),
            nullable: column.nullable,
        };
        Self {
            relation: schema.relation.clone(),
            dsid: schema.dsid,
            columns: schema.columns.iter().map(column).collect(),
            key: schema.key.iter().map(|&index| u32::try_from(index).unwrap_or(u32::MAX)).collect(),
        }
    }
}

impl TryFrom<wire::RelationSchema> for domain::RelationSchema {
    type Error = ConvertError;

    fn try_from(schema: wire::RelationSchema) -> Result<Self, ConvertError> {
        let column = |column: wire::Column| {
            Ok(domain::Column::new(column.name, column_type(column.r#type)?, column.nullable))
        };
        let schema = Self {
            relation: schema.relation,
            dsid: schema.dsid,
            columns: schema.columns.into_iter().map(column).collect::<Result<_, ConvertError>>()?,
            key: schema.key.into_iter().map(|index| usize::try_from(index).unwrap_or(usize::MAX)).collect(),
        };
        schema
            .validate()
            .map_err(|_| ConvertError { kind: ErrorKind::Inconsistent, field: "RelationSchema.key" })?;
        Ok(schema)
    }
}

impl From<&domain::SchemaChange> for wire::SchemaChange {
    fn from(change: &domain::SchemaChange) -> Self {
        use wire::schema_change::Change;
        let change = match change {
            domain::SchemaChange::Define(schema) => Change::Define(schema.as_ref().into()),
            domain::SchemaChange::Rename { from, to } => {
                Change::Rename(wire::Rename { from: from.clone(), to: Some(to.as_ref().into()) })
            }
            domain::SchemaChange::Drop { relation, dsid } => {
                Change::Drop(wire::Drop { relation: relation.clone(), dsid: *dsid })
            }
        };
        Self { change: Some(change) }
    }
}

impl TryFrom<wire::SchemaChange> for domain::SchemaChange {
    type Error = ConvertError;

    fn try_from(change: wire::SchemaChange) -> Result<Self, ConvertError> {
        use wire::schema_change::Change;
        Ok(match change.change.ok_or_else(|| missing("SchemaChange.change"))? {
            Change::Define(schema) => Self::Define(std::sync::Arc::new(schema.try_into()?)),
            Change::Rename(rename) => {
                let to = rename.to.ok_or_else(|| missing("Rename.to"))?;
                Self::Rename { from: rename.from, to: std::sync::Arc::new(to.try_into()?) }
            }
            Change::Drop(drop) => Self::Drop { relation: drop.relation, dsid: drop.dsid },
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use deltamesh_change::{ChangeEvent, Column, ColumnType, Operation, RelationSchema, SchemaChange, Value};
    use proptest::prelude::*;

    use super::{ConvertError, ErrorKind, wire};

    fn schema() -> Arc<RelationSchema> {
        Arc::new(RelationSchema {
            relation: "t".into(),
            dsid: 3,
            columns: vec![Column::new("id", ColumnType::Int, false), Column::new("v", ColumnType::Any, true)],
            key: vec![0],
        })
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            Just(Value::Unchanged),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            any::<u64>().prop_map(|bits| Value::Float(f64::from_bits(bits))),
            "[-0-9.]{1,8}".prop_map(Value::Decimal),
            ".*".prop_map(Value::Text),
            proptest::collection::vec(any::<u8>(), 0..8).prop_map(Value::Bytes),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                proptest::collection::vec((".*", inner), 0..4).prop_map(Value::Document),
            ]
        })
    }

    proptest! {
        #[test]
        fn events_round_trip(id in any::<i64>(), before in value(), after in value()) {
            let row = |value| vec![Value::Int(id), value];
            let event = |operation, before, after| ChangeEvent {
                schema: schema(), operation, key: vec![Value::Int(id)], before, after,
            };
            for event in [
                event(Operation::Upsert, None, Some(row(after.clone()))),
                event(Operation::Update, Some(row(before.clone())), Some(row(after))),
                event(Operation::Delete, None, None),
                event(Operation::Delete, Some(row(before)), None),
            ] {
                let sent = wire::RowChange::from(event.clone());
                prop_assert_eq!(sent.into_event(&schema()), Ok(event));
            }
        }
    }

    #[test]
    fn schema_changes_round_trip() {
        for change in [
            SchemaChange::Define(schema()),
            SchemaChange::Rename { from: "s".into(), to: schema() },
            SchemaChange::Drop { relation: "t".into(), dsid: 9 },
        ] {
            assert_eq!(SchemaChange::try_from(wire::SchemaChange::from(&change)), Ok(change));
        }
    }

    #[test]
    fn broken_messages_are_refused() {
        let check = |sent: wire::RowChange, kind, field| {
            assert_eq!(sent.into_event(&schema()), Err(ConvertError { kind, field }));
        };
        check(wire::RowChange::default(), ErrorKind::Unknown, "RowChange.operation");
        let upsert = wire::RowChange { operation: wire::Operation::Upsert.into(), ..Default::default() };
        check(upsert.clone(), ErrorKind::Missing, "RowChange.key");
        let short = wire::Row { values: vec![Value::Null.into()] };
        check(wire::RowChange { after: Some(short), ..upsert }, ErrorKind::Inconsistent, "RowChange.after");
    }
}
