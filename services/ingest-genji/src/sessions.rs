//! Who writes next: requests one after the other, and sessions, whose transaction is open between requests.
//!
//! Genji has one writer, so one session is open at a time. The requests of others wait meanwhile, in order and for a limited
//! time; a SELECT reads what is committed and is answered at once. A session ends by COMMIT or ROLLBACK, or by time; what became of it is remembered (`commits` of what was committed).

use std::collections::VecDeque;
use std::fmt;
use std::sync::mpsc::{RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use deltamesh_genji::sql::{Parameters, Statement};
use deltamesh_genji::{Database, Error, ErrorKind, Session, Submitted};
use deltamesh_jetstream::{Code, Request, ServiceError};

use crate::answer::Answer;
use crate::call::Call;
use crate::commits::{Commits, Fate};
use crate::flush::Ran;
use crate::host::{End, Thread};
use crate::mutate::refusal;

/// Most bytes of requests that may wait for the session of another.
const WAITING_BYTES: usize = 64 << 20;
/// Sessions that were not committed and whose end is remembered.
const ENDED: usize = 1024;

/// Work for the database.
pub(crate) enum Task {
    Call(Box<Call>),
    /// A module, as the bucket holds it.
    Module {
        name: String,
        value: bytes::Bytes,
    },
}

impl Task {
    fn bytes(&self) -> usize {
        match self {
            Self::Call(call) => call.request.payload.len(),
            Self::Module { value, .. } => value.len(),
        }
    }
}

/// A task that waits for the open session to end.
pub(crate) struct Waiting {
    pub(crate) task: Task,
    /// When it is refused.
    until: Instant,
}

/// Why a session is not open any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    RolledBack,
    /// Committed without a change, which leaves no trace.
    Unchanged,
    Idle(Duration),
    Total(Duration),
    Failed,
    Stopped,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RolledBack => f.write_str("session was rolled back by its ROLLBACK"),
            Self::Unchanged => f.write_str("session was committed and had changed nothing"),
            Self::Idle(limit) => write!(f, "session was rolled back: it had no statement for {limit:?}"),
            Self::Total(limit) => write!(f, "session was rolled back: it was open for {limit:?}"),
            Self::Failed => f.write_str("session was rolled back: the database had to be opened again"),
            Self::Stopped => f.write_str("session was rolled back: its host stops"),
        }
    }
}

/// What became of the newest sessions that left no commit.
#[derive(Default)]
pub(crate) struct Endings {
    newest: VecDeque<(String, Ended)>,
}

impl Endings {
    fn note(&mut self, name: String, ended: Ended) {
        if self.newest.len() == ENDED {
            self.newest.pop_front();
        }
        self.newest.push_back((name, ended));
    }

    fn of(&self, name: &str) -> Option<Ended> {
        self.newest.iter().rev().find(|(known, _)| known == name).map(|(_, ended)| *ended)
    }
}

/// The open session.
struct Open<'d> {
    name: String,
    session: Session<'d>,
    begun: Instant,
    /// When its last statement ended.
    last: Instant,
}

/// What to do next.
enum Next {
    Task(Task),
    /// A limit is reached.
    Overdue,
    /// Nothing comes any more.
    Closed,
}

/// The database and who uses it, from its opening to its closing.
pub(crate) struct Serving<'d> {
    thread: &'d mut Thread,
    database: &'d Database,
    /// Where what was run waits for its flush.
    flush: SyncSender<Ran>,
    commits: Commits,
    open: Option<Open<'d>>,
}

impl<'d> Serving<'d> {
    /// # Errors
    /// The database cannot be read.
    pub(crate) fn new(
        thread: &'d mut Thread,
        database: &'d Database,
        flush: SyncSender<Ran>,
    ) -> Result<Self, Error> {
        let commits = Commits::load(database)?;
        Ok(Self { thread, database, flush, commits, open: None })
    }

    pub(crate) fn run(mut self) -> End {
        loop {
            self.expire();
            if self.is_broken() {
                self.end(Ended::Failed);
                return End::Broken;
            }
            self.thread.gauges.set_session(self.open.is_some(), self.thread.waiting.len());
            match self.next() {
                Next::Task(task) => self.take(task),
                Next::Overdue => {}
                Next::Closed => {
                    self.close();
                    return End::Done;
                }
            }
        }
    }

    /// Whether the database takes no more writes until it is opened again.
    fn is_broken(&mut self) -> bool {
        match &mut self.open {
            Some(open) => open.session.transaction().is_ok_and(|transaction| transaction.check().is_err()),
            None => self.database.position().is_err(),
        }
    }

    fn next(&mut self) -> Next {
        if self.open.is_none()
            && let Some(waiting) = self.thread.waiting.pop_front()
        {
            return Next::Task(waiting.task);
        }
        let limits = &self.thread.limits;
        let session = self
            .open
            .as_ref()
            .map(|open| (open.last + limits.session_idle).min(open.begun + limits.session_total));
        let waiting = self.thread.waiting.iter().map(|waiting| waiting.until).min();
        let Some(until) = session.into_iter().chain(waiting).min() else {
            return self.thread.jobs.recv().map_or(Next::Closed, Next::Task);
        };
        match self.thread.jobs.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(task) => Next::Task(task),
            Err(RecvTimeoutError::Timeout) => Next::Overdue,
            Err(RecvTimeoutError::Disconnected) => Next::Closed,
        }
    }

    /// Ends a session that has had its time, and refuses who has waited for too long.
    fn expire(&mut self) {
        let now = Instant::now();
        let (idle, total) = (self.thread.limits.session_idle, self.thread.limits.session_total);
        if let Some(open) = &self.open {
            if now >= open.begun + total {
                self.end(Ended::Total(total));
            } else if now >= open.last + idle {
                self.end(Ended::Idle(idle));
            }
        }
        if self.open.is_none() {
            return;
        }
        let waiting = std::mem::take(&mut self.thread.waiting);
        let (overdue, waiting): (VecDeque<_>, _) =
            waiting.into_iter().partition(|waiting| now >= waiting.until);
        self.thread.waiting = waiting;
        for Waiting { task, .. } in overdue {
            let limit = self.thread.limits.session_wait;
            let reason = format!("another session has its transaction open: waited {limit:?}, try again");
            self.thread.refuse_task(task, &ServiceError::new(Code::DeadlineExceeded, reason));
        }
    }

    /// Rolls the open session back.
    fn end(&mut self, ended: Ended) {
        if let Some(Open { name, session, .. }) = self.open.take() {
            drop(session);
            self.thread.endings.note(name, ended);
        }
    }

    /// Does what waits, with no session any more.
    fn close(&mut self) {
        self.end(Ended::Stopped);
        while let Some(Waiting { task, .. }) = self.thread.waiting.pop_front() {
            match task {
                Task::Call(call) if call.begins() => {
                    let error = ServiceError::new(Code::Unavailable, "host stops: begin at the next one");
                    self.thread.refuse(call.request, error);
                }
                task => self.take(task),
            }
        }
    }

    fn take(&mut self, task: Task) {
        match task {
            Task::Call(call) if call.session.is_empty() && self.open.is_none() => self.run_alone(*call),
            Task::Call(call) if call.session.is_empty() => self.run_beside(call),
            Task::Call(call) if self.open.as_ref().is_some_and(|open| open.name == call.session) => {
                self.run_in_session(*call);
            }
            Task::Call(call) => self.answer_ended(*call),
            Task::Module { .. } if self.open.is_some() => self.wait(task),
            Task::Module { name, value } => self.thread.apply_module(self.database, name, &value),
        }
    }

    fn wait(&mut self, task: Task) {
        let limits = &self.thread.limits;
        let bytes: usize = self.thread.waiting.iter().map(|waiting| waiting.task.bytes()).sum();
        let is_full =
            self.thread.waiting.len() >= limits.session_waiting || bytes + task.bytes() > WAITING_BYTES;
        if is_full {
            let reason = "another session has its transaction open, and too many wait for it";
            self.thread.refuse_task(task, &ServiceError::new(Code::ResourceExhausted, reason));
            return;
        }
        let patience = match task {
            Task::Call(_) => limits.session_wait,
            // Nobody would send it again.
            Task::Module { .. } => limits.session_total * 2,
        };
        self.thread.waiting.push_back(Waiting { task, until: Instant::now() + patience });
    }

    /// Runs a request in a transaction of its own, or begins a session.
    fn run_alone(&mut self, call: Call) {
        let mut session = Session::new(self.database);
        let Call { request, work, .. } = call;
        match work.run(self.database, &mut session, self.thread.max_message, &self.thread.room) {
            Ok(_) if session.in_transaction() => {
                let (name, now) = (self.commits.name(), Instant::now());
                let answer = Answer::session(name.clone());
                self.open = Some(Open { name, session, begun: now, last: now });
                self.answer(request, None, answer);
            }
            Ok((submitted, answer)) => {
                self.answer(request, submitted, answer);
            }
            Err(error) => self.thread.refuse(request, error),
        }
    }

    /// Runs a request beside the open session, if it only reads what is committed; else it waits.
    fn run_beside(&mut self, call: Box<Call>) {
        match call.work.read(self.database, self.thread.max_message, &self.thread.room) {
            Ok(Some(answer)) => self.answer(call.request, None, answer),
            Ok(None) => self.wait(Task::Call(call)),
            Err(error) => self.thread.refuse(call.request, error),
        }
    }

    fn run_in_session(&mut self, call: Call) {
        let Call { request, work, .. } = call;
        match work.statement() {
            Some(Statement::Commit) => return self.commit(request),
            Some(Statement::Rollback) => {
                self.end(Ended::RolledBack);
                return self.answer(request, None, Answer::done());
            }
            _ => {}
        }
        let Some(open) = &mut self.open else { return };
        let ran = work.run(self.database, &mut open.session, self.thread.max_message, &self.thread.room);
        open.last = Instant::now();
        match ran {
            Ok((submitted, answer)) => self.answer(request, submitted, answer),
            Err(error) => self.thread.refuse(request, error),
        }
    }

    fn commit(&mut self, request: Request) {
        let Some(Open { name, mut session, .. }) = self.open.take() else { return };
        match self.submit(&mut session, &name) {
            Ok(Some((number, submitted))) => {
                self.commits.committed(number, name, submitted.position);
                self.answer(request, Some(submitted), Answer::Committed);
            }
            Ok(None) => {
                self.thread.endings.note(name, Ended::Unchanged);
                self.answer(request, None, Answer::done());
            }
            Err(error) => {
                let ServiceError { code, message } = refusal(&error);
                let then = match error.kind() {
                    ErrorKind::Io | ErrorKind::Closed => "send COMMIT again to learn whether it was done",
                    _ => "session is rolled back",
                };
                self.thread.refuse(request, ServiceError::new(code, format!("{message}; {then}")));
            }
        }
    }

    /// Submits the session's transaction, if it changed anything, with the row that says so.
    fn submit(&self, session: &mut Session<'_>, name: &str) -> Result<Option<(i64, Submitted)>, Error> {
        // A read-only one has none.
        let changed = session.transaction().ok().filter(|transaction| transaction.has_changes());
        let number = changed.map(|transaction| self.commits.record(transaction, name)).transpose()?;
        let (_, submitted) =
            session.run(&Statement::Commit, Parameters::Positional(&[]), &mut |_| Ok(true))?;
        Ok(number.zip(submitted))
    }

    /// Answers a request of a session that is not open: its COMMIT by what is true, its ROLLBACK if it is.
    fn answer_ended(&mut self, call: Call) {
        let Call { request, session, work } = call;
        let fate = self.commits.fate(&session);
        let ended = self.thread.endings.of(&session);
        let aborted = |reason: &str| ServiceError::new(Code::Aborted, format!("{reason}; begin again"));
        let error = match (fate, ended, work.statement()) {
            (Fate::Committed(position), _, Some(Statement::Commit)) => {
                return self.send(request, Some(position), Answer::Committed);
            }
            (Fate::Committed(_), ..) => {
                let reason = "session was committed: begin another";
                ServiceError::new(Code::FailedPrecondition, reason)
            }
            (_, Some(Ended::Unchanged), Some(Statement::Commit | Statement::Rollback))
            | (_, Some(_), Some(Statement::Rollback))
            | (Fate::NotCommitted, None, Some(Statement::Rollback)) => {
                return self.send(request, None, Answer::done());
            }
            (_, Some(ended), _) => aborted(&ended.to_string()),
            (Fate::NotCommitted, None, _) => aborted(
                "session is not open and was not committed: its host was started again, or another host has taken over",
            ),
            (Fate::Forgotten, None, _) => {
                let reason = "session is not open: too long ago to know what became of it, look at its rows";
                ServiceError::new(Code::OutOfRange, reason)
            }
            (Fate::Unknown, None, _) => {
                ServiceError::new(Code::NotFound, "no session has this name: BEGIN answers one")
            }
        };
        self.thread.refuse(request, error);
    }

    fn answer(&self, request: Request, submitted: Option<Submitted>, answer: Answer) {
        self.send(request, submitted.map(|submitted| submitted.position), answer);
    }

    /// Answers once everything that the answer may tell is durable.
    fn send(&self, request: Request, position: Option<deltamesh_change::EnginePosition>, answer: Answer) {
        if let Err(unsent) = self.flush.send(Ran { request, position, answer }) {
            let error = ServiceError::new(Code::Unavailable, "database is closing, ask again");
            self.thread.refuse(unsent.0.request, error);
        }
    }
}
