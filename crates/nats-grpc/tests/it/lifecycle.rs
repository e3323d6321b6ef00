//! How calls end before their time: clients that leave, limits, replaced services, shutdown.

use std::sync::Arc;
use std::time::Duration;

use deltamesh_nats_grpc::{
    Call, CallOptions, Client, ClientOptions, Code, Handler, OnReconnect, Options, Rate, Router, Server,
    Service, unary,
};
use tokio::sync::watch;

use crate::harness::{Harness, PATIENCE, Wire, call_options, channel, chat_message, connect, drain, hello};
use crate::services;

/// `JoinChannel` of the channel `live`, which ends only with its caller.
const LIVE: &str = "1a080a060a046c697665";

#[tokio::test]
async fn dropping_a_stream_cancels_the_call() {
    let harness = Harness::start().await;
    let mut responses = harness.join("live").await;
    assert!(responses.next().await.unwrap().is_some());
    drop(responses);
    harness.until(|counters| counters.cancelled == 1 && counters.open == 0).await;
}

#[tokio::test]
async fn a_client_that_has_gone_is_noticed_by_a_probe() {
    let harness =
        Harness::with(Options { probe_interval: Duration::from_millis(300), ..Options::default() }).await;
    let mut wire = Wire::open(&harness.nats, "nrpc.node1.chatpb.ChatService.JoinChannel").await;
    wire.send("1204 1a026d65").await;
    wire.send(LIVE).await;
    wire.next().await;
    harness.until(|counters| counters.probes >= 2).await;
    assert_eq!(harness.server.counters().open, 1);
    wire.leave().await;
    harness.until(|counters| counters.dead_clients == 1 && counters.open == 0).await;
}

#[tokio::test]
async fn a_half_close_of_a_client_that_leaves_is_noticed_at_once() {
    let harness = Harness::start().await;
    let mut wire = Wire::open(&harness.nats, "nrpc.node1.chatpb.ChatService.JoinChannel").await;
    wire.send("1204 1a026d65").await;
    wire.send(LIVE).await;
    wire.next().await;
    // A half-close alone is none of the server's business.
    wire.send("2200").await;
    harness.until(|counters| counters.probes >= 2).await;
    wire.next().await;
    wire.send("2200").await;
    wire.leave().await;
    harness.until(|counters| counters.dead_clients == 1 && counters.open == 0).await;
}

#[tokio::test]
async fn limits_on_calls() {
    let harness = Harness::with(Options { max_calls: 3, max_calls_per_peer: 2, ..Options::default() }).await;
    let mut first = harness.join("live").await;
    let mut second = harness.join("live").await;
    assert!(first.next().await.unwrap().is_some() && second.next().await.unwrap().is_some());
    let (_texts, outcome) = drain(harness.join("live").await).await;
    assert_eq!(outcome.unwrap_err().message, "too many calls of this client are open");
    assert_eq!(harness.say("a unary call has no peer").await.unwrap(), "a unary call has no peer");
    drop(first);
    harness.until(|counters| counters.open == 1).await;
    let mut third = harness.join("live").await;
    assert!(third.next().await.unwrap().is_some());
}

#[tokio::test]
async fn requests_that_outrun_their_handler() {
    let harness = Harness::with(Options { max_queued_bytes: 1000, ..Options::default() }).await;
    let (mut requests, mut responses) =
        harness.client.streaming("/chatpb.ChatService/SendMessage", call_options()).await.unwrap();
    requests.send(&chat_message(&"x".repeat(2000))).await.unwrap();
    let status = responses.single().await.unwrap_err();
    assert_eq!(status.code, Code::ResourceExhausted);
    harness.until(|counters| counters.open == 0 && counters.rejected == 1).await;
}

#[tokio::test]
async fn responses_that_outrun_their_reader() {
    let harness = Harness::start().await;
    let options = ClientOptions { max_queued_messages: 100, ..ClientOptions::default() };
    let client = Client::new(connect(&harness.nats).await, "node1", options).await.unwrap();
    let path = "/chatpb.ChatService/JoinChannel";
    let responses = client.server_streaming(path, &channel("bench:100000:10"), call_options()).await.unwrap();
    harness.until(|counters| counters.cancelled == 1 && counters.open == 0).await;
    let (_texts, outcome) = drain(responses).await;
    assert_eq!(outcome.unwrap_err().code, Code::DataLoss);
}

#[tokio::test]
async fn a_package_called_like_a_service() {
    let harness = Harness::start().await;
    let mut router = Router::new();
    for (package, service) in [("a", "B"), ("a.B", "D")] {
        let source = format!(
            "syntax = \"proto3\"; package {package}; message M {{}} service {service} {{ rpc Call(M) returns (M); }}"
        );
        let file = protox::file::File::from_source("file.proto", &source).unwrap();
        let mut pool = prost_reflect::DescriptorPool::new();
        pool.add_file_descriptor_proto(file.file_descriptor_proto().clone()).unwrap();
        let descriptor = pool.services().next().unwrap();
        let name = descriptor.full_name().to_owned();
        router.add(Service::new(descriptor, |_method| {
            let name = name.clone();
            let answer = move |_request, _metadata| {
                let name = name.clone();
                async move { Ok(name.into()) }
            };
            Some(Arc::new(unary(answer)) as Arc<dyn Handler>)
        }));
    }
    harness.server.set_services(router).await.unwrap();
    for (path, expected) in [("/a.B/Call", "a.B"), ("/a.B.D/Call", "a.B.D")] {
        let answer = harness.client.unary(path, &[], CallOptions::default()).await.unwrap();
        assert_eq!(answer, expected);
    }
    let status = harness.client.unary("/a.B.D/Nothing", &[], CallOptions::default()).await.unwrap_err();
    assert_eq!(status.code, Code::Unimplemented);
}

#[tokio::test]
async fn services_are_replaced_while_calls_run() {
    let harness = Harness::start().await;
    let mut live = harness.join("live").await;
    live.next().await.unwrap();
    let (mut echo, mut echoes) = harness.client.streaming("/echo.Echo/Echo", call_options()).await.unwrap();
    echo.send(b"\x0a\x01a").await.unwrap();
    assert!(echoes.next().await.unwrap().is_some());
    let mut router = Router::new();
    router.add(services::plain_echo());
    harness.server.set_services(router).await.unwrap();
    // The removed service's call fails, the replaced one's goes on with its handler.
    let (_texts, outcome) = drain(live).await;
    assert_eq!(outcome.unwrap_err().code, Code::Unavailable);
    echo.send(b"\x0a\x01a").await.unwrap();
    assert!(echoes.next().await.unwrap().is_some());
    let path = "/echo.Echo/Echo";
    let status = harness.client.unary(path, &[], CallOptions::default()).await.unwrap_err();
    assert_eq!(status.code, Code::Unimplemented);
    assert_eq!(harness.say("error:5").await.unwrap(), "error:5");
    harness.server.set_services(services::router()).await.unwrap();
    let (texts, _outcome) = drain(harness.join("end:1").await).await;
    assert_eq!(texts, ["0"]);
}

#[tokio::test]
async fn shutdown_ends_every_call() {
    let harness = Harness::start().await;
    let mut live = harness.join("live").await;
    live.next().await.unwrap();
    let Harness { nats, server, client } = harness;
    server.shutdown().await.unwrap();
    let (_texts, outcome) = drain(live).await;
    assert_eq!(outcome.unwrap_err().code, Code::Unavailable);
    let status = client.unary("/echo.Echo/SayHello", &[], CallOptions::default()).await.unwrap_err();
    assert_eq!(status.message, "nobody serves this method");
    // The node id is free again.
    Server::start(connect(&nats).await, "node1", Options::default()).await.unwrap();
}

#[tokio::test]
async fn unary_calls_may_end_while_the_server_stops() {
    let harness = Harness::with(Options { drain: PATIENCE, ..Options::default() }).await;
    let (started, mut starts) = tokio::sync::mpsc::channel(1);
    let (release, released) = watch::channel(());
    let mut router = Router::new();
    let descriptor = services::descriptors("echo.proto").get_service_by_name("echo.Echo").unwrap();
    router.add(Service::new(descriptor, |_method| {
        let (started, released) = (started.clone(), released.clone());
        let handler = move |mut call: Call| {
            let (started, mut released) = (started.clone(), released.clone());
            async move {
                let request = call.requests.single().await?;
                started.send(()).await.unwrap();
                released.changed().await.unwrap();
                call.responses.send(&request).await
            }
        };
        Some(Arc::new(handler) as Arc<dyn Handler>)
    }));
    harness.server.set_services(router).await.unwrap();
    let Harness { nats: _nats, server, client } = harness;
    let request = hello("late");
    let call = client.unary("/echo.Echo/SayHello", &request, CallOptions::default());
    let stop = async {
        starts.recv().await.unwrap();
        let stopping = tokio::spawn(server.shutdown());
        // New calls are refused while the old one runs; those that come before the stop are given up.
        let attempt = || CallOptions { timeout: Some(Duration::from_millis(20)), ..CallOptions::default() };
        let refused = async || client.unary("/echo.Echo/SayHello", &[], attempt()).await.unwrap_err().code;
        while refused().await != Code::Unavailable {}
        release.send(()).unwrap();
        stopping.await.unwrap().unwrap();
    };
    let (answer, ()) = tokio::time::timeout(PATIENCE, async { tokio::join!(call, stop) }).await.unwrap();
    assert_eq!(answer.unwrap(), request);
}

#[tokio::test]
async fn a_lost_connection_fails_open_calls_or_not() {
    for on_reconnect in [OnReconnect::Fail, OnReconnect::Continue] {
        let mut harness = Harness::with(Options { on_reconnect, ..Options::default() }).await;
        let mut live = harness.join("live").await;
        live.next().await.unwrap();
        harness.nats.kill().unwrap();
        harness.nats.restart().unwrap();
        let outcome = tokio::time::timeout(Duration::from_secs(5), drain(live)).await;
        match on_reconnect {
            OnReconnect::Fail => assert_eq!(outcome.unwrap().1.unwrap_err().code, Code::Unavailable),
            OnReconnect::Continue => assert!(outcome.is_err(), "the stream has ended"),
        }
        let say = async { while harness.say("again").await.is_err() {} };
        tokio::time::timeout(PATIENCE, say).await.unwrap();
    }
}

#[tokio::test]
async fn an_overflowed_subscription_fails_the_call() {
    let rate = Rate { burst: 0, per_second: 0 };
    let harness = Harness::with(Options { rate, rate_per_peer: rate, ..Options::default() }).await;
    let read = async |messages: usize, max_rate| {
        let client = small_client(&harness).await;
        let options = CallOptions { max_rate, ..call_options() };
        let request = channel(&format!("bench:{messages}:100"));
        drain(client.server_streaming("/chatpb.ChatService/JoinChannel", &request, options).await.unwrap())
            .await
    };
    let (_, outcome) = read(50_000, None).await;
    assert_eq!(outcome.unwrap_err().code, Code::DataLoss);
    let (messages, outcome) = read(300, Some(1_000)).await;
    outcome.unwrap();
    assert_eq!(messages.len(), 300);
}

/// A client whose subscription holds few messages.
async fn small_client(harness: &Harness) -> Client {
    let (lost, losses) = watch::channel(0);
    let connect = async_nats::ConnectOptions::new().subscription_capacity(16).event_callback(move |event| {
        if matches!(event, async_nats::Event::SlowConsumer(_)) {
            lost.send_modify(|count| *count += 1);
        }
        std::future::ready(())
    });
    let nats = connect.connect(harness.nats.url()).await.unwrap();
    let options = ClientOptions { losses: Some(losses), ..ClientOptions::default() };
    Client::new(nats, "node1", options).await.unwrap()
}

#[tokio::test]
async fn a_handler_that_panics_fails_its_call_alone() {
    let harness = Harness::start().await;
    let descriptor = services::descriptors("echo.proto").get_service_by_name("echo.Echo").unwrap();
    let mut router = Router::new();
    router.add(Service::new(descriptor, |_method| {
        let handler = |call: Call| async move {
            assert!(call.deadline.is_some(), "on purpose");
            Ok(())
        };
        Some(Arc::new(handler) as Arc<dyn Handler>)
    }));
    harness.server.set_services(router).await.unwrap();
    assert_eq!(harness.say("a").await.unwrap_err().code, Code::Internal);
    assert_eq!(harness.say("a").await.unwrap_err().code, Code::Internal);
}
