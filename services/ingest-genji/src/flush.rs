//! Makes transactions durable while the next ones are written: those that wait together share one flush of the log.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use deltamesh_change::EnginePosition;
use deltamesh_genji::Database;
use deltamesh_jetstream::Request;
use tokio::sync::mpsc;

use crate::answer::Answer;
use crate::gauges::Gauges;
use crate::host::HostEvent;
use crate::mutate::refusal;

/// Answers that may share a flush.
const GROUP: usize = 256;
/// Delay between looks at the tables while nothing is written.
const LOOK: Duration = Duration::from_secs(1);

/// A request that was run. What its answer tells must be durable before it goes out, also where others wrote it.
pub(crate) struct Ran {
    pub(crate) request: Request,
    /// Where the engine stands behind what the request changed, if it changed something.
    pub(crate) position: Option<EnginePosition>,
    pub(crate) answer: Answer,
}

/// Flushes for what comes through the queue, until it ends.
pub(crate) fn run(
    database: &Database,
    queue: &Receiver<Ran>,
    events: &mpsc::Sender<HostEvent>,
    gauges: &Gauges,
) {
    loop {
        gauges.set_hindered(database.is_compaction_hindered());
        let first = match queue.recv_timeout(LOOK) {
            Ok(first) => first,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let mut group = vec![first];
        group.extend(queue.try_iter().take(GROUP - 1));
        let flushed = database.sync();
        for Ran { request, position, answer } in group {
            let event = match &flushed {
                Ok(()) => HostEvent::Written { request, position, answer },
                Err(error) => HostEvent::Refused { request, error: refusal(error) },
            };
            // Nobody listens only when the service is gone; then there is nobody to tell.
            let _gone = events.blocking_send(event);
        }
    }
}
