//! A thread that flushes or compacts while transactions go on.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::Error;

/// How a round of work ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Round {
    /// Something was done; there may be more.
    Done,
    /// There is nothing to do, or it was told to stop.
    Idle,
}

/// What the thread and those who wait for it tell each other.
#[derive(Default)]
struct Progress {
    /// Whether there may be work since the thread last looked.
    wanted: bool,
    /// Whether the thread has work.
    busy: bool,
    /// Why the last round failed; the next one clears it.
    failure: Option<String>,
}

#[derive(Default)]
struct Shared {
    progress: Mutex<Progress>,
    changed: Condvar,
    stop: AtomicBool,
}

impl Shared {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn wake(&self) {
        let mut progress = self.progress();
        progress.wanted = true;
        progress.busy = true;
        self.changed.notify_all();
    }
}

/// Says to a worker that there is work.
#[derive(Clone)]
pub(crate) struct Waker(Arc<Shared>);

impl Waker {
    pub(crate) fn wake(&self) {
        self.0.wake();
    }
}

/// A running thread; dropping it stops the round under way, which leaves no trace, and waits for the thread's end.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts a thread of that name, which does rounds of work while there is any. A round stops early when the flag is set.
    pub(crate) fn spawn(
        name: &str,
        round: impl Fn(&AtomicBool) -> Result<Round, Error> + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let of_thread = shared.clone();
        let thread =
            std::thread::Builder::new().name(name.to_owned()).spawn(move || run(&round, &of_thread))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Says that there is work.
    pub(crate) fn wake(&self) {
        self.shared.wake();
    }

    pub(crate) fn waker(&self) -> Waker {
        Waker(self.shared.clone())
    }

    /// Why the last round failed, if it did.
    pub(crate) fn failure(&self) -> Option<String> {
        self.shared.progress().failure.clone()
    }

    /// Does again what failed last: what was in its way may be gone.
    pub(crate) fn try_again(&self) {
        let mut progress = self.shared.progress();
        if progress.failure.take().is_some() {
            progress.wanted = true;
            progress.busy = true;
            self.shared.changed.notify_all();
        }
    }

    /// Waits until the thread has less work than `is_enough` asks for, or none that it can do.
    ///
    /// # Errors
    /// Why it could not do it.
    pub(crate) fn wait(&self, is_enough: impl Fn() -> bool) -> Result<(), String> {
        let mut progress = self.shared.progress();
        while !is_enough() {
            if let Some(failure) = &progress.failure {
                return Err(failure.clone());
            }
            if !progress.busy {
                break;
            }
            progress = self.shared.changed.wait(progress).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // Taken and given back, so that the thread is either waiting or will see the flag.
        drop(self.shared.progress());
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed; there is nothing to undo.
            thread.join().ok();
        }
    }
}

fn run(round: &impl Fn(&AtomicBool) -> Result<Round, Error>, shared: &Shared) {
    loop {
        let mut progress = shared.progress();
        while !progress.wanted && !shared.stop.load(Ordering::Relaxed) {
            progress = shared.changed.wait(progress).unwrap_or_else(PoisonError::into_inner);
        }
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        progress.wanted = false;
        drop(progress);
        let result = round(&shared.stop);
        let mut progress = shared.progress();
        match result {
            Ok(Round::Done) => {
                progress.wanted = true;
                progress.failure = None;
            }
            Ok(Round::Idle) => {
                progress.busy = progress.wanted;
                progress.failure = None;
            }
            Err(error) => {
                // Tried again when there is more to do, or someone waits for it.
                progress.busy = progress.wanted;
                let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
                progress.failure = Some(format!("{error}{}", cause.unwrap_or_default()));
            }
        }
        shared.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn what_failed_is_done_again_on_request() {
        let is_full = Arc::new(AtomicBool::new(true));
        let of_thread = is_full.clone();
        let worker = Worker::spawn("test", move |_| {
            let is_full = of_thread.load(Ordering::Relaxed);
            if is_full { Err(Error::new(ErrorKind::Io, "disk is full")) } else { Ok(Round::Idle) }
        })
        .unwrap();
        worker.wake();
        let wait = || worker.wait(|| false);
        assert_eq!(wait(), Err("disk is full".to_owned()));
        worker.try_again();
        assert_eq!(wait(), Err("disk is full".to_owned()));
        is_full.store(false, Ordering::Relaxed);
        worker.try_again();
        assert_eq!(wait(), Ok(()));
    }
}
