//! Whether rows written under a proto can be read under its next version.
//!
//! A source keeps rows by the names of fields and of enum values, so what Protobuf itself allows (another name for a number)
//! loses values here, and what it warns of (another number for a name) does not.

use std::ops::RangeInclusive;

use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};

use crate::field::{unwrapped, well_known};
use crate::place::{at_field, at_message};
use crate::{Error, ModuleDefinition};

impl ModuleDefinition {
    /// Checks that the rows written under a former version can be read under this one: in every relation of both, and in the
    /// messages nested in them, each former field is still there under its name, or its name is reserved; its type holds every
    /// value of the former type; each former enum value has its name. Its migrations are the first ones of this one.
    ///
    /// # Errors
    /// The first field or migration for which this does not hold, with its place, the reason and what to do.
    pub fn check_successor_of(&self, former: &Self) -> Result<(), Error> {
        self.check_migrations(former)?;
        let mut comparison = Comparison::default();
        for relation in &self.relations {
            if let Some(before) = former.relation(&relation.name) {
                comparison.messages(&before.message, &relation.message)?;
            }
        }
        Ok(())
    }
}

/// The comparison of two versions; messages may contain themselves.
#[derive(Default)]
struct Comparison {
    compared: Vec<(MessageDescriptor, MessageDescriptor)>,
}

impl Comparison {
    fn messages(&mut self, before: &MessageDescriptor, after: &MessageDescriptor) -> Result<(), Error> {
        let pair = (before.clone(), after.clone());
        if self.compared.contains(&pair) {
            return Ok(());
        }
        self.compared.push(pair);
        for field in before.fields() {
            match after.get_field_by_name(field.name()) {
                Some(successor) => self.fields(&field, &successor)?,
                None if after.reserved_names().any(|reserved| reserved == field.name()) => {}
                None => return Err(missing(&field, before, after)),
            }
        }
        Ok(())
    }

    fn fields(&mut self, before: &FieldDescriptor, after: &FieldDescriptor) -> Result<(), Error> {
        if before.is_map() != after.is_map() || before.is_list() != after.is_list() {
            return Err(other_type(before, after));
        }
        match (before.kind(), after.kind()) {
            (Kind::Message(entry), Kind::Message(successor)) if before.is_map() => {
                let (key, successor_key) = (entry.map_entry_key_field(), successor.map_entry_key_field());
                if !holds(&key.kind(), &successor_key.kind()) {
                    return Err(other_type(before, after));
                }
                self.kinds(&entry.map_entry_value_field(), &successor.map_entry_value_field(), after)
            }
            _ => self.kinds(before, after, after),
        }
    }

    /// Compares the types of two fields; `place` is the field to name in a refusal.
    fn kinds(
        &mut self,
        before: &FieldDescriptor,
        after: &FieldDescriptor,
        place: &FieldDescriptor,
    ) -> Result<(), Error> {
        match (unwrapped(&before.kind()), unwrapped(&after.kind())) {
            (Kind::Message(message), Kind::Message(successor))
                if well_known(&message).is_none() && well_known(&successor).is_none() =>
            {
                self.messages(&message, &successor)
            }
            (Kind::Enum(values), Kind::Enum(successors)) => enums(&values, &successors, place),
            (kind, successor) if holds(&kind, &successor) => Ok(()),
            _ => Err(other_type(before, place)),
        }
    }
}

/// A former field that is neither there nor reserved: renamed where its number has a name that is new.
fn missing(field: &FieldDescriptor, before: &MessageDescriptor, after: &MessageDescriptor) -> Error {
    let (name, number) = (field.name(), field.number());
    let renamed =
        after.get_field(number).filter(|successor| before.get_field_by_name(successor.name()).is_none());
    match renamed {
        Some(successor) => at_field(
            &successor,
            format!(
                "field {number} was {name}, and rows hold it under that name, which Genji cannot change: \
                 keep the name {name}; or give {} a number of its own and write `reserved \"{name}\";`",
                successor.name()
            ),
        ),
        None => at_message(
            after,
            &[],
            format!("field {name} is gone, and rows hold it: put it back, or write `reserved \"{name}\";`"),
        ),
    }
}

fn other_type(before: &FieldDescriptor, after: &FieldDescriptor) -> Error {
    let reason = format!(
        "field {} was {}, and {} does not hold all of its values: keep the type, or add a field of another name",
        after.name(),
        type_name(before),
        type_name(after)
    );
    at_field(after, reason)
}

fn type_name(field: &FieldDescriptor) -> String {
    let kind = match field.kind() {
        Kind::Message(entry) if field.is_map() => {
            let (key, value) = (entry.map_entry_key_field(), entry.map_entry_value_field());
            return format!("map<{}, {}>", type_name(&key), type_name(&value));
        }
        Kind::Message(message) => message.full_name().to_owned(),
        Kind::Enum(values) => values.full_name().to_owned(),
        other => format!("{other:?}").to_lowercase(),
    };
    if field.is_list() { format!("repeated {kind}") } else { kind }
}

fn enums(before: &EnumDescriptor, after: &EnumDescriptor, place: &FieldDescriptor) -> Result<(), Error> {
    let gone = before.values().find(|value| after.get_value_by_name(value.name()).is_none());
    let Some(gone) = gone else { return Ok(()) };
    let reason = format!(
        "field {}: value {} of enum {} is gone or renamed, and rows hold its name: keep it (`deprecated = true`, or \
         `allow_alias` beside the new name)",
        place.name(),
        gone.name(),
        after.name()
    );
    Err(at_field(place, reason))
}

/// Whether every value of the one type, in its stored form, is a value of the other.
fn holds(before: &Kind, after: &Kind) -> bool {
    if let (Some(before), Some(after)) = (integers(before), integers(after)) {
        return after.contains(before.start()) && after.contains(before.end());
    }
    match (before, after) {
        (Kind::Float, Kind::Float | Kind::Double)
        | (Kind::Double, Kind::Double)
        | (Kind::Bool, Kind::Bool)
        | (Kind::Bytes, Kind::Bytes)
        | (Kind::String | Kind::Enum(_), Kind::String) => true,
        (Kind::Message(before), Kind::Message(after)) => {
            well_known(before).is_some() && well_known(before) == well_known(after)
        }
        _ => false,
    }
}

fn integers(kind: &Kind) -> Option<RangeInclusive<i128>> {
    Some(match kind {
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => i32::MIN.into()..=i32::MAX.into(),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => i64::MIN.into()..=i64::MAX.into(),
        Kind::Uint32 | Kind::Fixed32 => 0..=u32::MAX.into(),
        Kind::Uint64 | Kind::Fixed64 => 0..=u64::MAX.into(),
        _ => return None,
    })
}
