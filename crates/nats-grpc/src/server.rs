//! The server: subscriptions that follow the router, start and stop.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::join_all;
use tokio::sync::{Mutex, oneshot};
use tokio::task::JoinHandle;

use crate::builtin;
use crate::discovery::{self, Discovery};
use crate::error::{Error, ErrorKind};
use crate::link::Link;
use crate::options::{OnTakenNodeId, Options};
use crate::reader::{Reader, Subscriptions};
use crate::router::{Router, Services};
use crate::stats::Counters;
use crate::status::Status;

/// Serves a router under a node id. Dropping it is [`Server::shutdown`] without waiting.
#[derive(Debug)]
pub struct Server {
    link: Arc<Link>,
    services: Services,
    readers: Mutex<HashMap<String, Running>>,
    discovery: Running,
}

/// How long a message to ourselves may take before it counts as lost with a connection.
const ECHO_WITHIN: Duration = Duration::from_secs(2);

/// Waits until the NATS server has taken all subscriptions made so far: a flush alone ends when they are on the wire.
async fn settle(client: &Client) -> Result<(), Error> {
    let inbox = client.new_inbox();
    let mut echo = client.subscribe(inbox.clone()).await.map_err(Error::nats("subscribe to an inbox"))?;
    loop {
        let published = client.publish(inbox.clone(), Bytes::new()).await;
        published.map_err(Error::nats("publish to an inbox"))?;
        client.flush().await.map_err(Error::nats("flush subscriptions"))?;
        if tokio::time::timeout(ECHO_WITHIN, echo.next()).await.is_ok() {
            return Ok(());
        }
    }
}

/// A task that ends when told to, or when its teller is gone.
#[derive(Debug)]
pub(crate) struct Running {
    stop: oneshot::Sender<Status>,
    task: JoinHandle<()>,
}

impl Running {
    /// Tells the task why it has to end, and waits until it has.
    async fn stop(self, status: Status) {
        // A receiver that is gone has ended by itself.
        self.stop.send(status).ok();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "task failed");
        }
    }
}

impl Server {
    /// Starts under the node id `nid`, with the built-in services alone.
    ///
    /// # Errors
    /// `nid` is not a single token of `[A-Za-z0-9_-]`, it is taken, or NATS refuses.
    pub async fn start(client: Client, nid: &str, options: Options) -> Result<Self, Error> {
        for (what, token) in [("node id", nid), ("service name", &options.service_name)] {
            if !is_token(token) {
                return Err(Error::new(ErrorKind::Name, format!("{what} {token:?} is not of [A-Za-z0-9_-]")));
            }
        }
        if discovery::is_taken(&client, nid, options.node_id_probe).await? {
            let taken = Error::new(ErrorKind::NodeIdTaken, format!("another instance answers as node {nid}"));
            match options.on_taken_node_id {
                OnTakenNodeId::Refuse => return Err(taken),
                OnTakenNodeId::Warn => tracing::warn!("{taken}"),
            }
        }
        let link = Arc::new(Link::new(client, nid, options));
        let services = Services::default();
        let discovery = Discovery::subscribe(Arc::clone(&link), services.clone()).await?;
        let (stop, stopped) = oneshot::channel();
        let discovery = Running { stop, task: tokio::spawn(discovery.run(stopped)) };
        let server = Self { link, services, readers: Mutex::default(), discovery };
        server.set_services(Router::new()).await?;
        Ok(server)
    }

    /// Puts `router` into force, together with the built-in services. Returns when new services are reachable.
    ///
    /// Open calls of services that stay go on with the handlers they have; those of removed services fail with
    /// `UNAVAILABLE`.
    ///
    /// # Errors
    /// A service's name cannot be part of a subject, or NATS refuses.
    pub async fn set_services(&self, mut router: Router) -> Result<(), Error> {
        builtin::add(&mut router, &self.services).map_err(Error::nats("decode built-in descriptors"))?;
        for service in router.services() {
            if !service.name().split('.').all(is_token) {
                return Err(Error::new(
                    ErrorKind::Name,
                    format!("service name {:?} is no subject", service.name()),
                ));
            }
        }
        let mut readers = self.readers.lock().await;
        self.services.replace(router);
        let router = self.services.current();
        for service in router.services() {
            let gone = readers.get(service.name()).is_none_or(|reader| reader.task.is_finished());
            if gone {
                let reader = self.start_reader(service.name()).await?;
                readers.insert(service.name().to_owned(), reader);
            }
        }
        settle(&self.link.client).await?;
        let removed: Vec<_> = readers.extract_if(|name, _reader| router.service(name).is_none()).collect();
        stop_all(removed, &Status::unavailable("service has been removed")).await;
        Ok(())
    }

    /// The services in force, for other transports.
    #[must_use]
    pub fn services(&self) -> &Services {
        &self.services
    }

    /// Counters since the start.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.link.stats.read()
    }

    /// Our node id.
    #[must_use]
    pub fn nid(&self) -> &str {
        &self.link.nid
    }

    /// Unsubscribes, lets unary calls end ([`Options::drain`]), ends all others with `UNAVAILABLE`, and waits
    /// until that is on the wire.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn shutdown(self) -> Result<(), Error> {
        self.discovery.stop(Status::unavailable("server stops")).await;
        stop_all(self.readers.into_inner(), &Status::unavailable("server stops")).await;
        self.link.client.flush().await.map_err(Error::nats("flush outcomes"))
    }

    async fn start_reader(&self, service: &str) -> Result<Running, Error> {
        let client = &self.link.client;
        let probe_prefix = client.new_inbox();
        let probes = client
            .subscribe(format!("{probe_prefix}.>"))
            .await
            .map_err(Error::nats("subscribe to probe answers"))?;
        let calls = client
            .queue_subscribe(format!("nrpc.{}.{service}.>", self.link.nid), service.to_owned())
            .await
            .map_err(Error::nats(format!("subscribe to service {service}")))?;
        let reader = Reader::new(Arc::clone(&self.link), self.services.clone(), service, probe_prefix);
        let (stop, stopped) = oneshot::channel();
        Ok(Running { stop, task: tokio::spawn(reader.run(Subscriptions { calls, probes }, stopped)) })
    }
}

/// Stops readers at the same time.
async fn stop_all(readers: impl IntoIterator<Item = (String, Running)>, status: &Status) {
    join_all(readers.into_iter().map(|(_name, reader)| reader.stop(status.clone()))).await;
}

/// A single subject token that is safe in discovery too.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}
