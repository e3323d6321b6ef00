//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Changes of your database, as live SQL views, at every client.
#[derive(Debug, Parser)]
#[command(name = "deltamesh", version, max_term_width = 100)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Where the services run.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// NATS server (for `up`: instead of one of its own; otherwise: instead of the one found through --dir)
    #[arg(long, global = true, value_name = "URL", env = "DELTAMESH_NATS")]
    pub(crate) nats: Option<String>,
    /// Folder in which `up` keeps its state
    #[arg(long, global = true, value_name = "DIR", env = "DELTAMESH_DIR", default_value = ".deltamesh")]
    pub(crate) dir: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start all services and, without --nats, a NATS server; keep them running until SIGTERM or Ctrl-C
    Up(Up),
    /// Apply, check, list or remove modules (Protobuf and SQL of an application)
    #[command(subcommand)]
    Module(Module),
    /// Create, drop, list or explain views
    #[command(subcommand)]
    View(View),
    /// Print a view's rows, then every change, one a line
    Tail(Tail),
    /// Run a SELECT on the replica
    Sql(Sql),
    /// Show each hop's position, lag and rate, and what does not work
    Status(Status),
    /// Compare each view with its own SQL; exit code 1 on any difference
    Verify(Verify),
    /// Show every hop of a chat, in a folder of its own
    #[command(hide = true)]
    Demo(Demo),
    /// Become another program that dies with its parent
    #[command(hide = true)]
    Supervised(Supervised),
}

#[derive(Debug, Args)]
pub(crate) struct Up {
    /// Source to capture; may be repeated. mode=tap (default) follows a database that another
    /// program has open, mode=host owns it and serves writes
    #[arg(long = "source", value_name = "NAME=genji:PATH[?mode=tap|host]")]
    pub(crate) sources: Vec<String>,
    /// Replica to maintain: `[NAME=]sqlite:PATH` or `[NAME=]postgres://HOST/DATABASE?schema=NAME`; a password comes from PGPASSWORD
    /// or .pgpass. May be repeated: each has its view-builder and its gateway [default: sqlite:DIR/replica.db]
    #[arg(long = "replica", value_name = "[NAME=]sqlite:PATH")]
    pub(crate) replicas: Vec<String>,
    /// Modules whose views a replica keeps; may be repeated. With several replicas each needs it, and each module has one
    /// [default: all modules]
    #[arg(long, value_name = "REPLICA=MODULE,…")]
    pub(crate) keep: Vec<String>,
    /// View changes that are kept in the replicas for subscribers that resume: a number of them, a time (`12h`, `7d`), both, or
    /// `forever` [default: 1000000]
    #[arg(long, value_name = "CHANGES,TIME")]
    pub(crate) retain: Option<String>,
    /// Module to apply at the start; may be repeated. One that is refused ends `up` with exit code 1
    #[arg(long = "module", value_name = "DIR")]
    pub(crate) modules: Vec<PathBuf>,
    /// Address of HTTP and gRPC; port 0 takes a free one and keeps it in DIR. With several replicas repeated, in their order
    /// [default: 127.0.0.1:0]
    #[arg(long, value_name = "ADDR")]
    pub(crate) http: Vec<String>,
    /// Node id under which the services answer to nats-grpc clients. With several replicas repeated, in their order
    /// [default: deltamesh, then the names of the replicas]
    #[arg(long = "nid", value_name = "NAME")]
    pub(crate) nids: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Module {
    /// Compile a module and give it to all services, all or nothing
    Apply {
        /// Folder with *.proto and *.sql files
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
    /// Compile a module and say what it declares; needs no running services
    Check {
        /// Folder with *.proto and *.sql files
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
    /// The applied modules and what each service made of them
    List,
    /// Take a module away; its relations and views stay
    Remove {
        /// Name of the module
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum View {
    /// Create views from CREATE MATERIALIZED VIEW statements
    Create {
        /// The statements, or - for standard input
        #[arg(required_unless_present = "file")]
        sql: Option<String>,
        /// File that holds the statements
        #[arg(short, long, conflicts_with = "sql")]
        file: Option<PathBuf>,
        #[command(flatten)]
        replica: Replica,
    },
    /// Drop a view
    Drop {
        /// Name of the view
        name: String,
        #[command(flatten)]
        replica: Replica,
    },
    /// All views
    List {
        /// Form of the answer
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
        #[command(flatten)]
        replica: Replica,
    },
    /// What a change costs in a view, and why
    Explain {
        /// Name of a view, or a CREATE MATERIALIZED VIEW statement
        view: String,
        #[command(flatten)]
        replica: Replica,
    },
}

/// Which replica is asked.
#[derive(Debug, Args)]
pub(crate) struct Replica {
    /// Name of the replica [default: that of `up`, else main]
    #[arg(long, value_name = "NAME")]
    pub(crate) replica: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Tail {
    /// Name of the view
    pub(crate) view: String,
    /// Continue behind a cursor of an earlier line
    #[arg(long, value_name = "CURSOR")]
    pub(crate) from: Option<String>,
    /// Only rows whose column has the value (JSON, else text); may be repeated
    #[arg(long = "where", value_name = "COLUMN=VALUE")]
    pub(crate) conditions: Vec<String>,
    /// What to print
    #[arg(long, value_enum, default_value_t = Mode::All)]
    pub(crate) mode: Mode,
    /// Form of a line
    #[arg(long, value_enum, default_value_t = Format::Json)]
    pub(crate) format: Format,
    /// Node id of the gateway [default: that of `up`, else deltamesh]
    #[arg(long, value_name = "NAME")]
    pub(crate) nid: Option<String>,
}

/// What a tail prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// The rows, then the changes
    All,
    /// Changes from now on
    Changes,
    /// The rows, then the end
    Snapshot,
}

#[derive(Debug, Args)]
pub(crate) struct Sql {
    /// A SELECT over views and mirrors (<source>__<relation>), or - for standard input
    pub(crate) select: String,
    /// Form of the rows
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
    #[command(flatten)]
    pub(crate) replica: Replica,
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    /// One JSON object instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    pub(crate) replica: Replica,
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// End after the conversation
    #[arg(long)]
    pub(crate) once: bool,
    /// Folder of the demo; emptied at the start
    #[arg(long, value_name = "DIR", default_value = ".deltamesh/demo")]
    pub(crate) folder: PathBuf,
    /// The chat module
    #[arg(long, value_name = "DIR", default_value = "modules/chat")]
    pub(crate) module: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Supervised {
    /// Process id of the parent
    pub(crate) parent: i32,
    /// Program and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    pub(crate) program: Vec<std::ffi::OsString>,
}

/// Form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Text,
    /// For programs
    Json,
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::{Command, Options};

    #[test]
    fn the_definition_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn a_modules_folder_is_not_the_place() {
        let options = Options::try_parse_from(["deltamesh", "module", "apply", "m", "--dir", "d"]).unwrap();
        assert_eq!(options.place.dir.to_str(), Some("d"));
    }

    #[test]
    fn the_place_may_stand_before_and_after_the_command() {
        for line in ["deltamesh --dir d --nats n status", "deltamesh status --dir d --nats n"] {
            let options = Options::try_parse_from(line.split(' ')).unwrap();
            assert_eq!((options.place.dir.to_str(), options.place.nats.as_deref()), (Some("d"), Some("n")));
            assert!(matches!(options.command, Command::Status(_)));
        }
    }
}
