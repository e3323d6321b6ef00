//! Relations from messages.

use prost_reflect::{FileDescriptor, MessageDescriptor};

use deltamesh_wire::proto::module::v1::Relation;

use crate::annotation::{Annotations, RELATION_OPTION};
use crate::place::{MESSAGE_FIELD, at_message};
use crate::{Error, FieldType, RelationDefinition, field};

/// Field numbers of the annotation, for places.
const NAME: i32 = 1;
const KEY: i32 = 2;
const UNIQUE: i32 = 4;
const INDEX: i32 = 5;

/// `ChatMessage` → `chat_message`, `HTTPRoute` → `http_route`.
pub(crate) fn snake_case(name: &str) -> String {
    let characters: Vec<char> = name.chars().collect();
    let mut snake = String::with_capacity(name.len() + 4);
    for (index, &character) in characters.iter().enumerate() {
        let previous = index.checked_sub(1).and_then(|index| characters.get(index));
        let next_is_lower = characters.get(index + 1).is_some_and(|next| next.is_lowercase());
        let word_starts =
            previous.is_some_and(|&previous| previous != '_' && (!previous.is_uppercase() || next_is_lower));
        if character.is_uppercase() && word_starts {
            snake.push('_');
        }
        snake.extend(character.to_lowercase());
    }
    snake
}

/// The relations that annotated messages of the files declare.
pub(crate) fn declared(
    files: &[FileDescriptor],
    annotations: &Annotations,
) -> Result<Vec<RelationDefinition>, Error> {
    let mut relations = Vec::new();
    for file in files {
        for message in file.messages() {
            collect(&message, annotations, &mut relations)?;
        }
    }
    Ok(relations)
}

fn collect(
    message: &MessageDescriptor,
    annotations: &Annotations,
    relations: &mut Vec<RelationDefinition>,
) -> Result<(), Error> {
    if let Some(annotation) = annotations.relation(message)? {
        add(relations, relation(message, annotation)?)?;
    }
    for child in message.child_messages() {
        collect(&child, annotations, relations)?;
    }
    Ok(())
}

/// Adds a relation whose name is not taken.
pub(crate) fn add(
    relations: &mut Vec<RelationDefinition>,
    relation: RelationDefinition,
) -> Result<(), Error> {
    if let Some(other) = relations.iter().find(|other| other.name.eq_ignore_ascii_case(&relation.name)) {
        let reason =
            format!("relation {} is already that of message {}", relation.name, other.message.full_name());
        return Err(at_message(&relation.message, &RELATION_OPTION, reason));
    }
    relations.push(relation);
    Ok(())
}

/// The relation of a message, under its annotation.
pub(crate) fn relation(
    message: &MessageDescriptor,
    annotation: Relation,
) -> Result<RelationDefinition, Error> {
    let name = if annotation.name.is_empty() { snake_case(message.name()) } else { annotation.name };
    let relation = RelationDefinition {
        name,
        source: Some(annotation.source).filter(|source| !source.is_empty()),
        message: message.clone(),
        fields: field::fields(message),
        key: annotation.key,
        unique: annotation.unique,
        index: annotation.index,
    };
    check(&relation)?;
    Ok(relation)
}

fn check(relation: &RelationDefinition) -> Result<(), Error> {
    let option = |inner: &[i32]| [&RELATION_OPTION, inner].concat();
    let word = |character: char| character.is_ascii_alphanumeric() || character == '_';
    if !relation.name.chars().all(word) || relation.name.starts_with("__") {
        let reason = format!("relation name {:?} must be letters, digits and _", relation.name);
        return Err(at_message(&relation.message, &option(&[NAME]), reason));
    }
    if relation.fields.is_empty() {
        return Err(at_message(&relation.message, &[], format!("relation {} has no fields", relation.name)));
    }
    for (index, field) in relation.fields.iter().enumerate() {
        let mut earlier = relation.fields[..index].iter();
        if earlier.any(|earlier| earlier.name.eq_ignore_ascii_case(&field.name))
            || field.name.starts_with("__")
        {
            let reason = format!("field {} cannot be a column: its name is taken", field.name);
            let place = [MESSAGE_FIELD, i32::try_from(index).unwrap_or_default()];
            return Err(at_message(&relation.message, &place, reason));
        }
    }
    for (what, number, names) in
        [("key", KEY, &relation.key), ("unique", UNIQUE, &relation.unique), ("index", INDEX, &relation.index)]
    {
        for (position, name) in names.iter().enumerate() {
            let place = option(&[number, i32::try_from(position).unwrap_or_default()]);
            let refuse = |reason: String| Err(at_message(&relation.message, &place, reason));
            let Some(field) = relation.field(name) else {
                return refuse(format!("{what} field {name} is not in message {}", relation.message.name()));
            };
            if matches!(field.field_type, FieldType::Array | FieldType::Document) {
                return refuse(format!("{what} field {name} is of type {}", field.field_type.name()));
            }
            if what == "key" && field.nullable {
                return refuse(format!("key field {name} may be absent"));
            }
            if names[..position].contains(name) {
                return refuse(format!("{what} field {name} is named twice"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::snake_case;

    #[test]
    fn names() {
        for (name, expected) in [
            ("Message", "message"),
            ("ChatMessage", "chat_message"),
            ("HTTPRoute", "http_route"),
            ("UserChat2", "user_chat2"),
            ("already_snake", "already_snake"),
            ("Mixed_Case", "mixed_case"),
        ] {
            assert_eq!(snake_case(name), expected);
        }
    }
}
