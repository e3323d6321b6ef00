//! Being found: `$SRV` requests, health, reflection, and the guard of the node id.

use std::time::Duration;

use deltamesh_nats_grpc::{CallOptions, Code, ErrorKind, Options, Router, Server};
use futures::StreamExt;
use serde_json::Value;

use crate::harness::{Harness, PATIENCE, call_options, connect};

async fn ask(harness: &Harness, subject: &str) -> Value {
    let client = connect(&harness.nats).await;
    let answer = client.request(subject.to_owned(), "".into()).await.unwrap();
    serde_json::from_slice(&answer.payload).unwrap()
}

#[tokio::test]
async fn service_discovery() {
    let harness = Harness::start().await;
    harness.say("a").await.unwrap();
    harness.say("error:5").await.unwrap_err();

    let ping = ask(&harness, "$SRV.PING").await;
    assert_eq!(ping["type"], "io.nats.micro.v1.ping_response");
    assert_eq!(ping["metadata"]["nid"], "node1");
    let id = ping["id"].as_str().unwrap();

    let info = ask(&harness, "$SRV.INFO.nats-grpc").await;
    assert_eq!((&info["type"], &info["id"]), (&"io.nats.micro.v1.info_response".into(), &id.into()));
    let endpoints = info["endpoints"].as_array().unwrap();
    let join =
        endpoints.iter().find(|endpoint| endpoint["name"] == "chatpb_ChatService_JoinChannel").unwrap();
    assert_eq!(join["subject"], "nrpc.node1.chatpb.ChatService.JoinChannel");
    assert_eq!(join["queue_group"], "chatpb.ChatService");
    assert_eq!(join["metadata"]["method"], "/chatpb.ChatService/JoinChannel");
    assert_eq!(join["metadata"]["output"], "chatpb.Message");
    assert_eq!(join["metadata"]["server_streaming"], "true");

    let stats = ask(&harness, &format!("$SRV.STATS.nats-grpc.{id}")).await;
    let endpoints = stats["endpoints"].as_array().unwrap();
    let hello = endpoints.iter().find(|endpoint| endpoint["name"] == "echo_Echo_SayHello").unwrap();
    assert_eq!((&hello["num_requests"], &hello["num_errors"]), (&2.into(), &1.into()));
    assert_eq!(hello["last_error"], "5 NotFound: requested failure 5");
    assert_eq!(stats["data"]["opened"], 2);
}

#[tokio::test]
async fn a_node_id_is_served_once() {
    let harness = Harness::start().await;
    let start = |nid: &'static str| {
        let options = Options { node_id_probe: Duration::from_secs(2), ..Options::default() };
        let nats = &harness.nats;
        async move { Server::start(connect(nats).await, nid, options).await }
    };
    assert_eq!(start("node1").await.unwrap_err().kind(), ErrorKind::NodeIdTaken);
    assert_eq!(start("no.de").await.unwrap_err().kind(), ErrorKind::Name);
    assert_eq!(start("").await.unwrap_err().kind(), ErrorKind::Name);
}

#[tokio::test]
async fn health_follows_the_services() {
    let harness = Harness::start().await;
    let check = |service: &'static str| {
        let request = [&[0x0a, u8::try_from(service.len()).unwrap()], service.as_bytes()].concat();
        let client = &harness.client;
        async move { client.unary("/grpc.health.v1.Health/Check", &request, CallOptions::default()).await }
    };
    assert_eq!(&check("").await.unwrap()[..], [0x08, 1]);
    assert_eq!(&check("echo.Echo").await.unwrap()[..], [0x08, 1]);
    assert_eq!(check("no.Such").await.unwrap_err().code, Code::NotFound);

    let path = "/grpc.health.v1.Health/Watch";
    let mut watch =
        harness.client.server_streaming(path, b"\x0a\x09echo.Echo", call_options()).await.unwrap();
    assert_eq!(&watch.next().await.unwrap().unwrap()[..], [0x08, 1]);
    harness.server.set_services(Router::new()).await.unwrap();
    assert_eq!(&watch.next().await.unwrap().unwrap()[..], [0x08, 3]);
}

#[tokio::test]
async fn reflection_in_both_versions_follows_the_services() {
    let harness = Harness::start().await;
    for version in ["v1", "v1alpha"] {
        harness.server.set_services(crate::services::router()).await.unwrap();
        let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
        let (mut requests, mut answers) = harness.client.streaming(&path, call_options()).await.unwrap();
        for (request, contained, replaced) in [
            (&b"\x3a\x01*"[..], "chatpb.ChatService", false),
            (b"\x22\x09echo.Echo", "echo.proto", false),
            (b"\x22\x09no.Symbol", "not found", false),
            (b"\x3a\x01*", "grpc.reflection.v1alpha.ServerReflection", true),
        ] {
            if replaced {
                harness.server.set_services(Router::new()).await.unwrap();
            }
            requests.send(request).await.unwrap();
            let answer = tokio::time::timeout(PATIENCE, answers.next()).await.unwrap().unwrap().unwrap();
            let text = String::from_utf8_lossy(&answer);
            assert!(text.contains(contained), "{text:?}");
            assert!(!replaced || !text.contains("chatpb"), "{text:?}");
        }
    }
}

#[tokio::test]
async fn every_instance_answers_a_ping() {
    let harness = Harness::start().await;
    let _second = Server::start(connect(&harness.nats).await, "node2", Options::default()).await.unwrap();
    let client = connect(&harness.nats).await;
    let inbox = client.new_inbox();
    let answers = client.subscribe(inbox.clone()).await.unwrap();
    client.publish_with_reply("$SRV.PING", inbox, "".into()).await.unwrap();
    let answers = tokio::time::timeout(PATIENCE, answers.take(2).collect::<Vec<_>>()).await.unwrap();
    let mut nids: Vec<String> = answers
        .iter()
        .map(|answer| {
            serde_json::from_slice::<Value>(&answer.payload).unwrap()["metadata"]["nid"].to_string()
        })
        .collect();
    nids.sort();
    assert_eq!(nids, ["\"node1\"", "\"node2\""]);
}
