//! A nats-server, our server on it, and clients.

use std::time::Duration;

use async_nats::Subscriber;
use bytes::Bytes;
use deltamesh_nats_grpc::{CallOptions, Client, ClientOptions, Options, ResponseStream, Server, Status};
use deltamesh_testkit::NatsServer;
use futures::StreamExt;
use prost::Message as _;

use crate::services::{self, Channel, Hello, Message};

/// Longer than anything takes; ends a test that hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Harness {
    pub nats: NatsServer,
    pub server: Server,
    pub client: Client,
}

impl Harness {
    pub(crate) async fn start() -> Self {
        Self::with(Options::default()).await
    }

    pub(crate) async fn with(options: Options) -> Self {
        let nats = NatsServer::start().unwrap();
        let options = Options { node_id_probe: Duration::from_millis(20), ..options };
        let server = Server::start(connect(&nats).await, "node1", options).await.unwrap();
        server.set_services(services::router()).await.unwrap();
        let client = Client::new(connect(&nats).await, "node1", ClientOptions::default()).await.unwrap();
        Self { nats, server, client }
    }

    pub(crate) async fn say(&self, msg: &str) -> Result<String, Status> {
        let request = hello(msg);
        let answer = self.client.unary("/echo.Echo/SayHello", &request, CallOptions::default()).await?;
        Ok(Hello::decode(answer).unwrap().msg)
    }

    pub(crate) async fn join(&self, name: &str) -> ResponseStream {
        let request = channel(name);
        self.client
            .server_streaming("/chatpb.ChatService/JoinChannel", &request, call_options())
            .await
            .unwrap()
    }

    /// Waits until the server's counters satisfy `condition`.
    pub(crate) async fn until(&self, condition: impl Fn(&deltamesh_nats_grpc::Counters) -> bool) {
        let met = async {
            while !condition(&self.server.counters()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, met).await;
        assert!(waited.is_ok(), "{:?}", self.server.counters());
    }
}

pub(crate) async fn connect(nats: &NatsServer) -> async_nats::Client {
    async_nats::connect(nats.url()).await.unwrap()
}

pub(crate) fn call_options() -> CallOptions {
    CallOptions { timeout: Some(PATIENCE), ..CallOptions::default() }
}

pub(crate) fn hello(msg: &str) -> Vec<u8> {
    Hello { msg: msg.to_owned() }.encode_to_vec()
}

pub(crate) fn channel(name: &str) -> Vec<u8> {
    Channel { name: name.to_owned(), senders_name: "bob".to_owned() }.encode_to_vec()
}

pub(crate) fn chat_message(text: &str) -> Vec<u8> {
    Message { sender: "bob".to_owned(), channel: None, message: text.to_owned() }.encode_to_vec()
}

/// The texts of a stream and its outcome.
pub(crate) async fn drain(mut responses: ResponseStream) -> (Vec<String>, Result<(), Status>) {
    let mut texts = Vec::new();
    loop {
        match responses.next().await {
            Ok(Some(message)) => texts.push(Message::decode(message).unwrap().message),
            Ok(None) => return (texts, Ok(())),
            Err(status) => return (texts, Err(status)),
        }
    }
}

/// A client made of bytes.
pub(crate) struct Wire {
    nats: async_nats::Client,
    subject: String,
    inbox: String,
    answers: Subscriber,
}

impl Wire {
    pub(crate) async fn open(nats: &NatsServer, subject: &str) -> Self {
        let nats = connect(nats).await;
        let inbox = nats.new_inbox();
        let answers = nats.subscribe(inbox.clone()).await.unwrap();
        Self { nats, subject: subject.to_owned(), inbox, answers }
    }

    /// Publishes an envelope, in hexadecimal digits.
    pub(crate) async fn send(&self, hex: &str) {
        let (subject, inbox) = (self.subject.clone(), self.inbox.clone());
        self.nats.publish_with_reply(subject, inbox, bytes(hex)).await.unwrap();
        self.nats.flush().await.unwrap();
    }

    /// The next answer in hexadecimal digits; empty probes are passed over, as Go clients do.
    pub(crate) async fn next(&mut self) -> String {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.answers.next()).await.unwrap().unwrap();
            if !message.payload.is_empty() {
                return message.payload.iter().map(|byte| format!("{byte:02x}")).collect();
            }
        }
    }

    /// Asserts that nothing more has been answered, by the answer to another call.
    pub(crate) async fn assert_silent(&mut self) {
        let Self { nats, answers, .. } = self;
        let inbox = nats.new_inbox();
        let mut barrier = nats.subscribe(inbox.clone()).await.unwrap();
        for hex in ["1200", "1a00"] {
            let subject = "nrpc.node1.echo.Echo.SayHello";
            nats.publish_with_reply(subject, inbox.clone(), bytes(hex)).await.unwrap();
        }
        tokio::time::timeout(PATIENCE, barrier.next()).await.unwrap().unwrap();
        while let Ok(Some(message)) = tokio::time::timeout(Duration::from_millis(30), answers.next()).await {
            assert!(message.payload.is_empty(), "unexpected {:02x?}", message.payload);
        }
    }

    /// Leaves as a Go client does: the inbox is no longer subscribed.
    pub(crate) async fn leave(mut self) {
        self.answers.unsubscribe().await.unwrap();
        self.nats.flush().await.unwrap();
    }
}

pub(crate) fn bytes(hex: &str) -> Bytes {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect::<Vec<_>>().into()
}
