//! Options of the program, and what they must be.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Parser;
use deltamesh_wire::subject;

use crate::Limits;

/// Captures the changes of a Genji database into the stream CHANGES_<SOURCE>, or hosts one.
#[derive(Debug, Clone, Parser)]
#[command(name = "ingest-genji", version)]
pub struct Options {
    /// Source: `NAME=genji:PATH`, with `?mode=tap` (default: follow the directory beside the application that has it
    /// open), `?mode=host` (own the directory and serve writes) or `?mode=standby` (follow the change log of a host
    /// into an empty directory, and take over when that host is gone).
    #[arg(long, value_name = "NAME=genji:PATH[?mode=tap|host|standby]")]
    pub source: Source,
    /// The same as `?mode=standby`.
    #[arg(long)]
    pub standby: bool,
    /// Servers, comma-separated.
    #[arg(long, env = "DELTAMESH_NATS", default_value = "nats://127.0.0.1:4222", value_name = "URL")]
    pub nats: String,
    /// Sessions of a hosted source.
    #[command(flatten)]
    pub limits: Limits,
    /// Address of `/metrics` (OpenMetrics, for Prometheus) and `/healthz`; port 0 takes a free one. Not served by default.
    #[arg(long, env = "DELTAMESH_MONITOR", value_name = "ADDR")]
    pub monitor: Option<SocketAddr>,
    /// Print the configuration as JSON and exit.
    #[arg(long)]
    pub print_config: bool,
}

/// Who writes the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// An application with the real engine; this program reads beside it.
    Tap,
    /// This program.
    Host,
    /// This program, once the host that writes now is gone; until then it follows the change log.
    Standby,
}

/// A Genji database under the name of its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Name: `[a-z0-9_]+`, at most 32 bytes.
    pub name: String,
    /// Directory of the database.
    pub path: PathBuf,
    /// Who writes it.
    pub mode: Mode,
}

/// Why a text names no source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// There is no `=`, or no `genji:` behind it.
    #[error("a source is NAME=genji:PATH, not {0:?}")]
    Form(String),
    /// The name has other characters.
    #[error("source name {0:?} must be lower-case letters, digits and _, at most 32")]
    Name(String),
    /// The path is empty.
    #[error("source {0} has an empty path")]
    Path(String),
    /// A parameter behind `?` that does not exist.
    #[error("source {0} has the parameter {1:?}: known are mode=tap, mode=host and mode=standby")]
    Parameter(String, String),
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::Tap => "tap",
            Self::Host => "host",
            Self::Standby => "standby",
        }
    }
}

impl FromStr for Source {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        let form = || SourceError::Form(text.to_owned());
        let (name, location) = text.split_once('=').ok_or_else(form)?;
        let location = location.strip_prefix("genji:").ok_or_else(form)?;
        if !subject::is_valid_name(name) {
            return Err(SourceError::Name(name.to_owned()));
        }
        let (path, parameters) = location.split_once('?').unwrap_or((location, ""));
        if path.is_empty() {
            return Err(SourceError::Path(name.to_owned()));
        }
        let mode = match parameters {
            "" | "mode=tap" => Mode::Tap,
            "mode=host" => Mode::Host,
            "mode=standby" => Mode::Standby,
            other => return Err(SourceError::Parameter(name.to_owned(), other.to_owned())),
        };
        Ok(Self { name: name.to_owned(), path: path.into(), mode })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=genji:{}?mode={}", self.name, self.path.display(), self.mode.name())
    }
}

impl Options {
    /// The source as all options together name it.
    #[must_use]
    pub fn source(&self) -> Source {
        let mode = if self.standby { Mode::Standby } else { self.source.mode };
        Source { mode, ..self.source.clone() }
    }

    /// The configuration in force, as JSON, for `--print-config`.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "nats": self.nats,
            "monitor": self.monitor,
            "source": {
                "name": self.source.name,
                "path": self.source.path,
                "mode": self.source().mode.name(),
            },
            "limits": self.limits.to_json(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources() {
        let source = |mode| Source { name: "app".into(), path: "/data/app".into(), mode };
        assert_eq!("app=genji:/data/app".parse(), Ok(source(Mode::Tap)));
        assert_eq!("app=genji:/data/app?mode=host".parse(), Ok(source(Mode::Host)));
        assert_eq!("app=genji:/data/app?mode=standby".parse(), Ok(source(Mode::Standby)));
        assert_eq!(source(Mode::Tap).to_string().parse(), Ok(source(Mode::Tap)));
        let check = |text: &str, expected: &str| {
            assert_eq!(text.parse::<Source>().expect_err("refused").to_string(), expected);
        };
        check("app", "a source is NAME=genji:PATH, not \"app\"");
        check("app=s3:x", "a source is NAME=genji:PATH, not \"app=s3:x\"");
        check("App=genji:x", "source name \"App\" must be lower-case letters, digits and _, at most 32");
        check("app=genji:", "source app has an empty path");
        check(
            "app=genji:x?mode=own",
            "source app has the parameter \"mode=own\": known are mode=tap, mode=host and mode=standby",
        );
    }
}
