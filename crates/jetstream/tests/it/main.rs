//! Against a real nats-server.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod bucket;
mod consume;
mod fence;
mod log;
mod publish;
mod request;

use std::time::Duration;

use deltamesh_jetstream::{Client, ErrorKind, Headers, Message, Publisher, connect};
use deltamesh_testkit::NatsServer;

async fn start() -> (NatsServer, Client) {
    let server = NatsServer::start().expect("nats-server");
    let client = connect(&server.url(), "test").await.expect("connect");
    (server, client)
}

fn message(subject: &str, text: impl Into<String>) -> Message {
    Message { subject: subject.into(), headers: Headers::new().with("K", "v"), payload: text.into().into() }
}

fn numbered(range: std::ops::RangeInclusive<u64>) -> Vec<Message> {
    range.map(|number| message("changes.app.t", number.to_string())).collect()
}

/// Waits until everything is durable, across restarts of the server.
async fn flush(publisher: &mut Publisher) {
    while let Err(error) = publisher.flush().await {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.chain());
        while let Err(error) = publisher.recover().await {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.chain());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
