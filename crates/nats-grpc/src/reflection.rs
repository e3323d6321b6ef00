//! Server reflection: answers questions about descriptors. v1 and v1alpha differ in their package only.
//!
//! [`ReflectionService::answer`] is a function of bytes to bytes, so that every transport can mount it; as a
//! [`Handler`] it serves the method `ServerReflectionInfo`.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use prost::Message;
use prost_reflect::{DescriptorPool, FileDescriptor};

use crate::generated::reflection::server_reflection_request::MessageRequest;
use crate::generated::reflection::server_reflection_response::MessageResponse;
use crate::generated::reflection::{
    ErrorResponse, ExtensionNumberResponse, FileDescriptorResponse, ListServiceResponse,
    ServerReflectionRequest, ServerReflectionResponse, ServiceResponse,
};
use crate::handler::{Call, Handler};
use crate::router::Router;
use crate::status::{Code, Status};

/// What is described: the names of the services, and descriptors in any number of pools.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    /// Full names, in the order in which they are listed.
    pub services: Vec<String>,
    /// The first pool that knows a name answers for it.
    pub pools: Vec<DescriptorPool>,
}

impl Catalog {
    /// The services of a router, with the pools of their descriptors.
    #[must_use]
    pub fn of(router: &Router) -> Self {
        let services = router.services().map(|service| service.name().to_owned()).collect();
        let mut pools: Vec<DescriptorPool> = Vec::new();
        for service in router.services() {
            let pool = service.descriptor().parent_pool();
            if !pools.contains(pool) {
                pools.push(pool.clone());
            }
        }
        Self { services, pools }
    }
}

/// Answers reflection requests over the catalog that a closure gives, anew for each request.
#[derive(Clone)]
pub struct ReflectionService {
    catalog: Arc<dyn Fn() -> Catalog + Send + Sync>,
}

impl std::fmt::Debug for ReflectionService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReflectionService")
    }
}

/// What one stream has been sent: no file goes out twice.
#[derive(Debug, Default)]
pub struct ReflectionStream {
    sent: HashSet<String>,
    /// The pool that answered last. Pools may hold different files of one name.
    pool: Option<DescriptorPool>,
}

type Found = Result<MessageResponse, ErrorResponse>;

impl ReflectionService {
    /// `catalog` is asked for each request.
    pub fn new(catalog: impl Fn() -> Catalog + Send + Sync + 'static) -> Self {
        Self { catalog: Arc::new(catalog) }
    }

    /// Answers one serialised `ServerReflectionRequest` with one `ServerReflectionResponse`.
    ///
    /// # Errors
    /// The request cannot be decoded or asks nothing; the stream ends with this status.
    pub fn answer(&self, request: Bytes, stream: &mut ReflectionStream) -> Result<Bytes, Status> {
        let request = ServerReflectionRequest::decode(request)
            .map_err(|error| Status::invalid_argument(format!("decode reflection request: {error}")))?;
        let question = request
            .message_request
            .clone()
            .ok_or_else(|| Status::invalid_argument("reflection request asks nothing"))?;
        let answer = find(&(self.catalog)(), question, stream).unwrap_or_else(MessageResponse::ErrorResponse);
        let response = ServerReflectionResponse {
            valid_host: request.host.clone(),
            original_request: Some(request),
            message_response: Some(answer),
        };
        Ok(response.encode_to_vec().into())
    }
}

impl Handler for ReflectionService {
    fn call(&self, mut call: Call) -> BoxFuture<'static, Result<(), Status>> {
        let service = self.clone();
        Box::pin(async move {
            let mut stream = ReflectionStream::default();
            while let Some(request) = call.requests.next().await? {
                let response = service.answer(request, &mut stream)?;
                call.responses.send(&response).await?;
            }
            Ok(())
        })
    }
}

fn find(catalog: &Catalog, question: MessageRequest, stream: &mut ReflectionStream) -> Found {
    match question {
        MessageRequest::ListServices(_) => {
            let service =
                catalog.services.iter().map(|name| ServiceResponse { name: name.clone() }).collect();
            Ok(MessageResponse::ListServicesResponse(ListServiceResponse { service }))
        }
        MessageRequest::FileByFilename(name) => {
            let file = pools(catalog, stream).find_map(|pool| pool.get_file_by_name(&name));
            send_file(file, stream, || format!("file not found: {name}"))
        }
        MessageRequest::FileContainingSymbol(symbol) => {
            let name = symbol.trim_start_matches('.');
            let file = pools(catalog, stream).find_map(|pool| file_of_symbol(pool, name));
            send_file(file, stream, || format!("symbol not found: {symbol}"))
        }
        MessageRequest::FileContainingExtension(request) => {
            let file = pools(catalog, stream).find_map(|pool| {
                let extended = pool.get_message_by_name(&request.containing_type)?;
                let number = u32::try_from(request.extension_number).ok()?;
                Some(extended.get_extension(number)?.parent_file())
            });
            send_file(file, stream, || {
                format!("extension not found: {} of {}", request.extension_number, request.containing_type)
            })
        }
        MessageRequest::AllExtensionNumbersOfType(name) => extension_numbers(catalog, &name, stream),
    }
}

/// The pool that answered last comes first, so that a file's imports are those it was built with.
fn pools<'a>(catalog: &'a Catalog, stream: &ReflectionStream) -> impl Iterator<Item = &'a DescriptorPool> {
    let last = stream.pool.clone();
    let preferred = last.and_then(|last| catalog.pools.iter().find(|pool| **pool == last));
    preferred.into_iter().chain(catalog.pools.iter())
}

fn send_file(
    file: Option<FileDescriptor>,
    stream: &mut ReflectionStream,
    missing: impl Fn() -> String,
) -> Found {
    let Some(file) = file else {
        return Err(ErrorResponse { error_code: Code::NotFound.number(), error_message: missing() });
    };
    if stream.pool.as_ref() != Some(file.parent_pool()) {
        stream.pool = Some(file.parent_pool().clone());
        stream.sent.clear();
    }
    let mut files = Vec::new();
    // The file itself is sent even if it has been: a response without it would answer nothing.
    stream.sent.remove(file.name());
    collect(&file, &mut stream.sent, &mut files);
    Ok(MessageResponse::FileDescriptorResponse(FileDescriptorResponse { file_descriptor_proto: files }))
}

fn collect(file: &FileDescriptor, sent: &mut HashSet<String>, files: &mut Vec<Bytes>) {
    if !sent.insert(file.name().to_owned()) {
        return;
    }
    files.push(file.encode_to_vec().into());
    for import in file.dependencies() {
        collect(&import, sent, files);
    }
}

fn extension_numbers(catalog: &Catalog, name: &str, stream: &ReflectionStream) -> Found {
    let message = pools(catalog, stream).find_map(|pool| pool.get_message_by_name(name));
    let Some(message) = message else {
        let error_message = format!("message not found: {name}");
        return Err(ErrorResponse { error_code: Code::NotFound.number(), error_message });
    };
    let numbers = message.extensions().filter_map(|extension| i32::try_from(extension.number()).ok());
    let mut extension_number: Vec<i32> = numbers.collect();
    extension_number.sort_unstable();
    Ok(MessageResponse::AllExtensionNumbersResponse(ExtensionNumberResponse {
        base_type_name: name.to_owned(),
        extension_number,
    }))
}

/// The file that defines a message, enum, enum value, field, oneof, extension, service or method.
fn file_of_symbol(pool: &DescriptorPool, name: &str) -> Option<FileDescriptor> {
    let whole = pool
        .get_message_by_name(name)
        .map(|message| message.parent_file())
        .or_else(|| pool.get_service_by_name(name).map(|service| service.parent_file()))
        .or_else(|| pool.get_enum_by_name(name).map(|found| found.parent_file()))
        .or_else(|| pool.get_extension_by_name(name).map(|extension| extension.parent_file()));
    whole.or_else(|| file_of_member(pool, name))
}

fn file_of_member(pool: &DescriptorPool, name: &str) -> Option<FileDescriptor> {
    let (parent, member) = name.rsplit_once('.').unwrap_or(("", name));
    if let Some(message) = pool.get_message_by_name(parent)
        && (message.get_field_by_name(member).is_some()
            || message.oneofs().any(|oneof| oneof.name() == member))
    {
        return Some(message.parent_file());
    }
    if let Some(service) = pool.get_service_by_name(parent)
        && service.methods().any(|method| method.name() == member)
    {
        return Some(service.parent_file());
    }
    // An enum's values live beside it, not in it.
    pool.all_enums()
        .find(|candidate| candidate.values().any(|value| value.full_name() == name))
        .map(|found| found.parent_file())
}

#[cfg(test)]
mod tests;
