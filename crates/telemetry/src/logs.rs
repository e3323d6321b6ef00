//! Log lines of a service.

use std::fmt;
use std::io::{IsTerminal, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Variable with the filter, in the syntax of [`EnvFilter`].
const FILTER: &str = "DELTAMESH_LOG";
/// Variable with the shape of a line.
const FORMAT: &str = "DELTAMESH_LOG_FORMAT";

/// Why logs could not be set up; its text is a sentence for [`crate::exit_bad_configuration`].
#[derive(Debug, PartialEq, Eq)]
pub enum InitError {
    /// `DELTAMESH_LOG` is not a filter; holds the reason.
    Filter(String),
    /// `DELTAMESH_LOG_FORMAT` is neither `text` nor `json`; holds what it is.
    Format(String),
    /// Another subscriber is installed in this process.
    Installed,
}

impl fmt::Display for InitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Filter(reason) => write!(f, "{FILTER} is not a log filter: {reason}"),
            Self::Format(value) => write!(f, "{FORMAT} must be text or json, not {value:?}"),
            Self::Installed => f.write_str("logs are already set up"),
        }
    }
}

impl std::error::Error for InitError {}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Text,
    Json,
}

/// Sends this process's log lines to stderr; every line names `service`. Call once, first in `main`.
///
/// # Errors
/// A variable cannot be understood, or logs are already set up.
pub fn init_logs(service: &'static str) -> Result<(), InitError> {
    let filter = filter(variable(FILTER).as_deref())?;
    let format = format(variable(FORMAT).as_deref())?;
    let ansi = format == Format::Text && std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(Lines { service, format })
        .with_ansi(ansi);
    match format {
        Format::Text => builder.try_init(),
        Format::Json => builder.json().flatten_event(true).try_init(),
    }
    .map_err(|_installed| InitError::Installed)
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn filter(value: Option<&str>) -> Result<EnvFilter, InitError> {
    EnvFilter::try_new(value.unwrap_or("info")).map_err(|error| InitError::Filter(error.to_string()))
}

fn format(value: Option<&str>) -> Result<Format, InitError> {
    match value {
        None | Some("text") => Ok(Format::Text),
        Some("json") => Ok(Format::Json),
        Some(other) => Err(InitError::Format(other.to_owned())),
    }
}

/// Puts the service's name in front of each line: all services of `deltamesh up` share one stderr.
#[derive(Debug, Clone, Copy)]
struct Lines {
    service: &'static str,
    format: Format,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { lines: *self }
    }
}

/// The formatter writes one whole event at a time.
#[derive(Debug)]
struct Line {
    lines: Lines,
}

impl Lines {
    fn named(self, event: &[u8]) -> Vec<u8> {
        let mut line = Vec::with_capacity(event.len() + self.service.len() + 16);
        match (self.format, event.strip_prefix(b"{")) {
            (Format::Json, Some(rest)) => {
                line.extend_from_slice(b"{\"service\":\"");
                line.extend_from_slice(self.service.as_bytes());
                line.extend_from_slice(b"\",");
                line.extend_from_slice(rest);
            }
            _ => {
                line.extend_from_slice(self.service.as_bytes());
                line.extend_from_slice(b" ");
                line.extend_from_slice(event);
            }
        }
        line
    }
}

impl Write for Line {
    fn write(&mut self, event: &[u8]) -> std::io::Result<usize> {
        std::io::stderr().lock().write_all(&self.lines.named(event))?;
        Ok(event.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::{Format, InitError, Lines, filter, format};

    #[test]
    fn the_filter_defaults_to_info() {
        assert_eq!(filter(None).unwrap().to_string(), "info");
        assert_eq!(filter(Some("warn,async_nats=error")).unwrap().to_string(), "async_nats=error,warn");
        assert!(matches!(filter(Some("=[")), Err(InitError::Filter(_))));
    }

    #[test]
    fn the_format_is_text_or_json() {
        assert_eq!(format(None), Ok(Format::Text));
        assert_eq!(format(Some("json")), Ok(Format::Json));
        assert_eq!(format(Some("xml")), Err(InitError::Format("xml".to_owned())));
    }

    #[test]
    fn a_line_names_its_service() {
        let text = Lines { service: "view-builder", format: Format::Text };
        assert_eq!(text.named(b"INFO ready\n"), b"view-builder INFO ready\n");
        let json = Lines { service: "view-builder", format: Format::Json };
        assert_eq!(
            json.named(b"{\"level\":\"INFO\"}\n"),
            b"{\"service\":\"view-builder\",\"level\":\"INFO\"}\n"
        );
    }
}
