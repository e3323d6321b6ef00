//! The program: arguments, logs, stop signal, exit code.

use std::process::ExitCode;

use clap::{Args as _, Command, CommandFactory as _, FromArgMatches as _};
use deltamesh_ingest_genji::{Options, SERVICE, run};
use deltamesh_jetstream::StatusBoard;
use deltamesh_telemetry::{Monitor, bad_configuration, print_config, run_service};

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
        return print_config(&options.to_json());
    }
    let board = StatusBoard::new(SERVICE, &options.source.name);
    let scraped = board.clone();
    let monitor = options.monitor.map(|address| Monitor::new(address, move || scraped.metrics()));
    run_service(SERVICE, monitor, async |stop| run(&options, board, stop).await)
}
