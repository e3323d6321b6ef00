//! When everything really answers.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use deltamesh_jetstream::{Client, Status};
use deltamesh_wire::subject;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tracing::warn;

use super::child::Stage;
use super::fleet::Fleet;

const PAUSE: Duration = Duration::from_millis(30);
/// How long to listen for the answers to one request.
const LISTEN: Duration = Duration::from_millis(300);
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

/// Returns when every service has answered for its status, with its present process.
pub(super) async fn services(client: &Client, fleet: &Fleet) -> Result<()> {
    let mut complaint = Instant::now() + COMPLAIN_EVERY;
    loop {
        let silent = silent(client, fleet).await?;
        if silent.is_empty() {
            return Ok(());
        }
        if Instant::now() >= complaint {
            warn!(programs = silent.join(", "), "still waiting for an answer");
            complaint += COMPLAIN_EVERY;
        }
        sleep(PAUSE).await;
    }
}

/// Names of the services that do not answer.
async fn silent(client: &Client, fleet: &Fleet) -> Result<Vec<String>> {
    let mut waiting: Vec<_> = fleet.children().iter().filter(|child| child.stage != Stage::Nats).collect();
    let mut replies = client.request_many(subject::STATUS, "").await?;
    let deadline = Instant::now() + LISTEN;
    while !waiting.is_empty() {
        // "No service answers" is an error of a request, and the normal case here.
        let Ok(Some(reply)) = replies.next(deadline.saturating_duration_since(Instant::now())).await else {
            break;
        };
        if let Ok(status) = serde_json::from_slice::<Status>(&reply) {
            waiting.retain(|child| child.pid() != Some(status.pid));
        }
    }
    Ok(waiting.into_iter().map(|child| child.name.clone()).collect())
}

/// Returns when the gateway says that it can serve.
pub(super) async fn http(address: SocketAddr) {
    let mut complaint = Instant::now() + COMPLAIN_EVERY;
    loop {
        let answer = timeout(LISTEN, readyz(address)).await;
        if matches!(&answer, Ok(Ok(status)) if status.starts_with("HTTP/1.1 200")) {
            return;
        }
        if Instant::now() >= complaint {
            warn!(%address, "the gateway is not ready yet");
            complaint += COMPLAIN_EVERY;
        }
        sleep(PAUSE).await;
    }
}

/// The status line of `GET /readyz`.
async fn readyz(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /readyz HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut status = String::new();
    BufReader::new(stream).read_line(&mut status).await?;
    Ok(status)
}
