//! The one reader of a service's subscription: it opens calls, queues their messages in order, and ends those
//! whose client has gone. It never waits for a handler or for the connection.
//!
//! Calls are found by their inbox, which is the reply subject of all their messages. Only `Call` opens one;
//! anything else about an unknown inbox is the late end of a finished call and is ignored, without any state.
//!
//! A client that has gone shows itself only by its missing subscription: a message to the inbox with a reply
//! subject of ours is answered `503` by the NATS server. So idle calls are probed with empty messages, which
//! clients ignore, and a half-close, with which some clients also leave, is followed by a probe at once.

mod entry;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Message, StatusCode, Subject, Subscriber};
use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::oneshot;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use crate::admission::Admission;
use crate::call::CallState;
use crate::envelope::{self, RequestKind};
use crate::generated::nrpc;
use crate::handler::Call;
use crate::link::Link;
use crate::losses::Losses;
use crate::metadata::{ACCEPT_METADATA, MAX_RATE, Metadata};
use crate::options::OnReconnect;
use crate::router::{Method, Services};
use crate::stats::count;
use crate::status::{Code, Status};
use entry::{Entry, Inbox};

/// How often open calls are looked through.
const SWEEP: Duration = Duration::from_millis(250);
/// The second probe after a half-close: the client's unsubscription may have come behind its `End`.
const SECOND_PROBE: Duration = Duration::from_millis(500);
/// How often a stopping service looks whether its unary calls have ended.
const DRAIN_PAUSE: Duration = Duration::from_millis(5);
/// After a reconnect of ours, clients get this long to come back before a missing subscription counts.
const SETTLE: Duration = Duration::from_secs(10);
/// After a reconnect of ours, clients get this long before their calls are failed.
const FAIL_AFTER_RECONNECT: Duration = Duration::from_secs(2);

/// What runs for one service.
pub(crate) struct Reader {
    link: Arc<Link>,
    services: Services,
    service: String,
    /// Length of `nrpc.<nid>.<service>.`.
    prefix: usize,
    /// Reply subject of probes, in front of the probed inbox.
    probe_prefix: String,
    calls: HashMap<Inbox, Entry>,
    losses: Losses,
    /// Why no more calls are opened.
    stopping: Option<Status>,
    /// Before this, a missing subscription proves nothing.
    judge_from: Instant,
}

/// The subscriptions of a reader.
pub(crate) struct Subscriptions {
    pub calls: Subscriber,
    pub probes: Subscriber,
}

impl Reader {
    pub(crate) fn new(link: Arc<Link>, services: Services, service: &str, probe_prefix: String) -> Self {
        Self {
            prefix: "nrpc...".len() + link.nid.len() + service.len(),
            service: service.to_owned(),
            probe_prefix,
            calls: HashMap::new(),
            losses: Losses::new(&link.client, link.options.losses.as_ref()),
            judge_from: Instant::now(),
            stopping: None,
            link,
            services,
        }
    }

    /// Reads until `stop`, then unsubscribes and fails the calls that are open.
    pub(crate) async fn run(mut self, subscriptions: Subscriptions, mut stop: oneshot::Receiver<Status>) {
        let Subscriptions { mut calls, mut probes } = subscriptions;
        let mut sweep: Interval = tokio::time::interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let status = loop {
            // In this order: a flood of messages must not keep the others waiting.
            tokio::select! {
                biased;
                status = &mut stop => break status.ok(),
                _ = sweep.tick(), if !self.calls.is_empty() => self.sweep(Instant::now()),
                Some(answer) = probes.next() => self.on_probe_answer(&answer),
                message = calls.next() => match message {
                    Some(message) => self.on_message(message),
                    None => break None,
                },
            }
        };
        self.drain(calls, status.unwrap_or_else(|| Status::unavailable("server stops"))).await;
    }

    /// Unsubscribes, refuses what is still on its way, lets unary calls end, and fails the rest.
    async fn drain(&mut self, mut calls: Subscriber, status: Status) {
        if let Err(error) = calls.drain().await {
            tracing::debug!(service = self.service, %error, "subscription already gone");
        }
        let until = Instant::now() + self.link.options.drain;
        self.calls.retain(|_inbox, entry| entry.state.method.is_unary() || !entry.fail(&status));
        self.stopping = Some(status.clone());
        while let Ok(Some(message)) = tokio::time::timeout_at(until, calls.next()).await {
            self.on_message(message);
        }
        while Instant::now() < until && self.calls.values().any(|entry| !entry.state.has_left()) {
            tokio::time::sleep(DRAIN_PAUSE).await;
        }
        for entry in self.calls.values() {
            entry.fail(&status);
        }
    }

    fn on_message(&mut self, message: Message) {
        let Message { subject, reply, payload, .. } = message;
        let kind = match envelope::decode_request(payload) {
            Ok(Some(kind)) => kind,
            Ok(None) => return count(&self.link.stats.ignored),
            Err(error) => {
                tracing::debug!(service = self.service, %error, "message is no envelope");
                return count(&self.link.stats.undecodable);
            }
        };
        let Some(inbox) = reply else { return count(&self.link.stats.ignored) };
        match kind {
            RequestKind::Call(call) => self.on_call(&subject, &inbox, call),
            RequestKind::Data(data) => self.on_data(&inbox, data.data),
            RequestKind::End(end) => self.on_end(&inbox, end.status.is_some()),
        }
    }

    fn on_call(&mut self, subject: &Subject, inbox: &Subject, call: nrpc::Call) {
        if self.calls.get(inbox.as_str()).is_some_and(|entry| !entry.state.has_ended()) {
            return count(&self.link.stats.ignored);
        }
        if let Some(status) = &self.stopping {
            return self.refuse(inbox, status);
        }
        let router = self.services.current();
        let name = subject.get(self.prefix..).unwrap_or_default();
        if let Some((inner, _method)) = name.rsplit_once('.')
            && router.service(&format!("{}.{inner}", self.service)).is_some()
        {
            // A service whose package is called like this service: its own reader answers.
            return count(&self.link.stats.ignored);
        }
        let method = router.service(&self.service).and_then(|service| service.method(name));
        let Some(method) = method else {
            return self.refuse(inbox, &Status::new(Code::Unimplemented, "Unimplemented"));
        };
        if let Err(status) = self.open(inbox, method, call) {
            count(&self.link.stats.rejected);
            self.refuse(inbox, &status);
        }
    }

    /// Answers a call that is not opened.
    fn refuse(&self, inbox: &Subject, status: &Status) {
        self.link.post(inbox, None, envelope::end(Some(status), Metadata::new()));
    }

    fn open(&mut self, inbox: &Subject, method: &Arc<Method>, call: nrpc::Call) -> Result<(), Status> {
        let now = Instant::now();
        // Open calls are counted elsewhere: this is for ended ones that pile up between sweeps.
        if self.calls.len() >= self.link.options.max_calls.saturating_mul(2) {
            self.sweep(now);
        }
        if self.calls.is_empty() {
            self.losses.happened();
        }
        let peer: Option<Arc<str>> = (!call.nid.is_empty()).then(|| call.nid.into());
        let admission = Admission::take(&self.link, peer.as_ref())?;
        count(&self.link.stats.opened);
        let mut metadata = Metadata::from_wire(call.metadata);
        let deadline = metadata.take_timeout().and_then(|timeout| now.checked_add(timeout));
        let takes_metadata = metadata.get(ACCEPT_METADATA).is_some();
        let max_rate = metadata.get(MAX_RATE).and_then(|rate| rate.parse().ok());
        let named = peer.is_some();
        let state =
            Arc::new(CallState::new(&self.link, inbox, method, named, takes_metadata, max_rate, admission));
        let call = Call::over_nats(&state, metadata, peer, deadline);
        let next_probe = now + self.link.options.probe_interval;
        self.calls.insert(Inbox(state.inbox.clone()), Entry::open(state, call, next_probe));
        Ok(())
    }

    fn on_data(&mut self, inbox: &Subject, message: Bytes) {
        let Some(entry) = self.calls.get_mut(inbox.as_str()).filter(|entry| !entry.state.has_ended()) else {
            return count(&self.link.stats.ignored);
        };
        let state = &entry.state;
        let waits = entry.is_waiting();
        if !waits && !state.method.client_streaming {
            return count(&self.link.stats.ignored);
        }
        if state.requests.push(message).is_err() {
            count(&self.link.stats.rejected);
            entry.fail(&Status::new(Code::ResourceExhausted, "requests come faster than they are served"));
            return;
        }
        if waits {
            state.requests.finish(Ok(()));
            entry.start();
        }
    }

    fn on_end(&mut self, inbox: &Subject, cancelled: bool) {
        let Some(entry) = self.calls.get_mut(inbox.as_str()) else { return count(&self.link.stats.ignored) };
        if entry.state.has_ended() {
            self.calls.remove(inbox.as_str());
        } else if cancelled {
            count(&self.link.stats.cancelled);
            entry.abandon();
            self.calls.remove(inbox.as_str());
        } else if entry.is_waiting() {
            entry.fail(&Status::invalid_argument("request message missing"));
            self.calls.remove(inbox.as_str());
        } else {
            entry.state.requests.finish(Ok(()));
            entry.next_probe = Instant::now() + SECOND_PROBE;
            self.probe(inbox);
        }
    }

    /// Asks whether anybody subscribes to the inbox.
    fn probe(&self, inbox: &Subject) {
        count(&self.link.stats.probes);
        self.link.post(inbox, Some(format!("{}.{inbox}", self.probe_prefix)), Bytes::new());
    }

    fn on_probe_answer(&mut self, answer: &Message) {
        if answer.status != Some(StatusCode::NO_RESPONDERS) || Instant::now() < self.judge_from {
            return;
        }
        let inbox = answer.subject.strip_prefix(&*self.probe_prefix).and_then(|rest| rest.strip_prefix('.'));
        let Some(entry) = inbox.and_then(|inbox| self.calls.remove(inbox)) else { return };
        if entry.abandon() {
            count(&self.link.stats.dead_clients);
            tracing::debug!(method = %entry.state.method.path, "client has gone");
        }
    }

    /// Forgets ended calls, fails those that took too long, probes those that are due.
    fn sweep(&mut self, now: Instant) {
        self.notice_loss(now);
        let options = &self.link.options;
        let mut due = Vec::new();
        self.calls.retain(|inbox, entry| {
            if entry.state.has_ended() {
                return false;
            }
            if let Some(status) = entry.overdue(now, options) {
                entry.fail(&status);
                return false;
            }
            if entry.next_probe <= now {
                entry.next_probe = now + options.probe_interval;
                due.push(inbox.0.clone());
            }
            true
        });
        for inbox in due {
            self.probe(&inbox);
        }
    }

    fn notice_loss(&mut self, now: Instant) {
        if !self.losses.happened() {
            return;
        }
        self.judge_from = now + SETTLE;
        if self.link.options.on_reconnect == OnReconnect::Fail {
            for entry in self.calls.values_mut() {
                entry.doomed.get_or_insert(now + FAIL_AFTER_RECONNECT);
            }
        }
    }
}
