//! Maintains materialised views in a replica.

use std::process::ExitCode;

use clap::Parser as _;
use deltamesh_telemetry::{bad_configuration, init_logs, shutdown_signal};
use deltamesh_view_builder::{Options, run};
use tracing::{error, info};

fn main() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) if !error.use_stderr() => error.exit(),
        Err(error) => return bad_configuration(&error.to_string()),
    };
    if options.print_config {
        return print(&options);
    }
    if let Err(error) = init_logs("view-builder") {
        return bad_configuration(&error.to_string());
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            error!(%error, "cannot start the runtime");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(serve(options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!(error = format!("{error:#}"), "stopped by an error");
            ExitCode::FAILURE
        }
    }
}

async fn serve(options: Options) -> anyhow::Result<()> {
    let signal = shutdown_signal()?;
    let stop = async move {
        let signal = signal.await;
        info!(signal, "asked to stop");
    };
    Ok(run(options, stop).await?)
}

/// The configuration in force, on stdout.
fn print(options: &Options) -> ExitCode {
    use std::io::Write as _;
    match writeln!(std::io::stdout().lock(), "{:#}", options.to_json()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_closed) => ExitCode::FAILURE,
    }
}
