//! Ordinary gRPC on the HTTP port.

use bytes::{Bytes, BytesMut};
use deltamesh_module::{ModuleDefinition, SourceFile};
use deltamesh_wire::proto::feed::v1::{
    FeedMessage, QueryRequest, QueryResponse, SubscribeRequest, feed_message,
};
use h2::client::SendRequest;
use http::{HeaderMap, Request};
use prost::Message;
use prost_reflect::DynamicMessage;
use prost_types::{Value, value};
use tokio::net::TcpStream;

use crate::browser::json;
use crate::world::{CHATPB, World, within};

async fn connect(world: &World) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(world.gateway.address()).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(async move {
        connection.await.ok();
    });
    sender.ready().await.unwrap()
}

fn framed(message: &impl Message) -> Bytes {
    let mut bytes = vec![0];
    bytes.extend_from_slice(&u32::try_from(message.encoded_len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(&message.encode_to_vec());
    bytes.into()
}

struct Answer {
    body: h2::RecvStream,
    buffer: BytesMut,
    headers: HeaderMap,
}

async fn call(world: &World, path: &str, request: &impl Message) -> Answer {
    let mut sender = connect(world).await;
    let uri = format!("http://{}{path}", world.gateway.address());
    let head = Request::post(uri)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap();
    let (response, mut stream) = sender.send_request(head, false).unwrap();
    stream.send_data(framed(request), true).unwrap();
    let response = within(response).await.unwrap();
    let headers = response.headers().clone();
    Answer { body: response.into_body(), buffer: BytesMut::new(), headers }
}

impl Answer {
    async fn next<M: Message + Default>(&mut self) -> Option<M> {
        loop {
            if let Some(length) = self.buffer.get(1..5) {
                let length = u32::from_be_bytes(length.try_into().unwrap()) as usize;
                if self.buffer.len() >= 5 + length {
                    let message = self.buffer.split_to(5 + length);
                    return Some(M::decode(&message[5..]).unwrap());
                }
            }
            let bytes = within(self.body.data()).await?.unwrap();
            self.body.flow_control().release_capacity(bytes.len()).unwrap();
            self.buffer.extend_from_slice(&bytes);
        }
    }

    /// Code and message, from the trailers or from the headers of an answer without body.
    async fn status(&mut self) -> (String, String) {
        let trailers = within(self.body.trailers()).await.unwrap().unwrap_or_else(|| self.headers.clone());
        let text = |name: &str| {
            trailers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
        };
        (text("grpc-status"), text("grpc-message"))
    }
}

/// `SendMessage` of the un-annotated chat, thousands of small messages in one call, faster than the source takes them.
#[tokio::test(flavor = "multi_thread")]
async fn client_streaming_over_http2() {
    let mut world = World::start().await;
    assert_eq!(world.module("chatpb", CHATPB, "").await.error, "");
    let module = ModuleDefinition::compile("chatpb", &[SourceFile::new("m.proto", CHATPB)], &[]).unwrap();
    let descriptor = module.pool.get_message_by_name("chatpb.Message").unwrap();
    let mut sender = connect(&world).await;
    let uri = format!("http://{}/chatpb.ChatService/SendMessage", world.gateway.address());
    let head = Request::post(uri).header("content-type", "application/grpc").body(()).unwrap();
    let (response, mut stream) = sender.send_request(head, false).unwrap();
    for number in 0..5000 {
        let message =
            serde_json::json!({"sender": "ada", "channel": {"name": "x"}, "message": number.to_string()});
        let message = DynamicMessage::deserialize(descriptor.clone(), message).unwrap();
        stream.send_data(framed(&message), false).unwrap();
    }
    stream.send_data(Bytes::new(), true).unwrap();
    let response = within(response).await.unwrap();
    let headers = response.headers().clone();
    let mut answer = Answer { body: response.into_body(), buffer: BytesMut::new(), headers };
    answer.next::<()>().await.unwrap();
    assert_eq!(answer.next::<()>().await, None);
    assert_eq!(answer.status().await, ("0".to_owned(), String::new()));
    let body = r#"{"sql": "SELECT count(*) FROM message"}"#;
    assert_eq!(json(&world, "POST", "/v1/query", body).await["rows"], serde_json::json!([[5000]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn generic_methods_over_http2() {
    let mut world = World::start().await;
    world.items().await;
    world.put(1, "a", "x").await;
    let text = |text: &str| Value { kind: Some(value::Kind::StringValue(text.to_owned())) };
    let query =
        QueryRequest { sql: "SELECT id FROM items WHERE room = ?1".to_owned(), parameters: vec![text("a")] };
    let mut answer = call(&world, "/deltamesh.feed.v1.FeedService/Query", &query).await;
    let rows: QueryResponse = answer.next().await.unwrap();
    assert_eq!((rows.columns, rows.rows.len()), (vec!["id".to_owned()], 1));
    assert_eq!(answer.next::<QueryResponse>().await, None);
    assert_eq!(answer.status().await.0, "0");
    let fetch = "DECLARE c CURSOR FOR TAIL items; FETCH ALL FROM c; FETCH ALL FROM c";
    let fetch = QueryRequest { sql: fetch.to_owned(), parameters: vec![] };
    let mut answer = call(&world, "/deltamesh.feed.v1.FeedService/Query", &fetch).await;
    let mut operations = Vec::new();
    while let Some(page) = answer.next::<QueryResponse>().await {
        operations.extend(page.rows.into_iter().map(|row| row.values[0].clone()));
    }
    assert_eq!(operations, ["snapshot_begin", "read", "snapshot_end", "progress"].map(text));
    let subscribe = SubscribeRequest {
        view: "items".to_owned(),
        r#where: [("room".to_owned(), text("a"))].into(),
        ..SubscribeRequest::default()
    };
    let mut feed = call(&world, "/deltamesh.feed.v1.FeedService/Subscribe", &subscribe).await;
    for _ in 0..3 {
        feed.next::<FeedMessage>().await.unwrap();
    }
    world.put(2, "a", "y").await;
    let message: FeedMessage = feed.next().await.unwrap();
    let Some(feed_message::Message::Delta(delta)) = message.message else { panic!("{message:?}") };
    assert_eq!(delta.row.unwrap().fields["text"], text("y"));
    assert!(delta.transaction_end && !delta.cursor.is_empty());
    let unknown = SubscribeRequest { view: "nothing".to_owned(), ..SubscribeRequest::default() };
    let mut answer = call(&world, "/deltamesh.feed.v1.FeedService/Subscribe", &unknown).await;
    assert_eq!(answer.next::<FeedMessage>().await, None);
    assert_eq!(answer.status().await, ("5".to_owned(), "view nothing does not exist".to_owned()));
    let mut answer = call(&world, "/no.Such/Method", &unknown).await;
    assert_eq!(answer.status().await.0, "12");
    world.gateway.stop().await;
    while feed.next::<FeedMessage>().await.is_some() {}
    assert_eq!(feed.status().await, ("14".to_owned(), "gateway is draining".to_owned()));
}
