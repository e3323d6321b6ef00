//! Real servers on free loopback ports for tests, stopped by process id when dropped.
//!
//! Everything here blocks for a moment at most, so both plain and async tests call it directly:
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! let mut nats = deltamesh_testkit::NatsServer::start()?;
//! // connect to nats.url() …
//! nats.kill()?; // SIGKILL
//! nats.restart()?; // same port, same store
//! # Ok(())
//! # }
//! ```

mod course;
mod genji_host;
mod nats;
mod place;
mod port;
mod postgres;
mod proxy;

pub use course::{Random, number};
pub use genji_host::GenjiHost;
pub use nats::NatsServer;
pub use place::{nats_server, postgres_bin, reference, tools_dir, workspace_root};
pub use port::free_port;
pub use postgres::PostgresServer;
pub use proxy::Proxy;
