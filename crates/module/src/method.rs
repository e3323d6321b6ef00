//! What each method does: its annotation checked against relations and messages, or inferred.

use deltamesh_change::Value;
use prost_reflect::{FileDescriptor, MessageDescriptor, MethodDescriptor};

use deltamesh_wire::proto::module::v1::{Mutation, Query, method::Kind, mutation};

use crate::annotation::{Annotations, METHOD_OPTION};
use crate::place::{MESSAGE_FIELD, at_message, at_method};
use crate::{
    Error, FieldDefinition, FieldType, MethodBinding, MethodDefinition, MutationKind, RelationDefinition,
    SourceFile, field, sql,
};

/// Everything that the methods of a module lead to.
pub(crate) struct Bound {
    pub(crate) relations: Vec<RelationDefinition>,
    pub(crate) methods: Vec<MethodDefinition>,
    /// Views of relations that a method feeds and the module's SQL does not create.
    pub(crate) views: Vec<SourceFile>,
}

/// Binds methods one after the other.
pub(crate) struct Binder<'a> {
    pub(crate) bound: Bound,
    /// Views that the module's SQL creates.
    pub(crate) views: &'a [String],
    /// Whether anything in the module is annotated.
    pub(crate) annotated: bool,
}

/// Binds every method of the files.
pub(crate) fn bind(
    files: &[FileDescriptor],
    annotations: &Annotations,
    relations: Vec<RelationDefinition>,
    views: &[String],
) -> Result<Bound, Error> {
    let mut methods = Vec::new();
    for method in files.iter().flat_map(|file| file.services().collect::<Vec<_>>()) {
        for method in method.methods() {
            let annotation = annotations.method(&method)?;
            methods.push((method, annotation));
        }
    }
    let annotated = !relations.is_empty() || methods.iter().any(|(_, annotation)| annotation.is_some());
    let bound = Bound { relations, methods: Vec::new(), views: Vec::new() };
    let mut binder = Binder { bound, views, annotated };
    // Mutations first: they may declare the relations that feeds read.
    methods.sort_by_key(|(method, _)| method.is_server_streaming());
    let mut definitions = Vec::with_capacity(methods.len());
    for (method, annotation) in methods {
        let binding = match annotation {
            None => binder.infer(&method)?,
            Some(annotation) => match annotation.kind {
                None => return Err(refuse(&method, "annotation says neither mutation, feed nor query")),
                Some(Kind::Mutation(mutation)) => binder.mutation(&method, &mutation)?,
                Some(Kind::Feed(feed)) => binder.feed(&method, &feed)?,
                Some(Kind::Query(query)) => query_binding(&method, &query)?,
            },
        };
        definitions.push((method, binding));
    }
    definitions.sort_by_cached_key(|(method, _)| method.path().to_vec());
    binder.bound.methods =
        definitions.into_iter().map(|(method, binding)| define(&method, binding)).collect();
    binder.bound.methods.sort_by(|a, b| a.service.cmp(&b.service));
    Ok(binder.bound)
}

fn define(method: &MethodDescriptor, binding: MethodBinding) -> MethodDefinition {
    MethodDefinition {
        service: method.parent_service().full_name().to_owned(),
        name: method.name().to_owned(),
        input: method.input(),
        output: method.output(),
        client_streaming: method.is_client_streaming(),
        server_streaming: method.is_server_streaming(),
        binding,
    }
}

/// An error at the annotation of a method.
pub(crate) fn refuse(method: &MethodDescriptor, reason: impl Into<String>) -> Error {
    at_method(method, &METHOD_OPTION, format!("method {}: {}", method.name(), reason.into()))
}

fn message_field(message: &MessageDescriptor, name: &str, reason: String) -> Error {
    let index =
        message.get_field_by_name(name).and_then(|field| field.path().last().copied()).unwrap_or_default();
    at_message(message, &[MESSAGE_FIELD, index], reason)
}

impl Binder<'_> {
    pub(crate) fn relation_of(&self, message: &MessageDescriptor) -> Option<&RelationDefinition> {
        self.bound.relations.iter().find(|relation| &relation.message == message)
    }

    fn mutation(&self, method: &MethodDescriptor, annotation: &Mutation) -> Result<MethodBinding, Error> {
        if method.is_server_streaming() {
            return Err(refuse(method, "a mutation does not stream its answer"));
        }
        let input = method.input();
        let relation = if annotation.relation.is_empty() {
            self.relation_of(&input)
                .ok_or_else(|| refuse(method, format!("message {} is not a relation", input.name())))?
        } else {
            self.bound
                .relations
                .iter()
                .find(|relation| relation.name == annotation.relation)
                .ok_or_else(|| refuse(method, format!("relation {} is unknown", annotation.relation)))?
        };
        let kind = match annotation.kind() {
            mutation::Kind::Upsert => MutationKind::Upsert,
            mutation::Kind::Insert => MutationKind::Insert,
            mutation::Kind::Update => MutationKind::Update,
            mutation::Kind::Delete => MutationKind::Delete,
        };
        check_request(method, relation, kind)?;
        Ok(MethodBinding::Mutation { relation: relation.name.clone(), kind })
    }
}

/// Checks that a mutation's request has what its kind needs of the relation, in the right types.
fn check_request(
    method: &MethodDescriptor,
    relation: &RelationDefinition,
    kind: MutationKind,
) -> Result<(), Error> {
    let input = method.input();
    let docid = FieldDefinition {
        name: RelationDefinition::DOCID.to_owned(),
        field_type: FieldType::Int,
        nullable: false,
        default: Value::Null,
    };
    let by_key = matches!(kind, MutationKind::Update | MutationKind::Delete);
    let numbered = relation.key.is_empty() && by_key;
    let given = field::fields(&input);
    for field in &given {
        let place = |reason: String| message_field(&input, &field.name, reason);
        let expected = if numbered && field.name == docid.name {
            &docid
        } else {
            relation
                .field(&field.name)
                .ok_or_else(|| place(format!("field {} is not in relation {}", field.name, relation.name)))?
        };
        if field.field_type != expected.field_type {
            return Err(place(format!(
                "field {} is of type {}, in relation {} it is {}",
                field.name,
                field.field_type.name(),
                relation.name,
                expected.field_type.name()
            )));
        }
    }
    let has = |name: &str| given.iter().any(|field| field.name == name);
    let needed: Vec<&str> = match kind {
        _ if numbered => vec![RelationDefinition::DOCID],
        MutationKind::Update | MutationKind::Delete => relation.key.iter().map(String::as_str).collect(),
        MutationKind::Upsert | MutationKind::Insert => {
            relation.fields.iter().filter(|field| !field.nullable).map(|field| field.name.as_str()).collect()
        }
    };
    match needed.into_iter().find(|name| !has(name)) {
        Some(name) => {
            let reason = format!("message {} lacks field {name} of relation {}", input.name(), relation.name);
            Err(refuse(method, reason))
        }
        None => Ok(()),
    }
}

fn query_binding(method: &MethodDescriptor, annotation: &Query) -> Result<MethodBinding, Error> {
    if method.is_client_streaming() {
        return Err(refuse(method, "a query takes one request"));
    }
    let text = annotation.sql.trim().trim_end_matches(';');
    if text.is_empty() {
        return Err(refuse(method, "the query has no SQL"));
    }
    let text = if sql::is_name(text) { format!("SELECT * FROM {text}") } else { text.to_owned() };
    let (sql, parameters) = sql::bind_parameters(&text);
    let input = method.input();
    for name in &parameters {
        let field = input.get_field_by_name(name).ok_or_else(|| {
            refuse(method, format!("parameter :{name} is not a field of message {}", input.name()))
        })?;
        let field_type = field::field_type(&field);
        if matches!(field_type, FieldType::Array | FieldType::Document) {
            return Err(refuse(method, format!("parameter :{name} is of type {}", field_type.name())));
        }
    }
    if let Some(unused) = input.fields().find(|field| !parameters.iter().any(|name| name == field.name())) {
        let reason = format!("request field {} is not used by the query", unused.name());
        return Err(refuse(method, reason));
    }
    let output = method.output();
    let mut lists = output.fields().filter(|field| field.is_list() && field.kind().as_message().is_some());
    let rows = match (method.is_server_streaming(), lists.next(), lists.next()) {
        (false, Some(list), None) => Some(list.name().to_owned()),
        _ => None,
    };
    Ok(MethodBinding::Query { sql, parameters, rows })
}
