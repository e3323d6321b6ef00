//! What the readers and calls of one server share: connection, settings, counters.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use async_nats::{Client, Subject};
use bytes::Bytes;
use futures::FutureExt;

use crate::admission::Peers;
use crate::options::Options;
use crate::queue::Budget;
use crate::stats::{ServerStats, count};
use crate::status::Status;

/// Answers that may wait for a connection which takes nothing at the moment.
const MAX_PENDING_POSTS: usize = 1_024;

#[derive(Debug)]
pub(crate) struct Link {
    pub client: Client,
    pub nid: Arc<str>,
    pub options: Options,
    pub stats: ServerStats,
    pub budget: Arc<Budget>,
    pub peers: Peers,
    pending_posts: AtomicUsize,
}

impl Link {
    pub(crate) fn new(client: Client, nid: &str, options: Options) -> Self {
        Self {
            client,
            nid: nid.into(),
            budget: Arc::new(Budget::new(options.max_queued_bytes_of_all_calls)),
            options,
            stats: ServerStats::default(),
            peers: Peers::default(),
            pending_posts: AtomicUsize::new(0),
        }
    }

    /// Publishes, waiting while the connection takes nothing.
    pub(crate) async fn publish(&self, inbox: &Subject, envelope: Bytes) -> Result<(), Status> {
        let published = self.client.publish(inbox.clone(), envelope).await;
        published.map_err(|error| Status::unavailable(format!("publish response: {error}")))
    }

    /// Publishes without waiting, for readers: what the connection cannot take at once is left to a task.
    pub(crate) fn post(self: &Arc<Self>, inbox: &Subject, reply: Option<String>, envelope: Bytes) {
        let link = Arc::clone(self);
        let inbox = inbox.clone();
        let mut publish = Box::pin(async move {
            let published = match reply {
                None => link.client.publish(inbox, envelope).await,
                Some(reply) => link.client.publish_with_reply(inbox, reply, envelope).await,
            };
            if let Err(error) = published {
                count(&link.stats.unposted);
                tracing::debug!(%error, "answer not published");
            }
        });
        if publish.as_mut().now_or_never().is_some() {
            return;
        }
        if self.pending_posts.fetch_add(1, Relaxed) >= MAX_PENDING_POSTS {
            self.pending_posts.fetch_sub(1, Relaxed);
            count(&self.stats.unposted);
            return;
        }
        let link = Arc::clone(self);
        tokio::spawn(async move {
            publish.await;
            link.pending_posts.fetch_sub(1, Relaxed);
        });
    }
}
