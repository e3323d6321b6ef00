//! NATS service discovery (ADR-32), answered by hand: `$SRV.PING|INFO|STATS[.<name>[.<id>]]`.
//!
//! The methods' subjects are described but not registered as endpoints of a micro library: a second queue
//! subscription in the group would take half of a call's messages.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_nats::{Client, Message, Subscriber};
use futures::StreamExt;
use futures::stream::{SelectAll, select_all};
use prost_reflect::ServiceDescriptor;
use serde_json::{Map, Value, json};
use tokio::sync::oneshot;

use crate::error::Error;
use crate::link::Link;
use crate::router::{Method, Router, Services};
use crate::status::Status;

const VERBS: [&str; 3] = ["PING", "INFO", "STATS"];

/// Whether somebody answers under the node id already.
pub(crate) async fn is_taken(client: &Client, nid: &str, wait: Duration) -> Result<bool, Error> {
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await.map_err(Error::nats("subscribe to instances"))?;
    client
        .publish_with_reply("$SRV.PING", inbox, bytes::Bytes::new())
        .await
        .map_err(Error::nats("ask for instances"))?;
    let search = async {
        while let Some(answer) = answers.next().await {
            if answer.status.is_some() {
                return false;
            }
            let answer: Value = serde_json::from_slice(&answer.payload).unwrap_or_default();
            if answer["metadata"]["nid"] == nid {
                return true;
            }
        }
        false
    };
    Ok(tokio::time::timeout(wait, search).await.unwrap_or(false))
}

/// Answers for one server.
pub(crate) struct Discovery {
    link: Arc<Link>,
    services: Services,
    id: String,
    started: String,
    requests: SelectAll<Subscriber>,
}

impl Discovery {
    pub(crate) async fn subscribe(link: Arc<Link>, services: Services) -> Result<Self, Error> {
        let name = &link.options.service_name;
        let id = nuid::next().to_string();
        let mut subscribers = Vec::new();
        for verb in VERBS {
            for subject in
                [format!("$SRV.{verb}"), format!("$SRV.{verb}.{name}"), format!("$SRV.{verb}.{name}.{id}")]
            {
                let subscriber = link.client.subscribe(subject).await;
                subscribers.push(subscriber.map_err(Error::nats("subscribe to discovery"))?);
            }
        }
        let started = rfc3339(SystemTime::now());
        Ok(Self { link, services, id, started, requests: select_all(subscribers) })
    }

    pub(crate) async fn run(mut self, mut stop: oneshot::Receiver<Status>) {
        loop {
            tokio::select! {
                _ = &mut stop => return,
                request = self.requests.next() => match request {
                    Some(request) => self.answer(&request),
                    None => return,
                },
            }
        }
    }

    fn answer(&self, request: &Message) {
        let Some(inbox) = &request.reply else { return };
        let router = self.services.current();
        let (kind, further) = match request.subject.split('.').nth(1) {
            Some("PING") => ("ping", Map::new()),
            Some("INFO") => ("info", self.info(&router)),
            Some("STATS") => ("stats", self.stats(&router)),
            _ => return,
        };
        let options = &self.link.options;
        let mut metadata: Map<String, Value> =
            options.metadata.iter().map(|(key, value)| (key.clone(), value.as_str().into())).collect();
        metadata.insert("nid".to_owned(), (*self.link.nid).into());
        metadata.insert("reflection".to_owned(), "v1,v1alpha".into());
        let mut answer = json!({
            "type": format!("io.nats.micro.v1.{kind}_response"),
            "name": options.service_name,
            "id": self.id,
            "version": options.version,
            "metadata": metadata,
        });
        if let Value::Object(answer) = &mut answer {
            answer.extend(further);
        }
        self.link.post(inbox, None, answer.to_string().into());
    }

    fn info(&self, router: &Router) -> Map<String, Value> {
        let mut info = Map::new();
        info.insert("description".to_owned(), self.link.options.description.as_str().into());
        info.insert("endpoints".to_owned(), self.endpoints(router, method_metadata));
        info
    }

    fn stats(&self, router: &Router) -> Map<String, Value> {
        let counters = self.link.stats.read();
        let mut stats = Map::new();
        stats.insert("started".to_owned(), self.started.as_str().into());
        stats.insert("endpoints".to_owned(), self.endpoints(router, method_stats));
        stats.insert(
            "data".to_owned(),
            json!({
                "open": counters.open,
                "opened": counters.opened,
                "rejected": counters.rejected,
                "cancelled": counters.cancelled,
                "dead_clients": counters.dead_clients,
                "paced": counters.paced,
                "unposted": counters.unposted,
            }),
        );
        stats
    }

    fn endpoints(&self, router: &Router, further: impl Fn(&Method) -> Value) -> Value {
        let mut endpoints = Vec::new();
        for service in router.services() {
            for method in service.methods() {
                let mut endpoint = self.endpoint(service.descriptor(), method);
                if let (Value::Object(endpoint), Value::Object(further)) = (&mut endpoint, further(method)) {
                    endpoint.extend(further);
                }
                endpoints.push(endpoint);
            }
        }
        endpoints.into()
    }

    fn endpoint(&self, service: &ServiceDescriptor, method: &Method) -> Value {
        let (service, name) = (service.full_name(), method.descriptor.name());
        json!({
            "name": format!("{}_{name}", service.replace('.', "_")),
            "subject": format!("nrpc.{}.{service}.{name}", self.link.nid),
            "queue_group": service,
        })
    }
}

fn method_metadata(method: &Method) -> Value {
    json!({ "metadata": {
        "protocol": "nats-grpc",
        "method": &*method.path,
        "input": method.descriptor.input().full_name(),
        "output": method.descriptor.output().full_name(),
        "client_streaming": method.client_streaming.to_string(),
        "server_streaming": method.server_streaming.to_string(),
    }})
}

fn method_stats(method: &Method) -> Value {
    let stats = &method.stats;
    let nanoseconds = u64::try_from(stats.processing_time().as_nanos()).unwrap_or(u64::MAX);
    json!({
        "num_requests": stats.calls(),
        "num_errors": stats.errors(),
        "last_error": stats.last_error().map(|status| status.to_string()).unwrap_or_default(),
        "processing_time": nanoseconds,
        "average_processing_time": nanoseconds.checked_div(stats.calls()).unwrap_or(0),
    })
}

/// Whole seconds, UTC.
fn rfc3339(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    prost_types::Timestamp { seconds, nanos: 0 }.to_string()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    #[test]
    fn times_are_rfc3339() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        assert_eq!(super::rfc3339(time), "2001-09-09T01:46:40Z");
    }
}
