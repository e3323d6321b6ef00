//! Module methods over every transport, and modules that come, change and are refused.

use bytes::Bytes;
use deltamesh_module::{ModuleDefinition, SourceFile};
use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use serde_json::{Value as Json, json};

use crate::browser::{json, request};
use crate::world::{CHATPB, World, feed_of, plain, within};

struct Chat(ModuleDefinition);

impl Chat {
    fn new() -> Self {
        Self(ModuleDefinition::compile("chatpb", &[SourceFile::new("m.proto", CHATPB)], &[]).unwrap())
    }

    fn descriptor(&self, name: &str) -> MessageDescriptor {
        self.0.pool.get_message_by_name(name).unwrap()
    }

    fn encode(&self, name: &str, json: Json) -> Vec<u8> {
        DynamicMessage::deserialize(self.descriptor(name), json).unwrap().encode_to_vec()
    }

    fn said(&self, bytes: Bytes) -> String {
        let message = DynamicMessage::decode(self.descriptor("chatpb.Message"), bytes).unwrap();
        let json = serde_json::to_value(&message).unwrap();
        format!(
            "{} in {}: {}",
            json["sender"].as_str().unwrap(),
            json["channel"]["name"].as_str().unwrap(),
            json["message"].as_str().unwrap()
        )
    }

    fn message(&self, sender: &str, channel: &str, text: &str) -> Vec<u8> {
        self.encode(
            "chatpb.Message",
            json!({"sender": sender, "channel": {"name": channel}, "message": text}),
        )
    }
}

/// The un-annotated chat: history of the channel, then what is said in it, and nothing of the other.
#[tokio::test(flavor = "multi_thread")]
async fn the_chat_of_tutorials_works_as_it_stands() {
    let mut world = World::start().await;
    assert_eq!(world.module("chatpb", CHATPB, "").await.error, "");
    let chat = Chat::new();
    let send = async |messages: &[(&str, &str, &str)]| {
        let (mut requests, mut answers) =
            world.rpc.streaming("/chatpb.ChatService/SendMessage", plain()).await.unwrap();
        for (sender, channel, text) in messages {
            requests.send(&chat.message(sender, channel, text)).await.unwrap();
        }
        requests.half_close().await.unwrap();
        let ack = within(answers.single()).await.unwrap();
        let ack = DynamicMessage::decode(chat.descriptor("chatpb.MessageAck"), ack).unwrap();
        assert_eq!(serde_json::to_value(&ack).unwrap(), json!({"status": "ok"}));
    };
    let mut feed = world.client.nats().subscribe(feed_of("message")).await.unwrap();
    send(&[("ada", "x", "one"), ("bob", "y", "other"), ("ada", "x", "two")]).await;
    let join = chat.encode("chatpb.Channel", json!({"name": "x", "sendersName": "eve"}));
    let mut joined =
        world.rpc.server_streaming("/chatpb.ChatService/JoinChannel", &join, plain()).await.unwrap();
    let mut heard = Vec::new();
    for _ in 0..2 {
        heard.push(chat.said(within(joined.next()).await.unwrap().unwrap()));
    }
    send(&[("bob", "y", "again"), ("bob", "x", "three")]).await;
    heard.push(chat.said(within(joined.next()).await.unwrap().unwrap()));
    assert_eq!(heard, ["ada in x: one", "ada in x: two", "bob in x: three"]);
    let first = within(futures::StreamExt::next(&mut feed)).await.unwrap();
    let row: Json = serde_json::from_slice(&first.payload).unwrap();
    assert_eq!(
        row,
        json!({"__docid": 1, "sender": "ada", "channel": {"name": "x", "senders_name": ""}, "message": "one"})
    );
    stock_client(&world).await;
    world.gateway.stop().await;
    let told = loop {
        if let Err(status) = within(joined.next()).await {
            break status;
        }
    };
    assert_eq!(told.code, deltamesh_nats_grpc::Code::Unavailable);
}

/// The Go library's own client, where it is there.
async fn stock_client(world: &World) {
    let Some(program) = deltamesh_testkit::reference("natsgrpc-call") else { return };
    let run = async |arguments: &[&str]| {
        let output = tokio::process::Command::new(&program)
            .args(["-nats", &world.nats.url(), "-svcid", "node1", "-timeout", "5s"])
            .args(arguments)
            .output();
        let output = within(output).await.unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    };
    assert!(run(&["-list"]).await.contains("chatpb.ChatService"));
    let message = r#"{"sender":"gopher","channel":{"name":"x"},"message":"from Go"}"#;
    let sent = run(&["-data", message, "chatpb.ChatService/SendMessage"]).await;
    assert!(sent.contains("ok"), "{sent}");
    let heard = run(&["-data", r#"{"name":"x"}"#, "-count", "4", "chatpb.ChatService/JoinChannel"]).await;
    assert!(heard.contains("from Go") && heard.contains("one") && !heard.contains("other"), "{heard}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mutation_answers_its_row() {
    let mut world = World::start().await;
    world.items().await;
    let put = r#"{"id": 1, "room": "a", "text": "x"}"#;
    let row = serde_json::json!({"id": "1", "room": "a", "text": "x"});
    assert_eq!(json(&world, "POST", "/v1/call/items.v1.Items/PutBack", put).await, row);
    let event = json(&world, "POST", "/v1/call/items.v1.Items/PutIn", put).await;
    assert_eq!(event["row"], row);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_module_is_refused_and_the_old_one_serves_on() {
    let mut world = World::start().await;
    world.items().await;
    let refused = world.module("items", "syntax = \"proto3\";\nmessage A { string a = 1 }", "").await;
    assert_eq!(
        (refused.accepted, refused.error.as_str()),
        (false, "m.proto:2:26: expected ';' or '[', but found '}'")
    );
    let put = r#"{"id": 1, "room": "a", "text": "still served"}"#;
    let ack = json(&world, "POST", "/v1/call/items.v1.Items/Put", put).await;
    assert_eq!(ack["status"], "ok");
    let status = deltamesh_jetstream::gather_status(&world.client, std::time::Duration::from_millis(500))
        .await
        .unwrap();
    let fault = &status.iter().find(|status| status.service == "feed-gateway").unwrap().faults[0];
    assert_eq!((fault.part.as_str(), fault.reason.as_str()), ("module items", refused.error.as_str()));
    world.items().await;
    let taken = world.module("other", CHATPB, "").await;
    assert!(taken.accepted);
    let third = r#"syntax = "proto3"; package chatpb;
        service ChatService { rpc Put(Other) returns (Ack); }
        message Other { string a = 1; } message Ack {}"#;
    let taken = world.module("third", third, "").await;
    assert_eq!(taken.error, "third: service chatpb.ChatService is that of module other");
}

#[tokio::test(flavor = "multi_thread")]
async fn json_over_http() {
    let mut world = World::start().await;
    world.items().await;
    let body = r#"{"mutations": [{"relation": "item", "row": {"id": 7, "room": "a", "text": "x"}}]}"#;
    let answer = json(&world, "POST", "/v1/mutate", body).await;
    assert_eq!((&answer["source"], &answer["rows"]), (&json!("app"), &json!(1)));
    let body = r#"{"sql": "SELECT id, text FROM items WHERE room = ?1", "parameters": ["a"]}"#;
    let answer = json(&world, "POST", "/v1/query", body).await;
    assert_eq!(answer, json!({"columns": ["id", "text"], "rows": [[7, "x"]]}));
    let answer = json(&world, "POST", "/v1/call/items.v1.Items/Get", r#"{"id": "7"}"#).await;
    assert_eq!(answer, json!({"id": "7", "room": "a", "text": "x"}));
    assert_eq!(request(&world, "POST", "/v1/call/items.v1.Items/Get", r#"{"id": "8"}"#).await.0, 404);
    let views = json(&world, "GET", "/v1/views", "").await;
    assert_eq!((&views["views"][0]["view"], &views["views"][0]["rows"]), (&json!("items"), &json!(1)));
    for (method, path, body, expected) in [
        ("POST", "/v1/query", r#"{"sql": "DELETE FROM items"}"#, 400),
        ("POST", "/v1/query", r#"{"sql": "SELECT nothing FROM items"}"#, 400),
        ("POST", "/v1/mutate", r#"{"mutations": []}"#, 400),
        ("POST", "/v1/mutate", r#"{"mutations": [{"relation": "item", "row": {"id": "x"}}]}"#, 400),
        (
            "POST",
            "/v1/mutate",
            r#"{"source": "none", "mutations": [{"relation": "item", "row": {"id": 1}}]}"#,
            503,
        ),
        ("POST", "/v1/call/items.v1.Items/None", "{}", 501),
        ("GET", "/healthz", "", 200),
        ("GET", "/readyz", "", 200),
        ("GET", "/", "", 200),
        ("GET", "/chat", "", 404),
        ("GET", "/nothing", "", 404),
    ] {
        let (status, answer) = request(&world, method, path, body).await;
        assert_eq!(status, expected, "{path} {body}: {answer}");
    }
}
