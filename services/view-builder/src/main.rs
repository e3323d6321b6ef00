//! Maintains materialised views in a replica.

use std::process::ExitCode;

use clap::Parser as _;
use deltamesh_telemetry::{EX_USAGE, bad_configuration, init_logs, shutdown_signal};
use deltamesh_view_builder::{Options, run};

fn main() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) if error.use_stderr() => {
            error.print().ok();
            return ExitCode::from(EX_USAGE);
        }
        Err(error) => {
            error.print().ok();
            return ExitCode::SUCCESS;
        }
    };
    if options.print_config {
        return print_config(&options);
    }
    if let Err(error) = init_logs("view-builder") {
        return bad_configuration(&error.to_string());
    }
    match serve(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn print_config(options: &Options) -> ExitCode {
    use std::io::Write as _;
    match writeln!(std::io::stdout(), "{:#}", options.to_json()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn serve(options: Options) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let stop = shutdown_signal()?;
        let stop = async {
            let signal = stop.await;
            tracing::info!(%signal, "draining");
        };
        Ok(run(options, stop).await?)
    })
}
