//! Maintains materialised views in a replica.
//!
//! Messages of the change streams come in through [`consume`](mod@consume), are put together to groups and applied in
//! [`pipeline`](mod@pipeline), each batch in one transaction of the replica; the view changes that this appends go out
//! through [`feed`](mod@feed). [`control`](mod@control) answers requests about views, [`modules`](mod@modules) follows the
//! applied modules.

mod config;
mod consume;
mod control;
mod error;
mod feed;
mod modules;
mod opening;
mod pipeline;
mod reading;
mod sources;

pub use config::{Options, ReplicaError, ReplicaOption};
pub use error::Error;
pub use pipeline::run;

/// Name of the program, as status and module outcomes carry it.
pub const SERVICE: &str = "view-builder";
