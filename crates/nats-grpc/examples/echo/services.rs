//! The services of the Go library's examples, `echo.Echo` and `chatpb.ChatService`.
//!
//! Names of channels ask for what a test wants to see: `error:<code>`, `end:<n>` for a stream of n messages,
//! `bench:<n>:<bytes>` for a stream of n long ones with their number as sender, `size:<bytes>` for one message of that length. Any other
//! channel sends a message every 10 ms until its caller leaves.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use deltamesh_nats_grpc::{Call, Code, Handler, Metadata, Router, Service, Status, unary};
use prost::Message as _;
use prost_reflect::{DescriptorPool, MethodDescriptor};

/// `HelloRequest`, `HelloReply`, `EchoRequest` and `EchoReply` alike.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Hello {
    #[prost(string, tag = "1")]
    pub msg: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Channel {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub senders_name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Message {
    #[prost(string, tag = "1")]
    pub sender: String,
    #[prost(message, optional, tag = "2")]
    pub channel: Option<Channel>,
    #[prost(string, tag = "3")]
    pub message: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct MessageAck {
    #[prost(string, tag = "1")]
    pub status: String,
}

/// Descriptors of a `.proto` file beside this one.
pub(crate) fn descriptors(file: &str) -> DescriptorPool {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/echo");
    let files = protox::compile([file], [folder]).unwrap();
    DescriptorPool::from_file_descriptor_set(files).unwrap()
}

pub(crate) fn echo() -> Service {
    let descriptor = descriptors("echo.proto").get_service_by_name("echo.Echo").unwrap();
    Service::new(descriptor, |method: &MethodDescriptor| -> Option<Arc<dyn Handler>> {
        match method.name() {
            "SayHello" => Some(Arc::new(say_hello)),
            "Echo" => Some(Arc::new(echo_stream)),
            _ => None,
        }
    })
}

pub(crate) fn chat() -> Service {
    let descriptor = descriptors("chat.proto").get_service_by_name("chatpb.ChatService").unwrap();
    Service::new(descriptor, |method: &MethodDescriptor| -> Option<Arc<dyn Handler>> {
        match method.name() {
            "JoinChannel" => Some(Arc::new(join_channel)),
            "SendMessage" => Some(Arc::new(send_message)),
            _ => None,
        }
    })
}

/// A service of which only the description is known.
#[allow(dead_code, reason = "for the tests that include this file")]
pub(crate) fn plain_echo() -> Service {
    let descriptor = descriptors("echo.proto").get_service_by_name("echo.Echo").unwrap();
    let answer = |request: Bytes, _metadata: Metadata| async move { Ok(request) };
    Service::new(descriptor, move |method| {
        (method.name() == "SayHello").then(|| Arc::new(unary(answer)) as Arc<dyn Handler>)
    })
}

pub(crate) fn router() -> Router {
    let mut router = Router::new();
    router.add(echo());
    router.add(chat());
    router
}

fn decode<M: prost::Message + Default>(bytes: Bytes) -> Result<M, Status> {
    M::decode(bytes).map_err(|error| Status::invalid_argument(error.to_string()))
}

/// The status that a text of the form `error:<code>` asks for.
fn requested_failure(text: &str) -> Result<(), Status> {
    match text.strip_prefix("error:").and_then(|code| code.parse::<i32>().ok()) {
        Some(code) => Err(Status::new(Code::from(code), format!("requested failure {code}"))),
        None => Ok(()),
    }
}

async fn say_hello(mut call: Call) -> Result<(), Status> {
    let request: Hello = decode(call.requests.single().await?)?;
    let mut header = Metadata::new();
    for (key, value) in call.metadata.iter().filter(|(key, _value)| key.starts_with("x-")) {
        header.insert(&format!("echo-{key}"), value);
    }
    call.responses.send_header(header).await?;
    call.responses.set_trailer(Metadata::new().with("x-trailer", "t")).await?;
    requested_failure(&request.msg)?;
    let msg = match request.msg.strip_prefix("size:").and_then(|size| size.parse().ok()) {
        Some(size) => "x".repeat(size),
        None => request.msg,
    };
    call.responses.send(&Hello { msg }.encode_to_vec()).await
}

async fn echo_stream(mut call: Call) -> Result<(), Status> {
    while let Some(message) = call.requests.next().await? {
        call.responses.send(&message).await?;
    }
    Ok(())
}

async fn join_channel(mut call: Call) -> Result<(), Status> {
    let channel: Channel = decode(call.requests.single().await?)?;
    requested_failure(&channel.name)?;
    let name = channel.name.clone();
    let message = |message: String| {
        Message { sender: "server".to_owned(), channel: Some(channel.clone()), message }.encode_to_vec()
    };
    let mut words = name.split(':');
    match (words.next(), words.next().and_then(|count| count.parse::<usize>().ok()), words.next()) {
        (Some("end"), Some(count), _) => {
            for number in 0..count {
                call.responses.send(&message(number.to_string())).await?;
            }
        }
        (Some("bench"), Some(count), Some(size)) => {
            let text = "x".repeat(size.parse().unwrap_or(32));
            for number in 0..count {
                let message = Message { sender: number.to_string(), channel: None, message: text.clone() };
                call.responses.send(&message.encode_to_vec()).await?;
            }
        }
        (Some("size"), Some(size), _) => call.responses.send(&message("x".repeat(size))).await?,
        (Some("empty"), Some(count), _) => {
            for _ in 0..count {
                call.responses.send(&[]).await?;
            }
        }
        _ => loop {
            call.responses.send(&message("live".to_owned())).await?;
            tokio::time::sleep(Duration::from_millis(10)).await;
        },
    }
    Ok(())
}

async fn send_message(mut call: Call) -> Result<(), Status> {
    let mut count = 0;
    while let Some(message) = call.requests.next().await? {
        let message: Message = decode(message)?;
        requested_failure(&message.message)?;
        count += 1;
    }
    call.responses.send(&MessageAck { status: format!("SENT n={count}") }.encode_to_vec()).await
}
