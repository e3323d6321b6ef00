//! The client: calls methods of a server of the protocol, ours or the Go library's.
//!
//! All calls of a client share one inbox subscription; the last token of a call's inbox is its number. A call
//! that is dropped before its end tells the server so, with an `End` that has a status.

mod mux;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::envelope::{self, Frame};
use crate::error::Error;
use crate::metadata::{ACCEPT_METADATA, MAX_RATE, Metadata, TIMEOUT, format_timeout};
use crate::status::Status;
use mux::Mux;
pub use stream::{RequestSink, ResponseStream};

/// Settings of a [`Client`].
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// Our own node id, told to servers with streaming calls; a random one if `None`.
    pub nid: Option<String>,
    /// Messages of one call that are not read yet. Above that the call fails with `DATA_LOSS`: the protocol has
    /// no way to slow a server down.
    pub max_queued_messages: usize,
    /// Bytes of one call that are not read yet; above that as for messages.
    pub max_queued_bytes: usize,
    /// Bytes of all calls together that are not read yet; above that as for messages.
    pub max_queued_bytes_of_all_calls: usize,
    /// Changes when messages of the connection may be lost: its event callback has seen `Disconnected` or
    /// `SlowConsumer`. Open calls then fail, with `UNAVAILABLE` or `DATA_LOSS`. Without it a stream can have a
    /// silent gap: nothing in its messages tells.
    pub losses: Option<watch::Receiver<u64>>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            nid: None,
            max_queued_messages: 65_536,
            max_queued_bytes: 64 * 1024 * 1024,
            max_queued_bytes_of_all_calls: 256 * 1024 * 1024,
            losses: None,
        }
    }
}

/// Settings of one call.
#[derive(Debug, Clone, Default)]
pub struct CallOptions {
    /// Request metadata.
    pub metadata: Metadata,
    /// Time for the whole call; the server is told.
    pub timeout: Option<Duration>,
    /// Asks for header and trailer metadata.
    pub accept_metadata: bool,
    /// Asks the server for at most so many messages per second; a server of the Go library does not listen.
    pub max_rate: Option<u32>,
}

/// Calls methods of the server with one node id. Clones share the connection and inbox.
#[derive(Debug, Clone)]
pub struct Client {
    mux: Arc<Mux>,
    target: Arc<str>,
}

impl Client {
    /// A client of the server with node id `target`.
    ///
    /// # Errors
    /// NATS refuses the inbox subscription.
    pub async fn new(nats: async_nats::Client, target: &str, options: ClientOptions) -> Result<Self, Error> {
        Ok(Self { mux: Mux::start(nats, options).await?, target: target.into() })
    }

    /// The same client for another server.
    #[must_use]
    pub fn with_target(&self, target: &str) -> Self {
        Self { mux: Arc::clone(&self.mux), target: target.into() }
    }

    /// Calls a unary method, `/package.Service/Method`.
    ///
    /// # Errors
    /// The status of the server, or of this side: `UNAVAILABLE` if nobody serves the method,
    /// `DEADLINE_EXCEEDED`, `RESOURCE_EXHAUSTED` if the request is too large for the transport.
    pub async fn unary(&self, path: &str, request: &[u8], options: CallOptions) -> Result<Bytes, Status> {
        let (_requests, mut responses) = self.open(path, Some(request), options, "").await?;
        responses.single().await
    }

    /// Calls a server-streaming method.
    ///
    /// # Errors
    /// As for [`Client::unary`]; the server's own outcome comes at the end of the stream.
    pub async fn server_streaming(
        &self,
        path: &str,
        request: &[u8],
        options: CallOptions,
    ) -> Result<ResponseStream, Status> {
        let (_requests, responses) = self.open(path, Some(request), options, &self.mux.nid).await?;
        Ok(responses)
    }

    /// Calls a client-streaming method (read the answer with [`ResponseStream::single`]) or a bidirectional one.
    ///
    /// # Errors
    /// As for [`Client::server_streaming`].
    pub async fn streaming(
        &self,
        path: &str,
        options: CallOptions,
    ) -> Result<(RequestSink, ResponseStream), Status> {
        self.open(path, None, options, &self.mux.nid).await
    }

    async fn open(
        &self,
        path: &str,
        request: Option<&[u8]>,
        mut options: CallOptions,
        nid: &str,
    ) -> Result<(RequestSink, ResponseStream), Status> {
        let subject = subject(&self.target, path)?;
        let deadline = options.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        if let Some(timeout) = options.timeout {
            options.metadata.insert(TIMEOUT, format_timeout(timeout));
        }
        if options.accept_metadata {
            options.metadata.insert(ACCEPT_METADATA, "1");
        }
        if let Some(max_rate) = options.max_rate {
            options.metadata.insert(MAX_RATE, max_rate.to_string());
        }
        let slot = self.mux.open(subject, options.accept_metadata);
        // From here on a drop of the two ends tells the server, so that an early return leaves nothing behind.
        let ends = stream::ends(&self.mux, &slot, deadline, request.is_none());
        self.mux.send(&slot, envelope::call(path, options.metadata, nid)).await?;
        if let Some(request) = request {
            self.mux.send(&slot, Frame::new(request).envelope()).await?;
        }
        Ok(ends)
    }
}

/// `nrpc.<target>.<package.Service>.<Method>`.
fn subject(target: &str, path: &str) -> Result<String, Status> {
    let (service, method) = path
        .strip_prefix('/')
        .and_then(|path| path.split_once('/'))
        .ok_or_else(|| Status::invalid_argument(format!("method path {path:?} is not /service/method")))?;
    let prefix = if target.is_empty() { "nrpc".to_owned() } else { format!("nrpc.{target}") };
    Ok(format!("{prefix}.{service}.{method}"))
}

#[cfg(test)]
mod tests {
    use super::subject;

    #[test]
    fn the_subject_of_a_method() {
        let expected = "nrpc.node1.chatpb.ChatService.JoinChannel";
        assert_eq!(subject("node1", "/chatpb.ChatService/JoinChannel").unwrap(), expected);
        assert_eq!(subject("", "/echo.Echo/SayHello").unwrap(), "nrpc.echo.Echo.SayHello");
        assert!(subject("node1", "echo.Echo.SayHello").is_err());
    }
}
