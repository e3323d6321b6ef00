//! Waiting for a quiet directory to be written, without polling it.

use std::path::Path;
use std::time::Duration;

/// Wakes when something in a directory is written, where the operating system can tell; else after the time alone.
pub(crate) struct DirectoryWatch {
    #[cfg(target_os = "linux")]
    events: Option<std::os::fd::OwnedFd>,
}

#[cfg(target_os = "linux")]
impl DirectoryWatch {
    /// A directory that cannot be watched (it does not exist, or too many are watched) is one that says nothing.
    pub(crate) fn new(dir: &Path) -> Self {
        Self { events: open(dir).ok() }
    }

    /// Waits until something has been written since the last call, at most `most`; at most `blind` where nothing can be
    /// told.
    pub(crate) fn wait(&self, blind: Duration, most: Duration) {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let Some(events) = &self.events else { return std::thread::park_timeout(blind) };
        let timeout = Timespec::try_from(most).unwrap_or_default();
        match poll(&mut [PollFd::new(events, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => {}
            Ok(_) => forget(events),
            Err(_) => std::thread::park_timeout(blind),
        }
    }
}

#[cfg(target_os = "linux")]
fn open(dir: &Path) -> rustix::io::Result<std::os::fd::OwnedFd> {
    use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
    let events = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    add_watch(&events, dir, WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO)?;
    Ok(events)
}

/// Which file it was does not matter: the tail looks at all of them.
#[cfg(target_os = "linux")]
fn forget(events: &std::os::fd::OwnedFd) {
    let mut buffer = [0_u8; 4096];
    while rustix::io::read(events, &mut buffer).is_ok_and(|length| length > 0) {}
}

#[cfg(not(target_os = "linux"))]
impl DirectoryWatch {
    pub(crate) fn new(_dir: &Path) -> Self {
        Self {}
    }

    pub(crate) fn wait(&self, blind: Duration, _most: Duration) {
        std::thread::park_timeout(blind);
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_write_wakes() {
        let dir = tempfile::tempdir().unwrap();
        let watch = DirectoryWatch::new(dir.path());
        // A write before the wait counts as well.
        std::fs::write(dir.path().join("000002.log"), "x").unwrap();
        let long = Duration::from_secs(600);
        watch.wait(long, long);
        watch.wait(long, Duration::from_millis(1));
        DirectoryWatch::new(&dir.path().join("none")).wait(Duration::from_millis(1), long);
    }
}
