//! Which instance serves a node id.

use std::time::Duration;

use anyhow::Result;
use deltamesh_jetstream::Client;
use serde_json::Value;
use tokio::time::Instant;

/// What `up` uses where nothing else is said.
pub(crate) const DEFAULT_NID: &str = "deltamesh";
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// The service discovery id of the instance that answers under the node id; another after each restart.
pub(super) async fn instance(client: &Client, nid: &str) -> Result<Option<String>> {
    let mut replies = client.request_many("$SRV.PING", "").await?;
    let deadline = Instant::now() + ANSWER_WITHIN;
    while let Ok(Some(reply)) = replies.next(deadline.saturating_duration_since(Instant::now())).await {
        let Ok(answer) = serde_json::from_slice::<Value>(&reply) else { continue };
        if answer["metadata"]["nid"] == nid {
            return Ok(answer["id"].as_str().map(str::to_owned));
        }
    }
    Ok(None)
}
