//! Connections of HTTP/1.1 and HTTP/2 on one port.

use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tracing::{debug, warn};

/// What one call may send ahead. Small, and the next one large, because the HTTP/2 library takes many small frames that wait
/// for their reader for an attack: it counts them against half of the connection's window.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
/// Calls at once on one connection.
const MAX_STREAMS: u32 = 1024;
/// Connections that are still open after this are cut.
const DRAIN_WITHIN: Duration = Duration::from_secs(5);
/// Out of descriptors or memory: some connection must end first.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// Serves until told to stop, then waits for the connections to end.
pub(crate) async fn serve(listener: TcpListener, routes: Router, mut stop: oneshot::Receiver<()>) {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http2()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_STREAMS);
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // A sender that is gone means stop as well.
            _ = &mut stop => break,
        };
        match accepted {
            Ok((stream, _)) => connect(&builder, &graceful, stream, &routes),
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
    drop(listener);
    if tokio::time::timeout(DRAIN_WITHIN, graceful.shutdown()).await.is_err() {
        warn!("cutting the HTTP connections that are still open");
    }
}

fn connect(
    builder: &Builder<TokioExecutor>,
    graceful: &GracefulShutdown,
    stream: TcpStream,
    routes: &Router,
) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "connection has gone");
        return;
    }
    let service = TowerToHyperService::new(routes.clone());
    let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
    let watched = graceful.watch(connection);
    tokio::spawn(async move {
        if let Err(error) = watched.await {
            debug!(%error, "connection ended early");
        }
    });
}
