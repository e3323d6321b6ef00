//! The `deltamesh` command: starts the services, and asks them.

mod demo;
mod mesh;
mod module;
mod options;
mod output;
mod place;
mod sql;
mod status;
mod supervised;
mod tail;
mod up;
mod verify;
mod view;

use std::io;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser as _;

use options::{Command, Options};

/// A request that makes no sense as it was typed: one sentence, exit 64.
#[derive(Debug)]
struct Refused(String);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

fn refused(sentence: impl Into<String>) -> anyhow::Error {
    Refused(sentence.into()).into()
}

fn main() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) => {
            let wrong = error.use_stderr();
            error.print().ok();
            return if wrong { ExitCode::from(deltamesh_telemetry::EX_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    // One thread: the death of this process reaches its children through the thread that started them.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(run(options)),
        Err(error) => Err(error.into()),
    };
    outcome.unwrap_or_else(|error| exit_code(&error))
}

async fn run(options: Options) -> Result<ExitCode> {
    let Options { place, command } = options;
    match command {
        Command::Up(up) => up::run(&place, up).await,
        Command::Module(command) => module::run(&place, command).await,
        Command::View(command) => view::run(&place, command).await,
        Command::Tail(tail) => tail::run(&place, &tail).await,
        Command::Sql(sql) => sql::run(&place, &sql).await,
        Command::Status(status) => status::run(&place, &status).await,
        Command::Verify(verify) => verify::run(&place, &verify).await,
        Command::Demo(demo) => demo::run(&demo).await,
        Command::Supervised(supervised) => supervised::run(&supervised),
    }
}

/// Says what went wrong, in one line where it was the caller's mistake.
fn exit_code(error: &anyhow::Error) -> ExitCode {
    if let Some(Refused(sentence)) = error.downcast_ref() {
        return deltamesh_telemetry::bad_configuration(sentence);
    }
    // Whoever read our output has read enough.
    let closed = |cause: &io::Error| cause.kind() == io::ErrorKind::BrokenPipe;
    if error.downcast_ref().is_some_and(closed) {
        return ExitCode::SUCCESS;
    }
    output::complain(&format!("deltamesh: {error:#}"));
    ExitCode::FAILURE
}
