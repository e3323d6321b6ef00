//! As much of a browser as the tests need: JSON requests and an event source.

use serde_json::Value as Json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::world::{World, within};

/// Sends a request and returns status and body.
pub(crate) async fn request(world: &World, method: &str, path: &str, body: &str) -> (u16, String) {
    let address = world.gateway.address();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

/// Sends a request that must succeed, and reads its JSON.
pub(crate) async fn json(world: &World, method: &str, path: &str, body: &str) -> Json {
    let (status, body) = request(world, method, path, body).await;
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

/// One event of an event source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) id: Option<String>,
    pub(crate) data: Json,
}

impl Event {
    /// `insert {"id":1,…}`.
    pub(crate) fn short(&self) -> String {
        match self.data.get("row") {
            Some(row) => format!("{} {row}", self.name),
            None => format!("{} {}", self.name, self.data),
        }
    }
}

/// An open event source.
pub(crate) struct EventSource(BufReader<TcpStream>);

impl EventSource {
    pub(crate) async fn open(world: &World, path: &str, last_event_id: Option<&str>) -> Self {
        let address = world.gateway.address();
        let mut stream = TcpStream::connect(address).await.unwrap();
        let last = last_event_id.map(|id| format!("last-event-id: {id}\r\n")).unwrap_or_default();
        let head = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n{last}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut source = Self(BufReader::new(stream));
        assert!(source.line().await.starts_with("HTTP/1.1 200"));
        while !source.line().await.is_empty() {}
        source
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        within(self.0.read_line(&mut line)).await.unwrap();
        line.trim_end().to_owned()
    }

    /// The next event, progress marks included. Lines of the chunked encoding have no colon.
    async fn any(&mut self) -> Event {
        let mut event = Event { name: String::new(), id: None, data: Json::Null };
        loop {
            let line = self.line().await;
            match line.split_once(": ") {
                Some(("event", name)) => event.name = name.to_owned(),
                Some(("id", id)) => event.id = Some(id.to_owned()),
                Some(("data", data)) => {
                    event.data = serde_json::from_str(data).unwrap();
                    return event;
                }
                _ => {}
            }
        }
    }

    /// The next event that is no progress mark.
    pub(crate) async fn next(&mut self) -> Event {
        loop {
            let event = self.any().await;
            if event.name != "progress" {
                return event;
            }
        }
    }

    /// The next progress mark; there must be nothing else before it.
    pub(crate) async fn progress(&mut self) -> Event {
        let event = self.any().await;
        assert_eq!(event.name, "progress", "{event:?}");
        event
    }

    /// The next events in short form.
    pub(crate) async fn take(&mut self, count: usize) -> Vec<String> {
        let mut events = Vec::new();
        for _ in 0..count {
            events.push(self.next().await.short());
        }
        events
    }
}
