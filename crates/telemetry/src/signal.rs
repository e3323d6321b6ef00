//! The signal that asks a service to drain.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// Resolves with the signal's name at the first SIGTERM or SIGINT after the call.
///
/// The handlers are installed by the call, not by the first poll, so a signal that arrives while a
/// service is still starting is not lost. From then on neither signal ends the process by itself.
///
/// # Errors
/// The runtime refuses to install a handler.
pub fn shutdown_signal() -> io::Result<impl Future<Output = &'static str> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}
