//! The connection to NATS.

use std::sync::Arc;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::Context;
use async_nats::jetstream::context::ContextBuilder;
use async_nats::{ConnectOptions, Event};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::{Error, ErrorKind};

/// How long an answer of the server may take, publish acks included.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

const RECONNECT_FIRST: Duration = Duration::from_millis(20);
const RECONNECT_LAST: Duration = Duration::from_secs(2);

/// A connection to NATS that reconnects by itself. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    nats: async_nats::Client,
    context: Context,
    losses: watch::Receiver<u64>,
}

/// Delay before attempt `attempt` (from 0): doubles from 20 ms to 2 s.
#[must_use]
pub fn backoff(attempt: usize) -> Duration {
    let doublings = u32::try_from(attempt).unwrap_or(u32::MAX).min(16);
    RECONNECT_FIRST.saturating_mul(1 << doublings).min(RECONNECT_LAST)
}

/// Connects to the servers of `url` (comma-separated) under the connection name `name`; tries until one answers.
///
/// # Errors
/// [`ErrorKind::Invalid`] where `url` is not a list of server addresses.
pub async fn connect(url: &str, name: &str) -> Result<Client, Error> {
    let addresses = url
        .split(',')
        .map(|address| address.trim().parse::<async_nats::ServerAddr>())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Error::with(ErrorKind::Invalid, format!("read server address {url}"), error))?;
    let mut attempt = 0;
    loop {
        match open(&addresses, name).await {
            Ok(client) => return Ok(client),
            Err(error) => {
                if attempt == 0 {
                    warn!(%url, %error, "cannot connect to NATS, trying again");
                }
                tokio::time::sleep(backoff(attempt)).await;
                attempt += 1;
            }
        }
    }
}

async fn open(addresses: &[async_nats::ServerAddr], name: &str) -> Result<Client, async_nats::ConnectError> {
    let (lost, losses) = watch::channel(0);
    let nats = ConnectOptions::new()
        .name(name)
        .reconnect_delay_callback(backoff)
        .request_timeout(Some(ANSWER_TIMEOUT))
        .ping_interval(Duration::from_secs(15))
        .event_callback(move |event| {
            log(&event);
            if matches!(event, Event::Disconnected | Event::Closed | Event::SlowConsumer(_)) {
                lost.send_modify(|count| *count += 1);
            }
            std::future::ready(())
        })
        .connect(addresses)
        .await?;
    let context = ContextBuilder::new()
        .timeout(ANSWER_TIMEOUT)
        .ack_timeout(ANSWER_TIMEOUT)
        .max_ack_inflight(4096)
        .backpressure_on_inflight(true)
        .build(nats.clone());
    Ok(Client { inner: Arc::new(Inner { nats, context, losses }) })
}

fn log(event: &Event) {
    match event {
        Event::Connected => info!("connected to NATS"),
        Event::Disconnected => warn!("lost the connection to NATS"),
        Event::SlowConsumer(_) | Event::ServerError(_) => warn!(%event, "NATS reports a problem"),
        _ => debug!(%event, "NATS event"),
    }
}

impl Client {
    /// The plain NATS connection, for core publish and subscribe and for `nats-grpc`.
    #[must_use]
    pub fn nats(&self) -> &async_nats::Client {
        &self.inner.nats
    }

    pub(crate) fn context(&self) -> &Context {
        &self.inner.context
    }

    /// Whether the connection stands at this moment.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.inner.nats.connection_state() == State::Connected
    }

    /// Largest message that the server accepts, in bytes.
    #[must_use]
    pub fn max_payload(&self) -> usize {
        self.inner.nats.max_payload()
    }

    /// Counts lost connections and overflowed subscriptions; what was in flight when it changes may or may not have
    /// arrived.
    #[must_use]
    pub fn losses(&self) -> watch::Receiver<u64> {
        self.inner.losses.clone()
    }

    /// Ends the connection after what was published has been sent.
    pub async fn close(&self) {
        if tokio::time::timeout(ANSWER_TIMEOUT, self.inner.nats.flush()).await.is_err() {
            warn!("NATS did not confirm the last messages");
        }
    }
}
