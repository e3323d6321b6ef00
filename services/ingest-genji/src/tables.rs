//! The relations that a module declares, as tables of a hosted source.

use deltamesh_genji::catalog::{
    ConstraintKind, DocumentDefinition, FieldDefinition, FieldType, IndexDefinition, Path, TableConstraint,
    TableDefinition,
};
use deltamesh_genji::{Database, Error, ErrorKind, WriteTransaction};
use deltamesh_module::{ModuleDefinition, RelationDefinition};
use deltamesh_wire::proto::module::v1::Module;
use prost::Message as _;

/// Version of a module as the bucket holds it; 0 where it cannot be decoded.
pub(crate) fn version(value: &[u8]) -> u64 {
    Module::decode(value).map_or(0, |module| module.version)
}

/// Creates the tables and indexes that the module's relations lack, and adds the fields that its proto has gained. All of it
/// or nothing.
///
/// # Errors
/// The reason for the one who applied the module.
pub(crate) fn apply(database: &Database, source: &str, value: &[u8]) -> Result<(), String> {
    let module = Module::decode(value).map_err(|error| format!("module cannot be decoded: {error}"))?;
    let definition = ModuleDefinition::from_wire(&module).map_err(|error| error.to_string())?;
    let tables = database.tables();
    let mut transaction = database.begin();
    for relation in &definition.relations {
        if relation.source.as_deref().is_some_and(|holder| holder != source) {
            continue;
        }
        let known = tables.iter().find(|table| table.name == relation.name);
        let changed = match known {
            None => transaction.create_table(&table(relation)).map_err(|error| error.to_string()),
            Some(table) => extend(&mut transaction, table, relation),
        };
        changed
            .and_then(|()| create_indexes(&mut transaction, relation).map_err(|error| error.to_string()))
            .map_err(|reason| format!("relation {}: {reason}", relation.name))?;
    }
    transaction.commit().map(drop).map_err(|error| error.to_string())
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
/// mutations that do not name it, read as the proto says.
fn field(relation: &RelationDefinition, declared: &deltamesh_module::FieldDefinition) -> FieldDefinition {
    let is_key = relation.key.contains(&declared.name);
    let zero = match field_type(declared.field_type) {
        FieldType::Integer => Some("0"),
        FieldType::Double => Some("0.0"),
        FieldType::Text => Some("\"\""),
        FieldType::Boolean => Some("false"),
        _ => None,
    };
    let default = zero.filter(|_| !declared.nullable && !is_key).map(str::to_owned);
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

/// Adds the fields that the table lacks. A field of another type, or another key, is refused: rows would lose values.
fn extend(
    transaction: &mut WriteTransaction<'_>,
    table: &TableDefinition,
    relation: &RelationDefinition,
) -> Result<(), String> {
    let key: Vec<String> = table.primary_key().unwrap_or_default().iter().map(ToString::to_string).collect();
    if key != relation.key {
        return Err(format!("its key is {}, the table's is {}", list(&relation.key), list(&key)));
    }
    for declared in &relation.fields {
        let wanted = field(relation, declared);
        match table.document.field(&declared.name) {
            None => transaction.add_field(&table.name, &wanted).map_err(|error| error.to_string())?,
            Some(known) if is_compatible(&known.field_type, &wanted.field_type) => {}
            Some(_) => {
                let proto = declared.field_type.name();
                return Err(format!("field {} is {proto}, the table's is of another type", declared.name));
            }
        }
    }
    Ok(())
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { format!("({})", names.join(", ")) }
}

/// Whether a table's field takes what the proto's field holds. Nested documents are checked row by row.
fn is_compatible(known: &FieldType, wanted: &FieldType) -> bool {
    matches!((known, wanted), (FieldType::Document(_), FieldType::Document(_))) || known == wanted
}

fn create_indexes(
    transaction: &mut WriteTransaction<'_>,
    relation: &RelationDefinition,
) -> Result<(), Error> {
    let unique = relation.unique.iter().map(|field| (field, true));
    for (field, unique) in unique.chain(relation.index.iter().map(|field| (field, false))) {
        let suffix = if unique { "key" } else { "idx" };
        let index = IndexDefinition {
            name: format!("{}_{field}_{suffix}", relation.name),
            table: relation.name.clone(),
            unique,
            paths: vec![Path::field(field)],
        };
        match transaction.create_index(&index) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
