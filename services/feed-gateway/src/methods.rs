//! The methods of modules: mutations, feeds and queries over serialised messages, whatever the transport.

use std::sync::Arc;

use bytes::Bytes;
use deltamesh_change::{SourcePosition, Value, to_json};
use deltamesh_module::{
    ConvertError, MethodBinding, MethodDefinition, ModuleDefinition, MutationKind, field_value, fields_of,
    message_from_row, update_of,
};
use deltamesh_nats_grpc::{Call, Code, Handler, Service, Status};
use deltamesh_wire::ConvertError as WireError;
use deltamesh_wire::proto::change::v1::Document;
use deltamesh_wire::proto::source::v1::{MutateRequest, MutateResponse};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use prost::Message as _;
use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage as _, Value as Proto,
};

use crate::context::Context;
use crate::feed_stream::{FeedStream, set_text};
use crate::source::mutation;

/// Messages of a stream that are written in one transaction where they have already arrived.
const MUTATIONS_AT_ONCE: usize = 256;

/// The services of a module.
pub(crate) fn services(context: &Arc<Context>, module: &ModuleDefinition) -> Vec<Service> {
    let names = module.services();
    let described = names.iter().filter_map(|name| module.pool.get_service_by_name(name));
    described
        .map(|descriptor| {
            Service::new(descriptor, |described| {
                let of_service = described.parent_service().full_name().to_owned();
                let mut methods = module.methods.iter();
                let method =
                    methods.find(|method| method.service == of_service && method.name == described.name())?;
                let handler: Arc<dyn Handler> = Arc::new(MethodHandler::new(context, module, method));
                Some(handler)
            })
        })
        .collect()
}

/// Serves one method of a module.
struct MethodHandler {
    context: Arc<Context>,
    method: Arc<MethodDefinition>,
    /// Source of a mutation's relation, where the module names it.
    source: Option<String>,
    /// Where the answer to a mutation holds its row.
    place: Option<RowPlace>,
    /// Names the serialised form of rows that need no envelope.
    form: Arc<str>,
}

impl MethodHandler {
    fn new(context: &Arc<Context>, module: &ModuleDefinition, method: &Arc<MethodDefinition>) -> Self {
        let relation = match &method.binding {
            MethodBinding::Mutation { relation, .. } => module.relation(relation),
            MethodBinding::Feed { .. } | MethodBinding::Query { .. } => None,
        };
        Self {
            context: Arc::clone(context),
            method: Arc::clone(method),
            source: relation.and_then(|relation| relation.source.clone()),
            place: relation.and_then(|relation| RowPlace::find(method, &relation.message)),
            form: format!("{}/{}", module.name, method.path()).into(),
        }
    }
}

impl Handler for MethodHandler {
    fn call(&self, call: Call) -> BoxFuture<'static, Result<(), Status>> {
        let (context, method) = (Arc::clone(&self.context), Arc::clone(&self.method));
        let (source, form) = (self.source.clone(), Arc::clone(&self.form));
        let place = self.place.clone();
        async move {
            match &method.binding {
                MethodBinding::Mutation { relation, kind } => {
                    let source = source.unwrap_or_default();
                    mutate(&context, &method, &source, relation, *kind, place.as_ref(), call).await
                }
                MethodBinding::Feed { view, filters, delivery } => {
                    let stream = FeedStream::new(&method, *delivery, form);
                    stream.run(&context, view, filters, call).await
                }
                MethodBinding::Query { sql, parameters, rows } => {
                    query(&context, &method, sql, parameters, rows.as_deref(), call).await
                }
            }
        }
        .boxed()
    }
}

pub(crate) fn decode(descriptor: &MessageDescriptor, bytes: Bytes) -> Result<DynamicMessage, Status> {
    DynamicMessage::decode(descriptor.clone(), bytes).map_err(|error| {
        Status::invalid_argument(format!("{} cannot be decoded: {error}", descriptor.full_name()))
    })
}

pub(crate) fn bad_request(error: &ConvertError) -> Status {
    Status::invalid_argument(error.to_string())
}

/// The messages that have arrived, at least one, until the caller's half-close.
async fn arrived(call: &mut Call) -> Result<Vec<Bytes>, Status> {
    let mut messages = Vec::new();
    let Some(first) = call.requests.next().await? else { return Ok(messages) };
    messages.push(first);
    while messages.len() < MUTATIONS_AT_ONCE {
        match call.requests.next().now_or_never() {
            Some(Ok(Some(message))) => messages.push(message),
            Some(Err(status)) => return Err(status),
            Some(Ok(None)) | None => break,
        }
    }
    Ok(messages)
}

async fn mutate(
    context: &Context,
    method: &MethodDefinition,
    source: &str,
    relation: &str,
    kind: MutationKind,
    place: Option<&RowPlace>,
    mut call: Call,
) -> Result<(), Status> {
    let mut answer = MutateResponse::default();
    let mut last = None;
    loop {
        let messages = if method.client_streaming {
            arrived(&mut call).await?
        } else if last.is_none() {
            vec![call.requests.single().await?]
        } else {
            vec![]
        };
        if messages.is_empty() {
            break;
        }
        let mut mutations = Vec::with_capacity(messages.len());
        for message in messages {
            let request = decode(&method.input, message)?;
            // A field that is absent from an update keeps its value.
            let row = if kind == MutationKind::Update { update_of(&request) } else { fields_of(&request) };
            let row = row.map_err(|error| bad_request(&error))?;
            mutations.push(mutation(relation, kind, row));
            last = Some(request);
        }
        let request = MutateRequest {
            source: source.to_owned(),
            mutations,
            returning: place.is_some(),
            ..Default::default()
        };
        let part = context.sources.mutate(request).await?;
        answer = MutateResponse { rows: answer.rows + part.rows, ..part };
    }
    let mut message = mutation_answer(&method.output, &answer, last.as_ref());
    if let (Some(place), Some(row)) = (place, answer.documents.pop()) {
        place.put(&mut message, row)?;
    }
    call.responses.send(&message.encode_to_vec()).await
}

/// Where an answer holds a row as the source stores it.
#[derive(Clone)]
enum RowPlace {
    /// It is the row.
    Answer(MessageDescriptor),
    /// In a field, or as the only item of a repeated one.
    Field(FieldDescriptor, MessageDescriptor),
}

impl RowPlace {
    /// The place in the answer of a unary method for the relation's message; nothing where there is none or more than one.
    fn find(method: &MethodDefinition, row: &MessageDescriptor) -> Option<Self> {
        if method.client_streaming {
            return None;
        }
        if &method.output == row {
            return Some(Self::Answer(row.clone()));
        }
        let of_row =
            |field: &FieldDescriptor| matches!(field.kind(), Kind::Message(message) if &message == row);
        let mut fields = method.output.fields().filter(of_row);
        let field = fields.next()?;
        fields.next().is_none().then(|| Self::Field(field, row.clone()))
    }

    /// Puts the row there; a row without fields is one that was deleted, or never there.
    fn put(&self, answer: &mut DynamicMessage, row: Document) -> Result<(), Status> {
        let unfit = |reason: String| Status::internal(format!("a row does not fit the answer: {reason}"));
        let row: Vec<(String, Value)> =
            row.try_into().map_err(|error: WireError| unfit(error.to_string()))?;
        if row.is_empty() {
            return Ok(());
        }
        let row = row.iter().map(|(name, value)| (name.clone(), to_json(value))).collect();
        let (Self::Answer(message) | Self::Field(_, message)) = self;
        let row = message_from_row(message, &row).map_err(|error| unfit(error.to_string()))?;
        match self {
            Self::Answer(_) => *answer = row,
            Self::Field(field, _) if field.is_list() => {
                answer.set_field(field, Proto::List(vec![Proto::Message(row)]));
            }
            Self::Field(field, _) => answer.set_field(field, Proto::Message(row)),
        }
        Ok(())
    }
}

/// The answer to a mutation: the request itself where it is of that type, else `status`, `position` and `rows` where the answer
/// has such fields.
fn mutation_answer(
    output: &MessageDescriptor,
    answer: &MutateResponse,
    request: Option<&DynamicMessage>,
) -> DynamicMessage {
    if let Some(request) = request.filter(|request| &request.descriptor() == output) {
        return request.clone();
    }
    let mut message = DynamicMessage::new(output.clone());
    let position = answer.position.clone().map(|position| SourcePosition::from(position).to_string());
    set_text(&mut message, "status", "ok");
    set_text(&mut message, "position", &position.unwrap_or_default());
    if let Some(field) = output.get_field_by_name("rows").filter(|field| !field.is_list()) {
        let rows = match field.kind() {
            Kind::Uint64 | Kind::Fixed64 => Some(Proto::U64(answer.rows)),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => i64::try_from(answer.rows).ok().map(Proto::I64),
            Kind::Uint32 | Kind::Fixed32 => u32::try_from(answer.rows).ok().map(Proto::U32),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => i32::try_from(answer.rows).ok().map(Proto::I32),
            _ => None,
        };
        if let Some(rows) = rows {
            message.set_field(&field, rows);
        }
    }
    message
}

async fn query(
    context: &Context,
    method: &MethodDefinition,
    sql: &str,
    parameters: &[String],
    rows_field: Option<&str>,
    mut call: Call,
) -> Result<(), Status> {
    let request = decode(&method.input, call.requests.single().await?)?;
    let mut values = Vec::with_capacity(parameters.len());
    for name in parameters {
        if let Some(field) = method.input.get_field_by_name(name) {
            values.push(field_value(&request, &field).map_err(|error| bad_request(&error))?);
        }
    }
    let unfit = |error: ConvertError| Status::internal(format!("a row does not fit the answer: {error}"));
    let mut answer = context.replica.query(sql, values);
    let mut all = Vec::new();
    while let Some(rows) = answer.next_rows().await? {
        for row in rows {
            let row = answer.named(row);
            if method.server_streaming {
                let message = message_from_row(&method.output, &row).map_err(unfit)?;
                call.responses.send(&message.encode_to_vec()).await?;
            } else {
                all.push(row);
            }
        }
    }
    if method.server_streaming {
        return Ok(());
    }
    let message = match rows_field.and_then(|name| method.output.get_field_by_name(name)) {
        Some(field) => {
            let Kind::Message(descriptor) = field.kind() else {
                return Err(Status::internal("rows are not messages"));
            };
            let rows = all.iter().map(|row| message_from_row(&descriptor, row).map(Proto::Message));
            let mut message = DynamicMessage::new(method.output.clone());
            message.set_field(&field, Proto::List(rows.collect::<Result<_, _>>().map_err(unfit)?));
            message
        }
        None => {
            let row = all.first().ok_or_else(|| Status::new(Code::NotFound, "no row"))?;
            message_from_row(&method.output, row).map_err(unfit)?
        }
    };
    call.responses.send(&message.encode_to_vec()).await
}
