//! What every handler works with.

use deltamesh_jetstream::{Client, StatusBoard};

use crate::feed::Hub;
use crate::modules::AppliedModules;
use crate::replica::Replica;
use crate::source::Sources;

/// The parts of a running gateway that calls need.
pub(crate) struct Context {
    /// Node id on NATS.
    pub(crate) nid: String,
    pub(crate) client: Client,
    pub(crate) applied: AppliedModules,
    pub(crate) hub: Hub,
    pub(crate) replica: Replica,
    pub(crate) sources: Sources,
    pub(crate) board: StatusBoard,
}
