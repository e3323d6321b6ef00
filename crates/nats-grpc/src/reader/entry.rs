//! One call in a reader's table.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use async_nats::Subject;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::call::CallState;
use crate::handler::Call;
use crate::options::Options;
use crate::status::{Code, Status};

/// Key of a call; found by its text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Inbox(pub Subject);

impl Hash for Inbox {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.as_str().hash(state);
    }
}

impl Borrow<str> for Inbox {
    fn borrow(&self) -> &str {
        self.0.as_str()
    }
}

/// A call from its `Call` until its end has been noticed.
#[derive(Debug)]
pub(super) struct Entry {
    pub state: Arc<CallState>,
    /// Ready to run with its one request message, which has not arrived.
    waiting: Option<Box<Call>>,
    /// The handler's task.
    task: Option<AbortHandle>,
    pub next_probe: Instant,
    /// Messages of this call have been lost; it fails at this time.
    pub doomed: Option<Instant>,
}

impl Entry {
    /// Starts the handler, unless it first needs a request message.
    pub(super) fn open(state: Arc<CallState>, call: Call, next_probe: Instant) -> Self {
        let mut entry = Self { state, waiting: Some(Box::new(call)), task: None, next_probe, doomed: None };
        if entry.state.method.client_streaming {
            entry.start();
        }
        entry
    }

    /// Starts the handler, once.
    pub(super) fn start(&mut self) {
        if let Some(call) = self.waiting.take() {
            self.task = Some(tokio::spawn(Arc::clone(&self.state).run(*call)).abort_handle());
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Ends the call with a status for its client. False: it had ended.
    pub(super) fn fail(&self, status: &Status) -> bool {
        self.abort_if(self.state.fail(status))
    }

    /// Ends the call of a client that has gone. False: it had ended.
    pub(super) fn abandon(&self) -> bool {
        self.abort_if(self.state.abandon())
    }

    /// Drops the handler of a call that we have ended; one that ended by itself is still sending its outcome.
    fn abort_if(&self, ended: bool) -> bool {
        if let (true, Some(task)) = (ended, &self.task) {
            task.abort();
        }
        ended
    }

    /// Why the call has to end now.
    pub(super) fn overdue(&self, now: Instant, options: &Options) -> Option<Status> {
        let age = now - self.state.opened;
        if self.doomed.is_some_and(|at| at <= now) {
            Some(Status::unavailable("server was disconnected; messages are lost"))
        } else if self.is_waiting() && age >= options.first_message_timeout {
            Some(Status::new(Code::DeadlineExceeded, "no request message arrived"))
        } else if options.max_call_age.is_some_and(|limit| age >= limit) {
            Some(Status::unavailable("call is older than the server allows"))
        } else {
            None
        }
    }
}
