//! Serves view feeds and module methods to applications.

use std::process::ExitCode;

use clap::Parser as _;
use deltamesh_feed_gateway::{Options, SERVICE, run};
use deltamesh_jetstream::StatusBoard;
use deltamesh_telemetry::{Monitor, bad_configuration, print_config, run_service};

fn main() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) if !error.use_stderr() => error.exit(),
        Err(error) => return bad_configuration(&error.to_string()),
    };
    if options.print_config {
        return print_config(&options.to_json());
    }
    let board = StatusBoard::new(SERVICE, &options.nid);
    let scraped = board.clone();
    let monitor = options.monitor.map(|address| Monitor::new(address, move || scraped.metrics()));
    run_service(SERVICE, monitor, |stop| run(options, board, stop))
}
