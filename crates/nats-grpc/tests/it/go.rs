//! The real Go library, client and server.

use std::io::Write;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use deltamesh_nats_grpc::{CallOptions, Client, ClientOptions, Code, Options};
use deltamesh_testkit::{NatsServer, reference};
use prost::Message as _;
use serde_json::Value;

use crate::harness::{Harness, PATIENCE, call_options, channel, chat_message, connect, drain, hello};
use crate::services::{Hello, MessageAck};

/// The Go client reports a failure of a unary call as "context canceled" now and then, whatever the server does.
const ATTEMPTS: usize = 10;

/// Runs the stock Go client off the runtime's threads.
async fn go_call(harness: &Harness, arguments: &[&str], input: &str) -> Option<Output> {
    let program = reference("natsgrpc-call")?;
    let mut command = Command::new(program);
    command.args(["-nats", &harness.nats.url(), "-timeout", "15s"]).args(arguments);
    let input = input.to_owned();
    let run = move || {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    Some(tokio::task::spawn_blocking(run).await.unwrap())
}

#[track_caller]
fn check(output: &Output, expected: &str) {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(out, expected, "{err}");
    assert!(output.status.success(), "{err}");
}

#[tokio::test]
async fn the_go_client_lists_and_calls_by_reflection() {
    let harness = Harness::start().await;
    let Some(list) = go_call(&harness, &["-list"], "").await else { return };
    let list = String::from_utf8(list.stdout).unwrap();
    assert!(list.contains("JoinChannel(chatpb.Channel) returns (stream chatpb.Message)"), "{list}");
    assert!(list.contains("grpc.reflection.v1.ServerReflection\n"), "{list}");

    let hello = go_call(&harness, &["-data", r#"{"msg":"hello"}"#, "echo.Echo/SayHello"], "").await.unwrap();
    check(&hello, "{\"msg\":\"hello\"}\n");
    let join = ["-data", r#"{"name":"end:2","sendersName":"bob"}"#, "chatpb.ChatService/JoinChannel"];
    let line = |text| {
        format!(
            "{{\"sender\":\"server\",\"channel\":{{\"name\":\"end:2\",\"sendersName\":\"bob\"}},\"message\":\"{text}\"}}\n"
        )
    };
    check(&go_call(&harness, &join, "").await.unwrap(), &format!("{}{}", line("0"), line("1")));
    let messages = "{\"message\":\"1\"}\n{\"message\":\"2\"}\n{\"message\":\"3\"}\n";
    let send = go_call(&harness, &["-send", "chatpb.ChatService/SendMessage"], messages).await.unwrap();
    check(&send, "{\"status\":\"SENT n=3\"}\n");
    let echo =
        go_call(&harness, &["-send", "echo.Echo/Echo"], "{\"msg\":\"1\"}\n{\"msg\":\"2\"}\n").await.unwrap();
    check(&echo, "{\"msg\":\"1\"}\n{\"msg\":\"2\"}\n");
}

#[tokio::test]
async fn the_go_client_sees_failures() {
    let harness = Harness::start().await;
    for arguments in [
        ["-data", r#"{"msg":"error:5"}"#, "echo.Echo/SayHello"],
        ["-data", r#"{"name":"error:5"}"#, "chatpb.ChatService/JoinChannel"],
    ] {
        let mut seen = String::new();
        for _ in 0..ATTEMPTS {
            let Some(failed) = go_call(&harness, &arguments, "").await else { return };
            assert_eq!(failed.status.code(), Some(3));
            seen = String::from_utf8(failed.stderr).unwrap();
            if seen.contains("requested failure 5") {
                break;
            }
        }
        assert!(seen.contains(r#""code":5"#) && seen.contains("requested failure 5"), "{seen}");
    }
}

#[tokio::test]
async fn the_go_client_leaves_a_stream() {
    let harness =
        Harness::with(Options { probe_interval: Duration::from_millis(500), ..Options::default() }).await;
    for cancel in [&[][..], &["-cancel"]] {
        let join = ["-count", "3", "-data", r#"{"name":"live"}"#, "chatpb.ChatService/JoinChannel"];
        let Some(joined) = go_call(&harness, &[cancel, &join].concat(), "").await else { return };
        assert_eq!(String::from_utf8(joined.stdout).unwrap().lines().count(), 3);
        harness.until(|counters| counters.open == 0).await;
    }
    let counters = harness.server.counters();
    assert_eq!((counters.cancelled, counters.dead_clients), (1, 1), "{counters:?}");
}

#[tokio::test]
async fn the_go_client_loses_nothing_of_long_streams() {
    let harness = Harness::start().await;
    for (streams, messages) in [("1", 300_000), ("8", 20_000)] {
        let Some(bench) = reference("natsgrpc-bench") else { return };
        let mut command = Command::new(bench);
        command.args(["-nats", &harness.nats.url(), "-kind", "stream", "-streams", streams]);
        command.args(["-n", &messages.to_string()]);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let lines: Vec<Value> = output
            .stdout
            .split(|byte| *byte == b'\n')
            .filter_map(|line| serde_json::from_slice(line).ok())
            .collect();
        assert_eq!(lines.len().to_string(), streams);
        for line in lines {
            assert_eq!((&line["Received"], &line["Disordered"]), (&messages.into(), &0.into()), "{line}");
        }
    }
}

/// The Go library's server, killed at the end.
struct GoServer(Child);

impl Drop for GoServer {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

async fn go_server(nats: &NatsServer) -> Option<(GoServer, Client)> {
    let program = reference("natsgrpc-server")?;
    let mut command = Command::new(program);
    command.args(["-nats", &nats.url(), "-nid", "go1"]).stdout(Stdio::null()).stderr(Stdio::null());
    let server = GoServer(command.spawn().unwrap());
    let client = Client::new(connect(nats).await, "go1", ClientOptions::default()).await.unwrap();
    let up = async {
        while client.unary("/echo.Echo/SayHello", &hello("up?"), call_options()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, up).await.unwrap();
    Some((server, client))
}

#[tokio::test]
async fn our_client_calls_the_go_server() {
    let nats = NatsServer::start().unwrap();
    let Some((_server, client)) = go_server(&nats).await else { return };
    let unary = |msg: &'static str| {
        let client = &client;
        async move { client.unary("/echo.Echo/SayHello", &hello(msg), call_options()).await }
    };
    assert_eq!(Hello::decode(unary("hello").await.unwrap()).unwrap().msg, "hello");
    let status = unary("error:5").await.unwrap_err();
    assert_eq!((status.code, status.details.len()), (Code::NotFound, 1));
    let status = client.unary("/echo.Echo/Nothing", &[], CallOptions::default()).await.unwrap_err();
    assert_eq!(status.code, Code::Unimplemented);

    let path = "/chatpb.ChatService/JoinChannel";
    let joined = client.server_streaming(path, &channel("end:3"), call_options()).await.unwrap();
    assert_eq!(drain(joined).await, (vec!["0".to_owned(), "1".to_owned(), "2".to_owned()], Ok(())));

    let path = "/chatpb.ChatService/SendMessage";
    let (mut requests, mut responses) = client.streaming(path, call_options()).await.unwrap();
    for text in ["1", "2"] {
        requests.send(&chat_message(text)).await.unwrap();
        // The Go server starts a goroutine per message, and so reorders what comes at once.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    requests.half_close().await.unwrap();
    let ack = MessageAck::decode(responses.single().await.unwrap()).unwrap();
    assert!(ack.status.starts_with("SENT"), "{}", ack.status);

    let (mut requests, mut responses) = client.streaming("/echo.Echo/Echo", call_options()).await.unwrap();
    for text in ["1", "2"] {
        requests.send(&hello(text)).await.unwrap();
        assert_eq!(Hello::decode(responses.next().await.unwrap().unwrap()).unwrap().msg, text);
    }
}

#[tokio::test]
async fn dropping_a_stream_of_the_go_server_stops_it() {
    let nats = NatsServer::start().unwrap();
    let Some((_server, client)) = go_server(&nats).await else { return };
    let path = "/chatpb.ChatService/JoinChannel";
    let mut joined =
        client.server_streaming(path, &channel("bench:100000:10:1:1000"), call_options()).await.unwrap();
    assert!(joined.next().await.unwrap().is_some());
    drop(joined);
    let status = client.unary("/echo.Echo/SayHello", &hello("still there"), call_options()).await;
    assert!(status.is_ok());
}
