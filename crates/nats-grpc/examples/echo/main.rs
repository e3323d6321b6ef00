//! Serves the example services of the Go library: `echo [NATS-URL [NODE-ID]]`, until interrupted.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use deltamesh_nats_grpc::{Options, Server};

mod services;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap_or_else(|| "nats://127.0.0.1:4222".to_owned());
    let nid = arguments.next().unwrap_or_else(|| "node1".to_owned());
    let client = async_nats::connect(url).await?;
    let server = Server::start(client, &nid, Options::default()).await?;
    server.set_services(services::router()).await?;
    tokio::signal::ctrl_c().await?;
    server.shutdown().await?;
    Ok(())
}
