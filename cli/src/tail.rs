//! `deltamesh tail`: a view's rows, then its changes, one a line.
//!
//! Survives everything: where the gateway or the connection is gone the call is made again behind the last cursor. A silent
//! stream is normal, so silence is followed by the question whether the gateway still is the one that we called.

mod catch_up;
mod gateway;
mod line;

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use deltamesh_jetstream::{Client, backoff};
use deltamesh_nats_grpc::{self as grpc, CallOptions, ClientOptions, Code, ResponseStream, Status};
use deltamesh_wire::proto::feed::v1::{FeedMessage, SubscribeRequest, subscribe_request};
use prost::Message as _;
use tokio::time::{sleep, timeout};

use crate::mesh::Mesh;
use crate::options::{Mode, Place, Tail};
use crate::{output, refused};

use catch_up::CatchUp;
pub(crate) use gateway::DEFAULT_NID;
use line::Line;

const SUBSCRIBE: &str = "/deltamesh.feed.v1.FeedService/Subscribe";
/// Messages per second that the gateway may send at first.
const RATE: u32 = 40_000;
const LEAST_RATE: u32 = 200;
/// Silence after which the gateway is looked at.
const SILENCE: Duration = Duration::from_secs(2);

pub(crate) async fn run(place: &Place, tail: &Tail) -> Result<ExitCode> {
    let mut filters = HashMap::new();
    for condition in &tail.conditions {
        let (column, value) = condition
            .split_once('=')
            .ok_or_else(|| refused(format!("--where {condition}: write COLUMN=VALUE")))?;
        filters.insert(column.to_owned(), line::condition(value));
    }
    let mesh = Mesh::find(place).await?;
    let nid = match (&tail.nid, &mesh.running) {
        (Some(nid), _) => nid.clone(),
        (None, Some(running)) => running.first.nid.clone(),
        (None, None) => DEFAULT_NID.to_owned(),
    };
    let request = SubscribeRequest {
        view: tail.view.clone(),
        r#where: filters.into_iter().collect(),
        mode: match tail.mode {
            Mode::All => subscribe_request::Mode::SnapshotAndChanges,
            Mode::Changes => subscribe_request::Mode::ChangesOnly,
            Mode::Snapshot => subscribe_request::Mode::SnapshotOnly,
        }
        .into(),
        cursor: tail.from.clone().unwrap_or_default(),
    };
    follow(&mesh.client, &nid, request, Line::of(tail.format)).await?;
    Ok(ExitCode::SUCCESS)
}

/// Why a call has ended.
enum End {
    /// The server has sent everything.
    Complete,
    /// The gateway is not the one that we called.
    GatewayGone,
    /// The call failed.
    Failed(Status),
}

async fn follow(client: &Client, nid: &str, mut request: SubscribeRequest, line: Line) -> Result<()> {
    let options = ClientOptions { losses: Some(client.losses()), ..ClientOptions::default() };
    let calls = grpc::Client::new(client.nats().clone(), nid, options).await?;
    let (mut attempt, mut max_rate) = (0, RATE);
    let mut seen = false;
    loop {
        let instance = gateway::instance(client, nid).await?;
        let before = request.cursor.clone();
        let options = CallOptions { max_rate: Some(max_rate), ..CallOptions::default() };
        let end = match calls.server_streaming(SUBSCRIBE, &request.encode_to_vec(), options).await {
            Ok(stream) => {
                Call { client, nid, instance, line }.read(stream, &mut request.cursor, &mut seen).await?
            }
            Err(status) => End::Failed(status),
        };
        let reason = match end {
            End::Complete => return Ok(()),
            End::GatewayGone => "the gateway is gone".to_owned(),
            End::Failed(status) if status.code == Code::DataLoss => {
                // Whoever reads the lines is slower than the gateway.
                max_rate = (max_rate / 2).max(LEAST_RATE);
                status.message
            }
            End::Failed(status) if seen && passes(status.code) => status.message,
            End::Failed(status) => return Err(explained(nid, &status)),
        };
        attempt = if request.cursor == before { attempt + 1 } else { 0 };
        if attempt <= 1 {
            output::complain(&format!("deltamesh: {reason}; continuing behind the last cursor"));
        }
        sleep(backoff(attempt)).await;
    }
}

/// One call and what it depends on.
struct Call<'a> {
    client: &'a Client,
    nid: &'a str,
    instance: Option<String>,
    line: Line,
}

impl Call<'_> {
    /// Prints what arrives and moves the cursor with it.
    async fn read(&self, mut stream: ResponseStream, cursor: &mut String, seen: &mut bool) -> Result<End> {
        let mut catch_up = CatchUp::default();
        loop {
            let message = match timeout(SILENCE, stream.next()).await {
                Ok(Ok(Some(message))) => message,
                Ok(Ok(None)) => return Ok(End::Complete),
                Ok(Err(status)) => return Ok(End::Failed(status)),
                Err(_) => {
                    if gateway::instance(self.client, self.nid).await? == self.instance {
                        continue;
                    }
                    return Ok(End::GatewayGone);
                }
            };
            let kind = FeedMessage::decode(message).context("read a feed message")?.message;
            let Some(kind) = kind else { continue };
            *seen = true;
            for message in catch_up.take(kind, cursor) {
                self.line.print(message)?;
            }
        }
    }
}

/// Whether the same call may succeed later.
fn passes(code: Code) -> bool {
    matches!(code, Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded | Code::ResourceExhausted)
}

fn explained(nid: &str, status: &Status) -> anyhow::Error {
    match status.code {
        Code::Unavailable => anyhow!(
            "no gateway answers under the node id {nid} ({}); `deltamesh status` shows what runs",
            status.message
        ),
        _ => anyhow!("{}", status.message),
    }
}
