//! Settings of a server.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;

use crate::pace::Rate;

/// What to do when another instance answers under our node id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnTakenNodeId {
    /// Refuse to start: two instances would each get a part of every call's messages.
    Refuse,
    /// Log a warning and start.
    Warn,
}

/// When the `End` of a successful unary call is sent. Go clients need none, and some crash on an early one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnaryEnd {
    /// Behind the response, as the Go server does.
    Now,
    /// So much later.
    Delayed(Duration),
    /// Not at all.
    Never,
}

/// What becomes of open calls when messages of our connection were lost, in a reconnect for example.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnReconnect {
    /// They fail with `UNAVAILABLE`.
    Fail,
    /// They go on; for messages that carry sequence numbers of their own.
    Continue,
}

/// Settings of a [`crate::Server`]; the defaults suit the common Go client.
#[derive(Debug, Clone)]
pub struct Options {
    /// Name in service discovery, `[A-Za-z0-9_-]+`.
    pub service_name: String,
    /// Version in service discovery, `SemVer`.
    pub version: String,
    /// Description in service discovery.
    pub description: String,
    /// Further metadata in service discovery; `nid` and `reflection` are added.
    pub metadata: BTreeMap<String, String>,
    /// What to do when the node id is taken.
    pub on_taken_node_id: OnTakenNodeId,
    /// How long to wait for an answer of another instance of the same node id.
    pub node_id_probe: Duration,
    /// Calls open at once.
    pub max_calls: usize,
    /// Calls open at once for one client node id.
    pub max_calls_per_peer: usize,
    /// Messages of one call waiting for its handler.
    pub max_queued_messages: usize,
    /// Bytes of one call waiting for its handler.
    pub max_queued_bytes: usize,
    /// Bytes of all calls together waiting for their handlers.
    pub max_queued_bytes_of_all_calls: usize,
    /// Pace of a stream to a client that names its node id.
    pub rate: Rate,
    /// Pace of all streams together to a client that names its node id.
    pub rate_per_peer: Rate,
    /// Gap between messages of a stream to a client that names none: it may buffer a single message.
    pub unnamed_gap: Duration,
    /// Sends an otherwise empty message to such clients with one unknown field: they take empty for the end.
    pub pad_empty_for_unnamed: bool,
    /// When the `End` of a successful unary call is sent.
    pub unary_end: UnaryEnd,
    /// Gives header and trailer metadata to every caller, not only to those that ask for it.
    pub always_send_metadata: bool,
    /// How often an open call's inbox is probed for a subscriber.
    pub probe_interval: Duration,
    /// How long a call may be open without its request message.
    pub first_message_timeout: Duration,
    /// How long a call may be open at all.
    pub max_call_age: Option<Duration>,
    /// How long unary calls may still run when their service stops. Streams are ended at once.
    pub drain: Duration,
    /// What becomes of open calls after a loss.
    pub on_reconnect: OnReconnect,
    /// Changes when messages of the connection may be lost: its event callback has seen `Disconnected` or
    /// `SlowConsumer`. Without it only reconnects are seen.
    pub losses: Option<watch::Receiver<u64>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            service_name: "nats-grpc".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            description: String::new(),
            metadata: BTreeMap::new(),
            on_taken_node_id: OnTakenNodeId::Refuse,
            node_id_probe: Duration::from_millis(300),
            max_calls: 65_536,
            max_calls_per_peer: 4_096,
            max_queued_messages: 1_024,
            max_queued_bytes: 4 * 1024 * 1024,
            max_queued_bytes_of_all_calls: 256 * 1024 * 1024,
            rate: Rate { burst: 2_000, per_second: 60_000 },
            rate_per_peer: Rate { burst: 4_000, per_second: 120_000 },
            unnamed_gap: Duration::from_millis(1),
            pad_empty_for_unnamed: true,
            unary_end: UnaryEnd::Now,
            always_send_metadata: false,
            probe_interval: Duration::from_secs(10),
            first_message_timeout: Duration::from_secs(10),
            max_call_age: None,
            drain: Duration::from_secs(2),
            on_reconnect: OnReconnect::Fail,
            losses: None,
        }
    }
}
