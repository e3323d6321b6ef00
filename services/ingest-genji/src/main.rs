//! The program: arguments, logs, stop signal, exit code.

use std::process::ExitCode;

use clap::{Args as _, Command, CommandFactory as _, FromArgMatches as _};
use deltamesh_ingest_genji::{Options, run};
use deltamesh_telemetry::{bad_configuration, init_logs, shutdown_signal};
use tracing::{error, info};

mod inspect;

use inspect::{InspectOptions, inspect};

/// What the arguments ask for.
enum Task {
    Serve(Options),
    Inspect(InspectOptions),
}

impl Task {
    fn parse() -> Result<Self, clap::Error> {
        let command = Options::command()
            .args_conflicts_with_subcommands(true)
            .subcommand_negates_reqs(true)
            .subcommand(InspectOptions::augment_args(Command::new("inspect")));
        let matches = command.try_get_matches()?;
        match matches.subcommand() {
            Some((_, matches)) => InspectOptions::from_arg_matches(matches).map(Self::Inspect),
            None => Options::from_arg_matches(&matches).map(Self::Serve),
        }
    }
}

fn main() -> ExitCode {
    let options = match Task::parse() {
        Ok(Task::Serve(options)) => options,
        Ok(Task::Inspect(options)) => return inspect(&options),
        Err(error) if !error.use_stderr() => error.exit(),
        Err(error) => return bad_configuration(&error.to_string()),
    };
    if options.print_config {
        return print(&options);
    }
    if let Err(error) = init_logs("ingest-genji") {
        return bad_configuration(&error.to_string());
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            error!(%error, "cannot start the runtime");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(serve(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!(error = format!("{error:#}"), "stopped by an error");
            ExitCode::FAILURE
        }
    }
}

async fn serve(options: &Options) -> anyhow::Result<()> {
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
