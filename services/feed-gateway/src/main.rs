//! Serves view feeds and module methods to applications.

use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;
use deltamesh_feed_gateway::Gateway;
use deltamesh_feed_gateway::config::Options;
use deltamesh_telemetry::{bad_configuration, init_logs, shutdown_signal};
use tracing::{error, info};

fn main() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            error.exit()
        }
        Err(error) => return bad_configuration(&error.render().to_string()),
    };
    if options.print_config {
        return print(&options);
    }
    if let Err(error) = init_logs("feed-gateway") {
        return bad_configuration(&error.to_string());
    }
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn print(options: &Options) -> ExitCode {
    use std::io::Write as _;
    let written = writeln!(std::io::stdout().lock(), "{:#}", options.to_json());
    if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[tokio::main]
async fn run(options: &Options) -> anyhow::Result<()> {
    let signal = shutdown_signal()?;
    tokio::pin!(signal);
    let gateway = tokio::select! {
        gateway = Gateway::start(options) => gateway?,
        name = &mut signal => {
            info!(signal = name, "stopped before NATS answered");
            return Ok(());
        }
    };
    let name = signal.await;
    info!(signal = name, "draining");
    gateway.stop().await;
    Ok(())
}
