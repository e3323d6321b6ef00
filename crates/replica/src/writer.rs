//! The thread that a replica's writer runs on.

use std::thread;

use tokio::sync::{mpsc, oneshot};

use crate::error::{Error, ErrorKind, Result};
use crate::replica::Replica;

type Job = Box<dyn FnOnce(&mut dyn Replica) + Send>;

/// Calls that wait for the thread; the loop of a service makes one at a time.
const WAITING: usize = 4;

/// A replica on its own thread: calls block there and are awaited here.
#[derive(Debug)]
pub struct Writer {
    jobs: mpsc::Sender<Job>,
    thread: thread::JoinHandle<()>,
}

impl Writer {
    /// Moves the replica to its thread.
    ///
    /// # Errors
    /// The system cannot start a thread.
    pub fn spawn(mut replica: Box<dyn Replica>) -> Result<Self> {
        let (jobs, mut waiting) = mpsc::channel::<Job>(WAITING);
        let work = move || {
            while let Some(job) = waiting.blocking_recv() {
                job(&mut *replica);
            }
        };
        let thread = thread::Builder::new().name("replica".to_owned()).spawn(work);
        let thread = thread.map_err(|error| Error::io("start replica thread", error))?;
        Ok(Self { jobs, thread })
    }

    /// Runs `work` on the thread. Dropping the future does not stop work that has begun.
    ///
    /// # Errors
    /// What `work` returns; [`ErrorKind::Stopped`] where the thread has ended.
    pub async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut dyn Replica) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let stopped = || Error::new(ErrorKind::Stopped, "replica thread", "has ended");
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |replica| {
            answer.send(work(replica)).ok();
        });
        self.jobs.send(job).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }

    /// Ends the thread after the calls that were made, and closes the replica.
    pub fn stop(self) {
        drop(self.jobs);
        if self.thread.join().is_err() {
            tracing::error!("replica thread has panicked");
        }
    }
}
