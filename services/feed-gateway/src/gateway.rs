//! A running gateway: its parts started in order, and stopped in the other order.

use std::net::SocketAddr;
use std::sync::Arc;

use deltamesh_jetstream::{Client, StatusBoard, answer_status, backoff, connect};
use deltamesh_nats_grpc::{Options as NatsOptions, Server};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::SERVICE;
use crate::config::Options;
use crate::context::Context;
use crate::error::Error;
use crate::feed::{self, Hub};
use crate::modules::{self, AppliedModules};
use crate::replica::Replica;
use crate::source::Sources;
use crate::{http, listen};

/// A gateway that serves.
pub struct Gateway {
    address: SocketAddr,
    context: Arc<Context>,
    server: Arc<Server>,
    tasks: Vec<JoinHandle<()>>,
    http: JoinHandle<()>,
    stop_http: oneshot::Sender<()>,
}

/// Serves until `stop` resolves, then ends every call and drains. Its status stands on `board`.
///
/// # Errors
/// As [`Gateway::start`].
pub async fn run(options: Options, board: StatusBoard, stop: impl Future<Output = ()>) -> Result<(), Error> {
    let mut stop = std::pin::pin!(stop);
    let gateway = tokio::select! {
        gateway = Gateway::start(&options, board) => gateway?,
        () = &mut stop => return Ok(()),
    };
    stop.await;
    gateway.stop().await;
    Ok(())
}

impl Gateway {
    /// Starts a gateway. Returns when its address accepts connections; waits for NATS until it answers.
    ///
    /// # Errors
    /// The address cannot be bound, or the node id is taken.
    pub async fn start(options: &Options, board: StatusBoard) -> Result<Self, Error> {
        let bound = TcpListener::bind(options.http).await;
        let listener = bound.map_err(|error| Error::new(format!("listen on {}", options.http), error))?;
        let address =
            listener.local_addr().map_err(|error| Error::new("read the listening address", error))?;
        let name = format!("{SERVICE} {}", options.nid);
        let client =
            connect(&options.nats, &name).await.map_err(|error| Error::new("connect to NATS", error))?;
        let context = Arc::new(context(options, board, &client));
        let server = Server::start(client.nats().clone(), &options.nid, nats_options(&client, address)).await;
        let server = server.map_err(|error| Error::new(format!("serve as node {}", options.nid), error))?;
        let server = Arc::new(server);
        let served = modules::serve(&context, &server, Default::default()).await;
        served.map_err(|error| Error::new("serve the generic methods", error))?;
        let feed = feed::run(
            client.clone(),
            options.replica.name.clone(),
            context.hub.clone(),
            context.board.clone(),
        );
        let tasks = vec![
            tokio::spawn(feed),
            tokio::spawn(modules::follow(client.clone(), Arc::clone(&context), Arc::clone(&server))),
            tokio::spawn(status(client, context.board.clone())),
        ];
        let routes = http::routes(Arc::clone(&context), server.services().clone());
        let (stop_http, stopped) = oneshot::channel::<()>();
        let http = tokio::spawn(listen::serve(listener, routes, stopped));
        info!(%address, nid = options.nid, "serving");
        Ok(Self { address, context, server, tasks, http, stop_http })
    }

    /// Address of HTTP and gRPC.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends every call with its reason, then everything else.
    pub async fn stop(self) {
        self.context.hub.drain();
        for task in self.tasks {
            task.abort();
            // Ends by being aborted.
            task.await.ok();
        }
        if let Ok(server) = Arc::try_unwrap(self.server)
            && let Err(error) = server.shutdown().await
        {
            warn!(%error, "cannot end the calls on NATS");
        }
        self.stop_http.send(()).ok();
        if let Err(error) = self.http.await {
            warn!(%error, "HTTP server failed");
        }
        self.context.client.close().await;
    }
}

fn context(options: &Options, board: StatusBoard, client: &Client) -> Context {
    let replica = Replica::new(options.replica.location.clone());
    let queue = usize::try_from(options.subscriber_queue).unwrap_or(usize::MAX);
    Context {
        nid: options.nid.clone(),
        client: client.clone(),
        applied: AppliedModules::default(),
        hub: Hub::new(queue),
        sources: Sources::new(client.clone(), replica.clone()),
        replica,
        board,
    }
}

fn nats_options(client: &Client, address: SocketAddr) -> NatsOptions {
    let mut options = NatsOptions {
        service_name: SERVICE.to_owned(),
        description: "Deltamesh views and module methods".to_owned(),
        losses: Some(client.losses()),
        ..NatsOptions::default()
    };
    options.metadata.insert("grpc".to_owned(), address.to_string());
    options
}

async fn status(client: Client, board: StatusBoard) {
    let mut attempt = 0;
    loop {
        if let Err(error) = answer_status(&client, &board).await {
            warn!(%error, "cannot answer status requests");
        }
        tokio::time::sleep(backoff(attempt)).await;
        attempt += 1;
    }
}
