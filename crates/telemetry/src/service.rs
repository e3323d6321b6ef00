//! The life of a service process: logs, runtime, monitor, stop signal, exit code.

use std::fmt::Display;
use std::io::{self, Write as _};
use std::pin::Pin;
use std::process::ExitCode;

use tracing::{error, info};

use crate::{Monitor, bad_configuration, init_logs, shutdown_signal};

/// Resolves when the service is asked to stop.
pub type Stop = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Prints the configuration in force on stdout, for `--print-config`.
#[must_use]
pub fn print_config(configuration: &serde_json::Value) -> ExitCode {
    match writeln!(io::stdout().lock(), "{configuration:#}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_closed) => ExitCode::FAILURE,
    }
}

/// Runs a service until it has ended or, after SIGTERM or SIGINT, has drained. The exit code is for `main` to return.
pub fn run_service<R, E>(
    name: &'static str,
    monitor: Option<Monitor>,
    serve: impl FnOnce(Stop) -> R,
) -> ExitCode
where
    R: Future<Output = Result<(), E>>,
    E: std::error::Error,
{
    if let Err(error) = init_logs(name) {
        return bad_configuration(&error.to_string());
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed("cannot start the runtime", &error),
    };
    runtime.block_on(async {
        let signal = match shutdown_signal() {
            Ok(signal) => signal,
            Err(error) => return failed("cannot wait for signals", &error),
        };
        if let Some(monitor) = monitor
            && let Err(error) = monitor.serve().await
        {
            return failed("cannot serve the monitor", &error);
        }
        let stop = Box::pin(async move {
            let signal = signal.await;
            info!(signal, "asked to stop");
        });
        match serve(stop).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed("stopped by an error", &Chain(&error)),
        }
    })
}

fn failed(what: &'static str, error: &impl Display) -> ExitCode {
    error!(%error, "{what}");
    ExitCode::FAILURE
}

/// An error with its causes, each behind a colon.
struct Chain<'a>(&'a dyn std::error::Error);

impl Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
