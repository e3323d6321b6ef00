//! Why the service cannot go on.

/// An error that ends the service; everything else is a fault in its status.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The replica cannot be opened or written.
    #[error(transparent)]
    Replica(#[from] deltamesh_replica::Error),
    /// NATS refuses what the service cannot do without.
    #[error(transparent)]
    JetStream(#[from] deltamesh_jetstream::Error),
}
