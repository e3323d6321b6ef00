//! What every service process has: logs, metrics endpoint, stop signal and configuration refusal; used by `main` only.
//!
//! Logs go to stderr, so that stdout stays free for what a program answers.
//! `DELTAMESH_LOG` holds the filter (`tracing_subscriber::EnvFilter` syntax, default `info`),
//! `DELTAMESH_LOG_FORMAT` the shape: `text` (default) or `json`, one object a line.

mod exit;
mod logs;
mod monitor;
mod service;
mod signal;

pub use exit::{EX_USAGE, bad_configuration, exit_bad_configuration};
pub use logs::{InitError, init_logs};
pub use monitor::Monitor;
pub use service::{Stop, print_config, run_service};
pub use signal::shutdown_signal;
