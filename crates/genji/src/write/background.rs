//! The thread that compacts while transactions go on.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::compact::{Compaction, Round};

/// What the thread and those who wait for it tell each other.
#[derive(Default)]
struct Progress {
    /// Whether tables were added since the thread last looked.
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

/// A running compactor; dropping it stops the merge under way, which leaves no trace, and waits for the thread's end.
pub(crate) struct Compactor {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Compactor {
    pub(crate) fn spawn(compaction: Compaction) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let of_thread = shared.clone();
        let thread = std::thread::Builder::new()
            .name("genji-compact".to_owned())
            .spawn(move || run(&compaction, &of_thread))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Says that there are new tables.
    pub(crate) fn wake(&self) {
        let mut progress = self.shared.progress();
        progress.wanted = true;
        progress.busy = true;
        self.shared.changed.notify_all();
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

impl Drop for Compactor {
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

fn run(compaction: &Compaction, shared: &Shared) {
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
        let round = compaction.round(&shared.stop);
        let mut progress = shared.progress();
        match round {
            Ok(Round::Merged) => {
                progress.wanted = true;
                progress.failure = None;
            }
            Ok(Round::Idle | Round::Unordered | Round::Stopped) => {
                progress.busy = progress.wanted;
                progress.failure = None;
            }
            Err(error) => {
                // Tried again when the next tables come: until then nothing has changed that could help.
                progress.busy = progress.wanted;
                let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
                progress.failure = Some(format!("{error}{}", cause.unwrap_or_default()));
            }
        }
        shared.changed.notify_all();
    }
}
