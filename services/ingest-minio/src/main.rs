//! Stands for the capture of S3 and MinIO buckets, which this version does not have; it says so.

use std::process::ExitCode;

use clap::Parser;
use deltamesh_telemetry::bad_configuration;

/// Would capture the changes of S3 and MinIO buckets; this version does not.
#[derive(Debug, Parser)]
#[command(name = "ingest-minio", version)]
struct Options {
    /// Whatever a later version takes.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    _ignored: Vec<String>,
}

fn main() -> ExitCode {
    match Options::try_parse() {
        Ok(_) => bad_configuration("ingest-minio: capture from S3 and MinIO is not in this version"),
        Err(error) => error.exit(),
    }
}
