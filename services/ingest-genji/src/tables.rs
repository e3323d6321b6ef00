//! The relations that a module declares, as tables of a hosted source.
//!
//! A changed module alters the tables: they gain fields and indexes. What Genji cannot alter (names, types, keys, NOT NULL) is
//! refused, and so is what would leave stored values unread.

use std::collections::BTreeMap;

use deltamesh_change::Value;
use deltamesh_genji::catalog::{
    ConstraintKind, DocumentDefinition, FieldDefinition, FieldType, IndexDefinition, Path, TableConstraint,
    TableDefinition,
};
use deltamesh_genji::{Database, ErrorKind, WriteTransaction};
use deltamesh_module::{Error, ModuleDefinition, RelationDefinition};
use deltamesh_wire::proto::module::v1::Module;
use prost::Message as _;

/// Version of a module as the bucket holds it; 0 where it cannot be decoded.
pub(crate) fn version(value: &[u8]) -> u64 {
    Module::decode(value).map_or(0, |module| module.version)
}

/// The modules whose relations are tables, in the version last accepted: what a later version is compared with. A table
/// itself tells neither field numbers nor nested fields nor the values of an enum.
#[derive(Debug, Default)]
pub(crate) struct Modules {
    accepted: BTreeMap<String, ModuleDefinition>,
}

impl Modules {
    /// Creates the tables and indexes that the module's relations lack, and adds the fields that its proto has gained. All of
    /// it or nothing.
    ///
    /// # Errors
    /// `file:line:column: reason` for the one who applied the module.
    pub(crate) fn apply(&mut self, database: &Database, source: &str, value: &[u8]) -> Result<(), String> {
        let module = Module::decode(value).map_err(|error| format!("module cannot be decoded: {error}"))?;
        let definition = ModuleDefinition::from_wire(&module).map_err(|error| error.to_string())?;
        if let Some(former) = self.accepted.get(&definition.name) {
            definition.check_successor_of(former).map_err(|error| error.to_string())?;
        }
        let tables = database.tables();
        let mut transaction = database.begin();
        let here = |relation: &&std::sync::Arc<RelationDefinition>| {
            relation.source.as_deref().is_none_or(|holder| holder == source)
        };
        for relation in definition.relations.iter().filter(here) {
            let table = tables.iter().find(|table| table.name == relation.name);
            alter(&mut transaction, table, relation).map_err(|error| error.to_string())?;
        }
        transaction.commit().map_err(|error| error.to_string())?;
        self.accepted.insert(definition.name.clone(), definition);
        Ok(())
    }
}

/// Makes the table of a relation what the relation says.
fn alter(
    transaction: &mut WriteTransaction<'_>,
    known: Option<&TableDefinition>,
    relation: &RelationDefinition,
) -> Result<(), Error> {
    match known {
        None => transaction
            .create_table(&table(relation))
            .map_err(|error| refuse(relation, "", &error.to_string()))?,
        Some(table) => extend(transaction, table, relation)?,
    }
    create_indexes(transaction, relation)?;
    drop_unique_indexes(transaction, relation)
}

/// A refusal at a field of the relation, or at its message.
fn refuse(relation: &RelationDefinition, field: &str, reason: &str) -> Error {
    relation.error_at(field, format!("relation {}: {reason}", relation.name))
}

fn table(relation: &RelationDefinition) -> TableDefinition {
    let fields = relation.fields.iter().map(|declared| field(relation, declared)).collect();
    let key: Vec<Path> = relation.key.iter().map(Path::field).collect();
    let primary_key =
        TableConstraint { name: format!("{}_pk", relation.name), kind: ConstraintKind::PrimaryKey(key) };
    TableDefinition {
        name: relation.name.clone(),
        document: DocumentDefinition { fields, extra: false },
        constraints: if relation.key.is_empty() { vec![] } else { vec![primary_key] },
    }
}

/// A field that always has a value in the proto has its zero value by default, so that rows older than the field, and
/// mutations that do not name it, read as the proto says. Genji has no literal for the zero of the other types: there NULL is read
/// as empty.
fn field(relation: &RelationDefinition, declared: &deltamesh_module::FieldDefinition) -> FieldDefinition {
    let is_key = relation.key.contains(&declared.name);
    let default = match &declared.default {
        _ if is_key => None,
        Value::Bool(value) => Some(value.to_string()),
        Value::Int(value) => Some(value.to_string()),
        Value::Float(value) => Some(format!("{value:?}")),
        // Empty, or the name of an enum value: nothing in it needs an escape.
        Value::Text(text) => Some(format!("\"{text}\"")),
        _ => None,
    };
    FieldDefinition {
        name: declared.name.clone(),
        field_type: field_type(declared.field_type),
        not_null: is_key || default.is_some(),
        default,
    }
}

fn field_type(declared: deltamesh_module::FieldType) -> FieldType {
    use deltamesh_module::FieldType as Declared;
    match declared {
        Declared::Bool => FieldType::Boolean,
        Declared::Int => FieldType::Integer,
        Declared::Float => FieldType::Double,
        Declared::Text => FieldType::Text,
        Declared::Bytes => FieldType::Blob,
        Declared::Array => FieldType::Array,
        Declared::Document => FieldType::Document(DocumentDefinition { fields: vec![], extra: true }),
    }
}

/// Adds the fields that the table lacks, and refuses what would need more than that.
fn extend(
    transaction: &mut WriteTransaction<'_>,
    table: &TableDefinition,
    relation: &RelationDefinition,
) -> Result<(), Error> {
    let key: Vec<String> = table.primary_key().unwrap_or_default().iter().map(ToString::to_string).collect();
    if key != relation.key {
        let (declared, stored) = (list(&relation.key), list(&key));
        let reason = format!(
            "its key is {declared}, the table's is {stored}: a table keeps its key; give the relation another name"
        );
        return Err(refuse(relation, "", &reason));
    }
    check_unnamed(table, relation)?;
    for declared in &relation.fields {
        let wanted = field(relation, declared);
        match table.document.field(&declared.name) {
            None => transaction
                .add_field(&table.name, &wanted)
                .map_err(|error| refuse(relation, &declared.name, &error.to_string()))?,
            Some(known) => check_field(relation, known, &wanted)?,
        }
    }
    Ok(())
}

/// Refuses a relation whose message has no more a field of the table, unless it reserves the name: an upsert by that message would
/// lose the values, and where the field was renamed, its readers would.
fn check_unnamed(table: &TableDefinition, relation: &RelationDefinition) -> Result<(), Error> {
    let mut fields = table.document.fields.iter().map(|field| field.name.as_str());
    let unnamed = fields.find(|name| relation.field(name).is_none() && !relation.is_reserved(name));
    let Some(name) = unnamed else { return Ok(()) };
    let mut gained = relation.fields.iter().map(|field| field.name.as_str());
    let gained = gained.find(|name| table.document.field(name).is_none());
    let renamed =
        gained.map(|gained| format!(" ({gained} is new: if it is {name} renamed, that Genji cannot do)"));
    let reason = format!(
        "field {name} of the table is not in message {}{}: put it back, or write `reserved \"{name}\";` to leave its values \
         unread",
        relation.message.name(),
        renamed.unwrap_or_default()
    );
    Err(refuse(relation, gained.unwrap_or_default(), &reason))
}

/// Refuses a field whose values the table's field of that name does not take.
fn check_field(
    relation: &RelationDefinition,
    known: &FieldDefinition,
    wanted: &FieldDefinition,
) -> Result<(), Error> {
    let name = &wanted.name;
    // What a nested document holds is for each row to say.
    let both_documents =
        matches!((&known.field_type, &wanted.field_type), (FieldType::Document(_), FieldType::Document(_)));
    if !both_documents && known.field_type != wanted.field_type {
        let reason = format!(
            "field {name} is {}, the table's is {}: a table's field keeps its type; keep it in the proto, or add a field of \
             another name",
            type_name(&wanted.field_type),
            type_name(&known.field_type)
        );
        return Err(refuse(relation, name, &reason));
    }
    if known.not_null && !wanted.not_null && relation.field(name).is_some_and(|declared| declared.nullable) {
        let reason = format!(
            "field {name} may be absent, the table's is NOT NULL: a table's field keeps that; leave out `optional`, or add a \
             field of another name"
        );
        return Err(refuse(relation, name, &reason));
    }
    Ok(())
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { format!("({})", names.join(", ")) }
}

fn type_name(field_type: &FieldType) -> &'static str {
    if *field_type == FieldType::Any { "of any type" } else { field_type.name() }
}

fn create_indexes(
    transaction: &mut WriteTransaction<'_>,
    relation: &RelationDefinition,
) -> Result<(), Error> {
    let unique = relation.unique.iter().map(|field| (field, true));
    for (field, unique) in unique.chain(relation.index.iter().map(|field| (field, false))) {
        let name =
            if unique { unique_index(relation, field) } else { format!("{}_{field}_idx", relation.name) };
        let index =
            IndexDefinition { name, table: relation.name.clone(), unique, paths: vec![Path::field(field)] };
        match transaction.create_index(&index) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(refuse(relation, field, &error.to_string()));
            }
            _ => {}
        }
    }
    Ok(())
}

fn unique_index(relation: &RelationDefinition, field: &str) -> String {
    format!("{}_{field}_key", relation.name)
}

/// Drops the unique indexes of fields that need no more be unique. Other indexes refuse no row, so they stay.
fn drop_unique_indexes(
    transaction: &mut WriteTransaction<'_>,
    relation: &RelationDefinition,
) -> Result<(), Error> {
    let free = relation.fields.iter().filter(|field| !relation.unique.contains(&field.name));
    for field in free {
        match transaction.drop_index(&unique_index(relation, &field.name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(refuse(relation, &field.name, &error.to_string()));
            }
            _ => {}
        }
    }
    Ok(())
}
