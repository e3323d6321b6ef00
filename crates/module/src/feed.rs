//! Feed methods: the view, the conditions that the request sets, the form of the result.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor};

use deltamesh_wire::proto::module::v1::Feed;

use crate::annotation::METHOD_OPTION;
use crate::method::{Binder, refuse};
use crate::place::at_method;
use crate::relation::snake_case;
use crate::{Delivery, Error, FeedFilter, FieldType, MethodBinding, SourceFile, field};

/// Field numbers within the annotation, for places.
const FEED: i32 = 2;
const WHERE: i32 = 2;

impl Binder<'_> {
    pub(crate) fn feed(
        &mut self,
        method: &MethodDescriptor,
        annotation: &Feed,
    ) -> Result<MethodBinding, Error> {
        if !method.is_server_streaming() || method.is_client_streaming() {
            return Err(refuse(method, "a feed takes one request and streams its answer"));
        }
        if annotation.view.is_empty() {
            return Err(refuse(method, "the feed names no view"));
        }
        let (delivery, row) = delivery(method)?;
        let mut filters = Vec::new();
        for (index, text) in annotation.r#where.iter().enumerate() {
            let place =
                [&METHOD_OPTION[..], &[FEED, WHERE, i32::try_from(index).unwrap_or_default()]].concat();
            filters.push(declared_filter(method, text).map_err(|reason| {
                at_method(method, &place, format!("method {}: {reason}", method.name()))
            })?);
        }
        let used = |field: &FieldDescriptor| {
            let named = |filter: &FeedFilter| filter.request.first().is_some_and(|name| name == field.name());
            (delivery.resume && field.name() == "cursor") || filters.iter().any(named)
        };
        let mut same = Vec::new();
        for field in method.input().fields().filter(|field| !used(field)) {
            same.push(same_meaning(&field, &row).ok_or_else(|| {
                let reason =
                    format!("request field {} is not a field of message {}", field.name(), row.name());
                refuse(method, reason)
            })?);
        }
        filters.extend(same);
        self.add_view(&annotation.view, method);
        Ok(MethodBinding::Feed { view: annotation.view.clone(), filters, delivery })
    }

    /// Adds the view of a relation where the module's SQL does not create one of that name.
    fn add_view(&mut self, view: &str, method: &MethodDescriptor) {
        let created = self.views.iter().any(|created| created.eq_ignore_ascii_case(view));
        let is_relation = self.bound.relations.iter().any(|relation| relation.name == view);
        let path = format!("{view} (inferred)");
        if !created && is_relation && !self.bound.views.iter().any(|added| added.path == path) {
            let text = format!(
                "-- Fed by {} of {}.\nCREATE MATERIALIZED VIEW \"{view}\" AS SELECT * FROM \"{view}\";\n",
                method.name(),
                method.parent_service().full_name(),
            );
            self.bound.views.push(SourceFile::new(path, text));
        }
    }

    /// The feed of an un-annotated method.
    pub(crate) fn inferred_feed(&mut self, method: &MethodDescriptor) -> Result<MethodBinding, Error> {
        let output = method.output();
        let view = match self.relation_of(&output) {
            Some(relation) => relation.name.clone(),
            None => snake_case(output.name()),
        };
        let created = self.views.iter().any(|created| created.eq_ignore_ascii_case(&view));
        if self.relation_of(&output).is_none() && !created {
            let reason = format!("message {} is no relation and no view {view} is created", output.name());
            return Err(refuse(method, reason));
        }
        let filters = inferred_filters(method)?;
        self.add_view(&view, method);
        Ok(MethodBinding::Feed { view, filters, delivery: Delivery::default() })
    }
}

/// The form of an annotated feed's result, and the message that the row becomes.
fn delivery(method: &MethodDescriptor) -> Result<(Delivery, MessageDescriptor), Error> {
    let (input, output) = (method.input(), method.output());
    let is_text = |message: &MessageDescriptor, name: &str| {
        message.get_field_by_name(name).is_some_and(|field| !field.is_list() && field.kind() == Kind::String)
    };
    let row = output.get_field_by_name("row").filter(|field| !field.is_list() && !field.is_map());
    let row = row.and_then(|field| field.kind().as_message().cloned());
    let operation = match output.get_field_by_name("operation").map(|field| field.kind()) {
        Some(Kind::String) => true,
        Some(Kind::Enum(operations)) => {
            for name in ["READ", "INSERT", "UPDATE", "DELETE"] {
                if !operations.values().any(|value| value.name().ends_with(name)) {
                    let reason = format!("enum {} has no value for {name}", operations.name());
                    return Err(refuse(method, reason));
                }
            }
            true
        }
        _ => false,
    };
    let delivery = Delivery {
        operation,
        row: row.is_some(),
        cursor: is_text(&output, "cursor"),
        resume: is_text(&input, "cursor"),
    };
    Ok((delivery, row.unwrap_or(output)))
}

/// `request.path = column.path`, the request's side checked.
fn declared_filter(method: &MethodDescriptor, text: &str) -> Result<FeedFilter, String> {
    let (request, column) = text
        .split_once('=')
        .map(|(request, column)| (request.trim(), column.trim()))
        .filter(|(request, column)| !request.is_empty() && !column.is_empty())
        .ok_or_else(|| format!("{text:?} is not of the form request_field = column"))?;
    let path = |text: &str| text.split('.').map(|part| part.trim().to_owned()).collect::<Vec<_>>();
    let filter = FeedFilter { request: path(request), column: path(column), always: false };
    let mut message = Some(method.input());
    let mut last = None;
    for name in &filter.request {
        let field = message
            .and_then(|message| message.get_field_by_name(name))
            .ok_or_else(|| format!("request field {request} is not in message {}", method.input().name()))?;
        message = field.kind().as_message().cloned();
        last = Some(field);
    }
    match last.as_ref().map(field::field_type) {
        Some(FieldType::Array | FieldType::Document) | None => {
            Err(format!("request field {request} has no single value"))
        }
        Some(_) => Ok(filter),
    }
}

/// The condition of a request field that has the name and type of a field of the row.
fn same_meaning(field: &FieldDescriptor, row: &MessageDescriptor) -> Option<FeedFilter> {
    let column = row.get_field_by_name(field.name())?;
    let field_type = field::field_type(field);
    if field_type != field::field_type(&column) {
        return None;
    }
    let name = field.name().to_owned();
    match field_type {
        FieldType::Array => None,
        FieldType::Document => {
            let message = field.kind().as_message().cloned()?;
            let same = column.kind().as_message() == Some(&message) && field::well_known(&message).is_none();
            let identity = identity(&message).filter(|_| same)?;
            let path = vec![name, identity.name().to_owned()];
            Some(FeedFilter { request: path.clone(), column: path, always: false })
        }
        _ => Some(FeedFilter { request: vec![name.clone()], column: vec![name], always: false }),
    }
}

/// The field that tells one message of a type from another.
fn identity(message: &MessageDescriptor) -> Option<FieldDescriptor> {
    let own = format!("{}_id", snake_case(message.name()));
    let single =
        |field: &FieldDescriptor| !matches!(field::field_type(field), FieldType::Array | FieldType::Document);
    ["id", &own, "key", "name"]
        .into_iter()
        .find_map(|name| message.get_field_by_name(name).filter(single))
        .or_else(|| message.get_field(1).filter(single))
}

fn inferred_filters(method: &MethodDescriptor) -> Result<Vec<FeedFilter>, Error> {
    let (input, output) = (method.input(), method.output());
    let mut fields: Vec<FieldDescriptor> = output.fields().collect();
    fields.sort_by_key(|field| field.path().last().copied());
    let nested = fields
        .iter()
        .find(|field| !field.is_list() && !field.is_map() && field.kind().as_message() == Some(&input));
    if let Some(nested) = nested {
        let identity = identity(&input)
            .ok_or_else(|| refuse(method, format!("message {} has no field to identify it", input.name())))?;
        let identity = identity.name().to_owned();
        let column = vec![nested.name().to_owned(), identity.clone()];
        return Ok(vec![FeedFilter { request: vec![identity], column, always: true }]);
    }
    let filters: Vec<FeedFilter> = input.fields().filter_map(|field| same_meaning(&field, &output)).collect();
    if filters.is_empty() && input.fields().len() > 0 {
        let reason = format!("no field of message {} is a field of message {}", input.name(), output.name());
        return Err(refuse(method, reason));
    }
    Ok(filters)
}
