//! The four kinds, our client and our server.

use std::time::Duration;

use deltamesh_nats_grpc::{CallOptions, Code, Metadata, Options, Rate};
use prost::Message as _;

use crate::harness::{Harness, call_options, channel, chat_message, drain, hello};
use crate::services::{Hello, MessageAck};

#[tokio::test]
async fn unary() {
    let harness = Harness::start().await;
    assert_eq!(harness.say("hello").await.unwrap(), "hello");
    assert_eq!(harness.say("").await.unwrap(), "");
    let status = harness.say("error:5").await.unwrap_err();
    assert_eq!((status.code, status.message.as_str()), (Code::NotFound, "requested failure 5"));
}

#[tokio::test]
async fn many_unary_calls_at_once() {
    let harness = Harness::start().await;
    let calls = (0..500).map(|number| {
        let harness = &harness;
        async move { assert_eq!(harness.say(&number.to_string()).await.unwrap(), number.to_string()) }
    });
    futures::future::join_all(calls).await;
    harness.until(|counters| counters.open == 0 && counters.opened == 500).await;
}

#[tokio::test]
async fn server_stream() {
    let harness = Harness::start().await;
    let (texts, outcome) = drain(harness.join("end:1000").await).await;
    assert_eq!(texts, (0..1000).map(|number| number.to_string()).collect::<Vec<_>>());
    assert_eq!(outcome, Ok(()));
    let (texts, outcome) = drain(harness.join("error:7").await).await;
    assert!(texts.is_empty());
    assert_eq!(outcome.unwrap_err().code, Code::PermissionDenied);
}

#[tokio::test]
async fn client_stream_keeps_order_and_half_close() {
    let harness = Harness::start().await;
    let (mut requests, mut responses) =
        harness.client.streaming("/chatpb.ChatService/SendMessage", call_options()).await.unwrap();
    for number in 0..300 {
        requests.send(&chat_message(&number.to_string())).await.unwrap();
    }
    requests.half_close().await.unwrap();
    let ack = MessageAck::decode(responses.single().await.unwrap()).unwrap();
    assert_eq!(ack.status, "SENT n=300");
}

#[tokio::test]
async fn bidirectional_stream() {
    let harness = Harness::start().await;
    let (mut requests, mut responses) =
        harness.client.streaming("/echo.Echo/Echo", call_options()).await.unwrap();
    for number in 0..100 {
        let message = hello(&number.to_string());
        requests.send(&message).await.unwrap();
        let echo = responses.next().await.unwrap().unwrap();
        assert_eq!(Hello::decode(echo).unwrap().msg, number.to_string());
    }
    drop(requests);
    assert_eq!(responses.next().await, Ok(None));
}

#[tokio::test]
async fn metadata_both_ways_for_callers_that_ask() {
    let harness = Harness::start().await;
    for accept_metadata in [false, true] {
        let metadata = Metadata::new().with("X-Trace", "abc");
        let options = CallOptions { metadata, accept_metadata, ..call_options() };
        let path = "/echo.Echo/SayHello";
        // As a stream, because the plain unary call gives the message alone.
        let mut responses = harness.client.server_streaming(path, &hello("a"), options).await.unwrap();
        responses.single().await.unwrap();
        let expected =
            |key, value| if accept_metadata { Metadata::new().with(key, value) } else { Metadata::new() };
        assert_eq!(responses.header(), expected("echo-x-trace", "abc"));
        assert_eq!(responses.trailer(), expected("x-trailer", "t"));
    }
}

#[tokio::test]
async fn a_deadline_ends_the_call_on_both_sides() {
    let harness = Harness::start().await;
    let options = CallOptions { timeout: Some(Duration::from_millis(100)), ..CallOptions::default() };
    let path = "/chatpb.ChatService/JoinChannel";
    let responses = harness.client.server_streaming(path, &channel("live"), options).await.unwrap();
    let (_texts, outcome) = drain(responses).await;
    assert_eq!(outcome.unwrap_err().code, Code::DeadlineExceeded);
    harness.until(|counters| counters.open == 0).await;
}

#[tokio::test]
async fn unknown_names() {
    let harness = Harness::start().await;
    let call = |path: &'static str| harness.client.unary(path, &[], CallOptions::default());
    assert_eq!(call("/echo.Echo/Nothing").await.unwrap_err().code, Code::Unimplemented);
    assert_eq!(call("/echo.Nothing/Nothing").await.unwrap_err().code, Code::Unavailable);
    let elsewhere = harness.client.with_target("node2");
    let status = elsewhere.unary("/echo.Echo/SayHello", &[], CallOptions::default()).await.unwrap_err();
    assert_eq!(status.code, Code::Unavailable);
}

#[tokio::test]
async fn messages_too_large_for_the_transport() {
    let harness = Harness::start().await;
    let limit = 1024 * 1024;
    assert_eq!(harness.say(&format!("size:{}", limit - 100)).await.unwrap().len(), limit - 100);
    assert_eq!(harness.say(&format!("size:{limit}")).await.unwrap_err().code, Code::ResourceExhausted);
    let (_texts, outcome) = drain(harness.join(&format!("size:{limit}")).await).await;
    assert_eq!(outcome.unwrap_err().code, Code::ResourceExhausted);
    let request = hello(&"x".repeat(limit));
    let path = "/echo.Echo/SayHello";
    let status = harness.client.unary(path, &request, CallOptions::default()).await.unwrap_err();
    assert_eq!(status.code, Code::ResourceExhausted);
    harness.until(|counters| counters.open == 0).await;
}

#[tokio::test]
async fn a_long_stream_is_paced_and_whole() {
    // Slow enough for any machine to be faster.
    let rate = Rate { burst: 10, per_second: 1_000 };
    let harness = Harness::with(Options { rate, ..Options::default() }).await;
    let mut responses = harness.join("bench:2000:32").await;
    let mut count = 0;
    while responses.next().await.unwrap().is_some() {
        count += 1;
    }
    assert_eq!(count, 2_000);
    assert!(harness.server.counters().paced > 0);
}
