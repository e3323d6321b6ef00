//! The calls of a module's feed methods: rows and changes as messages of the method's result.

use std::sync::Arc;

use deltamesh_module::{ConvertError, Delivery, FeedFilter, MethodDefinition, message_from_row};
use deltamesh_nats_grpc::{Call, Status};
use prost::Message as _;
use prost_reflect::{DynamicMessage, Kind, MessageDescriptor, ReflectMessage as _, Value as Proto};

use crate::context::Context;
use crate::cursor::Cursor;
use crate::event::{Event, Operation, Row};
use crate::methods::{bad_request, decode};
use crate::subscription::{Item, Mode, Subscription, Wanted};

/// Sets a string field where the message has one of that name.
pub(crate) fn set_text(message: &mut DynamicMessage, name: &str, text: &str) {
    let field = message.descriptor().get_field_by_name(name);
    if let Some(field) = field.filter(|field| !field.is_list() && field.kind() == Kind::String) {
        message.set_field(&field, Proto::String(text.to_owned()));
    }
}

/// Turns the items of a subscription into messages of the method's result.
pub(crate) struct FeedStream<'a> {
    method: &'a MethodDefinition,
    delivery: Delivery,
    form: Arc<str>,
}

impl<'a> FeedStream<'a> {
    /// `form` names the rows of this method where they are encoded once for all of its calls.
    pub(crate) fn new(method: &'a MethodDefinition, delivery: Delivery, form: Arc<str>) -> Self {
        Self { method, delivery, form }
    }

    /// Serves one call until the caller or the gateway ends it.
    pub(crate) async fn run(
        &self,
        context: &Context,
        view: &str,
        filters: &[FeedFilter],
        mut call: Call,
    ) -> Result<(), Status> {
        let request = decode(&self.method.input, call.requests.single().await?)?;
        let resolved = filters.iter().map(|filter| filter.resolve(&request));
        let resolved: Result<Vec<_>, ConvertError> = resolved.filter_map(Result::transpose).collect();
        let wanted = Wanted {
            view: view.to_owned(),
            filters: resolved.map_err(|error| bad_request(&error))?,
            mode: Mode::SnapshotAndChanges,
            cursor: self.resume(&request)?,
        };
        let mut subscription = Subscription::start(&context.hub, &context.replica, wanted);
        while let Some(item) = subscription.next().await? {
            match &item {
                Item::Row(event) | Item::Change(event) if !self.delivery.operation => {
                    if event.operation != Operation::Delete {
                        self.send_row(event, &subscription, &mut call).await?;
                    }
                }
                Item::Row(event) => {
                    self.send(event.operation.name(), Some(&event.row), None, &mut call).await?;
                }
                Item::Change(event) => {
                    let cursor = Some(subscription.cursor());
                    self.send(event.operation.name(), Some(&event.row), cursor, &mut call).await?;
                }
                Item::SnapshotBegin { reason } => {
                    self.mark("snapshot_begin", reason, None, &mut call).await?
                }
                Item::SnapshotEnd => {
                    self.mark("snapshot_end", "", Some(subscription.cursor()), &mut call).await?;
                }
                Item::Progress => {}
            }
        }
        Ok(())
    }

    fn resume(&self, request: &DynamicMessage) -> Result<Option<Cursor>, Status> {
        if !self.delivery.resume {
            return Ok(None);
        }
        let cursor = request.get_field_by_name("cursor");
        let text = cursor.as_ref().and_then(|value| value.as_str()).filter(|text| !text.is_empty());
        text.map(Cursor::decode).transpose().map_err(|error| Status::invalid_argument(error.to_string()))
    }

    /// A row that is the whole message: encoded once for all calls of the method, unless each has a cursor of its own.
    async fn send_row(
        &self,
        event: &Arc<Event>,
        subscription: &Subscription,
        call: &mut Call,
    ) -> Result<(), Status> {
        if self.delivery.row || self.delivery.cursor {
            let cursor = (event.operation != Operation::Read).then(|| subscription.cursor());
            return self.send("", Some(&event.row), cursor, call).await;
        }
        let encode = || Ok::<_, Status>(self.row_message(&self.method.output, &event.row)?.encode_to_vec());
        let frame = event.encoded.form(&self.form, encode)?;
        call.responses.send_frame(frame).await
    }

    fn row_message(&self, descriptor: &MessageDescriptor, row: &Row) -> Result<DynamicMessage, Status> {
        message_from_row(descriptor, row).map_err(|error| {
            Status::internal(format!("a row does not fit message {}: {error}", descriptor.full_name()))
        })
    }

    async fn send(
        &self,
        operation: &str,
        row: Option<&Row>,
        cursor: Option<&Cursor>,
        call: &mut Call,
    ) -> Result<(), Status> {
        let message = self.message(operation, row, cursor)?;
        call.responses.send(&message.encode_to_vec()).await
    }

    /// A mark without a row, for results that can say it.
    async fn mark(
        &self,
        operation: &str,
        reason: &str,
        cursor: Option<&Cursor>,
        call: &mut Call,
    ) -> Result<(), Status> {
        if !self.delivery.operation || !self.names_operation(operation) {
            return Ok(());
        }
        let mut message = self.message(operation, None, cursor)?;
        if !reason.is_empty() {
            set_text(&mut message, "reason", reason);
        }
        call.responses.send(&message.encode_to_vec()).await
    }

    /// Whether the result's field `operation` has a value for it.
    fn names_operation(&self, operation: &str) -> bool {
        let field = self.method.output.get_field_by_name("operation");
        field.is_some_and(|field| match field.kind() {
            Kind::Enum(operations) => operations.values().any(|value| is_value_of(value.name(), operation)),
            _ => true,
        })
    }

    fn message(
        &self,
        operation: &str,
        row: Option<&Row>,
        cursor: Option<&Cursor>,
    ) -> Result<DynamicMessage, Status> {
        let output = &self.method.output;
        let mut message = match row {
            Some(row) if !self.delivery.row => self.row_message(output, row)?,
            _ => DynamicMessage::new(output.clone()),
        };
        let inner = output.get_field_by_name("row").filter(|_| self.delivery.row);
        if let (Some(field), Some(row)) = (inner, row)
            && let Kind::Message(descriptor) = field.kind()
        {
            message.set_field(&field, Proto::Message(self.row_message(&descriptor, row)?));
        }
        if self.delivery.operation
            && let Some(field) = output.get_field_by_name("operation")
        {
            let value = match field.kind() {
                Kind::Enum(operations) => {
                    let value = operations.values().find(|value| is_value_of(value.name(), operation));
                    Proto::EnumNumber(value.map_or(0, |value| value.number()))
                }
                _ => Proto::String(operation.to_owned()),
            };
            message.set_field(&field, value);
        }
        if self.delivery.cursor {
            set_text(&mut message, "cursor", &cursor.map(Cursor::encode).unwrap_or_default());
        }
        Ok(message)
    }
}

/// Whether an enum value (`OPERATION_INSERT`) is that of an operation (`insert`).
fn is_value_of(value: &str, operation: &str) -> bool {
    let value = value.to_ascii_lowercase();
    value.strip_suffix(operation).is_some_and(|prefix| prefix.is_empty() || prefix.ends_with('_'))
}
