//! Captures the changes of a Genji database, or hosts one.
//!
//! A thread follows the directory (`engine`) and hands transactions to one loop (`capture`), which gives them ordinals and schema
//! ids and publishes them in groups (`log`). Nothing is kept between two runs: the last message of the stream says where to
//! continue. A hosted source has a second thread that owns the database (`host`) and runs the requests of others on it
//! (`call`, `mutate`, `tables`), one after the other or in sessions (`sessions`, `commits`); its changes take the same way back,
//! and the answer (`answer`, `pages`) goes out when disk (`flush`) and stream (`writers`) have them. What its threads say of
//! themselves for the status is in `gauges`.

mod answer;
mod call;
mod capture;
mod commits;
mod config;
mod engine;
mod error;
mod flush;
mod gauges;
mod host;
mod limits;
mod log;
mod meter;
mod mutate;
mod objects;
mod pages;
mod progress;
mod schemas;
mod service;
mod sessions;
mod standby;
mod tables;
mod unreadable;
mod watch;
mod writers;

use deltamesh_jetstream::{Client, StatusBoard, answer_status, connect};
use tracing::{info, warn};

pub use config::{Mode, Options, Source, SourceError};
pub use error::Error;
pub use limits::Limits;

/// Name of the program, as status and module outcomes carry it.
pub const SERVICE: &str = "ingest-genji";

use service::Service;

/// Runs the service until `stop` resolves, then drains: what was acknowledged is published, the database closed. Its status
/// stands on `board`.
///
/// # Errors
/// The service cannot start; while it runs, faults are shown in its status and mended as far as possible.
pub async fn run(
    options: &Options,
    board: StatusBoard,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    let source = options.source();
    let name = format!("{SERVICE} {}", source.name);
    let mut stop = Box::pin(stop);
    let client = tokio::select! {
        client = connect(&options.nats, &name) => client?,
        () = &mut stop => return Ok(()),
    };
    let status = tokio::spawn({
        let (client, board) = (client.clone(), board.clone());
        async move {
            if let Err(error) = answer_status(&client, &board).await {
                warn!(error = %error.chain(), "status is not answered any more");
            }
        }
    });
    let (told, is_stopping) = tokio::sync::watch::channel(false);
    tokio::spawn(async move {
        stop.await;
        told.send_replace(true);
    });
    let served = match source.mode {
        Mode::Tap => tap(source, client.clone(), board, is_stopping, &options.limits).await,
        Mode::Host | Mode::Standby => {
            standby::run(source, client.clone(), board, is_stopping, &options.limits).await
        }
    };
    status.abort();
    served?;
    client.close().await;
    info!("stopped");
    Ok(())
}

async fn tap(
    source: Source,
    client: Client,
    board: StatusBoard,
    stop: tokio::sync::watch::Receiver<bool>,
    limits: &Limits,
) -> Result<(), Error> {
    let mut service = Service::start(source, client, board, Box::pin(stopped(stop)), None, limits).await?;
    capture::run(&mut service).await;
    service.close().await;
    Ok(())
}

/// Resolves when the service is to stop.
async fn stopped(mut stop: tokio::sync::watch::Receiver<bool>) {
    if stop.wait_for(|is_stopping| *is_stopping).await.is_err() {
        // Who would say so is gone.
        std::future::pending::<()>().await;
    }
}
